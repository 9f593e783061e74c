package agents_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents/agenttest"
	"github.com/tandemhq/tandem/agents/llm"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/seal"
	"github.com/tandemhq/tandem/team"
)

func TestReply(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := agenttest.NewScripted(agenttest.Replies("Hello, how can I help?"))
	c := w.customer(m)
	f := c.says("Hi")
	r := w.runner()
	w.wake(r, f)
	w.wake(r, f) // delivered again
	w.deliver(c)
	if got := w.journal.of(c.conv); len(got) != 1 || got[0].Text != "Hello, how can I help?" {
		t.Fatalf("sent %+v, want one reply", got)
	}
	conv := w.conversation(c)
	if conv.Owner == nil || conv.Owner.ID != w.ai.ID || conv.LeaseRun != "" || conv.Unanswered() {
		t.Errorf("conversation %+v, want parked with the AI member and answered", conv)
	}
	runs := w.runs(c)
	if states(runs) != "done" || len(runs[0].Steps) != 2 || runs[0].ToolCalls != 1 || runs[0].InputTokens != 10 {
		t.Fatalf("runs %+v, want one done run with a model step and a tool step", runs)
	}
	var ai inbox.AIMeta
	must(t, json.Unmarshal(w.wrote(c)[0].AI, &ai))
	if ai.RunID != runs[0].ID || ai.Confidence != 0.9 {
		t.Errorf("ai %+v, want the run and confidence 0.9", ai)
	}
	// Nothing unanswered: a wake without cause does nothing.
	w.wake(r, f)
	if m.Left() != 0 || len(m.Requests()) != 1 {
		t.Errorf("the model was called %d times, want once", len(m.Requests()))
	}
}

func TestPlainTextIsAReply(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.customer(agenttest.NewScripted(agenttest.Says("We are open from nine to five.")))
	w.wake(w.runner(), c.says("When are you open?"))
	w.deliver(c)
	if got := w.journal.of(c.conv); len(got) != 1 || got[0].Text != "We are open from nine to five." {
		t.Fatalf("sent %+v", got)
	}
}

func TestWhoAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.runner()
	w.fallback = agenttest.NewScripted().Otherwise(agenttest.Replies("Hello."))

	person := w.customer(nil)
	f := person.says("Hi")
	must(t, w.asOwner(func(ctx context.Context, tx pgx.Tx) error { _, err := inbox.Claim(ctx, tx, person.conv); return err }))
	w.wake(r, f)
	if got := w.wrote(person); len(got) != 0 {
		t.Errorf("the AI member answered a person's conversation: %+v", got)
	}

	disabled := w.customer(nil)
	f = disabled.says("Hi")
	w.tx(func(ctx context.Context, tx pgx.Tx) error { return team.Disable(ctx, tx, w.ai.ID) })
	w.wake(r, f)
	if got := w.wrote(disabled); len(got) != 0 {
		t.Errorf("a disabled AI member answered: %+v", got)
	}
	w.tx(func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE members SET status = 'active' WHERE org_id = $1 AND id = $2`, w.org, w.ai.ID)
		return err
	})

	nobody := w.customer(nil)
	w.tx(func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE channels SET ai_member_id = NULL WHERE org_id = $1`, w.org)
		return err
	})
	w.wake(r, nobody.says("Hi"))
	if got := w.wrote(nobody); len(got) != 0 {
		t.Errorf("an AI member answered on a channel that has none: %+v", got)
	}
	// A person hands it to the AI member: now it answers.
	must(t, w.asOwner(func(ctx context.Context, tx pgx.Tx) error {
		_, err := inbox.HandToAI(ctx, tx, nobody.conv, w.ai.ID)
		return err
	}))
	fact := nobody.last
	fact.Topic, fact.Record = "conversation.handed_to_ai", nobody.conv
	w.wake(r, fact)
	if got := w.wrote(nobody); len(got) != 1 {
		t.Errorf("after hand to AI: %+v, want one reply", got)
	}
}

