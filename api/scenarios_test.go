package api_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/tandemtest"
	"github.com/tandemhq/tandem/team"
)

// world is an organization with two people, a viewer and a lead, and what the scenarios learn on their way.
type world struct {
	tandemtest.Org
	second, viewer string // API keys
	colleague      team.Member
	ids            map[string]string
}

// scenario is one request and what must come of it.
type scenario struct {
	op     string
	id     string // name of the id in the path, as kept by an earlier scenario
	query  string
	key    string // whose: "" the owner's, "second", "viewer", "none"
	body   string // {name} stands for a kept id
	header []string
	status int
	event  string // the fact that it writes, with the request as its cause; "" writes none
	keep   string // name under which the id of the answer is kept
	has    []string
}

// The scenarios run in this order in one organization. Every operation is in them at
// least once with the answer that it is for.
var scenarios = []scenario{
	{op: "get-me", status: 200, has: []string{`"role":"owner"`, `"currency":"EUR"`, `"inbound:write"`}},
	{op: "get-me", key: "none", status: 401},
	{op: "get-me", key: "none", header: []string{"X-API-Key", "tdm_unknown"}, status: 401},
	{op: "get-me", key: "none", header: []string{"Authorization", "Bearer {second}"}, status: 200, has: []string{`"role":"agent"`}},
	{op: "get-me", query: "?surprise=1", status: 422, has: []string{`"field":"surprise"`}},

	{
		op: "post-inbound-lead", body: `{"title":"Two racks","message":"Hello","source":"website","value":125000,"currency":"EUR","tags":["b2b"],"custom":{"seats":12},"contact":{"name":"Ada Lovelace","email":"ada@example.com","company":"Engines"}}`,
		status: 201, event: "message.received", has: []string{`"duplicate":false`},
	},
	{op: "post-inbound-lead", key: "viewer", body: `{"title":"t","contact":{"email":"a@example.com"}}`, status: 403},
	{op: "post-inbound-lead", body: `{"title":`, status: 400},
	{op: "post-inbound-lead", body: `[1]`, status: 400},
	{
		op: "post-inbound-lead", body: `{"value":-1,"currency":"euro","priority":"soon","contact":{"email":"no"},"surprise":1}`, status: 422,
		has: []string{`"field":"value"`, `"field":"currency"`, `"field":"priority"`, `"field":"contact.email"`, `"field":"message"`, `"field":"surprise"`},
	},
	{op: "post-inbound-lead", body: `{"message":"` + strings.Repeat("x", 300<<10) + `"}`, status: 413},

	{op: "get-conversations", status: 200, has: []string{`"Ada Lovelace"`, `"owner":null`, `"handoff":null`, `"unread":1`, `"minor":125000`}},
	{op: "get-conversations", query: "?view=unowned&state=open&limit=1", status: 200, has: []string{`"Ada Lovelace"`}},
	{op: "get-conversations", query: "?view=mine", status: 200, has: []string{`"items":[]`}},
	{op: "get-conversations", query: "?contact_id=nonsense", status: 422, has: []string{`"field":"contact_id"`}},
	{op: "get-conversations", query: "?channel_id=nonsense", status: 422},
	{op: "get-conversations", query: "?lead_id=nonsense", status: 422},
	{op: "get-conversations", query: "?cursor=nonsense", status: 422, has: []string{`"field":"cursor"`}},
	{op: "get-conversations", query: "?limit=0", status: 422, has: []string{`"field":"limit"`}},
	{op: "get-conversations", query: "?limit=1001", status: 422},
	{op: "get-conversations", query: "?view=others", status: 422, has: []string{`"field":"view"`}},
	{op: "get-conversations", query: "?search=ada%20l&unread=true&unanswered=true&channel_kind=webhook&priority=normal&sort=unanswered&active_after=2020-01-01T00:00:00Z", status: 200, has: []string{`"Ada Lovelace"`, `"priority":"normal"`, `"tags":[]`}},
	{op: "get-conversations", query: "?search=ADA@&created_before={tomorrow}&sort=-created_at", status: 200, has: []string{`"Ada Lovelace"`}},
	{op: "get-conversations", query: "?search=Hel&channel_kind=webhook", status: 200, has: []string{`"Ada Lovelace"`}},
	{op: "get-conversations", query: "?active_before=2020-01-01T00:00:00Z", status: 200, has: []string{`"items":[]`}},
	{op: "get-conversations", query: "?channel_kind=webchat", status: 200, has: []string{`"items":[]`}},
	{op: "get-conversations", query: "?tag=b2b", status: 200, has: []string{`"items":[]`}},
	{op: "get-conversations", query: "?owner_id={colleague}", status: 200, has: []string{`"items":[]`}},
	{op: "get-conversations", query: "?account_id=nonsense&team_id=nonsense&owner_id=nonsense", status: 422, has: []string{`"field":"account_id"`, `"field":"team_id"`, `"field":"owner_id"`}},
	{op: "get-conversations", query: "?reason=boredom", status: 422, has: []string{`"field":"reason"`}},
	{op: "get-conversations", query: "?priority=soon", status: 422, has: []string{`"field":"priority"`}},
	{op: "get-conversations", query: "?sort=subject", status: 422, has: []string{`"field":"sort"`}},
	{op: "get-conversations", query: "?created_after=yesterday", status: 422},
	{op: "get-conversations-counts", status: 200, has: []string{`"unowned":1`, `"all":1`, `"mine":0`}},
	{op: "get-conversations-id", id: "conversation", status: 200, has: []string{`"fence":0`}},
	{op: "get-conversations-id", id: "nobody", status: 404},
	{op: "get-conversations-id", id: "nonsense", status: 404},
	{op: "get-conversations-id-messages", id: "conversation", status: 200, has: []string{`"text":"Hello"`, `"status":"received"`, `"attachments":[]`}},
	{op: "get-conversations-id-messages", id: "conversation", query: "?after=1&limit=5", status: 200},
	{op: "get-conversations-id-messages", id: "conversation", query: "?before=-1", status: 422},

	{op: "post-conversations-id-messages", id: "conversation", body: `{"kind":"note","text":"This is about something else"}`, status: 201, event: "message.noted", keep: "note"},
	{op: "post-conversations-id-split", id: "conversation", body: `{}`, status: 422, has: []string{`"field":"from_seq"`}},
	{op: "post-conversations-id-split", id: "conversation", body: `{"from_seq":1}`, status: 422, has: []string{`"field":"from_seq"`}},
	{op: "post-conversations-id-split", id: "conversation", body: `{"message_ids":["{nobody}"]}`, status: 422, has: []string{`"field":"message_ids"`}},
	{op: "post-conversations-id-split", id: "conversation", body: `{"merge_id":"{nobody}"}`, status: 422, has: []string{`"field":"merge_id"`}},
	{op: "post-conversations-id-split", id: "conversation", key: "viewer", body: `{"from_seq":2}`, status: 403},
	{op: "post-conversations-id-split", id: "nobody", body: `{"from_seq":2}`, status: 404},
	{op: "post-conversations-id-split", id: "conversation", body: `{"message_ids":["{note}"]}`, status: 200, event: "conversation.split", keep: "part", has: []string{`"message_count":1`, `"owner":null`, `"unread":0`}},
	{op: "post-conversations-id-merge", id: "conversation", body: `{"from_id":"{conversation}"}`, status: 422, has: []string{`"field":"from_id"`}},
	{op: "post-conversations-id-merge", id: "conversation", body: `{"from_id":"nonsense"}`, status: 422, has: []string{`"field":"from_id"`}},
	{op: "post-conversations-id-merge", id: "conversation", body: `{"from_id":"{nobody}"}`, status: 404},
	{op: "post-conversations-id-merge", id: "conversation", key: "viewer", body: `{"from_id":"{part}"}`, status: 403},
	{op: "post-conversations-id-merge", id: "conversation", body: `{"from_id":"{part}"}`, status: 201, event: "conversation.merged", keep: "merge", has: []string{`"messages":1`, `"from_id":"{part}"`}},
	{op: "post-conversations-id-merge", id: "part", body: `{"from_id":"{conversation}"}`, status: 409},
	{op: "post-conversations-id-claim", id: "part", body: `{}`, status: 409, has: []string{`merged`}},
	{op: "get-conversations-id", id: "part", status: 200, has: []string{`"merged_into":"{conversation}"`, `"state":"resolved"`}},
	{op: "get-conversations-id-merges", id: "conversation", status: 200, has: []string{`"id":"{merge}"`}},
	{op: "get-conversations-id-merges", id: "nobody", status: 404},
	{op: "post-conversations-id-split", id: "conversation", body: `{"merge_id":"{merge}"}`, status: 200, event: "conversation.split", has: []string{`"id":"{part}"`, `"message_count":1`}},
	{op: "get-conversations-id-merges", id: "conversation", status: 200, has: []string{`"items":[]`}},
	{op: "post-conversations-id-merge", id: "conversation", body: `{"from_id":"{part}"}`, status: 201, event: "conversation.merged"},

	{op: "post-conversations-id-claim", id: "conversation", body: `{}`, status: 200, event: "conversation.claimed", has: []string{`"fence":1`}},
	{op: "post-conversations-id-claim", id: "conversation", key: "second", body: `{}`, status: 409, has: []string{`"owner":{`, `"kind":"human"`}},
	{op: "post-conversations-id-claim", id: "conversation", key: "viewer", body: `{}`, status: 403},
	{op: "post-conversations-id-read", id: "conversation", status: 204, event: "conversation.read"},
	{op: "post-conversations-id-typing", id: "conversation", body: `{}`, status: 204},
	{op: "post-conversations-id-typing", id: "nobody", body: `{}`, status: 404},
	{op: "post-conversations-id-messages", id: "conversation", body: `{"text":"Good day"}`, header: []string{"Idempotency-Key", "k1"}, status: 201, event: "message.queued", keep: "reply", has: []string{`"client_key":"k1"`, `"kind":"message"`}},
	{op: "post-conversations-id-messages", id: "conversation", body: `{"text":"Good day"}`, header: []string{"Idempotency-Key", "k1"}, status: 201, keep: "again"},
	{op: "post-conversations-id-messages", id: "conversation", body: `{"text":"Good night"}`, header: []string{"Idempotency-Key", "k1"}, status: 422, has: []string{`"field":"Idempotency-Key"`}},
	{op: "post-conversations-id-messages", id: "conversation", body: `{"kind":"note","text":"She knows engines"}`, status: 201, event: "message.noted", has: []string{`"status":"noted"`}},
	{op: "post-conversations-id-messages", id: "conversation", body: `{"text":""}`, status: 422, has: []string{`"field":"text"`}},
	{op: "post-conversations-id-messages", id: "conversation", body: `{"text":"nul \u0000 char"}`, status: 422, has: []string{`"field":"text"`}},
	{op: "post-conversations-id-messages", id: "conversation", key: "second", body: `{"text":"Mine"}`, status: 409, has: []string{`"owner":{`}},
	{op: "post-conversations-id-messages", id: "conversation", body: `{"text":"x","fence":99}`, status: 409},
	{op: "post-conversations-id-messages", id: "conversation", body: `{"text"`, status: 400},
	{op: "post-conversations-id-messages", id: "conversation", key: "viewer", body: `{"text":"x"}`, status: 403},
	{op: "post-conversations-id-takeover", id: "conversation", key: "second", body: `{"reason":"I know her"}`, status: 409, has: []string{`"owner":{`}},
	{op: "post-conversations-id-release", id: "conversation", key: "viewer", body: `{}`, status: 403},
	{op: "post-conversations-id-resolve", id: "conversation", key: "viewer", body: `{}`, status: 403},
	{op: "post-conversations-id-reopen", id: "nobody", body: `{}`, status: 404},
	{op: "post-conversations-id-read", id: "nobody", status: 404},
	{op: "post-conversations-id-release", id: "conversation", body: `{}`, status: 200, event: "conversation.released", has: []string{`"owner":null`}},
	{op: "post-conversations-id-messages", id: "conversation", key: "second", body: `{"text":"I answer"}`, status: 201, event: "message.queued"},
	{op: "post-conversations-id-takeover", id: "conversation", body: `{}`, status: 422, has: []string{`"field":"reason"`}},
	{op: "post-conversations-id-takeover", id: "conversation", body: `{"reason":"I know her"}`, status: 200, event: "conversation.taken_over"},
	{op: "post-conversations-id-resolve", id: "conversation", body: `{}`, status: 200, event: "conversation.resolved", has: []string{`"state":"resolved"`}},
	{op: "post-conversations-id-reopen", id: "conversation", body: `{}`, status: 200, event: "conversation.reopened", has: []string{`"state":"open"`}},
	{op: "post-conversations-id-snooze", id: "conversation", body: `{"until":"2020-01-01T00:00:00Z"}`, status: 422, has: []string{`"field":"until"`}},
	{op: "post-conversations-id-snooze", id: "conversation", body: `{}`, status: 422, has: []string{`"field":"until"`}},
	{op: "post-conversations-id-snooze", id: "conversation", key: "viewer", body: `{"until":"{tomorrow}"}`, status: 403},
	{op: "post-conversations-id-snooze", id: "conversation", body: `{"until":"{tomorrow}"}`, status: 200, event: "conversation.snoozed", has: []string{`"state":"snoozed"`, `"snoozed_until":"{tomorrow}"`}},
	{op: "post-conversations-id-reopen", id: "conversation", body: `{}`, status: 200, event: "conversation.reopened"},
	{op: "post-conversations-id-spam", id: "conversation", key: "viewer", body: `{}`, status: 403},
	{op: "post-conversations-id-spam", id: "conversation", body: `{}`, status: 200, event: "conversation.marked_spam", has: []string{`"state":"spam"`}},
	{op: "post-conversations-id-snooze", id: "conversation", body: `{"until":"{tomorrow}"}`, status: 409},
	{op: "post-conversations-id-reopen", id: "conversation", body: `{}`, status: 200, event: "conversation.reopened"},

	{
		op: "post-conversations-id-handoff", id: "conversation", body: `{"reason":"policy","packet":{"summary":"She asks for a contract","asked":["a contract"],"next_step":"Call her"},"to":{"member_id":"{colleague}"}}`,
		status: 201, event: "handoff.requested", keep: "handoff", has: []string{`"state":"requested"`, `"tried":[]`, `"summary":"She asks for a contract"`, `"contact":{`},
	},
	{op: "post-conversations-id-handoff", id: "conversation", body: `{"reason":"policy"}`, status: 409},
	{op: "post-conversations-id-handoff", id: "conversation", body: `{"reason":"boredom"}`, status: 422, has: []string{`"field":"reason"`}},
	{op: "post-conversations-id-handoff", id: "conversation", key: "viewer", body: `{"reason":"policy"}`, status: 403},
	{op: "get-conversations", query: "?view=needs_you", status: 200, has: []string{`"reason":"policy"`, `"deadline"`}},
	{op: "get-conversations", query: "?reason=policy", status: 200, has: []string{`"Ada Lovelace"`}},
	{op: "get-conversations", query: "?reason=sentiment", status: 200, has: []string{`"items":[]`}},
	{op: "get-handoffs-pending", key: "second", status: 200, has: []string{`"She asks for a contract"`}},
	{op: "get-handoffs-pending", key: "viewer", status: 403},
	{op: "get-handoffs-pending", query: "?cursor=nonsense", status: 422, has: []string{`"field":"cursor"`}},
	{op: "get-handoffs", status: 200, has: []string{`"She asks for a contract"`}},
	{op: "get-handoffs", query: "?state=accepted", status: 200, has: []string{`"items":[]`}},
	{op: "get-handoffs", query: "?state=lost", status: 422},
	{op: "get-handoffs-id", id: "handoff", status: 200},
	{op: "get-handoffs-id", id: "nobody", status: 404},
	{op: "post-handoffs-id-reject", id: "handoff", key: "second", body: `{}`, status: 422, has: []string{`"field":"reason"`}},
	{op: "post-handoffs-id-reject", id: "handoff", key: "second", body: `{"reason":"I am away"}`, status: 200, event: "handoff.rejected", has: []string{`"decision":"I am away"`, `"decided_by":{`}},
	{op: "post-handoffs-id-accept", id: "handoff", key: "second", body: `{}`, status: 409},
	{op: "post-conversations-id-handoff", id: "conversation", body: `{"reason":"sentiment"}`, status: 201, event: "handoff.requested", keep: "handoff"},
	{op: "post-handoffs-id-cancel", id: "handoff", body: `{}`, status: 200, event: "handoff.cancelled"},
	{op: "post-conversations-id-handoff", id: "conversation", body: `{"reason":"high_value","to":{"member_id":"{colleague}"}}`, status: 201, event: "handoff.requested", keep: "handoff"},
	{op: "post-handoffs-id-cancel", id: "nobody", body: `{}`, status: 404},
	{op: "post-handoffs-id-accept", id: "handoff", key: "viewer", body: `{}`, status: 403},
	{op: "post-handoffs-id-accept", id: "handoff", key: "second", body: `{}`, status: 200, event: "handoff.accepted", has: []string{`"state":"accepted"`}},
	{op: "post-handoffs-id-accept", id: "handoff", body: `{}`, status: 409, has: []string{`"owner":{`}},
	{op: "post-conversations-id-hand-to-ai", id: "conversation", key: "second", body: `{"member_id":"{colleague}"}`, status: 422},
	{op: "post-conversations-id-hand-to-ai", id: "conversation", key: "second", body: `{"member_id":"nonsense"}`, status: 422, has: []string{`"field":"member_id"`}},
	{op: "post-conversations-id-hand-to-ai", id: "conversation", key: "second", body: `{"member_id":"{ai}"}`, status: 200, event: "conversation.handed_to_ai", has: []string{`"kind":"ai"`}},

	{op: "patch-conversations-id", id: "conversation", body: `{"subject":"Racks","priority":"urgent","tags":["B2B","vip","b2b"]}`, header: []string{"If-Match", `"1"`}, status: 200, event: "conversation.updated", has: []string{`"version":2`, `"priority":"urgent"`, `"tags":["b2b","vip"]`, `"subject":"Racks"`}},
	{op: "patch-conversations-id", id: "conversation", body: `{"priority":"urgent"}`, status: 200},
	{op: "patch-conversations-id", id: "conversation", body: `{"priority":"low"}`, header: []string{"If-Match", `"1"`}, status: 409},
	{op: "patch-conversations-id", id: "conversation", body: `{"priority":"soon"}`, status: 422, has: []string{`"field":"priority"`}},
	{op: "patch-conversations-id", id: "conversation", key: "viewer", body: `{"subject":"x"}`, status: 403},
	{op: "patch-conversations-id", id: "nobody", body: `{"subject":"x"}`, status: 404},
	{op: "get-conversations", query: "?tag=VIP&priority=urgent", status: 200, has: []string{`"Ada Lovelace"`}},

	{op: "get-contacts", query: "?search=ada", status: 200, has: []string{`"ada@example.com"`}},
	{op: "get-contacts", query: "?search=%00%ff", status: 422},
	{op: "get-contacts-id", id: "contact", status: 200, has: []string{`"identities":[{`, `"first_name":"Ada"`}},
	{op: "get-contacts-id", id: "nobody", status: 404},
	{op: "get-contacts-id-identities", id: "contact", status: 200, has: []string{`"kind":"email","scope":"","value":"ada@example.com","evidence":"wrote to us"`}},
	{op: "get-contacts-id-identities", id: "nobody", status: 404},
	{op: "post-contacts-id-identities", id: "contact", key: "viewer", body: `{"kind":"phone","value":"+49 40 123456"}`, status: 403},
	{op: "post-contacts-id-identities", id: "nobody", body: `{"kind":"phone","value":"+49 40 123456"}`, status: 404},
	{op: "post-contacts-id-identities", id: "contact", body: `{"kind":"phone","value":"12"}`, status: 422, has: []string{`"field":"value"`}},
	{op: "post-contacts-id-identities", id: "contact", body: `{"kind":"external","scope":"{nobody}","value":"4711"}`, status: 422, has: []string{`"field":"scope"`}},
	{op: "post-contacts-id-identities", id: "contact", body: `{"kind":"phone","value":"+49 40 123456","evidence":"her card"}`, status: 201, event: "contact.identity_added", keep: "identity", has: []string{`"value":"+4940123456"`, `"evidence":"her card"`}},
	{op: "post-contacts-id-identities", id: "contact", body: `{"kind":"phone","value":"+4940123456"}`, status: 201, has: []string{`"id":"{identity}"`}},
	{op: "post-contacts", body: `{"name":"A. Lovelace","phone":"+4940123456"}`, status: 409, has: []string{`Ada Lovelace ({contact})`}},
	{op: "delete-contacts-id-identities-identity", id: "{contact}/{identity}", key: "viewer", status: 403},
	{op: "delete-contacts-id-identities-identity", id: "{contact}/{identity}", status: 204, event: "contact.identity_removed"},
	{op: "delete-contacts-id-identities-identity", id: "{contact}/{identity}", status: 404},
	{op: "post-contacts-find-or-create", key: "viewer", body: `{"email":"ada@example.com"}`, status: 403},
	{op: "post-contacts-find-or-create", body: `{"name":"Nobody"}`, status: 422, has: []string{`"field":"identities"`}},
	{op: "post-contacts-find-or-create", body: `{"email":"ADA@example.com","company":"Other"}`, status: 200, has: []string{`"id":"{contact}"`, `"company":"Engines"`}},
	{op: "post-contacts-find-or-create", body: `{"name":"A. Lovelace","email":"ada@home.example","identities":[{"kind":"external","value":"erp-4711"}]}`, header: []string{"Idempotency-Key", "find 1"}, status: 201, event: "contact.created", keep: "twin", has: []string{`"first_name":"A."`}},
	{op: "post-contacts-find-or-create", body: `{"name":"A. Lovelace","email":"ada@home.example","identities":[{"kind":"external","value":"erp-4711"}]}`, header: []string{"Idempotency-Key", "find 1"}, status: 201, has: []string{`"id":"{twin}"`}},
	{op: "post-contacts-find-or-create", body: `{"email":"ada@example.com","identities":[{"kind":"external","value":"erp-4711"}]}`, status: 409, has: []string{`{contact}`, `{twin}`}},
	{op: "get-contacts-id-consents", id: "twin", status: 200, has: []string{`"items":[]`}},
	{op: "get-contacts-id-consents", id: "nobody", status: 404},
	{op: "put-contacts-id-consents-kind", id: "twin", key: "viewer", body: `{"state":"denied"}`, status: 403},
	{op: "put-contacts-id-consents-kind", id: "nobody", body: `{"state":"denied"}`, status: 404},
	{op: "put-contacts-id-consents-kind", id: "twin", body: `{"state":"perhaps"}`, status: 422},
	{op: "put-contacts-id-consents-kind", id: "twin", body: `{"state":"granted","source":"web form"}`, status: 200, event: "contact.consented", has: []string{`"kind":"webhook","state":"granted"`}},
	{op: "put-contacts-id-consents-kind", id: "twin", body: `{"state":"denied","source":"on the phone","evidence":"No more letters, please."}`, status: 200, event: "contact.opted_out", has: []string{`"state":"denied"`}},
	{op: "put-contacts-id-consents-kind", id: "twin", body: `{"state":"granted"}`, status: 409, has: []string{`has not written since`}},
	{op: "get-contacts-id-consents", id: "twin", status: 200, has: []string{`"evidence":"No more letters, please."`}},
	{op: "get-contacts-id", id: "twin", status: 200, has: []string{`"consents":[{`}},
	{op: "post-contacts-id-merge", id: "contact", key: "viewer", body: `{"from_id":"{twin}"}`, status: 403},
	{op: "post-contacts-id-merge", id: "contact", body: `{}`, status: 422, has: []string{`"field":"from_ids"`}},
	{op: "post-contacts-id-merge", id: "contact", body: `{"from_id":"{contact}"}`, status: 422, has: []string{`"field":"from_ids"`}},
	{op: "post-contacts-id-merge", id: "contact", body: `{"from_ids":["{nobody}"]}`, status: 404},
	{op: "post-contacts-id-merge", id: "contact", body: `{"from_ids":["{twin}"]}`, status: 200, event: "contact.merged", keep: "merge", has: []string{`"value":"erp-4711"`, `"from_name":"A. Lovelace"`}},
	{op: "get-contacts-id", id: "twin", status: 404, has: []string{`it was merged into Ada Lovelace ({contact})`}},
	{op: "post-contacts-id-restore", id: "twin", status: 409, has: []string{`{contact}`}},
	{op: "post-conversations-id-messages", id: "conversation", key: "second", body: `{"text":"Once more"}`, status: 409, has: []string{`opted out`}},
	{op: "get-contacts-id-merges", id: "contact", status: 200, has: []string{`"from_id":"{twin}"`, `"undone_at":null`}},
	{op: "get-contacts-id-merges", id: "nobody", status: 404},
	{op: "post-contacts-id-split", id: "contact", key: "viewer", body: `{"merge_id":"{merge}"}`, status: 403},
	{op: "post-contacts-id-split", id: "contact", body: `{"merge_id":"{nobody}"}`, status: 404},
	{op: "post-contacts-id-split", id: "contact", body: `{"merge_id":"{merge}"}`, status: 200, event: "contact.split", has: []string{`"id":"{twin}"`}},
	{op: "post-contacts-id-split", id: "contact", body: `{"merge_id":"{merge}"}`, status: 409},
	{op: "get-contacts-id", id: "twin", status: 200, has: []string{`"erp-4711"`}},
	{op: "get-leads", query: "?filter[contact_id]={contact}", status: 200, has: []string{`"Two racks"`, `"assignee":null`}},
	{op: "get-leads", query: "?filter[stage_id]=nonsense", status: 422},
	{op: "get-leads-id", id: "lead", status: 200, has: []string{`"conversation_ids":["`, `"qualification":{`, `"seats":12`}},
	{op: "get-leads-id", id: "nobody", status: 404},
	{op: "post-custom-fields", key: "second", body: `{"record_type":"lead","key":"seats","label":"Seats","type":"number"}`, status: 403},
	{op: "post-custom-fields", body: `{"record_type":"lead","key":"seats","label":"Seats","type":"number","validation":{"max":500}}`, status: 201, event: "custom_field.created", keep: "seats"},
	{op: "post-custom-fields", body: `{"record_type":"lead","key":"seats","label":"Seats","type":"number"}`, status: 409},
	{op: "patch-leads-id", id: "lead", body: `{"custom":{"seats":501,"nonsense":1}}`, status: 422, has: []string{`"field":"custom.seats"`, `"field":"custom.nonsense"`}},
	{op: "patch-leads-id", id: "lead", body: `{"custom":{"seats":20}}`, status: 200, event: "lead.updated", has: []string{`"seats":20`}},
	{op: "get-leads", query: "?filter[custom.seats][gte]=20&sort=-custom.seats", status: 200, has: []string{`"id":"{lead}"`}},
	{op: "get-leads", query: "?filter[custom.seats]=21", status: 200, has: []string{`"items":[]`}},
	{op: "get-leads", query: "?filter[custom.seats]=many", status: 422, has: []string{`"field":"custom.seats"`}},
	{op: "get-leads", query: "?sort=custom.nonsense", status: 422, has: []string{`"field":"sort"`}},
	{op: "get-leads-id-qualification", id: "lead", status: 200, has: []string{`{}`}},
	{op: "get-leads-id-qualification", id: "nobody", status: 404},
	{op: "get-leads-id-activities", id: "lead", status: 200, has: []string{`"verb":"received"`, `"kind":"contact"`, `"verb":"noted"`}},
	{op: "get-leads-id-activities", id: "lead", query: "?type=lead,conversation&actor=human&limit=2", status: 200, has: []string{`"kind":"human"`, `"next":"`}},
	{op: "get-leads-id-activities", id: "lead", query: "?type=task", status: 200, has: []string{`"items":[]`}},
	{op: "get-leads-id-activities", id: "lead", query: "?type=lead,nonsense", status: 422, has: []string{`"field":"type"`}},
	{op: "get-leads-id-activities", id: "lead", query: "?actor=nobody", status: 422, has: []string{`"field":"actor"`}},
	{op: "get-leads-id-activities", id: "lead", query: "?cursor=nonsense", status: 422, has: []string{`"field":"cursor"`}},
	{op: "get-leads-id-activities", id: "nobody", status: 404},
	{op: "get-contacts-id-activities", id: "contact", status: 200, has: []string{`"preview":"Hello"`, `"verb":"created"`, `"about":{"noun":"lead","id":"{lead}"}`, `"about":{"noun":"contact","id":"{contact}"}`}},
	{op: "get-contacts-id-activities", id: "contact", query: "?type=contact&actor=system&limit=1", status: 200, has: []string{`"noun":"contact"`}},
	{op: "get-contacts-id-activities", id: "contact", query: "?type=nonsense", status: 422, has: []string{`"field":"type"`}},
	{op: "get-contacts-id-activities", id: "contact", query: "?cursor=nonsense", status: 422, has: []string{`"field":"cursor"`}},
	{op: "get-contacts-id-activities", id: "nobody", status: 404},
	{op: "post-contacts", body: `{"name":"Grace","email":"grace@example.com"}`, status: 201, event: "contact.created", keep: "grace"},
	{op: "post-accounts", body: `{"name":"Engines","domain":"example.com","owner_id":"{colleague}"}`, status: 201, event: "account.created", keep: "engines"},
	{op: "post-accounts", body: `{"name":"A part","parent_id":"{engines}"}`, status: 201, event: "account.created", keep: "part"},
	{op: "patch-contacts-id", id: "contact", body: `{"account_id":"{engines}"}`, status: 200, event: "contact.updated"},
	{op: "get-accounts-id", id: "engines", status: 200, has: []string{`"glance":{"contacts":1,"open_leads":1,"open_deals":0,"open_conversations":1,"children":[{"id":"{part}"`}},
	{op: "post-accounts-id-match", id: "engines", key: "viewer", status: 403},
	{op: "post-accounts-id-match", id: "part", status: 409},
	{op: "post-accounts-id-match", id: "nobody", status: 404},
	{op: "post-accounts-id-match", id: "engines", status: 200, event: "contact.updated", has: []string{`"linked":1`, `"more":false`}},
	{op: "post-accounts-id-match", id: "engines", status: 200, has: []string{`"linked":0`}},
	{op: "get-accounts-id-activities", id: "engines", status: 200, has: []string{`"preview":"Hello"`, `"about":{"noun":"account","id":"{engines}"}`}},
	{op: "get-accounts-id-activities", id: "engines", query: "?type=account&limit=1", status: 200, has: []string{`"noun":"account"`}},
	{op: "get-accounts-id-activities", id: "nobody", status: 404},
	{op: "get-contacts", query: "?include=account", status: 200, has: []string{`"included":{"account":{"{engines}":{`}},
	{op: "get-contacts", query: "?include=account&fields=name&limit=1000", status: 200, has: []string{`"included":{"account":{"{engines}":{`}},
	{op: "get-contacts", query: "?include=account,nonsense", status: 422, has: []string{`"field":"include"`}},
	{op: "get-contacts", query: "?filter[id][in]={contact},{nobody}", status: 200, has: []string{`"id":"{contact}"`}},
	{op: "get-accounts", query: "?include=parent,owner", status: 200, has: []string{`"included":{"account":{"{engines}":{`, `"member":{"{colleague}":{`}},
	{op: "get-accounts-id", id: "part", query: "?include=parent,owner", status: 200, has: []string{`"included":{"account":{"{engines}":{`, `"member":{}`}},
	{op: "get-accounts-id", id: "part", query: "?include=everything", status: 422, has: []string{`"field":"include"`}},
	{op: "get-leads-id", id: "lead", query: "?include=contact,assignee", status: 200, has: []string{`"included":{"contact":{"{contact}":{`}},
	{op: "patch-contacts-id", id: "contact", body: `{"company":null}`, status: 422, has: []string{`"field":"company"`}},
	{op: "put-leads-id-qualification-field", id: "lead", key: "viewer", body: `{"value":"10,000 EUR","confidence":1}`, status: 403},
	{op: "put-leads-id-qualification-field", id: "nobody", body: `{"value":"10,000 EUR","confidence":1}`, status: 404},
	{op: "put-leads-id-qualification-field", id: "lead", body: `{"value":"10,000 EUR","confidence":2}`, status: 422, has: []string{`"field":"confidence"`}},
	{op: "put-leads-id-qualification-field", id: "lead", body: `{"value":"10,000 EUR","confidence":1,"message_id":"{nobody}"}`, status: 422, has: []string{`"field":"message_id"`}},
	{op: "put-leads-id-qualification-field", id: "lead", body: `{"value":"10,000 EUR","confidence":0.5,"quote":"ten thousand","message_id":"{message}"}`, status: 200, event: "lead.qualified", has: []string{`"locked":true`, `"quote":"ten thousand"`, `"author":{`}},
	{op: "put-leads-id-qualification-field", id: "lead", body: `{"value":"10,000 EUR","confidence":0.5,"quote":"ten thousand","message_id":"{message}"}`, status: 200},
	{op: "put-leads-id-qualification-field", id: "lead", body: `{"value":"12,000 EUR","confidence":0.5,"locked":false}`, status: 200, event: "lead.qualified", has: []string{`"locked":false`}},
	{op: "get-leads-id-qualification", id: "lead", status: 200, has: []string{`{"budget":{"value":"12,000 EUR"`}},
	{op: "post-leads-id-assign", id: "lead", key: "viewer", body: `{"member_id":"{colleague}"}`, status: 403},
	{op: "post-leads-id-assign", id: "lead", body: `{"member_id":"{nobody}"}`, status: 422, has: []string{`"field":"member_id"`}},
	{op: "post-leads-id-assign", id: "lead", body: `{}`, status: 422, has: []string{`"field":"member_id"`}},
	{op: "post-leads-id-assign", id: "nobody", body: `{"member_id":"{colleague}"}`, status: 404},
	{op: "post-leads-id-assign", id: "lead", body: `{"member_id":"{colleague}"}`, status: 200, event: "lead.updated", has: []string{`"assignee":{"id":"{colleague}"`}},
	{op: "post-leads-id-assign", id: "lead", body: `{"member_id":null}`, status: 200, event: "lead.updated", has: []string{`"assignee":null`}},
	{op: "post-leads-id-stage", id: "lead", key: "viewer", body: `{"stage_id":"{lost}"}`, status: 403},
	{op: "post-leads-id-stage", id: "lead", body: `{"stage_id":"{nobody}"}`, status: 422, has: []string{`"field":"stage_id"`}},
	{op: "post-leads-id-stage", id: "lead", body: `{"stage_id":"{stage}","lost_reason":"Too late"}`, status: 422, has: []string{`"field":"lost_reason"`}},
	{op: "post-leads-id-stage", id: "nobody", body: `{"stage_id":"{stage}"}`, status: 404},
	{op: "post-leads-id-stage", id: "lead", body: `{"stage_id":"{lost}"}`, header: []string{"If-Match", `"99"`}, status: 409},
	{op: "post-leads-id-stage", id: "lead", body: `{"stage_id":"{lost}","lost_reason":"Too late"}`, status: 200, event: "lead.moved", has: []string{`"kind":"lost"`, `"lost_reason":"Too late"`}},
	{op: "post-leads-id-stage", id: "lead", body: `{"stage_id":"{lost}"}`, status: 200, has: []string{`"lost_reason":"Too late"`}},
	{op: "post-leads-id-stage", id: "lead", body: `{"stage_id":"{lost}","lost_reason":"Too dear"}`, status: 200, event: "lead.updated", has: []string{`"lost_reason":"Too dear"`}},
	{op: "get-leads", query: "?filter[lost_reason][has]=dear", status: 200, has: []string{`"id":"{lead}"`}},
	{op: "post-leads-id-stage", id: "lead", body: `{"stage_id":"{stage}"}`, status: 200, event: "lead.moved", has: []string{`"kind":"open"`, `"lost_reason":null`}},
	{op: "post-leads-id-handoff", id: "lead", key: "viewer", body: `{"reason":"policy"}`, status: 403},
	{op: "post-leads-id-handoff", id: "nobody", body: `{"reason":"policy"}`, status: 404},
	{op: "post-leads-id-handoff", id: "lead", body: `{"reason":"policy","to":{"member_id":"nonsense"}}`, status: 422, has: []string{`"field":"to"`}},
	{op: "post-leads-id-handoff", id: "lead", body: `{"reason":"high_value","packet":{"summary":"She wants two racks"}}`, status: 201, event: "handoff.requested", keep: "lead handoff", has: []string{`"conversation_id":"{conversation}"`, `"lead_id":"{lead}"`}},
	{op: "post-leads-id-handoff", id: "lead", body: `{"reason":"high_value"}`, status: 409},
	{op: "post-handoffs-id-cancel", id: "lead handoff", body: `{}`, status: 200, event: "handoff.cancelled"},
	{op: "get-leads-id-stages", id: "lead", status: 200, has: []string{`"kind":"lost"`, `"left_at":null`, `"seconds":0`, `"name":"world owner"`}},
	{op: "get-leads-id-stages", id: "lead", query: "?limit=1", status: 200, has: []string{`"next":"`, `"actor":null`}},
	{op: "get-leads-id-stages", id: "lead", query: "?cursor=nonsense", status: 422, has: []string{`"field":"cursor"`}},
	{op: "get-leads-id-stages", id: "nobody", status: 404},
	{op: "get-boards", query: "?filter[kind]=lead", status: 200, has: []string{`"is_default":true`, `"lead_count":1`}},
	{op: "get-boards-id", id: "board", status: 200, has: []string{`"kind":"won"`, `"probability":100`}},
	{op: "patch-boards-id", id: "board", body: `{"is_default":false}`, status: 409},
	{op: "delete-boards-id", id: "board", status: 409, has: []string{"default"}},
	{op: "post-boards", body: `{"name":"Second hand"}`, status: 201, event: "stage.created", keep: "second board", has: []string{`"is_default":false`, `"name":"Contacted"`}},
	{op: "post-boards", body: `{"name":"Second hand"}`, status: 409},
	{op: "patch-boards-id", id: "second board", body: `{"kind":"deal"}`, status: 422, has: []string{`"field":"kind"`}},
	{op: "patch-boards-id", id: "second board", body: `{"is_default":true}`, status: 200, event: "board.updated", has: []string{`"is_default":true`}},
	{op: "delete-boards-id", id: "board", status: 409, has: []string{"1 lead"}},
	{op: "patch-boards-id", id: "board", body: `{"is_default":true}`, status: 200, event: "board.updated"},
	{op: "delete-boards-id", id: "second board", status: 204, event: "board.archived"},
	{op: "patch-channels-id", id: "chat", body: `{"board_id":"{second board}"}`, status: 422, has: []string{`"field":"board_id"`}},
	{op: "patch-channels-id", id: "chat", body: `{"board_id":"{deal board}"}`, status: 422, has: []string{`"field":"board_id"`}},
	{op: "get-stages", query: "?filter[board_id]={board}&sort=position&limit=1", status: 200, has: []string{`"id":"{stage}"`, `"position":1`}},
	{op: "get-stages-id", id: "stage", status: 200, has: []string{`"name":"New"`, `"lead_count":1`}},
	{op: "get-stages-id", id: "nobody", status: 404},
	{op: "delete-stages-id", id: "stage", status: 409, has: []string{"1 lead"}},
	{op: "patch-stages-id", id: "stage", body: `{"kind":"won"}`, status: 409},
	{op: "patch-stages-id", id: "stage", body: `{"position":2}`, status: 200, event: "stage.updated", has: []string{`"position":2`}},
	{op: "patch-stages-id", id: "stage", body: `{"position":1}`, status: 200, event: "stage.updated", has: []string{`"position":1`}},
	{op: "patch-stages-id", id: "stage", body: `{"position":0}`, status: 422, has: []string{`"field":"position"`}},
	{op: "post-deals", body: `{"name":"A rack","board_id":"{board}"}`, status: 422, has: []string{`"field":"board_id"`}},
	{op: "post-deals", body: `{"name":"A rack","stage_id":"{stage}"}`, status: 422, has: []string{`"field":"stage_id"`}},
	{op: "post-deals", body: `{"name":"A rack","amount":{"minor":100000,"currency":"EUR"}}`, status: 201, event: "deal.created", keep: "deal", has: []string{`"name":"Qualified"`, `"probability":20`, `"forecast_category":"pipeline"`, `"contact_ids":[]`}},
	{op: "patch-deals-id", id: "deal", body: `{"contact_ids":["{contact}"],"probability":55}`, status: 200, event: "deal.updated", has: []string{`"contact_ids":["{contact}"]`, `"probability":55`}},
	{op: "patch-deals-id", id: "deal", body: `{"contact_ids":["{nobody}"]}`, status: 422, has: []string{`"field":"contact_ids"`}},
	{op: "patch-deals-id", id: "deal", body: `{"amount_minor":1}`, status: 422, has: []string{`"field":"amount_minor"`}},
	{op: "post-deals-id-assign", id: "deal", key: "viewer", body: `{"member_id":"{colleague}"}`, status: 403},
	{op: "post-deals-id-assign", id: "deal", body: `{"member_id":"{nobody}"}`, status: 422, has: []string{`"field":"member_id"`}},
	{op: "post-deals-id-assign", id: "nobody", body: `{"member_id":"{colleague}"}`, status: 404},
	{op: "post-deals-id-assign", id: "deal", body: `{"member_id":"{ai}"}`, status: 200, event: "deal.updated", has: []string{`"assignee":{"id":"{ai}"`}},
	{op: "post-deals-id-assign", id: "deal", body: `{"member_id":null}`, status: 200, event: "deal.updated", has: []string{`"assignee":null`}},
	{op: "post-deals-id-stage", id: "deal", key: "viewer", body: `{"stage_id":"{deal won}"}`, status: 403},
	{op: "post-deals-id-stage", id: "deal", body: `{"stage_id":"{stage}"}`, status: 422, has: []string{`"field":"stage_id"`}},
	{op: "post-deals-id-stage", id: "deal", body: `{"stage_id":"{deal won}","lost_reason":"Too dear"}`, status: 422, has: []string{`"field":"lost_reason"`}},
	{op: "post-deals-id-stage", id: "deal", body: `{"stage_id":"{deal won}"}`, header: []string{"If-Match", `"99"`}, status: 409},
	{op: "post-deals-id-stage", id: "nobody", body: `{"stage_id":"{deal won}"}`, status: 404},
	{op: "post-deals-id-stage", id: "deal", body: `{"stage_id":"{deal won}","won_reason":"The price"}`, status: 200, event: "deal.moved", has: []string{`"closed":true`, `"probability":100`, `"forecast_category":"closed"`, `"won_reason":"The price"`}},
	{op: "patch-deals-id", id: "deal", body: `{"forecast_category":"commit"}`, status: 422, has: []string{`"field":"forecast_category"`}},
	{op: "get-deals", query: "?filter[closed]=true&filter[expected_close][null]=true&sort=-amount", status: 200, has: []string{`"id":"{deal}"`}},
	{op: "get-deals", query: "?filter[expected_close][lt]=tomorrow", status: 422, has: []string{`"field":"expected_close"`}},
	{op: "get-deals-id-stages", id: "deal", status: 200, has: []string{`"kind":"won"`, `"left_at":null`}},
	{op: "get-deals-id-stages", id: "nobody", status: 404},
	{op: "get-deals-id-activities", id: "deal", status: 200, has: []string{`"verb":"moved"`, `"about":{"noun":"deal","id":"{deal}"}`}},
	{op: "get-deals-id-activities", id: "nobody", status: 404},
	{op: "post-notes", body: `{"deal_id":"{deal}","body":"They signed."}`, status: 201, event: "note.created", has: []string{`"deal_id":"{deal}"`}},
	{op: "post-notes", body: `{"deal_id":"{deal}","lead_id":"{lead}","body":"They signed."}`, status: 422, has: []string{`"field":"lead_id"`}},
	{op: "post-tasks", body: `{"deal_id":"{deal}","title":"Send the invoice"}`, status: 201, event: "task.created", has: []string{`"deal_id":"{deal}"`}},
	{op: "post-tasks", body: `{"deal_id":"{nobody}","title":"Send the invoice"}`, status: 422},
	{op: "post-calls", body: `{"deal_id":"{deal}","direction":"inbound","outcome":"connected","started_at":"2026-11-30T15:04:05Z"}`, status: 201, event: "call.created", has: []string{`"deal_id":"{deal}"`}},
	{op: "get-calls", query: "?filter[deal_id]={deal}", status: 200, has: []string{`"deal_id":"{deal}"`}},
	{op: "post-contacts", body: `{"name":"Walk-in"}`, status: 201, event: "contact.created", keep: "walk-in"},
	{op: "post-leads", body: `{"contact_id":"{walk-in}","title":"From nowhere","lead_source_id":"{nobody}"}`, status: 422, has: []string{`"field":"lead_source_id"`}},
	{op: "post-leads", body: `{"contact_id":"{walk-in}","title":"Nothing said yet"}`, status: 201, event: "lead.created", keep: "quiet lead"},
	{op: "get-leads-id-stages", id: "quiet lead", status: 200, has: []string{`"name":"New"`, `"left_at":null`}},
	{op: "post-leads-id-convert", id: "quiet lead", key: "viewer", body: `{}`, status: 403},
	{op: "post-leads-id-convert", id: "nobody", body: `{}`, status: 404},
	{op: "post-leads-id-convert", id: "quiet lead", body: `{"account_id":"{nobody}"}`, status: 422, has: []string{`"field":"account_id"`}},
	{op: "post-leads-id-convert", id: "quiet lead", body: `{"deal":{"board_id":"{board}"}}`, status: 422, has: []string{`"field":"deal.board_id"`}},
	{op: "post-leads-id-handoff", id: "quiet lead", body: `{"reason":"policy"}`, status: 409, has: []string{`no conversation`}},
	{op: "post-leads-id-convert", id: "quiet lead", body: `{"account_name":"Walk-in Ltd","deal":{"name":"A walk","expected_close":"2100-12-31"}}`, status: 200, event: "lead.converted", has: []string{`"account_made":true`, `"lead_id":"{quiet lead}"`}},
	{op: "post-leads-id-convert", id: "quiet lead", body: `{}`, status: 409, has: []string{"A walk"}},
	{op: "get-leads", query: "?filter[converted_at][null]=false", status: 200, has: []string{`"id":"{quiet lead}"`, `"kind":"won"`}},
	{op: "post-contacts", body: `{"name":"Passer-by"}`, status: 201, event: "contact.created", keep: "passer-by"},
	{op: "post-leads", body: `{"contact_id":"{passer-by}","title":"A look"}`, status: 201, event: "lead.created", keep: "look"},
	{op: "post-leads-id-convert", id: "look", body: `{"deal":null}`, status: 200, event: "lead.converted", has: []string{`"account_id":null`, `"deal_id":null`, `"account_made":false`}},
	{op: "get-metrics-dashboard", status: 200, has: []string{`"tz":"UTC"`, `"currency":"EUR"`, `"name":"Qualified"`, `"by_reason":[`, `"members":[{`}},
	{op: "get-metrics-dashboard", key: "viewer", query: "?from=2026-03-01&to=2026-03-03&tz=Europe/Berlin&board_id={board}", status: 200, has: []string{`"days":[{"date":"2026-03-01"`, `{"date":"2026-03-03"`, `"tz":"Europe/Berlin"`}},
	{op: "get-metrics-dashboard", query: "?tz=Mars/Olympus", status: 422, has: []string{`"field":"tz"`}},
	{op: "get-metrics-dashboard", query: "?from=yesterday&days=3", status: 422, has: []string{`"field":"days"`}},
	{op: "get-metrics-dashboard", query: "?from=2026-03-02&to=2026-03-01", status: 422, has: []string{`"field":"from"`}},
	{op: "get-metrics-dashboard", query: "?days=367", status: 422, has: []string{`"field":"days"`}},
	{op: "get-metrics-dashboard", query: "?board_id=nonsense", status: 404},
	{op: "get-members", status: 200, has: []string{`"kind":"ai"`, `"provider":"rules"`}},
	{op: "get-members-id", id: "ai", status: 200, has: []string{`"autonomy":"auto"`}},
	{op: "get-members-id", id: "nobody", status: 404},
	{op: "get-teams", status: 200, has: []string{`"fallback":true`, `"member_ids":["`}},

	{op: "get-notifications", status: 200, has: []string{`"id":"{notification}"`, `"kind":"mention"`, `"read_at":null`}},
	{op: "get-notifications", key: "none", status: 401},
	{op: "get-notifications", query: "?cursor=nonsense", status: 422, has: []string{`"field":"cursor"`}},
	{op: "get-notifications", key: "viewer", status: 200, has: []string{`"items":[]`}},
	{op: "get-notifications-counts", status: 200, has: []string{`"unread":2`}},
	{op: "get-notifications-counts", key: "none", status: 401},
	{op: "post-notifications-id-read", id: "notification", key: "viewer", status: 404},
	{op: "post-notifications-id-read", id: "notification", status: 200, event: "notification.read", has: []string{`"read_at":"2`}},
	{op: "post-notifications-id-read", id: "notification", status: 200},
	{op: "get-notifications", query: "?unread=true&limit=1", status: 200, has: []string{`"read_at":null`}},
	{op: "post-notifications-read-all", key: "none", status: 401},
	{op: "post-notifications-read-all", status: 204, event: "notification.read_all"},
	{op: "post-notifications-read-all", status: 204},
	{op: "get-notifications", query: "?unread=true", status: 200, has: []string{`"items":[]`}},

	{op: "post-knowledge", body: `{"title":"Delivery","body":"We deliver racks in ten days.","url":"https://shop.example/delivery"}`, status: 201, event: "knowledge.created", keep: "document", has: []string{`"version":1`}},
	{op: "post-knowledge", body: `{"title":"Delivery"}`, status: 422, has: []string{`"field":"body"`}},
	{op: "post-knowledge", key: "viewer", body: `{"title":"Delivery","body":"x"}`, status: 403},
	{op: "get-knowledge", status: 200, has: []string{`"title":"Delivery"`}},
	{op: "get-knowledge-id", id: "document", status: 200, has: []string{`"body":"We deliver racks in ten days."`}},
	{op: "get-knowledge-id", id: "nobody", status: 404},
	{op: "patch-knowledge-id", id: "document", body: `{"title":"Shipping"}`, header: []string{"If-Match", `"1"`}, status: 200, event: "knowledge.updated", has: []string{`"version":2`, `"title":"Shipping"`}},
	{op: "patch-knowledge-id", id: "document", body: `{"title":"Again"}`, header: []string{"If-Match", `"1"`}, status: 409},
	{op: "patch-knowledge-id", id: "document", body: `{"title":"Again"}`, header: []string{"If-Match", `"first"`}, status: 422, has: []string{`"field":"If-Match"`}},
	{op: "patch-knowledge-id", id: "nobody", body: `{"title":"Again"}`, status: 404},
	{op: "get-knowledge-search", query: "?q=how+long+until+you+deliver+racks", status: 200, has: []string{`"items":[`}},
	{op: "get-knowledge-search", status: 422, has: []string{`"field":"q"`}},
	{op: "delete-knowledge-id", id: "document", header: []string{"If-Match", `"1"`}, status: 409},
	{op: "delete-knowledge-id", id: "document", status: 204, event: "knowledge.archived"},
	{op: "delete-knowledge-id", id: "nobody", status: 404},

	{op: "post-documents", query: "?name=Offer.pdf&lead_id={lead}", body: pdf, header: []string{"Content-Type", "application/pdf", "Idempotency-Key", "offer"}, status: 201, event: "document.created", keep: "document", has: []string{`"name":"Offer.pdf"`, `"current_version":1`, `"content_type":"application/pdf"`, `"size":16`}},
	{op: "post-documents", query: "?name=Offer.pdf&lead_id={lead}", body: pdf, header: []string{"Content-Type", "application/pdf", "Idempotency-Key", "offer"}, status: 201, keep: "the same document", has: []string{`"id":"{document}"`}},
	{op: "post-documents", query: "?name=Offer.pdf&lead_id={lead}", body: pdf + "other", header: []string{"Content-Type", "application/pdf", "Idempotency-Key", "offer"}, status: 422, has: []string{`"field":"Idempotency-Key"`}},
	{op: "post-documents", body: form("lead_id", "{lead}", "access", "private", "file=../../Pläne.csv", "a,b\n1,2\n"), header: formHeader, status: 201, event: "document.created", keep: "private document", has: []string{`"name":"Pläne.csv"`, `"access":"private"`, `"content_type":"text/csv"`}},
	{op: "post-documents", body: form("lead_id", "{lead}", "file=x.txt", "one", "file=y.txt", "two"), header: formHeader, status: 422, has: []string{`"field":"file"`}},
	{op: "post-documents", body: form("lead_id", "{lead}", "blob_id", "../../secret", "file=x.txt", "one"), header: formHeader, status: 422, has: []string{`"field":"blob_id"`}},
	{op: "post-documents", body: form("lead_id", "{lead}"), header: formHeader, status: 422, has: []string{`"field":"file"`}},
	{op: "post-documents", body: "no form", header: formHeader, status: 422, has: []string{`"field":"file"`}},
	{op: "post-documents", body: "--" + border + "\r\nContent-Dispo", header: formHeader, status: 400},
	{op: "post-documents", query: "?name=a.txt", body: "words", header: plain, status: 422, has: []string{`"field":"lead_id"`}},
	{op: "post-documents", query: "?lead_id={lead}", body: "words", header: plain, status: 422, has: []string{`"field":"name"`}},
	{op: "post-documents", query: "?name=a.txt&lead_id={nobody}", body: "words", header: plain, status: 422, has: []string{`does not exist`}},
	{op: "post-documents", query: "?name=a.txt&lead_id={lead}&category=secret&access=world", body: "words", header: plain, status: 422, has: []string{`"field":"category"`, `"field":"access"`}},
	{op: "post-documents", query: "?name=picture.png&lead_id={lead}", body: "<html><script>alert(1)</script>", header: plain, status: 422, has: []string{`"field":"file"`}},
	{op: "post-documents", query: "?name=run.exe&lead_id={lead}", body: "words", header: plain, status: 422, has: []string{`"field":"file"`}},
	{op: "post-documents", query: "?name=a.txt&lead_id={lead}", key: "viewer", body: "words", header: plain, status: 403},
	{op: "get-documents", key: "second", query: "?filter[lead_id]={lead}", status: 200, has: []string{`"id":"{document}"`}},
	{op: "get-documents-id", id: "private document", key: "second", status: 404},
	{op: "get-documents-id-content", id: "private document", key: "second", status: 404},
	{op: "get-documents-id-content", id: "document", key: "second", status: 200, has: []string{pdf}},
	{op: "get-documents-id-content", id: "document", header: []string{"Range", "bytes=1-3"}, status: 206, has: []string{"PDF"}},
	{op: "get-documents-id-content", id: "document", header: []string{"Range", "bytes=90-"}, status: 416},
	{op: "get-documents-id-content", id: "nobody", status: 404},
	{op: "get-documents-id-content", id: "document", key: "none", status: 401},
	{op: "post-documents-id-versions", id: "document", key: "second", query: "?file_name=offer-2.txt", body: "A better offer", header: plain, status: 201, event: "document.updated", has: []string{`"id":"{document}"`, `"current_version":2`, `"file_name":"offer-2.txt"`, `"name":"Offer.pdf"`, `"version":2`}},
	{op: "post-documents-id-versions", id: "document", body: "Not what the name says", header: plain, query: "?file_name=offer.pdf", status: 422, has: []string{`"field":"file"`}},
	{op: "post-documents-id-versions", id: "document", body: form("name", "Other", "file=x.txt", "one"), header: formHeader, status: 422, has: []string{`"field":"name"`}},
	{op: "post-documents-id-versions", id: "document", key: "viewer", body: "words", header: plain, status: 403},
	{op: "post-documents-id-versions", id: "private document", key: "second", body: "words", header: plain, status: 404},
	{op: "get-documents-id-versions", id: "document", status: 200, has: []string{`"n":2`, `"n":1`, `"uploaded_by":"{colleague}"`}},
	{op: "get-documents-id-versions", id: "document", query: "?limit=1", status: 200, has: []string{`"next":"`}},
	{op: "get-documents-id-versions", id: "document", query: "?cursor=nonsense", status: 422, has: []string{`"field":"cursor"`}},
	{op: "get-documents-id-versions", id: "nobody", status: 404},
	{op: "get-documents-id-versions-n-content", id: "document", status: 200, has: []string{pdf}},
	{op: "get-documents-id-versions-n-content", id: "nobody", status: 404},
	// The tests of all records want one whose version is 1.
	{op: "post-documents", query: "?name=Offer.pdf&lead_id={lead}", body: pdf, header: []string{"Content-Type", "application/pdf"}, status: 201, event: "document.created", keep: "document"},
	{op: "patch-documents-id", id: "document", key: "second", body: `{"access":"private"}`, status: 403},
	{op: "patch-documents-id", id: "document", body: `{"lead_id":null}`, status: 422, has: []string{`"field":"lead_id"`}},

	{op: "get-channels", status: 200, has: []string{`"public_key"`}},
	{op: "get-channels-id", id: "chat", status: 200},
	{op: "get-channels-id", id: "nobody", status: 404},
	{op: "post-channels", body: `{"kind":"webhook","name":"Partner","settings":{"reply_url":"https://partner.example/in"},"secret":"whsec_c2VjcmV0LW9mLWEtcGFydG5lcg=="}`, status: 201, event: "channel.created", keep: "channel", has: []string{`"kind":"webhook"`}},
	{op: "post-channels", body: `{"kind":"pigeon","name":"Roof"}`, status: 422, has: []string{`"field":"kind"`}},
	{op: "post-channels", body: `{"kind":"webhook","name":"X","settings":{"reply_url":"nowhere"}}`, status: 422, has: []string{`"field":"settings.reply_url"`}},
	{op: "post-channels", key: "second", body: `{"kind":"webchat","name":"X"}`, status: 403},
	{op: "patch-channels-id", id: "channel", body: `{"status":"paused"}`, header: []string{"If-Match", `"1"`}, status: 200, event: "channel.updated", has: []string{`"status":"paused"`}},
	{op: "patch-channels-id", id: "channel", body: `{"name":"Late"}`, header: []string{"If-Match", `"1"`}, status: 409},
	{op: "patch-channels-id", id: "channel", body: `{"ai_member_id":"nonsense"}`, status: 422},
	{op: "patch-channels-id", id: "nobody", body: `{"name":"x"}`, status: 404},

	{op: "get-runs", query: "?member_id={ai}", status: 200, has: []string{`"items":[`}},
	{op: "get-runs", query: "?conversation_id=nonsense", status: 422, has: []string{`"field":"conversation_id"`}},
	{op: "get-runs-id", id: "run", status: 200, has: []string{`"steps":[{`, `"kind":"model"`}},
	{op: "get-runs-id", id: "nobody", status: 404},

	{op: "post-auth-login", key: "none", body: `{"email":"{email}","password":"a long enough password"}`, status: 200, event: "session.created", has: []string{`"email":"`}},
	{op: "post-auth-login", key: "none", body: `{"email":"{email}","password":"wrong"}`, status: 401},
	{op: "post-auth-login", key: "none", body: `{"email":"{email}"}`, status: 422, has: []string{`"field":"password"`}},
	{op: "post-auth-login", key: "none", body: `{"email":"{email}","password":"` + strings.Repeat("x", 9<<10) + `"}`, status: 413},
	{op: "post-auth-login", key: "none", body: `{`, status: 400},
	{op: "post-auth-logout", status: 204}, // a key has no session to end
	{op: "post-auth-logout", key: "none", header: []string{"Cookie", "{session}"}, status: 204, event: "session.ended"},
	{op: "post-auth-logout", key: "none", header: []string{"Cookie", "{session}"}, status: 401},
	{op: "post-auth-logout", key: "none", status: 401},
	{op: "get-live", key: "none", status: 401},
	{op: "get-live", query: "?last_event_id=x", status: 422},

	{op: "get-dead-letters", status: 200, has: []string{`"error":"one failed"`, `"tries":5`}},
	{op: "get-dead-letters", query: "?cursor=nonsense", status: 422, has: []string{`"field":"cursor"`}},
	{op: "get-dead-letters-id", id: "letter", status: 200, has: []string{`"consumer":"courier"`, `"topic":"out.unknown"`}},
	{op: "get-dead-letters-id", id: "nobody", status: 404},
	{op: "post-dead-letters-id-requeue", id: "letter", key: "second", body: `{}`, status: 403},
	{op: "post-dead-letters-id-requeue", id: "nobody", body: `{}`, status: 404},
	{op: "post-dead-letters-id-requeue", id: "letter", body: `{}`, status: 202, event: "dead_letter.requeued"},
	{op: "delete-dead-letters-id", id: "letter2", key: "viewer", status: 403},
	{op: "delete-dead-letters-id", id: "letter2", status: 204, event: "dead_letter.discarded"},
	{op: "delete-dead-letters-id", id: "letter2", status: 404},
}

