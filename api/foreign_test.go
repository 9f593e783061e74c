package api_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/tandemtest"
)

// assigned are the members by which a body may try to move what it writes elsewhere.
var assigned = []string{"org_id", "organization_id", "org", "tenant_id", "account_id", "owner_id", "member_id", "id", "created_by"}

// SEC-3: bodies that are right but for an organization or a record of another one, in any place of them: it is refused or
// ignored, nothing moves, nothing of the other organization changes or comes back.
func TestForeignIdsInBodies(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	c, w := newContract(t, h), newWorld(t, h)
	victim := h.NewOrg(victimMark)
	foreign := append(furnish(t, h, victim), victim.ID)
	own := furnishOwn(t, h, w)
	super := pgtest.Connect(t, h.DB, pgtest.Super)
	before := checksums(t, super, victim.ID)
	all := recordBodies()
	for _, r := range crm.All {
		sm, op := samples[r.Noun], strings.TrimPrefix(r.Path, "/")
		all["post-"+op], all["patch-"+op+"-id"], all["post-"+op+"-bulk"] = sm.create, sm.patch, `{"ids":["OWN"],"patch":`+sm.patch+`}`
	}
	right := strings.NewReplacer(`"board_id":"FOREIGN"`, `"board_id":"{board}"`, `"stage_id":"FOREIGN"`, `"stage_id":"{stage}"`, `"member_id":"FOREIGN"`, `"member_id":"{ai}"`,
		`"message_id":"FOREIGN"`, `"message_id":"{message}"`, `"board":"FOREIGN"`, `"board":"{board}"`)
	requests, moved := 0, map[string]int{}
	for _, id := range slices.Sorted(maps.Keys(c.ops)) {
		o := c.ops[id]
		mine := string(own["/"+strings.Split(strings.TrimPrefix(o.path, "/api/v1/"), "/")[0]])
		body := w.fill(right.Replace(strings.ReplaceAll(all[id], "OWN", mine)))
		var base map[string]any
		if o.RequestBody == nil || body == "" || json.Unmarshal([]byte(body), &base) != nil || strings.Contains(id, "auth") {
			continue
		}
		target := aimed(o.path, mine)
		media := o.RequestBody.Value.Content["application/json"]
		if media == nil {
			continue // a file
		}
		for name := range media.Schema.Value.Properties {
			if _, ok := base[name]; !ok {
				base[name] = nil // to be tried, and left out otherwise
			}
		}
		n := 0
		for _, v := range variants(base, func() string { n++; return string(foreign[n%len(foreign)]) }, string(victim.ID)) {
			requests++
			a := h.Do(o.method, target, w.Key, v.body)
			if a.Status >= http.StatusInternalServerError || strings.Contains(string(a.Body), victimMark) {
				t.Errorf("%s %v: %d %s", id, v.body, a.Status, a.Body)
			}
			if v.added {
				moved[http.StatusText(a.Status)]++
			}
			var got any
			if a.Status < 300 && json.Unmarshal(a.Body, &got) == nil {
				if where := names(got, foreign); where != "" {
					t.Errorf("%s %v: the answer's %s is of the other organization", id, v.body, where)
				}
			}
		}
	}
	jobs := foreignJobs(t, h, w.ID, foreign)
	after := checksums(t, super, victim.ID)
	for table, sum := range before {
		if after[table] != sum {
			t.Errorf("the table %s of the other organization has changed", table)
		}
	}
	if requests < 1000 || moved["Unprocessable Entity"] == 0 {
		t.Errorf("%d requests, %v: they prove nothing", requests, moved)
	}
	proof.Figure(t, "SEC-3", "%d bodies with ids of another organization in every place: 0 answers with them, 0 of its %d tables changed; members that no body has: %v; %d timers and facts of one organization about records of another: 0 effects", requests, len(before), moved, jobs)
}

// variant is a body with one thing changed.
type variant struct {
	body  any
	added bool // a member that the body does not have
}

