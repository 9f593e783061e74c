package api_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/tandemtest"
	"github.com/tandemhq/tandem/team"
)

// Whoever is mentioned, reminded or given something by somebody else is told of it once, live as well; nobody else is.
func TestNotifications(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	w := newWorld(t, h)
	h.In(w.ID, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM notifications WHERE org_id = $1", w.ID)
		return err
	})
	hers, leave := follow(t, h, w.second, "")
	defer leave()
	his, leave2 := follow(t, h, w.Key, "")
	defer leave2()
	await(t, hers, "hello", nil)
	await(t, his, "hello", nil)

	post := func(path, body string) (id string) {
		var got struct{ ID string }
		h.Want(http.StatusCreated, http.MethodPost, "/api/v1"+path, w.Key, w.fill(body)).Into(t, &got)
		return got.ID
	}
	contact := post("/contacts", `{"name":"Ada"}`)
	note := post("/notes", `{"contact_id":"`+contact+`","body":"x","mentions":["{colleague}","{ai}","`+string(w.Owner.ID)+`"]}`)
	task := post("/tasks", `{"title":"Call her","assignee_id":"{colleague}"}`)
	own := post("/tasks", `{"title":"Mine","assignee_id":"`+string(w.Owner.ID)+`"}`)
	lead := post("/leads", `{"contact_id":"`+contact+`","title":"An engine"}`)
	h.Want(http.StatusOK, http.MethodPost, "/api/v1/leads/"+lead+"/assign", w.Key, w.fill(`{"member_id":"{colleague}"}`))
	h.Want(http.StatusOK, http.MethodPatch, "/api/v1/tasks/"+task, w.Key, `{"title":"Call her today"}`)
	h.Want(http.StatusOK, http.MethodPatch, "/api/v1/notes/"+note, w.Key, `{"body":"y"}`)
	h.Want(http.StatusOK, http.MethodPatch, "/api/v1/tasks/"+own, w.Key, `{"remind_at":"2020-01-01T00:00:00Z"}`)

	list := func(key, query string) (all []team.Notification) {
		var p struct{ Items []team.Notification }
		h.Want(http.StatusOK, http.MethodGet, "/api/v1/notifications"+query, key, nil).Into(t, &p)
		return p.Items
	}
	told := func(key string) string {
		var all []string
		for _, n := range list(key, "") {
			all = append([]string{n.Kind + ": " + n.Text}, all...)
		}
		return strings.Join(all, "\n")
	}
	h.Eventually(20*time.Second, "all are told", func() bool { return len(list(w.second, "")) >= 3 && len(list(w.Key, "")) >= 1 })
	owner := w.Owner.Name
	for _, want := range []string{"mention: " + owner + " mentioned you in a note", "task_assigned: " + owner + " gave you the task Call her", "lead_assigned: " + owner + " made you responsible for the lead An engine"} {
		if got := told(w.second); strings.Count(got, want) != 1 {
			t.Errorf("she is told\n%s\nwant %s", got, want)
		}
	}
	if got := told(w.Key); got != "task_reminder: Tandem reminds you of the task Mine" {
		t.Errorf("he is told\n%s", got)
	}
	mine := map[string]bool{}
	for _, n := range list(w.second, "") {
		mine[string(n.ID)] = true
	}
	// Each stream shows its own member's: of his, the one that he is told is the first.
	next := func(frames <-chan frame) (record string) {
		f := await(t, frames, "fact", func(f frame) bool { return strings.Contains(f.data, `"noun":"notification"`) })
		_, rest, _ := strings.Cut(f.data, `"record_id":"`)
		record, _, _ = strings.Cut(rest, `"`)
		return record
	}
	for range mine {
		if id := next(hers); !mine[id] {
			t.Errorf("her stream shows the notification %s", id)
		}
	}
	if id := next(his); id != string(list(w.Key, "")[0].ID) {
		t.Errorf("his stream shows the notification %s", id)
	}

	// The same fact again, as after a crash, tells nobody twice.
	h.In(w.ID, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := events.Since(ctx, tx, 0, 1000)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.Topic() == "note.mentioned" {
				if err := team.Notifier().Apply(ctx, tx, events.Fact{ID: r.ID, Org: w.ID, Topic: r.Topic(), Record: r.Record}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if got := list(w.second, "?unread=true"); len(got) != 3 {
		t.Errorf("she has %d unread, want 3", len(got))
	}
	first := list(w.second, "?limit=1")
	h.Want(http.StatusNotFound, http.MethodPost, "/api/v1/notifications/"+string(first[0].ID)+"/read", w.Key, nil)
	h.Want(http.StatusOK, http.MethodPost, "/api/v1/notifications/"+string(first[0].ID)+"/read", w.second, nil)
	h.Want(http.StatusNoContent, http.MethodPost, "/api/v1/notifications/read-all", w.Key, nil)
	if got := list(w.second, "?unread=true"); len(got) != 2 {
		t.Errorf("she has %d unread, want 2", len(got))
	}
	// Pages are whole and in order.
	var ids []string
	for cursor := ""; ; {
		var p struct {
			Items []team.Notification
			Next  string
		}
		h.Want(http.StatusOK, http.MethodGet, "/api/v1/notifications?limit=1&cursor="+cursor, w.second, nil).Into(t, &p)
		for _, n := range p.Items {
			ids = append(ids, string(n.ID))
		}
		if cursor = p.Next; cursor == "" {
			break
		}
	}
	if len(ids) != 3 || !(ids[0] > ids[1] && ids[1] > ids[2]) {
		t.Errorf("the pages have %v", ids)
	}
}