// streams are the operations whose answer never ends; TestLive has their success.
var streams = []string{"get-live"}

// silent are the operations that may change something without a fact about it, each with the reason.
var silent = map[string]string{
	"post-conversations-id-typing": "that somebody writes is shown for six seconds and kept nowhere",
}

// Every endpoint answers as API and description say, and writes exactly the fact it is for.
func TestScenarios(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	c := newContract(t, h)
	w := newWorld(t, h)
	wrote := map[string]bool{}
	for i, s := range append(slices.Clone(scenarios), recordScenarios()...) {
		if s.op == "get-runs-id" && w.ids["run"] == "" {
			w.ids["run"] = aRun(t, h, w)
		}
		header := make([]string, len(s.header))
		for j := range s.header {
			header[j] = w.fill(s.header[j])
		}
		key := map[string]string{"": w.Key, "second": w.second, "viewer": w.viewer, "none": ""}[s.key]
		id := w.ids[s.id]
		if id == "" {
			id = w.fill(s.id)
		}
		a := c.do(s.op, id, w.fill(s.query), key, orNilText(w.fill(s.body)), header...)
		if a.Status != s.status {
			t.Errorf("scenario %d, %s %s %q: status %d, want %d: %s", i, s.op, s.id, clipped(s.body), a.Status, s.status, a.Body)
		}
		for _, part := range s.has {
			if !strings.Contains(string(a.Body), w.fill(part)) {
				t.Errorf("scenario %d, %s %s: the answer lacks %s: %s", i, s.op, clipped(s.body), part, a.Body)
			}
		}
		w.learn(t, s, a)
		facts := caused(h, w.ID, a.Header.Get("X-Request-Id"))
		switch {
		case s.event == "" && len(facts) > 0 && s.status != http.StatusCreated:
			t.Errorf("scenario %d, %s: wrote %v, want nothing", i, s.op, facts)
		case s.event != "" && !slices.Contains(facts, s.event):
			t.Errorf("scenario %d, %s: wrote %v, want %s", i, s.op, facts, s.event)
		}
		wrote[s.op] = wrote[s.op] || s.event != "" && a.Status < 300
	}
	if w.ids["reply"] == "" || w.ids["reply"] != w.ids["again"] {
		t.Errorf("the same Idempotency-Key made the messages %s and %s", w.ids["reply"], w.ids["again"])
	}
	answers := 0
	for op, o := range c.ops {
		if _, known := silent[op]; o.method != http.MethodGet && wrote[op] == known {
			t.Errorf("%s changes something: it needs a scenario that succeeds with the event that it writes, or a line in silent with the reason (and not both)", op)
		}
		good, bad := 0, 0
		for status, n := range c.seen[op] {
			answers += n
			if status < 300 {
				good += n
			} else {
				bad += n
			}
		}
		if good == 0 && !slices.Contains(streams, op) {
			t.Errorf("%s has no scenario that succeeds: add one", op)
		}
		if bad == 0 && !slices.Contains([]string{"get-conversations-counts", "get-members", "get-teams", "get-knowledge", "get-channels"}, op) {
			t.Errorf("%s has no scenario that is refused: add one", op)
		}
	}
	t.Logf("figure: API scenarios: %d requests over %d operations, every answer as its OpenAPI description says", answers, len(c.ops))
}

