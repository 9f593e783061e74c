package agents_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem/agents"
	"github.com/tandemhq/tandem/agents/agenttest"
	"github.com/tandemhq/tandem/crm"
)

// TestTakenOverTurnWritesNothing: a model that has not heard of the takeover goes on with its tools. None of them
// changes anything, also those that write to the lead and send nothing.
func TestTakenOverTurnWritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	script := agenttest.NewScripted()
	entered, release := script.Block(agenttest.Calls(
		agenttest.Call("set_lead_fields", map[string]any{"title": "Written by the machine", "priority": "urgent"}),
		agenttest.Call("move_stage", map[string]any{"stage": "Qualified"}),
		agenttest.Call("add_note", map[string]any{"text": "A note of the machine."}),
	))
	script.Otherwise(agenttest.Replies("Too late."))
	c := w.customer(script)
	fact := c.says("Hello")
	lead := func() (l crm.Lead) {
		w.tx(func(ctx context.Context, tx pgx.Tx) (err error) {
			l, err = crm.Leads.Load(ctx, tx, c.Lead, false)
			return err
		})
		return l
	}
	before := lead()
	done := make(chan error, 1)
	go func() { done <- w.runner().Wake(w.ctx, fact) }()
	<-entered
	must(t, w.takeover(c))
	close(release)
	must(t, <-done)
	if after := lead(); after.Title != before.Title || after.Priority != before.Priority || after.Stage != before.Stage {
		t.Errorf("the lead was changed after the takeover: %q %s %s", after.Title, after.Priority, after.Stage.Name)
	}
	if said := w.wrote(c); len(said) != 0 {
		t.Errorf("written after the takeover: %+v", said)
	}
	if s := states(w.runs(c)); s != string(agents.Cancelled) {
		t.Errorf("runs %s, want cancelled", s)
	}
}
