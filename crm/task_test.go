package crm_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/internal/timers"
)

// task adds a task as the person.
func (h *hub) task(body string) crm.Task {
	h.t.Helper()
	t, err := add(h, crm.Tasks, body)
	if err != nil {
		h.t.Fatal(err)
	}
	return t
}

func (h *hub) patchTask(id tandem.ID, body string) (t crm.Task, err error) {
	h.t.Helper()
	err = h.try(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
		t, err = crm.Tasks.Patch(ctx, tx, id, []byte(body), nil)
		return err
	})
	return t, err
}

// mustPatch is patchTask for what must succeed.
func (h *hub) mustPatch(id tandem.ID, body string) crm.Task {
	h.t.Helper()
	t, err := h.patchTask(id, body)
	if err != nil {
		h.t.Fatal(err)
	}
	return t
}

func (h *hub) tasks(q tandem.Query) (p tandem.Page[crm.Task]) {
	h.t.Helper()
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
		p, err = crm.Tasks.List(ctx, tx, q)
		return err
	})
	return p
}

func TestTasksAreCompletedAndOpenedAgain(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	lead, _ := h.lead(crm.NewLead{Contact: h.contact("ada@example.com", "Ada").ID})
	task := h.task(`{"title":" Call her back ","lead_id":"` + string(lead.ID) + `","assignee_id":"` + string(h.ava.ID) + `"}`)
	if task.Title != "Call her back" || task.Status != "todo" || task.Priority != "normal" || task.Recurrence != "none" || task.CompletedAt != nil || tandem.Deref(task.AssigneeID) != h.ava.ID {
		t.Errorf("task %+v", task)
	}
	done := h.mustPatch(task.ID, `{"status":"completed"}`)
	if done.CompletedAt == nil || time.Since(*done.CompletedAt) > time.Minute || done.Version != 2 {
		t.Errorf("completed %+v", done)
	}
	if again := h.mustPatch(task.ID, `{"status":"completed"}`); again.Version != 2 || !again.CompletedAt.Equal(*done.CompletedAt) {
		t.Errorf("completed again %+v", again)
	}
	if open := h.mustPatch(task.ID, `{"status":"waiting","priority":"urgent"}`); open.CompletedAt != nil || open.Priority != "urgent" {
		t.Errorf("opened again %+v", open)
	}
	if n := h.count("SELECT count(*) FROM events WHERE noun = 'task' AND lead_id = $1", lead.ID); n != 3 {
		t.Errorf("%d events of the lead, want 3", n)
	}
	if made := h.task(`{"title":"Done already","status":"completed"}`); made.CompletedAt == nil {
		t.Errorf("made as completed: %+v", made)
	}
	for name, body := range map[string]string{
		"no title": `{"title":" "}`, "a status": `{"title":"x","status":"soon"}`, "a priority": `{"title":"x","priority":"soon"}`, "a recurrence": `{"title":"x","recurrence":"yearly"}`,
		"recurs without a time": `{"title":"x","recurrence":"daily"}`, "a far time": `{"title":"x","due_at":"9000-01-01T00:00:00Z"}`, "no time": `{"title":"x","remind_at":"tomorrow"}`,
		"two records": `{"title":"x","lead_id":"` + string(lead.ID) + `","contact_id":"` + string(lead.ContactID) + `"}`, "no member": `{"title":"x","assignee_id":"` + string(lead.ID) + `"}`,
		"completed_at": `{"title":"x","completed_at":"2026-01-01T00:00:00Z"}`, "follows_id": `{"title":"x","follows_id":"` + string(task.ID) + `"}`, "no parent": `{"title":"x","parent_id":"x"}`,
	} {
		_, err := add(h, crm.Tasks, body)
		want(t, err, tandem.Invalid, name)
	}
	for _, body := range []string{`{"status":"completed","completed_at":"2026-01-01T00:00:00Z"}`, `{"status":1}`, `[]`, `{"recurrence":"daily"}`} {
		_, err := h.patchTask(task.ID, body)
		want(t, err, tandem.Invalid, body)
	}
}