func newWorld(t *testing.T, h *tandemtest.Hub) *world {
	t.Helper()
	w := &world{Org: h.NewOrg("world"), ids: map[string]string{}}
	h.In(w.ID, func(ctx context.Context, tx pgx.Tx) (err error) {
		if w.colleague, err = team.AddHuman(ctx, tx, team.NewHuman{Name: "Grace", Email: "grace@example.com", Password: "another long password", Role: team.Agent}); err != nil {
			return err
		}
		watcher, err := team.AddHuman(ctx, tx, team.NewHuman{Name: "Vera", Email: "vera@example.com", Password: "a third long password", Role: team.Viewer})
		if err != nil {
			return err
		}
		if _, err = team.AddTeam(ctx, tx, "Sales", false, []tandem.ID{w.Owner.ID, w.colleague.ID}); err != nil {
			return err
		}
		if w.second, _, err = team.CreateKey(ctx, tx, "second", w.colleague.ID, nil); err != nil {
			return err
		}
		w.viewer, _, err = team.CreateKey(ctx, tx, "viewer", watcher.ID, nil)
		return err
	})
	h.In(w.ID, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO notifications (org_id, id, member_id, event_id, kind, noun, record_id, text)
			SELECT org_id, id, @me, id, 'mention', 'note', record_id, 'Grace mentioned you' FROM events WHERE org_id = @org ORDER BY seq LIMIT 2`,
			pgx.StrictNamedArgs{"org": w.ID, "me": w.Owner.ID})
		if err != nil {
			return err
		}
		var id tandem.ID
		err = tx.QueryRow(ctx, `SELECT id FROM notifications WHERE org_id = @org LIMIT 1`, pgx.StrictNamedArgs{"org": w.ID}).Scan(&id)
		w.ids["notification"] = string(id)
		return err
	})
	for name, id := range map[string]tandem.ID{
		"letter": deadLetter(h, w.ID, "one"), "letter2": deadLetter(h, w.ID, "two"), "colleague": w.colleague.ID, "ai": w.AI.ID, "board": w.Board.ID, "stage": w.Board.Stages[0].ID, "lost": w.Board.Stages[3].ID, "deal board": w.Deals.ID, "deal won": w.Deals.Stages[3].ID, "chat": w.Chat.ID, "nobody": tandem.NewID(),
	} {
		w.ids[name] = string(id)
	}
	w.ids["email"], w.ids["second"], w.ids["tomorrow"] = w.Email, w.second, time.Now().UTC().AddDate(0, 0, 1).Format(time.RFC3339)
	return w
}

func (w *world) fill(s string) string {
	for name, id := range w.ids {
		s = strings.ReplaceAll(s, "{"+name+"}", id)
	}
	return s
}

func (w *world) learn(t *testing.T, s scenario, a tandemtest.Answer) {
	t.Helper()
	switch {
	case s.op == "post-inbound-lead" && a.Status == http.StatusCreated:
		var got struct{ Contact, Lead, Conversation, Message struct{ ID string } }
		a.Into(t, &got)
		w.ids["contact"], w.ids["lead"], w.ids["conversation"], w.ids["message"] = got.Contact.ID, got.Lead.ID, got.Conversation.ID, got.Message.ID
	case s.op == "post-auth-login" && a.Status == http.StatusOK:
		w.ids["session"], _, _ = strings.Cut(a.Header.Get("Set-Cookie"), ";")
	case s.keep != "":
		var got struct {
			ID     string
			Merges []struct{ ID string }
		}
		a.Into(t, &got)
		if w.ids[s.keep] = got.ID; len(got.Merges) > 0 {
			w.ids[s.keep] = got.Merges[0].ID
		}
	}
}

// caused lists the facts whose causal chain began with the request.
func caused(h *tandemtest.Hub, org tandem.ID, request string) (topics []string) {
	h.In(org, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT noun || '.' || verb FROM events WHERE org_id = @org AND chain_id = @chain ORDER BY seq`,
			pgx.StrictNamedArgs{"org": org, "chain": request})
		if err != nil {
			return err
		}
		topics, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return topics
}

// aRun writes a run with a step.
func aRun(t *testing.T, h *tandemtest.Hub, w *world) string {
	t.Helper()
	run := tandem.NewID()
	h.In(w.ID, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO runs (org_id, id, conversation_id, member_id, trigger_seq, state, fence, chain_id, ended_at)
			VALUES (@org, @id, @conv, @ai, 900, 'done', 0, @id, now())`,
			pgx.StrictNamedArgs{"org": w.ID, "id": run, "conv": w.ids["conversation"], "ai": w.AI.ID})
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO run_steps (org_id, run_id, idx, kind, name, input, output, latency_ms)
			VALUES (@org, @id, 0, 'model', 'rules', '{}', '{"text":"hello"}', 3)`, pgx.StrictNamedArgs{"org": w.ID, "id": run})
		return err
	})
	return string(run)
}

func orNilText(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func clipped(s string) string {
	if len(s) > 120 {
		return s[:120] + "…"
	}
	return s
}
