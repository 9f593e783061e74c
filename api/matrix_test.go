package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/tandemtest"
)

// bodies has, for every operation, the body of a request that would be right if the record
// were one's own. An operation that is not listed fails the test, so a new route cannot
// escape the matrix.
var bodies = map[string]string{
	"post-auth-login":                        `{"email":"nobody@example.com","password":"not the password"}`,
	"post-auth-logout":                       ``,
	"get-me":                                 ``,
	"get-conversations":                      ``,
	"get-conversations-counts":               ``,
	"get-conversations-id":                   ``,
	"get-conversations-id-messages":          ``,
	"post-conversations-id-messages":         `{"text":"a stranger's words"}`,
	"post-conversations-id-claim":            `{}`,
	"post-conversations-id-release":          `{}`,
	"post-conversations-id-resolve":          `{}`,
	"post-conversations-id-reopen":           `{}`,
	"post-conversations-id-spam":             `{}`,
	"post-conversations-id-snooze":           `{"until":"2126-01-01T00:00:00Z"}`,
	"post-conversations-id-takeover":         `{"reason":"a stranger's reason"}`,
	"post-conversations-id-hand-to-ai":       `{"member_id":"FOREIGN"}`,
	"post-conversations-id-read":             `{}`,
	"post-conversations-id-typing":           `{}`,
	"post-conversations-id-handoff":          `{"reason":"customer_asked","packet":{"summary":"a stranger's summary"}}`,
	"get-handoffs":                           ``,
	"get-handoffs-id":                        ``,
	"post-handoffs-id-accept":                `{}`,
	"post-handoffs-id-reject":                `{"reason":"a stranger's reason"}`,
	"post-handoffs-id-cancel":                `{"reason":"a stranger's reason"}`,
	"get-dead-letters":                       ``,
	"get-dead-letters-id":                    ``,
	"post-dead-letters-id-requeue":           `{}`,
	"delete-dead-letters-id":                 ``,
	"get-members":                            ``,
	"get-members-id":                         ``,
	"get-teams":                              ``,
	"get-runs":                               ``,
	"get-runs-id":                            ``,
	"get-knowledge":                          ``,
	"get-knowledge-search":                   ``,
	"get-knowledge-id":                       ``,
	"post-knowledge":                         `{"title":"mine","body":"my own words"}`,
	"patch-knowledge-id":                     `{"title":"a stranger's title"}`,
	"delete-knowledge-id":                    ``,
	"get-channels":                           ``,
	"get-channels-id":                        ``,
	"post-channels":                          `{"kind":"webchat","name":"mine","board_id":"FOREIGN"}`,
	"patch-channels-id":                      `{"name":"a stranger's name"}`,
	"post-leads-id-stage":                    `{"stage_id":"FOREIGN","lost_reason":"a stranger's reason"}`,
	"post-leads-id-assign":                   `{"member_id":"FOREIGN"}`,
	"get-leads-id-stages":                    ``,
	"post-leads-id-convert":                  `{"account_id":"FOREIGN","deal":{"board_id":"FOREIGN","stage_id":"FOREIGN"}}`,
	"post-deals-id-stage":                    `{"stage_id":"FOREIGN","lost_reason":"a stranger's reason"}`,
	"post-deals-id-assign":                   `{"member_id":"FOREIGN"}`,
	"get-deals-id-stages":                    ``,
	"post-leads-id-handoff":                  `{"reason":"customer_asked","packet":{"summary":"a stranger's summary"}}`,
	"get-leads-id-qualification":             ``,
	"get-leads-id-activities":                ``,
	"get-contacts-id-activities":             ``,
	"get-deals-id-activities":                ``,
	"post-accounts-id-match":                 ``,
	"get-accounts-id-activities":             ``,
	"put-leads-id-qualification-field":       `{"value":"a stranger's value","confidence":1,"message_id":"FOREIGN"}`,
	"post-inbound-lead":                      `{"title":"t","message":"m","board":"FOREIGN","contact":{"email":"x@example.com"}}`,
	"get-contacts-id-identities":             ``,
	"post-contacts-id-identities":            `{"kind":"external","scope":"FOREIGN","value":"a stranger's value"}`,
	"delete-contacts-id-identities-identity": ``,
	"post-contacts-find-or-create":           `{"identities":[{"kind":"external","scope":"FOREIGN","value":"x"}]}`,
	"post-contacts-id-merge":                 `{"from_ids":["FOREIGN"]}`,
	"get-contacts-id-merges":                 ``,
	"post-contacts-id-split":                 `{"merge_id":"FOREIGN"}`,
	"get-contacts-id-consents":               ``,
	"put-contacts-id-consents-kind":          `{"state":"denied"}`,
	"get-handoffs-pending":                   ``,
	"patch-conversations-id":                 `{"subject":"a stranger's subject"}`,
	"post-conversations-id-merge":            `{"from_id":"FOREIGN"}`,
	"post-conversations-id-split":            `{"from_seq":1}`,
	"get-conversations-id-merges":            ``,
	"get-notifications":                      ``,
	"get-notifications-counts":               ``,
	"post-notifications-id-read":             ``,
	"post-notifications-read-all":            ``,
	"post-documents":                         `{"a":"stranger's file"}`,
	"post-documents-id-versions":             `{"a":"stranger's file"}`,
	"get-documents-id-versions":              ``,
	"get-documents-id-content":               ``,

	"get-documents-id-versions-n-content": ``,
	"get-metrics-dashboard":               ``,
}