func TestPartsOfTasksHaveNoParts(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	whole := h.task(`{"title":"Whole"}`)
	part := h.task(`{"title":"Part","parent_id":"` + string(whole.ID) + `"}`)
	_, err := add(h, crm.Tasks, `{"title":"Part of a part","parent_id":"`+string(part.ID)+`"}`)
	want(t, err, tandem.Invalid, "a part of a part")
	for _, c := range [][2]crm.Task{{whole, part}, {whole, whole}, {whole, h.task(`{"title":"Other"}`)}} {
		_, err := h.patchTask(c[0].ID, `{"parent_id":"`+string(c[1].ID)+`"}`)
		want(t, err, tandem.Invalid, c[0].Title+" as a part of "+c[1].Title)
	}
	if p := h.tasks(tandem.Query{Filter: map[string]string{"parent_id": string(whole.ID)}}); len(p.Items) != 1 || p.Items[0].ID != part.ID {
		t.Errorf("parts %+v", p.Items)
	}
	h.mustPatch(part.ID, `{"parent_id":null}`)
	h.mustPatch(whole.ID, `{"parent_id":"`+string(part.ID)+`"}`)
}

func TestRecurringTasksAreFollowedOnce(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	lead, _ := h.lead(crm.NewLead{Contact: h.contact("ada@example.com", "Ada").ID})
	for _, c := range []struct{ recurrence, due, remind, next, nextRemind string }{
		{"daily", "2101-03-31T09:00:00Z", "2101-03-31T08:30:00Z", "2101-04-01T09:00:00Z", "2101-04-01T08:30:00Z"},
		{"weekly", "2101-03-31T09:00:00Z", "2101-03-29T09:00:00Z", "2101-04-07T09:00:00Z", "2101-04-05T09:00:00Z"},
		{"monthly", "2101-01-31T09:00:00Z", "2101-01-31T09:00:00Z", "2101-02-28T09:00:00Z", "2101-02-28T09:00:00Z"},
		{"monthly", "2100-12-15T09:00:00+01:00", "2100-12-15T09:00:00Z", "2101-01-15T08:00:00Z", "2101-01-15T09:00:00Z"},
	} {
		task := h.task(fmt.Sprintf(`{"title":"Ask","lead_id":%q,"assignee_id":%q,"priority":"high","recurrence":%q,"due_at":%q,"remind_at":%q}`, lead.ID, h.sam.ID, c.recurrence, c.due, c.remind))
		h.mustPatch(task.ID, `{"status":"completed"}`)
		h.mustPatch(task.ID, `{"status":"todo"}`)
		h.mustPatch(task.ID, `{"status":"completed"}`)
		p := h.tasks(tandem.Query{Filter: map[string]string{"follows_id": string(task.ID)}})
		if len(p.Items) != 1 {
			t.Fatalf("%s: %d followed", c.recurrence, len(p.Items))
		}
		n := p.Items[0]
		if n.DueAt.UTC().Format(time.RFC3339) != c.next || n.RemindAt.UTC().Format(time.RFC3339) != c.nextRemind || n.Status != "todo" || n.CompletedAt != nil ||
			n.Recurrence != c.recurrence || n.Priority != "high" || tandem.Deref(n.LeadID) != lead.ID || tandem.Deref(n.AssigneeID) != h.sam.ID {
			t.Errorf("%s of %s is followed by %+v", c.recurrence, c.due, n)
		}
		h.mustPatch(n.ID, `{"status":"cancelled"}`)
		if p := h.tasks(tandem.Query{Filter: map[string]string{"follows_id": string(n.ID)}}); len(p.Items) != 0 {
			t.Errorf("a cancelled task is followed by %+v", p.Items)
		}
	}
	// However many complete it at once.
	busy := h.task(`{"title":"Standup","recurrence":"daily","due_at":"2101-03-31T09:00:00Z"}`)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := h.try(h.human, func(ctx context.Context, tx pgx.Tx) error {
				_, err := crm.Tasks.Patch(ctx, tx, busy.ID, []byte(`{"status":"completed"}`), nil)
				return err
			}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if p := h.tasks(tandem.Query{Filter: map[string]string{"follows_id": string(busy.ID)}}); len(p.Items) != 1 {
		t.Errorf("completed by 8 at once: %d followed, want 1", len(p.Items))
	}
	// What was long overdue goes on from now, not with every day that was missed.
	late := h.task(`{"title":"Water","recurrence":"daily","due_at":"2020-01-01T09:00:00Z"}`)
	h.mustPatch(late.ID, `{"status":"completed"}`)
	p := h.tasks(tandem.Query{Filter: map[string]string{"follows_id": string(late.ID)}})
	if len(p.Items) != 1 || time.Until(*p.Items[0].DueAt) > 24*time.Hour || time.Until(*p.Items[0].DueAt) < -time.Minute {
		t.Errorf("after a task of 2020 comes %+v", p.Items)
	}
}

func TestTasksByDueTime(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	for i := range 25 {
		due := ""
		if i%5 > 0 {
			due = fmt.Sprintf(`,"due_at":"20%02d-06-01T00:00:00.%06dZ"`, 10+i%5*10, i%3)
		}
		h.task(fmt.Sprintf(`{"title":"Task %d"%s}`, i, due))
	}
	for _, sort := range []string{"due_at", "-due_at"} {
		var all []crm.Task
		for q := (tandem.Query{Sort: sort, Limit: 4}); ; {
			p := h.tasks(q)
			all = append(all, p.Items...)
			if q.Cursor = p.Next; q.Cursor == "" {
				break
			}
		}
		if len(all) != 25 {
			t.Errorf("%s: %d tasks, want 25", sort, len(all))
		}
		for i := 1; i < len(all); i++ {
			a, b := all[i-1].DueAt, all[i].DueAt
			if sort == "-due_at" {
				a, b = b, a
			}
			if a == nil && b != nil || a != nil && b != nil && a.After(*b) {
				t.Errorf("%s: %v before %v", sort, all[i-1].DueAt, all[i].DueAt)
			}
		}
	}
	overdue := tandem.Query{Where: &tandem.Where{And: []tandem.Where{
		{Field: "due_at", Op: "lt", Value: "2026-01-01T00:00:00Z"}, {Field: "status", Op: "in", Value: "todo,in_progress,waiting"},
	}}}
	p := h.tasks(overdue)
	if len(p.Items) != 5 {
		t.Errorf("%d tasks are overdue, want 5", len(p.Items))
	}
	h.mustPatch(p.Items[0].ID, `{"status":"completed"}`)
	if p := h.tasks(overdue); len(p.Items) != 4 {
		t.Errorf("%d tasks are overdue, want 4", len(p.Items))
	}
}

func TestReminders(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	lead, _ := h.lead(crm.NewLead{Contact: h.contact("ada@example.com", "Ada").ID})
	const soon, later = `"remind_at":"2020-01-01T00:00:00Z"`, `"remind_at":"2101-01-01T00:00:00Z"`
	due := h.task(`{"title":"Due","lead_id":"` + string(lead.ID) + `",` + soon + `}`)
	moved := h.task(`{"title":"Moved",` + later + `}`)
	h.mustPatch(moved.ID, `{`+soon+`}`)
	done := h.task(`{"title":"Done",` + soon + `}`)
	h.mustPatch(done.ID, `{"status":"completed"}`)
	gone := h.task(`{"title":"Gone",` + soon + `}`)
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error { return crm.Tasks.Archive(ctx, tx, gone.ID, nil) })
	waits := h.task(`{"title":"Waits",` + later + `}`)
	h.mustPatch(waits.ID, `{"title":"Waits still"}`)
	none := h.task(`{"title":"None",` + later + `}`)
	h.mustPatch(none.ID, `{"remind_at":null}`)

	r := &timers.Runner{DB: h.db, Handlers: crm.Timers(), Every: 10 * time.Millisecond}
	run, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(run) }()
	const left = "SELECT count(*) FROM timers WHERE kind = 'task' AND org_id = $1"
	for deadline := time.Now().Add(30 * time.Second); h.count(left, h.org.ID) > 1 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	// Opened again, a task whose reminder is past stays quiet; one whose reminder is to come has it again.
	h.mustPatch(done.ID, `{"status":"todo"}`)
	h.mustPatch(waits.ID, `{"status":"completed"}`)
	if n := h.count(left, h.org.ID); n != 0 {
		t.Errorf("%d timers are left, want none", n)
	}
	h.mustPatch(waits.ID, `{"status":"todo"}`)
	if n := h.count(left+" AND record_id = $2 AND due_at > now() + interval '10 years'", h.org.ID, waits.ID); n != 1 {
		t.Error("the task that waits has no timer")
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	const told = "SELECT count(*) FROM events WHERE noun = 'task' AND verb = 'reminded'"
	if all, mine, other := h.count(told), h.count(told+" AND record_id = $1 AND lead_id = $2 AND actor_kind = 'system'", due.ID, lead.ID), h.count(told+" AND record_id = $1", moved.ID); all != 2 || mine != 1 || other != 1 {
		t.Errorf("%d reminders, %d of what was due, %d of what was moved; want 2, 1 and 1", all, mine, other)
	}
}