func TestHandoff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.runner()
	c := w.customer(agenttest.NewScripted(agenttest.HandsOff("customer_asked"), agenttest.Replies("Back again.")))
	w.wake(r, c.says("A person please"))
	w.deliver(c)
	conv := w.conversation(c)
	if conv.Handoff == nil || conv.Handoff.Reason != "customer_asked" {
		t.Fatalf("conversation %+v, want an open handoff", conv)
	}
	if got := w.journal.of(c.conv); len(got) != 1 || got[0].Text != "A colleague takes over." {
		t.Fatalf("sent %+v, want the one line", got)
	}
	// While people decide, the AI member is silent.
	w.wake(r, c.says("Hello?"))
	if n := len(w.wrote(c)); n != 1 {
		t.Fatalf("%d lines while a handoff waits, want 1", n)
	}
	must(t, w.asOwner(func(ctx context.Context, tx pgx.Tx) error {
		_, err := inbox.RejectHandoff(ctx, tx, conv.Handoff.ID, "You can do this.")
		return err
	}))
	f := c.last
	f.Topic, f.Record = "handoff.rejected", conv.Handoff.ID
	w.wake(r, f)
	if got := w.wrote(c); len(got) != 2 || got[1].Text != "Back again." {
		t.Fatalf("after the rejection: %+v, want an answer to the new message", got)
	}
	if s := states(w.runs(c)); s != "handed_off done" {
		t.Errorf("runs %s", s)
	}
}

