package agents_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents"
	"github.com/tandemhq/tandem/agents/agenttest"
	"github.com/tandemhq/tandem/agents/llm"
	"github.com/tandemhq/tandem/bus"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/timers"
)

// takeover takes the conversation for the owner and returns once it has committed.
func (w *world) takeover(c *customer) error {
	return w.asOwner(func(ctx context.Context, tx pgx.Tx) error {
		_, err := inbox.Takeover(ctx, tx, c.conv, "")
		return err
	})
}

// TestTakeover is CLM-4: a person takes over at each cut point of a turn, and from then on nothing
// of the AI member begins to go out. What it had written stays for the team to read, and every
// screen hears of the takeover at once.
func TestTakeover(t *testing.T) {
	t.Parallel()
	trials := proof.Size(8, 84) // of each cut: 504 in all
	cuts := []string{"before the model", "while the model thinks", "after the answer", "inside the reply's transaction", "after the message is queued", "in a race with the courier"}
	w := newWorld(t)
	ears := w.listen(t)
	for _, cut := range cuts {
		late, before, kept, written := 0, 0, 0, 0
		for trial := range trials {
			end := takeoverTrial(t, w, ears, cut, trial)
			late, before, kept, written = late+end.late, before+end.before, kept+end.kept, written+end.written
		}
		proof.Figure(t, "CLM-4", "%s: %d takeovers, %d AI sends that began after the takeover, %d that had begun before; %d of %d texts that did not go out kept for the team", cut, trials, late, before, kept, written)
		if late > 0 {
			t.Errorf("%s: %d AI messages began to go out after a takeover had committed", cut, late)
		}
		if before > 0 && cut != "in a race with the courier" {
			t.Errorf("%s: %d AI messages went out, though none could have begun before the takeover", cut, before)
		}
		if kept != written {
			t.Errorf("%s: %d of %d texts kept", cut, kept, written)
		}
	}
	slowest, heard := ears.slowest()
	if heard != trials*len(cuts) {
		t.Errorf("the bus told of %d takeovers, want %d", heard, trials*len(cuts))
	}
	const most = time.Second
	say := proof.Figure
	if proof.Full() && slowest > most {
		say = proof.Missed
	}
	say(t, "CLM-4", "screens heard of each of %d takeovers at most %v after its commit, %v promised", heard, slowest.Round(time.Millisecond), most)
}

// ears hear on the bus when a conversation was taken over.
type ears struct {
	mu        sync.Mutex
	committed map[tandem.ID]time.Time
	heard     map[tandem.ID]time.Time
}

