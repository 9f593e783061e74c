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
	{op: "get-conversations-counts", status: 200, has: []string{`"unowned":1`, `"all":1`, `"mine":0`}},
	{op: "get-conversations-id", id: "conversation", status: 200, has: []string{`"fence":0`}},
	{op: "get-conversations-id", id: "nobody", status: 404},
	{op: "get-conversations-id", id: "nonsense", status: 404},
	{op: "get-conversations-id-messages", id: "conversation", status: 200, has: []string{`"text":"Hello"`, `"status":"received"`, `"attachments":[]`}},
	{op: "get-conversations-id-messages", id: "conversation", query: "?after=1&limit=5", status: 200},
	{op: "get-conversations-id-messages", id: "conversation", query: "?before=-1", status: 422},

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

	{op: "get-contacts", query: "?search=ada", status: 200, has: []string{`"ada@example.com"`}},
	{op: "get-contacts", query: "?search=%00%ff", status: 422},
	{op: "get-contacts-id", id: "contact", status: 200, has: []string{`"identities":[{`, `"first_name":"Ada"`}},
	{op: "get-contacts-id", id: "nobody", status: 404},
	{op: "get-leads", query: "?filter[contact_id]={contact}", status: 200, has: []string{`"Two racks"`, `"assignee":null`}},
	{op: "get-leads", query: "?filter[stage_id]=nonsense", status: 422},
	{op: "get-leads-id", id: "lead", status: 200, has: []string{`"conversation_ids":["`, `"qualification":{`, `"seats":12`}},
	{op: "get-leads-id", id: "nobody", status: 404},
	{op: "get-leads-id-qualification", id: "lead", status: 200, has: []string{`{}`}},
	{op: "get-leads-id-qualification", id: "nobody", status: 404},
	{op: "get-leads-id-activities", id: "lead", status: 200, has: []string{`"verb":"received"`, `"kind":"contact"`, `"verb":"noted"`}},
	{op: "get-leads-id-activities", id: "lead", query: "?type=lead,conversation&actor=human&limit=2", status: 200, has: []string{`"kind":"human"`, `"next":"`}},
	{op: "get-leads-id-activities", id: "lead", query: "?type=task", status: 200, has: []string{`"items":[]`}},
	{op: "get-leads-id-activities", id: "lead", query: "?type=lead,nonsense", status: 422, has: []string{`"field":"type"`}},
	{op: "get-leads-id-activities", id: "lead", query: "?actor=nobody", status: 422, has: []string{`"field":"actor"`}},
	{op: "get-leads-id-activities", id: "lead", query: "?cursor=nonsense", status: 422, has: []string{`"field":"cursor"`}},
	{op: "get-leads-id-activities", id: "nobody", status: 404},
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
	{op: "get-boards", status: 200, has: []string{`"is_default":true`, `"lead_count":1`}},
	{op: "get-boards-id", id: "board", status: 200, has: []string{`"kind":"won"`}},
	{op: "get-boards-id", id: "nobody", status: 404},
	{op: "get-stages", query: "?board_id={board}", status: 200, has: []string{`"position"`}},
	{op: "get-stages-id", id: "stage", status: 200, has: []string{`"name":"New"`}},
	{op: "get-stages-id", id: "nobody", status: 404},
	{op: "post-contacts", body: `{"name":"Walk-in"}`, status: 201, event: "contact.created", keep: "walk-in"},
	{op: "post-leads", body: `{"contact_id":"{walk-in}","title":"Nothing said yet"}`, status: 201, event: "lead.created", keep: "quiet lead"},
	{op: "post-leads-id-handoff", id: "quiet lead", body: `{"reason":"policy"}`, status: 409, has: []string{`no conversation`}},
	{op: "get-members", status: 200, has: []string{`"kind":"ai"`, `"provider":"rules"`}},
	{op: "get-members-id", id: "ai", status: 200, has: []string{`"autonomy":"auto"`}},
	{op: "get-members-id", id: "nobody", status: 404},
	{op: "get-teams", status: 200, has: []string{`"fallback":true`, `"member_ids":["`}},

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
			id = s.id
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
		if bad == 0 && !slices.Contains([]string{"get-conversations-counts", "get-boards", "get-stages", "get-members", "get-teams", "get-knowledge", "get-channels"}, op) {
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
	for name, id := range map[string]tandem.ID{
		"letter": deadLetter(h, w.ID, "one"), "letter2": deadLetter(h, w.ID, "two"), "colleague": w.colleague.ID, "ai": w.AI.ID, "board": w.Board.ID, "stage": w.Board.Stages[0].ID, "lost": w.Board.Stages[3].ID, "chat": w.Chat.ID, "nobody": tandem.NewID(),
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
		var got struct{ ID string }
		a.Into(t, &got)
		w.ids[s.keep] = got.ID
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