func TestModelFaults(t *testing.T) {
	t.Parallel()
	w := newWorldIn(t, pgtest.New(t), "Acme", team.Budget{Seconds: 5})
	r := w.runner()
	long := strings.Repeat("word ", 2000)
	hang := func(ctx context.Context, _ llm.Request) (llm.Response, error) {
		<-ctx.Done()
		return llm.Response{}, &llm.Error{Code: llm.CodeDeadline, Deadline: true, Err: ctx.Err()}
	}
	fails := func(e *llm.Error) agenttest.Step { return agenttest.Fails(e) }
	cases := []struct {
		name    string
		steps   []agenttest.Step
		reason  string // of the handoff; empty: a reply
		retried bool
	}{
		{"throttled, then well", []agenttest.Step{fails(&llm.Error{Status: 429, Code: llm.CodeThrottled, Retryable: true, RetryAfter: time.Millisecond}), agenttest.Replies("Hello.")}, "", true},
		{"throttled for good", []agenttest.Step{fails(&llm.Error{Status: 429, Code: llm.CodeThrottled}), fails(&llm.Error{Status: 429, Code: llm.CodeThrottled})}, "tool_failure", false},
		{"key refused", []agenttest.Step{fails(&llm.Error{Status: 401, Code: llm.CodeAuth})}, "tool_failure", false},
		{"time over", []agenttest.Step{hang, hang}, "budget", false},
		{"truncated", []agenttest.Step{fails(&llm.Error{Code: llm.CodeMalformed}), agenttest.Replies("Hello.")}, "", true},
		{"cut", []agenttest.Step{fails(&llm.Error{Code: llm.CodeNetwork, Err: errors.New("unexpected EOF")}), fails(&llm.Error{Code: llm.CodeNetwork})}, "tool_failure", false},
		{"length", []agenttest.Step{fails(&llm.Error{Code: llm.CodeLength}), fails(&llm.Error{Code: llm.CodeLength})}, "tool_failure", false},
		{"foreign error", []agenttest.Step{agenttest.Fails(errors.New("secret-key-in-error")), agenttest.Fails(errors.New("secret-key-in-error"))}, "tool_failure", false},
		{"empty twice", []agenttest.Step{agenttest.Says(""), agenttest.Says("  \n")}, "tool_failure", false},
		{"empty once", []agenttest.Step{agenttest.Says(""), agenttest.Says("Hello.")}, "", true},
		{"panic twice", []agenttest.Step{agenttest.Panics(), agenttest.Panics()}, "tool_failure", false},
		{"panic once", []agenttest.Step{agenttest.Panics(), agenttest.Replies("Hello.")}, "", true},
		{"wrong schema for ever", []agenttest.Step{
			agenttest.Calls(agenttest.Call("reply", map[string]any{"message": "x"})), agenttest.Calls(agenttest.Call("reply", map[string]any{"text": 5})),
			agenttest.Calls(agenttest.Call("reply", []int{1})), agenttest.Calls(agenttest.Call("reply", map[string]any{"text": ""})),
		}, "tool_failure", false},
		{"wrong schema once", []agenttest.Step{agenttest.Calls(agenttest.Call("reply", map[string]any{"message": "x"})), agenttest.Replies("Hello.")}, "", true},
		{"endless tools", []agenttest.Step{
			agenttest.Calls(agenttest.Call("search_knowledge", map[string]any{"query": "a"})), agenttest.Calls(agenttest.Call("search_knowledge", map[string]any{"query": "b"}), agenttest.Call("nope", 1)),
			agenttest.Calls(agenttest.Call("add_note", map[string]any{"text": "b"}), agenttest.Call("nope", 1), agenttest.Call("nope", 1), agenttest.Call("nope", 1)),
			agenttest.Calls(agenttest.Call("add_note", map[string]any{"text": "b"}), agenttest.Call("nope", 1), agenttest.Call("nope", 1), agenttest.Call("nope", 1)),
		}, "budget", false},
		{"reply too long", []agenttest.Step{agenttest.Says(long), agenttest.Says(long), agenttest.Says(long)}, "tool_failure", false},
		{"too many tokens", []agenttest.Step{func(context.Context, llm.Request) (llm.Response, error) {
			return llm.Response{Text: "Hello.", Usage: llm.Usage{InputTokens: 30_000, OutputTokens: 2_001}}, nil
		}}, "budget", false},
		{"handoff with a wrong reason", []agenttest.Step{agenttest.HandsOff("because"), agenttest.HandsOff("policy")}, "policy", false},
	}
	replies, handoffs, silent, leaked := 0, 0, 0, 0
	for _, k := range cases {
		c := w.customer(agenttest.NewScripted(k.steps...))
		w.wake(r, c.says("Hello, "+k.name))
		w.deliver(c)
		sent, conv := w.journal.of(c.conv), w.conversation(c)
		if len(sent) != 1 {
			silent++
			t.Errorf("%s: %d messages reached the customer, want exactly one", k.name, len(sent))
			continue
		}
		if text := sent[0].Text; strings.Contains(text, "secret") || strings.Contains(text, "model:") || strings.Contains(strings.ToLower(text), "error") {
			leaked++
			t.Errorf("%s: the customer read %q", k.name, text)
		}
		switch {
		case k.reason == "" && conv.Handoff == nil:
			replies++
		case k.reason != "" && conv.Handoff != nil && conv.Handoff.Reason == k.reason:
			handoffs++
		default:
			t.Errorf("%s: handoff %+v, want %q; runs %+v", k.name, conv.Handoff, k.reason, w.runs(c))
		}
		if conv.LeaseRun != "" {
			t.Errorf("%s: the lease is still held", k.name)
		}
		for _, run := range w.runs(c) {
			if run.State == "running" {
				t.Errorf("%s: a run is still running", k.name)
			}
		}
	}
	proof.Figure(t, "AI-10", "%d faults of a model: %d replies, %d handoffs, %d silent, %d raw errors shown", len(cases), replies, handoffs, silent, leaked)
}

func TestModelCannotBeOpened(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.runner()
	r.Models = func(context.Context, team.AIProfile, seal.Secret) (llm.Model, error) {
		return nil, &llm.Error{Code: llm.CodeSettings}
	}
	c := w.customer(nil)
	w.wake(r, c.says("Hi"))
	if conv := w.conversation(c); conv.Handoff == nil || conv.Handoff.Reason != "tool_failure" || len(w.wrote(c)) != 1 {
		t.Errorf("conversation %+v, want a handoff and one line", conv)
	}
}