// listen runs the real road of facts, from the outbox over the bus to a listener.
func (w *world) listen(t *testing.T) *ears {
	t.Helper()
	e := &ears{committed: map[tandem.ID]time.Time{}, heard: map[tandem.ID]time.Time{}}
	quiet := slog.New(slog.DiscardHandler)
	b, err := bus.Open(t.Context(), bus.Options{Dir: t.TempDir(), Logger: quiet, MaxStore: 64 << 20})
	must(t, err)
	stop, err := b.Listen("ev.*.conversation.taken_over", func(_ string, body []byte) {
		var f events.Fact
		if json.Unmarshal(body, &f) != nil {
			return
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if _, again := e.heard[f.Record]; !again {
			e.heard[f.Record] = time.Now()
		}
	})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var drain sync.WaitGroup
	drain.Go(func() { _ = (&events.Drain{DB: w.db, Publish: b.Publish, State: b.State, Logger: quiet}).Run(ctx) })
	t.Cleanup(func() {
		cancel()
		drain.Wait()
		stop()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		must(t, b.Close(ctx))
	})
	return e
}

func (e *ears) commit(conv tandem.ID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.committed[conv] = time.Now()
}

// slowest waits until all takeovers were heard of, or for a while.
func (e *ears) slowest() (d time.Duration, heard int) {
	for range 2000 {
		e.mu.Lock()
		heard = len(e.heard)
		all := heard == len(e.committed)
		e.mu.Unlock()
		if all {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for conv, at := range e.heard {
		d = max(d, at.Sub(e.committed[conv]))
	}
	return d, heard
}

// takeoverEnd is what became of the AI member's words.
type takeoverEnd struct{ late, before, kept, written int }

func takeoverTrial(t *testing.T, w *world, ears *ears, cut string, trial int) (end takeoverEnd) {
	t.Helper()
	var c *customer
	taken := make(chan error, 1)
	var committed atomic.Bool
	take := func() {
		err := w.takeover(c)
		committed.Store(true)
		ears.commit(c.conv)
		taken <- err
	}
	const words = "Stale words of the AI member"
	script := agenttest.NewScripted(func(context.Context, llm.Request) (llm.Response, error) {
		if cut == "while the model thinks" {
			take()
		}
		return agenttest.Replies(words)(context.Background(), llm.Request{})
	})
	c = w.customer(script)
	fact := c.says("Hello")
	r := w.runner()
	r.Fault = func(point string) {
		if cut == "before the model" && point == "turn.thinking" || cut == "after the answer" && point == "turn.answered" {
			take()
		}
	}
	ctx := w.ctx
	if cut == "inside the reply's transaction" {
		ctx = inbox.WithFault(ctx, func(point string) {
			if point == "reply.enqueued" { // the lock is held: the takeover waits for it and comes right after
				go take()
			}
		})
	}
	must(t, r.Wake(ctx, fact))
	switch cut {
	case "after the message is queued":
		take()
	}
	var race inbox.Fault
	if cut == "in a race with the courier" {
		race = func(point string) {
			switch {
			case point == "courier.before" && trial%3 == 0:
				go take() // against the first transaction of the courier
			case point == "courier.dispatching" && trial%3 == 1:
				go take() // against the send
			case point == "courier.sent" && trial%3 == 2:
				take()
			}
		}
	} else {
		must(t, <-taken)
	}
	w.deliverWith(c, race)
	if race != nil {
		must(t, <-taken)
		w.deliver(c)
	}
	if !committed.Load() {
		t.Fatal("the takeover did not commit")
	}
	sent := map[string]bool{}
	for _, m := range w.journal.of(c.conv) {
		sent[m.Text] = true
	}
	for _, line := range w.wrote(c) {
		if line.SenderKind != "ai" {
			continue
		}
		// The takeover cancels under the conversation's lock whatever has not begun. So a message
		// that is cancelled and was sent all the same has begun after the takeover.
		switch {
		case line.Status == inbox.Cancelled && sent[line.Text], line.Status == inbox.Queued:
			end.late++
		case sent[line.Text]:
			end.before++
		}
	}
	if cut != "in a race with the courier" && len(sent) > 0 {
		end.late += len(sent)
	}
	// What did not go out is kept where only the team reads it: as a line held back, or as the
	// answer of the model in the record of the run.
	if script.Left() == 0 && !sent[words] {
		end.written = 1
		kept := false
		for _, line := range w.wrote(c) {
			kept = kept || line.Status == inbox.Cancelled && line.Text == words
		}
		for _, run := range w.runs(c) {
			for _, step := range run.Steps {
				kept = kept || strings.Contains(string(step.Output), words)
			}
		}
		if kept {
			end.kept = 1
		}
	}
	conv := w.conversation(c)
	if conv.Owner == nil || conv.Owner.ID != w.owner.Member {
		t.Fatalf("owner %+v, want the person", conv.Owner)
	}
	for _, run := range w.runs(c) {
		if run.State == agents.Running {
			t.Fatalf("%s: the run is still running", cut)
		}
	}
	return end
}

// TestTakeoverStopsTheModel shows the courtesy: a notice about the takeover cancels the model's call.
func TestTakeoverStopsTheModel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	script := agenttest.NewScripted()
	entered, release := script.BlockUntilCanceled(agenttest.Replies("Too late."))
	defer close(release)
	c := w.customer(script)
	r := w.runner()
	hear := make(chan func(string, []byte), 8)
	ctx, cancel := context.WithCancel(w.ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		_ = r.Watch(ctx, func(subject string, fn func(string, []byte)) (func(), error) {
			if strings.Contains(subject, "conversation") {
				hear <- fn
			}
			return func() {}, nil
		})
	})
	done := make(chan error, 1)
	fact := c.says("Hello")
	go func() { done <- r.Wake(w.ctx, fact) }()
	<-entered
	must(t, w.takeover(c))
	began := time.Now()
	(<-hear)("", []byte(fmt.Sprintf(`{"id":"%s","org":"%s","topic":"conversation.taken_over","record_id":"%s"}`, fact.ID, w.org, c.conv)))
	select {
	case err := <-done:
		must(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("the model's call went on after the takeover was heard of")
	}
	proof.Figure(t, "CLM-4", "a takeover that is heard of stops the model in %v", time.Since(began).Round(time.Millisecond))
	if s := states(w.runs(c)); s != "cancelled" {
		t.Errorf("runs %s, want cancelled", s)
	}
	cancel()
	watch.Wait()
}

// TestHeldBackAnswerIsGivenAgain: a takeover cancels an answer; handed back, the AI member answers
// the same message once more instead of staying silent.
func TestHeldBackAnswerIsGivenAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.customer(agenttest.NewScripted(agenttest.Replies("First."), agenttest.Replies("Second.")))
	r := w.runner()
	w.wake(r, c.says("Hello"))
	must(t, w.takeover(c))
	must(t, w.asOwner(func(ctx context.Context, tx pgx.Tx) error {
		_, err := inbox.HandToAI(ctx, tx, c.conv, w.ai.ID)
		return err
	}))
	w.wake(r, c.last)
	w.deliver(c)
	if got := w.journal.of(c.conv); len(got) != 1 || got[0].Text != "Second." {
		t.Errorf("sent %+v, want the second answer alone", got)
	}
}

// lastSaid is the newest text of the contact in a request.
func lastSaid(req llm.Request) string {
	for i := len(req.Messages) - 1; i >= 0; i-- {
		if req.Messages[i].From == llm.FromContact {
			return req.Messages[i].Text
		}
	}
	return ""
}

// TestNewerMessageSupersedes is CLM-5: while the model answers a message the contact writes more.
func TestNewerMessageSupersedes(t *testing.T) {
	t.Parallel()
	trials := proof.Size(20, 200)
	w := newWorld(t)
	rng := proof.Rand(t)
	stale, wrong, restarted := 0, 0, 0
	for i := range trials {
		script := agenttest.NewScripted()
		entered, release := script.Block(agenttest.Replies("stale"))
		script.Otherwise(func(_ context.Context, req llm.Request) (llm.Response, error) {
			return llm.Response{Text: "Answer to: " + lastSaid(req)}, nil
		})
		c := w.customer(script)
		r := w.runner()
		fact := c.says("message 0")
		done := make(chan error, 1)
		go func() { done <- r.Wake(w.ctx, fact) }()
		<-entered
		more := 1 + rng.IntN(3)
		var facts []events.Fact
		for n := range more {
			facts = append(facts, c.says(fmt.Sprintf("message %d", n+1)))
		}
		heard := i%2 == 0 // half of the trials hear of the newer message only after the answer
		var wakes sync.WaitGroup
		if heard {
			for _, f := range facts {
				wakes.Go(func() { _ = r.Wake(w.ctx, f) })
			}
			wakes.Wait()
		}
		close(release)
		must(t, <-done)
		for _, f := range facts {
			w.wake(r, f)
		}
		w.deliver(c)
		sent := w.journal.of(c.conv)
		for _, m := range sent {
			if m.Text == "stale" {
				stale++
			}
		}
		if len(sent) != 1 || sent[0].Text != fmt.Sprintf("Answer to: message %d", more) {
			wrong++
			t.Errorf("trial %d: sent %+v, want one answer to message %d; runs %s", i, sent, more, states(w.runs(c)))
		}
		if strings.Contains(states(w.runs(c)), "superseded") {
			restarted++
		}
	}
	proof.Figure(t, "CLM-5", "%d bursts: %d stale answers sent, %d bursts without exactly one reply, %d turns restarted", trials, stale, wrong, restarted)
}

// TestRestartsAreBounded: a contact who writes all the time is answered nevertheless, and then the
// rest is answered too.
func TestRestartsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var c *customer
	n := 0
	script := agenttest.NewScripted().Otherwise(func(_ context.Context, req llm.Request) (llm.Response, error) {
		said := lastSaid(req)
		if n < 5 {
			n++
			c.says(fmt.Sprintf("more %d", n))
		}
		return llm.Response{Text: "Answer to: " + said}, nil
	})
	c = w.customer(script)
	w.wake(w.runner(), c.says("first"))
	w.deliver(c)
	var texts []string
	for _, m := range w.journal.of(c.conv) {
		texts = append(texts, m.Text)
	}
	if got := strings.Join(texts, "; "); got != "Answer to: more 3; Answer to: more 5" {
		t.Errorf("sent %q, want an answer after three restarts and one to the rest", got)
	}
	if s := states(w.runs(c)); s != "superseded superseded superseded done superseded done" {
		t.Errorf("runs %s", s)
	}
}