// queries has the query of operations that need one, with every filter aimed at a foreign id.
var queries = map[string]string{
	"get-conversations":     "?channel_id=FOREIGN&contact_id=FOREIGN&lead_id=FOREIGN&owner_id=FOREIGN&account_id=FOREIGN&team_id=FOREIGN",
	"get-leads":             "?filter[board_id]=FOREIGN&filter[stage_id]=FOREIGN&filter[contact_id]=FOREIGN&filter[assignee_id]=FOREIGN",
	"get-deals":             "?filter[board_id]=FOREIGN&filter[stage_id]=FOREIGN&filter[account_id]=FOREIGN&filter[contact_id]=FOREIGN&filter[lead_id]=FOREIGN&filter[assignee_id]=FOREIGN",
	"get-stages":            "?filter[board_id]=FOREIGN",
	"get-runs":              "?conversation_id=FOREIGN&member_id=FOREIGN",
	"get-knowledge-search":  "?q=victimmark",
	"get-contacts":          "?search=victimmark",
	"post-documents":        "?name=mine.json&lead_id=FOREIGN",
	"get-documents":         "?filter[lead_id]=FOREIGN&filter[owner_id]=FOREIGN",
	"get-metrics-dashboard": "?board_id=FOREIGN",
}

const victimMark = "victimmark"