// Whose tasks are asked for, and of what, by due time or by age: each is a walk along an index, under row-level security.
func TestListsOfTasksUseTheirIndexes(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	lead, _ := h.lead(crm.NewLead{Contact: h.contact("ada@example.com", "Ada").ID})
	for _, o := range []*hub{h, addOrg(t, h.db, "other")} {
		o.tx(o.sys, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `
				INSERT INTO tasks (org_id, id, title, assignee_id, due_at, lead_id)
				SELECT $1, gen_random_uuid(), 'Task ' || i, CASE WHEN i % 20 = 0 THEN $2::uuid END,
					CASE WHEN i % 3 > 0 THEN timestamptz '2026-01-01' + i * interval '1 minute' END, CASE WHEN i % 100 = 0 THEN $3::uuid END
				FROM generate_series(1, 5000) i`, o.org.ID, o.sam.ID, map[bool]*tandem.ID{true: &lead.ID}[o == h])
			return err
		})
	}
	h.analyze("tasks")
	for index, q := range map[string]tandem.Query{
		"tasks_recent": {}, "tasks_due": {Sort: "due_at"},
		"tasks_assignee": {Sort: "due_at", Filter: map[string]string{"assignee_id": string(h.sam.ID)}},
		"tasks_lead":     {Filter: map[string]string{"lead_id": string(lead.ID)}},
	} {
		for range 2 { // the second page as well
			var next string
			plan := h.explain(func(ctx context.Context, tx pgx.Tx) error {
				p, err := crm.Tasks.List(ctx, tx, q)
				next = p.Next
				return err
			})
			if !strings.Contains(plan, index) || strings.Contains(plan, "Sort") || strings.Contains(plan, "Seq Scan") {
				t.Errorf("%+v: the plan is not one walk along %s:\n%s", q, index, plan)
			}
			q.Cursor = next
		}
	}
}