// variants puts a foreign id into each place of a body in turn. A member that is nil is left out of the others.
func variants(base map[string]any, next func() string, org string) (all []variant) {
	whole := maps.Clone(base)
	maps.DeleteFunc(whole, func(_ string, v any) bool { return v == nil })
	put := func(name string, v any, added bool) {
		changed := maps.Clone(whole)
		changed[name] = v
		all = append(all, variant{changed, added})
	}
	for _, name := range assigned {
		if _, known := base[name]; !known {
			put(name, org, true)
			put(name, next(), true)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(base)) {
		for range 4 {
			put(name, next(), false)
		}
		put(name, []any{next()}, false)
		switch v := base[name].(type) {
		case map[string]any:
			for _, inner := range variants(v, next, org) {
				put(name, inner.body, inner.added)
			}
		case []any:
			if len(v) > 0 {
				if m, ok := v[0].(map[string]any); ok {
					for _, inner := range variants(m, next, org) {
						put(name, []any{inner.body}, inner.added)
					}
				}
			}
		}
	}
	return all
}

// names finds where an answer names one of ids as a record. What people may write as they like is left out.
func names(v any, ids []tandem.ID) string {
	switch v := v.(type) {
	case map[string]any:
		if status, ok := v["status"].(float64); ok && status >= http.StatusBadRequest {
			return "" // a refusal in a bulk change repeats what was asked
		}
		for name, x := range v {
			if s, ok := x.(string); ok && (name == "id" || strings.HasSuffix(name, "_id")) && slices.Contains(ids, tandem.ID(s)) {
				return name
			}
			if name == "custom" || name == "query" || name == "settings" || name == "packet" {
				continue
			}
			if where := names(x, ids); where != "" {
				return name + "." + where
			}
		}
	case []any:
		for _, x := range v {
			if where := names(x, ids); where != "" {
				return where
			}
		}
	}
	return ""
}

// furnishOwn gives the world a record of every kind and returns them by the path of their list.
func furnishOwn(t *testing.T, h *tandemtest.Hub, w *world) map[string]tandem.ID {
	t.Helper()
	w.learn(t, scenario{op: "post-inbound-lead"}, h.Want(http.StatusCreated, http.MethodPost, "/api/v1/inbound/lead", w.Key, `{"title":"t","message":"m","contact":{"name":"Ada","email":"ada@example.com"}}`))
	conversation := "/api/v1/conversations/" + w.ids["conversation"]
	h.Want(http.StatusOK, http.MethodPost, conversation+"/claim", w.Key, `{}`)
	own := map[string]tandem.ID{"/conversations": tandem.ID(w.ids["conversation"]), "/channels": w.Chat.ID, "/members": w.Owner.ID, "/boards": w.Board.ID, "/dead-letters": tandem.ID(w.ids["letter"])}
	make := func(path, to, body string) {
		var got struct{ ID tandem.ID }
		h.Want(http.StatusCreated, http.MethodPost, "/api/v1"+path, w.Key, w.fill(body)).Into(t, &got)
		own[to] = got.ID
	}
	make("/conversations/"+w.ids["conversation"]+"/handoff", "/handoffs", `{"reason":"policy"}`)
	make("/knowledge", "/knowledge", `{"title":"t","body":"b"}`)
	make("/contacts", "/contacts", samples["contact"].create)
	first := w.ids["contact"]
	w.ids["contact"] = string(own["/contacts"]) // the first one has an open lead
	for _, r := range crm.All {
		switch {
		case r.Create == nil: // it comes as a file
			var got struct{ ID tandem.ID }
			h.Want(http.StatusCreated, http.MethodPost, "/api/v1"+r.Path+"?name=a.txt&lead_id="+w.ids["lead"], w.Key, "words", plain...).Into(t, &got)
			own[r.Path] = got.ID
		case r.Noun != "contact":
			make(r.Path, r.Path, samples[r.Noun].create)
		}
	}
	w.ids["contact"] = first
	return own
}

// foreignJobs has the hub work off timers and facts of org that are about records of another organization.
func foreignJobs(t *testing.T, h *tandemtest.Hub, org tandem.ID, records []tandem.ID) int {
	t.Helper()
	kinds := slices.Concat(slices.Collect(maps.Keys(inbox.Timers())), slices.Collect(maps.Keys(crm.Timers())))
	var facts []tandem.ID
	h.In(org, func(ctx context.Context, tx pgx.Tx) error {
		for _, record := range records {
			for _, kind := range kinds {
				if _, err := tx.Exec(ctx, "INSERT INTO timers (kind, org_id, record_id, due_at) VALUES ($1, $2, $3, now()) ON CONFLICT DO NOTHING", kind, org, record); err != nil {
					return err
				}
			}
			for _, topic := range []string{"message.received", "conversation.handed_to_ai"} {
				id := tandem.NewID()
				facts = append(facts, id)
				if _, err := tx.Exec(ctx, "INSERT INTO outbox (org_id, msg_id, topic, subject, record_id) VALUES ($1, $2, $3, $4, $5)", org, id, topic, "ev."+string(org)+"."+topic, record); err != nil {
					return err
				}
			}
		}
		return nil
	})
	h.Eventually(60*time.Second, "the jobs are done", func() bool {
		var waiting int
		h.In(org, func(ctx context.Context, tx pgx.Tx) error {
			return tx.QueryRow(ctx, `SELECT (SELECT count(*) FROM timers WHERE org_id = $1 AND due_at <= now() AND record_id = ANY($2))
				+ (SELECT count(*) FROM unnest($3::uuid[]) f(id) WHERE NOT EXISTS (SELECT FROM processed p WHERE p.msg_id = f.id))`, org, records, facts).Scan(&waiting)
		})
		return waiting == 0
	})
	return len(records)*len(kinds) + len(facts)
}