// SEC-1: an owner of another organization, who may do everything at home, tries every route
// with every foreign id. Nothing is found, nothing changes, no foreign word comes back.
func TestForeignIdsAreNotFoundEverywhere(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	victim, stranger := h.NewOrg(victimMark), h.NewOrg("strangermark")
	ids := furnish(t, h, victim)
	super := pgtest.Connect(t, h.DB, pgtest.Super)
	before := checksums(t, super, victim.ID)

	var spec struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
		} `json:"paths"`
	}
	h.Want(http.StatusOK, http.MethodGet, "/api/v1/openapi.json", "", nil).Into(t, &spec)
	routes, requests := 0, 0
	seen, bodies := map[string]bool{}, recordBodies()
	for path, methods := range spec.Paths {
		for method, op := range methods {
			routes++
			seen[op.OperationID] = true
			if slices.Contains(streams, op.OperationID) {
				continue // it names no id; TestLive has two organizations
			}
			body, ok := bodies[op.OperationID]
			if !ok {
				t.Errorf("%s %s (%s) is not in the matrix: add its body to bodies", strings.ToUpper(method), path, op.OperationID)
				continue
			}
			for _, id := range ids {
				requests++
				target := strings.ReplaceAll(path+queries[op.OperationID], "FOREIGN", string(id))
				target = aimed(target, string(id))
				a := h.Do(strings.ToUpper(method), target, stranger.Key, orNil(strings.ReplaceAll(body, "FOREIGN", string(id))))
				if strings.Contains(path, "{id}") && a.Status != http.StatusNotFound && a.Status != http.StatusForbidden {
					t.Errorf("%s %s: status %d, want 404 or 403: %s", method, target, a.Status, a.Body)
				}
				if a.Status >= http.StatusInternalServerError {
					t.Errorf("%s %s: status %d: %s", method, target, a.Status, a.Body)
				}
				if echo := strings.ReplaceAll(string(a.Body), queries[op.OperationID], ""); strings.Contains(echo, victimMark) || strings.Contains(fmt.Sprint(a.Header), victimMark) {
					t.Errorf("%s %s: the answer has a word of the other organization: %s", method, target, a.Body)
				}
				if !strings.Contains(path, "{id}") && !strings.Contains(queries[op.OperationID]+body, "FOREIGN") {
					break // the id is nowhere in this request: once is enough
				}
			}
		}
	}
	for id := range bodies {
		if !seen[id] {
			t.Errorf("the matrix has %s, which is no route any more", id)
		}
	}
	after := checksums(t, super, victim.ID)
	for table, sum := range before {
		if after[table] != sum {
			t.Errorf("the table %s of the other organization has changed", table)
		}
	}
	proof.Figure(t, "SEC-1", "%d routes, %d requests with %d foreign ids: 0 found, %d tables unchanged", routes, requests, len(ids), len(before))
}

// Without credentials every route but the public ones is a 401.
func TestNoCredentialsNoAnswer(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	var spec struct {
		Paths map[string]map[string]struct {
			OperationID string           `json:"operationId"`
			Security    []map[string]any `json:"security"`
		} `json:"paths"`
	}
	h.Want(http.StatusOK, http.MethodGet, "/api/v1/openapi.json", "", nil).Into(t, &spec)
	var public []string
	for path, methods := range spec.Paths {
		for method, op := range methods {
			if len(op.Security) == 0 {
				public = append(public, op.OperationID)
				continue
			}
			target := aimed(path, string(tandem.NewID()))
			if a := h.Do(strings.ToUpper(method), target, "", orNil(recordBodies()[op.OperationID])); a.Status != http.StatusUnauthorized {
				t.Errorf("%s %s without credentials: status %d, want 401: %s", method, target, a.Status, a.Body)
			}
		}
	}
	if want := []string{"post-auth-login"}; !slices.Equal(public, want) {
		t.Errorf("public routes are %v, want %v", public, want)
	}
	for _, path := range []string{"/api/v1/live"} {
		h.Want(http.StatusUnauthorized, http.MethodGet, path, "", nil)
	}
}