// A monthly task keeps its day through months that lack it, until somebody chooses another time.
func TestMonthlyTasksKeepTheirDay(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	task := h.task(`{"title":"Invoice","recurrence":"monthly","due_at":"2101-01-31T09:00:00Z"}`)
	next := func() string {
		h.mustPatch(task.ID, `{"status":"completed"}`)
		p := h.tasks(tandem.Query{Filter: map[string]string{"follows_id": string(task.ID)}})
		if len(p.Items) != 1 {
			t.Fatalf("%d followed", len(p.Items))
		}
		task = p.Items[0]
		return task.DueAt.UTC().Format(time.DateOnly)
	}
	for _, want := range []string{"2101-02-28", "2101-03-31", "2101-04-30", "2101-05-31", "2101-06-30"} {
		if got := next(); got != want {
			t.Fatalf("the next is due on %s, want %s", got, want)
		}
	}
	h.mustPatch(task.ID, `{"title":"Invoices"}`)
	if got := next(); got != "2101-07-31" {
		t.Errorf("after another title it is due on %s", got)
	}
	h.mustPatch(task.ID, `{"due_at":"2101-08-30T09:00:00Z"}`)
	for _, want := range []string{"2101-09-30", "2101-10-30"} {
		if got := next(); got != want {
			t.Errorf("after another time it is due on %s, want %s", got, want)
		}
	}
	if n := h.count("SELECT count(*) FROM tasks WHERE anchor_day IS NOT NULL AND extract(day FROM due_at AT TIME ZONE 'UTC') = anchor_day"); n != 0 {
		t.Errorf("%d tasks remember the day that they have", n)
	}
}
