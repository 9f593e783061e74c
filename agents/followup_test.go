package agents_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents/agenttest"
	"github.com/tandemhq/tandem/crm"
)

// An AI member makes a task and keeps a note on the lead's record, in its own name; what it may not choose, it is not asked.
func TestFollowUps(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.customer(agenttest.NewScripted(agenttest.Calls(
		agenttest.Call("create_task", map[string]any{"title": "Call her back", "details": "She is free after four.", "days": 2, "priority": "high"}),
		agenttest.Call("add_note", map[string]any{"text": "She **knows** engines.", "place": "record"}),
		agenttest.Call("add_note", map[string]any{"text": "Asked about racks."}),
		agenttest.Call("create_task", map[string]any{"title": "Elsewhere", "lead_id": string(tandem.NewID())}),
	), agenttest.Replies("I will have a colleague call you.")))
	fact := c.says("Can somebody call me back?")
	must(t, w.asOwner(func(ctx context.Context, tx pgx.Tx) error {
		_, err := crm.Leads.Assign(ctx, tx, c.Lead, w.owner.Member)
		return err
	}))
	w.wake(w.runner(), fact)
	must(t, w.asOwner(func(ctx context.Context, tx pgx.Tx) error {
		tasks, err := crm.Tasks.List(ctx, tx, tandem.Query{})
		if err != nil {
			return err
		}
		if len(tasks.Items) != 1 {
			t.Fatalf("%d tasks", len(tasks.Items))
		}
		got := tasks.Items[0]
		if got.Title != "Call her back" || tandem.Deref(got.LeadID) != c.Lead || tandem.Deref(got.AssigneeID) != w.owner.Member || got.DueAt == nil || got.Priority != "high" {
			t.Errorf("%+v", got)
		}
		notes, err := crm.Notes.List(ctx, tx, tandem.Query{})
		if err == nil && (len(notes.Items) != 1 || tandem.Deref(notes.Items[0].LeadID) != c.Lead || tandem.Deref(notes.Items[0].AuthorID) != w.ai.ID) {
			t.Errorf("%+v", notes.Items)
		}
		return err
	}))
	refused, noted := 0, 0
	for _, s := range w.runs(c)[0].Steps {
		if s.Kind == "tool" && s.Error != "" {
			refused++
		}
	}
	for _, m := range w.wrote(c) {
		if m.Kind == "note" {
			noted++
		}
	}
	if refused != 1 || noted != 1 {
		t.Errorf("%d calls refused, %d notes between the messages", refused, noted)
	}
}