// TestWorkerDies is CLM-6 in one process: a worker stops in the middle of a turn, its lease runs out, another
// worker answers, and the first one, awake again, writes nothing.
func TestWorkerDies(t *testing.T) {
	t.Parallel()
	trials := proof.Size(8, 200)
	w := newWorld(t)
	ctx, cancel := context.WithCancel(context.Background())
	clock := &timers.Runner{DB: w.db, Handlers: inbox.Timers(), Every: 10 * time.Millisecond}
	var ticking sync.WaitGroup
	ticking.Go(func() { _ = clock.Run(ctx) })
	var slowest time.Duration
	const lease = 300 * time.Millisecond
	bad := 0
	var mu sync.Mutex
	one := func(i int) {
		script := agenttest.NewScripted()
		entered, release := script.Block(agenttest.Replies("words of the dead"))
		script.Otherwise(agenttest.Replies("alive"))
		c := w.customer(script)
		dead := w.runner() // its heartbeat never comes
		dead.Lease = lease
		fact := c.says("Hello")
		done := make(chan error, 1)
		go func() { done <- dead.Wake(w.ctx, fact) }()
		<-entered
		began := time.Now()
		wait(t, "the lease to run out", func() bool { return w.conversation(c).Owner == nil })
		released := fact
		released.ID, released.Topic, released.Record = fact.ID, "conversation.released", c.conv
		w.wake(w.runner(), released)
		took := time.Since(began)
		mu.Lock()
		slowest = max(slowest, took)
		mu.Unlock()
		close(release)
		must(t, <-done)
		w.deliver(c)
		if got := w.journal.of(c.conv); len(got) != 1 || got[0].Text != "alive" {
			mu.Lock()
			bad++
			mu.Unlock()
			t.Errorf("trial %d: sent %+v, want one answer of the second worker; runs %s", i, got, states(w.runs(c)))
		}
		if s := states(w.runs(c)); s != "failed done" {
			t.Errorf("trial %d: runs %s, want failed done", i, s)
		}
	}
	// Several die at the same time, because each waits for its lease.
	var dying sync.WaitGroup
	next := atomic.Int64{}
	for range 8 {
		dying.Go(func() {
			for i := next.Add(1); i <= int64(trials); i = next.Add(1) {
				one(int(i))
			}
		})
	}
	dying.Wait()
	cancel()
	ticking.Wait()
	const most = lease + 5*time.Second
	say := proof.Figure
	if proof.Full() && slowest > most {
		say = proof.Missed
	}
	say(t, "CLM-6", "%d dead workers: %d conversations without exactly one reply, re-claimed and answered in at most %v at a lease of %v, %v promised", trials, bad, slowest.Round(time.Millisecond), lease, most)
}

