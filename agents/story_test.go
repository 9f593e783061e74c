package agents_test

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents"
	"github.com/tandemhq/tandem/agents/llm"
	"github.com/tandemhq/tandem/agents/rules"
	"github.com/tandemhq/tandem/bus"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/timers"
	"github.com/tandemhq/tandem/team"
)

// TestStory plays a whole conversation over the bus with the built-in model: it answers from the
// knowledge base, learns what it must know, moves the lead and hands it to a person.
func TestStory(t *testing.T) {
	t.Parallel()
	w := newWorldIn(t, pgtest.New(t), "Shiftly", team.Budget{MessagesPerHour: 60})
	ctx, cancel := context.WithCancel(context.Background())
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	b, err := bus.Open(ctx, bus.Options{Dir: t.TempDir(), Logger: quiet})
	must(t, err)

	r := w.runner()
	r.Models = (&agents.Models{Rules: rules.Model{}}).Open
	r.Signal = b.Signal
	courier := &inbox.Courier{DB: w.db, Logger: quiet, Channels: func(context.Context, tandem.ID, tandem.ID) (channels.Channel, error) { return w.journal, nil }}
	subs := []events.Subscription{
		r.Subscription(),
		(&agents.Indexer{DB: w.db, Embedder: llm.HashedNgrams{}}).Subscription(),
		{Name: "courier", Topics: []string{events.TopicOut}, Workers: 2, Handle: courier.Deliver},
	}
	drain := &events.Drain{DB: w.db, Publish: b.Publish, State: b.State, Consumers: subs, Logger: quiet}
	clock := &timers.Runner{DB: w.db, Handlers: inbox.Timers(), Logger: quiet}
	var parts sync.WaitGroup
	parts.Go(func() { _ = drain.Run(ctx) })
	parts.Go(func() { _ = clock.Run(ctx) })
	parts.Go(func() { _ = r.Watch(ctx, b.Listen) })
	for _, s := range subs {
		parts.Go(func() { _ = events.Consume(ctx, w.db, b, s) })
	}
	defer func() {
		cancel()
		parts.Wait()
		must(t, b.Close(context.Background()))
	}()
	typing := make(chan struct{}, 100)
	stop, err := b.Listen("sig."+string(w.org)+".typing", func(string, []byte) {
		select {
		case typing <- struct{}{}:
		default:
		}
	})
	must(t, err)
	defer stop()

	must(t, w.asOwner(func(ctx context.Context, tx pgx.Tx) error {
		for _, d := range []agents.Document{
			{Title: "Prices", Body: "The Team plan costs 49 euros per month for up to 20 employees. Every further employee costs 2 euros per month.", URL: "https://shiftly.example/prices"},
			{Title: "Cancellation", Body: "You can cancel at any time with a notice of 30 days. There is no minimum term.", URL: "https://shiftly.example/terms"},
			{Title: "Security", Body: "All data is encrypted and stored in a data center in Frankfurt, Germany."},
		} {
			if _, err := agents.Documents.Create(ctx, tx, d); err != nil {
				return err
			}
		}
		return nil
	}))
	wait(t, "the knowledge to be indexed", func() bool { return len(w.search(llm.HashedNgrams{}, "data center Frankfurt", 1)) == 1 })

	c := w.customer(nil)
	c.name = "Nina Nowak"
	var slowest time.Duration
	for i, text := range []string{
		"Hi there!",
		"How much does the Team plan cost?",
		"We need a tool to plan the shifts of our 60 warehouse workers.",
		"Can we cancel at any time?",
		"I am the operations manager and I make the decision.",
		"Where is our data stored?",
		"We would like to start next month.",
		"Our budget is about 500 euros per month.",
	} {
		began := time.Now()
		c.says(text)
		wait(t, "an answer to "+text, func() bool { return len(w.journal.of(c.conv)) == i+1 && !w.conversation(c).Unanswered() })
		slowest = max(slowest, time.Since(began))
		t.Logf("%-64s -> %s", text, strings.ReplaceAll(w.journal.of(c.conv)[i].Text, "\n", " "))
	}
	sent := w.journal.of(c.conv)
	for i, want := range map[int]string{1: "49 euros per month", 3: "30 days", 5: "Frankfurt"} {
		if !strings.Contains(sent[i].Text, want) {
			t.Errorf("answer %d is %q, want it to say %q", i+1, sent[i].Text, want)
		}
	}
	if ai := string(w.wrote(c)[1].AI); !strings.Contains(ai, "https://shiftly.example/prices") {
		t.Errorf("the answer about prices names the sources %s", ai)
	}
	conv := w.conversation(c)
	if conv.Handoff == nil || conv.Handoff.Reason != "qualified_lead" || conv.Lead.Stage.Name != "Qualified" {
		t.Errorf("handoff %+v, stage %+v; want a qualified lead on its way to a person", conv.Handoff, conv.Lead.Stage)
	}
	var h inbox.Handoff
	w.tx(func(ctx context.Context, tx pgx.Tx) (err error) {
		h, err = inbox.GetHandoff(ctx, tx, conv.Handoff.ID)
		return err
	})
	if len(h.Packet.Qualification) != 4 || h.Packet.Summary == "" {
		t.Errorf("packet %+v, want the four fields and a summary", h.Packet)
	}
	for _, run := range w.runs(c) {
		if run.State != agents.Done && run.State != agents.HandedOver {
			t.Errorf("run %s: %s", run.State, run.Error)
		}
		for _, s := range run.Steps {
			if s.Error != "" {
				t.Errorf("step %s: %s", s.Name, s.Error)
			}
		}
	}
	if len(typing) == 0 {
		t.Error("nobody was told that the AI member was writing")
	}
	// A person takes it from here, and the AI member stays out of it.
	must(t, w.asOwner(func(ctx context.Context, tx pgx.Tx) error {
		_, err := inbox.AcceptHandoff(ctx, tx, h.ID)
		return err
	}))
	c.says("When can we talk?")
	must(t, w.asOwner(func(ctx context.Context, tx pgx.Tx) error {
		_, err := inbox.Reply(ctx, tx, c.conv, inbox.Draft{Text: "Tomorrow at ten."})
		return err
	}))
	wait(t, "the person's answer", func() bool { return len(w.journal.of(c.conv)) == 9 })
	if last := w.journal.of(c.conv)[8].Text; last != "Tomorrow at ten." {
		t.Errorf("the last message is %q", last)
	}
	t.Logf("figure: story of 8 turns over the bus: slowest answer %v, %d runs", slowest.Round(time.Millisecond), len(w.runs(c)))
}