// furnish gives the organization a record of every noun and returns their ids.
func furnish(t *testing.T, h *tandemtest.Hub, o tandemtest.Org) []tandem.ID {
	t.Helper()
	var lead struct{ Contact, Lead, Conversation, Message struct{ ID tandem.ID } }
	h.Want(http.StatusCreated, http.MethodPost, "/api/v1/inbound/lead", o.Key, map[string]any{
		"title": victimMark + " title", "message": victimMark + " message", "contact": map[string]string{"name": victimMark, "email": victimMark + "@example.com"},
	}).Into(t, &lead)
	ids := []tandem.ID{lead.Contact.ID, lead.Lead.ID, lead.Conversation.ID, lead.Message.ID, o.Owner.ID, o.AI.ID, o.Board.ID, o.Board.Stages[0].ID, o.Chat.ID, o.Form.ID}
	h.Want(http.StatusOK, http.MethodPost, "/api/v1/conversations/"+string(lead.Conversation.ID)+"/claim", o.Key, `{}`)
	var handoff, doc, deal struct{ ID tandem.ID }
	h.Want(http.StatusCreated, http.MethodPost, "/api/v1/conversations/"+string(lead.Conversation.ID)+"/handoff", o.Key,
		`{"reason":"policy","packet":{"summary":"`+victimMark+` summary"}}`).Into(t, &handoff)
	h.Want(http.StatusCreated, http.MethodPost, "/api/v1/knowledge", o.Key, `{"title":"`+victimMark+`","body":"`+victimMark+` knows this"}`).Into(t, &doc)
	h.Want(http.StatusCreated, http.MethodPost, "/api/v1/deals", o.Key, `{"name":"`+victimMark+` deal","lead_id":"`+string(lead.Lead.ID)+`"}`).Into(t, &deal)
	ids = append(ids, handoff.ID, doc.ID, deal.ID, o.Deals.ID, o.Deals.Stages[0].ID)
	var file struct{ ID tandem.ID }
	h.Want(http.StatusCreated, http.MethodPost, "/api/v1/documents?name="+victimMark+".txt&lead_id="+string(lead.Lead.ID), o.Key, victimMark+" content",
		"Content-Type", "text/plain").Into(t, &file)
	ids = append(ids, handoff.ID, doc.ID, file.ID)
	run := tandem.NewID()
	h.In(o.ID, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO runs (org_id, id, conversation_id, member_id, trigger_seq, state, fence, chain_id, error, ended_at)
			VALUES (@org, @id, @conv, @ai, 1, 'failed', 0, @id, @mark, now())`,
			pgx.StrictNamedArgs{"org": o.ID, "id": run, "conv": lead.Conversation.ID, "ai": o.AI.ID, "mark": victimMark})
		return err
	})
	ids = append(ids, run, deadLetter(h, o.ID, victimMark))
	// What Tandem itself still does for the organization must be over before its rows are compared.
	h.Eventually(20*time.Second, "the organization is at rest", func() bool {
		var busy bool
		h.In(o.ID, func(ctx context.Context, tx pgx.Tx) error {
			return tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM outbox WHERE org_id = @org AND published_at IS NULL)
				OR EXISTS (SELECT FROM messages WHERE org_id = @org AND status IN ('queued', 'dispatching', 'retry_wait'))
				OR (SELECT count(*) FROM events WHERE org_id = @org) > (SELECT count(*) FROM event_seals WHERE org_id = @org)
				OR NOT EXISTS (SELECT FROM chunks WHERE org_id = @org)
				OR EXISTS (SELECT FROM outbox o WHERE o.org_id = @org AND o.topic IN ('message.received', 'conversation.opened', 'handoff.requested', 'lead.created')
				           AND NOT EXISTS (SELECT FROM processed p WHERE p.consumer = 'rollups' AND p.msg_id = o.msg_id))`, pgx.StrictNamedArgs{"org": o.ID}).Scan(&busy)
		})
		return !busy
	})
	return ids
}

// deadLetter keeps a fact that no part of Tandem would understand.
func deadLetter(h *tandemtest.Hub, org tandem.ID, mark string) tandem.ID {
	id := tandem.NewID()
	h.In(org, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO dead_letters (org_id, id, consumer, msg_id, subject, body, error, tries)
			VALUES (@org, @id, 'courier', @id, 'out.unknown', 'no fact', @error, 5)`, pgx.StrictNamedArgs{"org": org, "id": id, "error": mark + " failed"})
		return err
	})
	return id
}

// checksums is a hash of all rows of the organization, per table.
func checksums(t *testing.T, super *pgx.Conn, org tandem.ID) map[string]string {
	t.Helper()
	ctx := context.Background()
	rows, err := super.Query(ctx, `SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'org_id'
		WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND c.relname <> 'outbox'`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, table := range tables {
		var sum *string
		q := fmt.Sprintf(`SELECT md5(string_agg(t::text, E'\n' ORDER BY t::text)) FROM %s t WHERE org_id = $1`, pgx.Identifier{table}.Sanitize())
		if err := super.QueryRow(ctx, q, org).Scan(&sum); err != nil {
			t.Fatalf("%s: %v", table, err)
		}
		out[table] = "empty"
		if sum != nil {
			out[table] = *sum
		}
	}
	return out
}

func orNil(body string) any {
	if body == "" {
		return nil
	}
	return json.RawMessage(body)
}