// TestConnectionLost: the database connection breaks inside the reply's transaction, and the contact
// gets one reply all the same.
func TestConnectionLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	conn := pgtest.Connect(t, w.db, pgtest.Super)
	const trials = 10
	wrong := 0
	for range trials {
		c := w.customer(agenttest.NewScripted().Otherwise(agenttest.Replies("Hello.")))
		broken := false
		ctx := inbox.WithFault(w.ctx, func(point string) {
			if point == "reply.enqueued" && !broken {
				broken = true
				_, err := conn.Exec(context.Background(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
					WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle in transaction'`)
				must(t, err)
			}
		})
		fact := c.says("Hello")
		if err := w.runner().Wake(ctx, fact); err != nil {
			must(t, w.runner().Wake(ctx, fact)) // the bus delivers it again
		}
		w.deliver(c)
		if got := w.journal.of(c.conv); len(got) != 1 || !broken {
			wrong++
			t.Errorf("sent %+v, want one reply; runs %s", got, states(w.runs(c)))
		}
	}
	t.Logf("figure: %d connections lost inside the reply's transaction: %d contacts without exactly one reply", trials, wrong)
}

// TestPoisonousMessage: a message that costs several workers goes to a person.
func TestPoisonousMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.customer(agenttest.NewScripted().Otherwise(agenttest.Replies("Hello.")))
	fact := c.says("Hello")
	w.tx(func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO runs (org_id, id, conversation_id, member_id, trigger_seq, state, fence, chain_id, ended_at)
			SELECT $1, gen_random_uuid(), $2, $3, 1, 'failed', 1, gen_random_uuid(), now() FROM generate_series(1, 3)`, w.org, c.conv, w.ai.ID)
		return err
	})
	w.wake(w.runner(), fact)
	if conv := w.conversation(c); conv.Handoff == nil || conv.Handoff.Reason != "tool_failure" {
		t.Errorf("conversation %+v, want a handoff", conv)
	}
}

var _ channels.Channel = (*journal)(nil)
