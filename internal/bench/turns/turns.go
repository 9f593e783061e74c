package turns

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem/internal/bench"
	"github.com/tandemhq/tandem/team"
)

const (
	perSecond = 50
	contacts  = 2000
	orgs      = 4
	p50Goal   = 15 * time.Millisecond
	p99Goal   = 60 * time.Millisecond
)

// Run measures G12.
func Run(ctx context.Context, e *bench.Env) ([]bench.Row, error) {
	m, err := startModel()
	if err != nil {
		return nil, err
	}
	defer m.stop()
	w, err := bench.NewWorld(ctx, e, "turns", bench.Inhabitants{Orgs: orgs, Contacts: contacts, AI: &team.AIProfile{
		Provider: "compatible", BaseURL: "http://" + m.addr + "/v1", Model: "bench", Autonomy: "auto",
		// Generated texts are alike, as a machine's would be.
		Budget: team.Budget{MachineRounds: -1, MessagesInRow: 1000, MessagesPerHour: 1000},
	}})
	if err != nil {
		return nil, err
	}
	defer w.Close()
	if _, err := w.Pool.Exec(ctx, `UPDATE channels SET settings = jsonb_build_object('reply_url', $1::text)`, "http://"+m.addr+"/replies"); err != nil {
		return nil, fmt.Errorf("set the reply address: %w", err)
	}
	t, err := e.Start(ctx, bench.Launch{Database: w.Database, Args: []string{"--allow-private", m.addr}})
	if err != nil {
		return nil, err
	}
	defer t.Kill()
	b := &run{e: e, w: w, t: t, m: m, free: make(chan *bench.Sender, 256)}
	for _, s := range w.Senders(e, t.URL, cap(b.free)) {
		b.free <- s
		b.all = append(b.all, s)
	}
	defer func() {
		for _, s := range b.all {
			s.Close()
		}
	}()
	during := bench.Size(e, 4*time.Second, 6*time.Second)
	if _, err := b.measure(ctx, time.Second); err != nil { // warms connections and caches
		return nil, err
	}
	var p50, p99 []time.Duration
	began := time.Now()
	turns := 0
	for rep := range bench.Size(e, 2, e.Reps) {
		s, err := b.measure(ctx, during)
		if err != nil {
			return nil, err
		}
		p50, p99, turns = append(p50, s.P50), append(p99, s.P99), turns+s.N
		e.Log("%d  lead to model, %d/s: p50 %.1f  p99 %.1f ms of %d", rep+1, perSecond, bench.Millis(s.P50), bench.Millis(s.P99), s.N)
	}
	note := fmt.Sprintf("%d/s open loop for %.0f s, %d turns, each lead answered once", perSecond, time.Since(began).Seconds(), turns)
	rows := []bench.Row{
		bench.Within("G12", "lead sent to first byte at the model, p50", p50Goal, p50, note),
		bench.Within("G12", "lead sent to first byte at the model, p99", p99Goal, p99, ""),
	}
	return rows, t.Stop()
}

type run struct {
	e    *bench.Env
	w    *bench.World
	t    *bench.Tandem
	m    *model
	free chan *bench.Sender
	all  []*bench.Sender
	next int // contact
}

const answeredWithin = 20 * time.Second

// measure sends leads of one contact after the other, and returns how long each took to reach the model.
func (b *run) measure(ctx context.Context, during time.Duration) (bench.Sample, error) {
	var mu sync.Mutex
	intendedAt := map[string]time.Time{}
	_, before := b.m.counts()
	first, began := b.next, time.Now()
	s := bench.Open(ctx, perSecond, during, func(ctx context.Context, n int, intended time.Time) error {
		sender := <-b.free
		defer func() { b.free <- sender }()
		l := sender.Known(1 + (first+n)%contacts)
		mu.Lock()
		intendedAt[l.External] = intended
		mu.Unlock()
		_, err := sender.Send(ctx, l)
		return err
	})
	if s.Failed > 0 {
		return s, fmt.Errorf("%d leads were not taken: %w", s.Failed, s.Err)
	}
	b.next += s.N
	if err := b.m.waitReplies(ctx, before+s.N, answeredWithin); err != nil {
		return s, err
	}
	if _, err := b.t.Quiet(ctx, b.w.Pool); err != nil {
		return s, err
	}
	if _, after := b.m.counts(); after != before+s.N {
		return s, fmt.Errorf("%d answers to %d leads", after-before, s.N)
	}
	if err := b.explain(ctx, began, intendedAt); err != nil {
		return s, err
	}
	var took []time.Duration
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	for id, at := range intendedAt {
		came, ok := b.m.asked[id]
		if !ok {
			return s, fmt.Errorf("the model was never asked about lead %s", id)
		}
		took = append(took, came.Sub(at))
	}
	s.N, s.P50, s.P99 = len(took), bench.Percentile(took, 0.5), bench.Percentile(took, 0.99)
	return s, nil
}

// The times that a lead's rows carry are those at which their transactions began.
const partsSQL = `
	SELECT i.external_id, m.created_at, r.started_at FROM inbound i
	JOIN messages m ON m.org_id = i.org_id AND m.id = i.message_id
	JOIN runs r ON r.org_id = m.org_id AND r.conversation_id = m.conversation_id AND r.trigger_seq = m.seq
	WHERE i.received_at >= $1`

// explain logs where the time went: until the lead was being stored, until a turn began, until the model was asked.
func (b *run) explain(ctx context.Context, began time.Time, intendedAt map[string]time.Time) error {
	rows, err := b.w.Pool.Query(ctx, partsSQL, began)
	if err != nil {
		return fmt.Errorf("read the parts of turns: %w", err)
	}
	var id string
	var stored, started time.Time
	var came, picked, asked []time.Duration
	_, err = pgx.ForEachRow(rows, []any{&id, &stored, &started}, func() error {
		at, ok := intendedAt[id]
		if !ok {
			return nil
		}
		b.m.mu.Lock()
		defer b.m.mu.Unlock()
		came, picked, asked = append(came, stored.Sub(at)), append(picked, started.Sub(stored)), append(asked, b.m.asked[id].Sub(started))
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the parts of turns: %w", err)
	}
	b.e.Log("   p50/p99 of the parts: until it was being stored %s, then until a turn began %s, then until the model was asked %s ms", both(came), both(picked), both(asked))
	return nil
}

func both(d []time.Duration) string {
	return fmt.Sprintf("%.1f/%.1f", bench.Millis(bench.Percentile(d, 0.5)), bench.Millis(bench.Percentile(d, 0.99)))
}