func TestBudgetsAcrossTurns(t *testing.T) {
	t.Parallel()
	w := newWorldIn(t, pgtest.New(t), "Acme", team.Budget{MessagesPerHour: 3})
	r := w.runner()
	c := w.customer(agenttest.NewScripted().Otherwise(agenttest.Replies("Hello.")))
	for range 3 {
		w.wake(r, c.says("Hi"))
	}
	if conv := w.conversation(c); conv.Handoff != nil {
		t.Fatal("handed off before the budget was spent")
	}
	w.wake(r, c.says("Hi"))
	if conv := w.conversation(c); conv.Handoff == nil || conv.Handoff.Reason != "budget" {
		t.Errorf("conversation %+v, want a handoff for budget", conv)
	}
	if s := states(w.runs(c)); s != "done done done budget" {
		t.Errorf("runs %s", s)
	}

	costly := w.customer(agenttest.NewScripted().Otherwise(func(context.Context, llm.Request) (llm.Response, error) {
		return llm.Response{Text: "Hello.", Usage: llm.Usage{CostMicros: 20_000_000}}, nil
	}))
	w.wake(r, costly.says("Hi"))
	w.wake(r, costly.says("Hi"))
	if s := states(w.runs(costly)); s != "done budget" {
		t.Errorf("runs %s, want the day's cost to stop the second", s)
	}

	// Two hubs that answer each other stop, because an AI member writes a few times an hour at most.
	loop := w.customer(agenttest.NewScripted().Otherwise(agenttest.Replies("I am away.")))
	w.tx(func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM ai_spending WHERE org_id = $1`, w.org)
		return err
	})
	n := 0
	for range 20 {
		w.wake(r, loop.says("I am away."))
		n = len(w.wrote(loop))
	}
	if n != 4 {
		t.Errorf("an auto-reply loop got %d messages, want 3 and the handoff's line", n)
	}
	proof.Figure(t, "AI-5", "an auto-reply loop of 20 messages got %d answers", n)
}

func TestStepsRecordRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.customer(agenttest.NewScripted(
		agenttest.Calls(agenttest.Call("move_stage", map[string]any{"stage": "Won"}), agenttest.Call("set_qualification", map[string]any{"field": "budget", "value": "a million", "confidence": 1, "quote": "we have a million"})),
		agenttest.Calls(agenttest.Call("set_qualification", map[string]any{"field": "budget", "value": "5,000 EUR", "confidence": 0.8, "quote": "Our budget is 5,000 EUR"}), agenttest.Call("move_stage", map[string]any{"stage": "qualified"})),
		agenttest.Replies("Thank you."),
	))
	w.wake(w.runner(), c.says("Our budget is 5,000 EUR!"))
	runs := w.runs(c)
	if states(runs) != "done" {
		t.Fatalf("runs %+v", runs)
	}
	var refused []string
	for i, s := range runs[0].Steps {
		if s.Idx != i {
			t.Errorf("step %d has idx %d", i, s.Idx)
		}
		if s.Kind == "tool" && s.Error != "" {
			refused = append(refused, s.Name)
		}
	}
	if strings.Join(refused, " ") != "move_stage set_qualification" {
		t.Errorf("refused %v", refused)
	}
	w.tx(func(ctx context.Context, tx pgx.Tx) error {
		var stage, value, quote string
		var message tandem.ID
		err := tx.QueryRow(ctx, `SELECT s.name, q.value, q.quote, q.message_id FROM leads l JOIN stages s ON s.org_id = l.org_id AND s.id = l.stage_id
			JOIN qualifications q ON q.org_id = l.org_id AND q.lead_id = l.id WHERE l.org_id = $1 AND l.id = $2`, w.org, c.Lead).Scan(&stage, &value, &quote, &message)
		if err != nil {
			return err
		}
		if stage != "Qualified" || value != "5,000 EUR" || message != c.Message {
			t.Errorf("stage %s, budget %q from %s; want Qualified, 5,000 EUR from %s", stage, value, message, c.Message)
		}
		return nil
	})
}
