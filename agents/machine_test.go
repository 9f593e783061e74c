package agents_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents"
	"github.com/tandemhq/tandem/agents/agenttest"
	"github.com/tandemhq/tandem/agents/llm"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/team"
)

// TestTurnMachine walks at random over the life of turns: the contact writes, also while the model
// thinks, the model answers, asks for a person, fails or spends too much, people take over in the
// middle, workers die at each point, leases run out. After each step every run is in the state that
// the model wants, a trigger is answered at most once, and whoever waits for an AI member gets one answer.
func TestTurnMachine(t *testing.T) {
	t.Parallel()
	seed := proof.Seed(t)
	began := time.Now()
	b := team.Budget{MessagesInRow: math.MaxInt32, MessagesPerHour: math.MaxInt32, MachineRounds: -1, TokensPerDay: math.MaxInt64, CostMicrosPerDay: math.MaxInt64}
	w := newWorldIn(t, pgtest.New(t), "Acme", b)
	const side, steps = 4, 30
	var mu sync.Mutex
	played, ends := 0, map[string]int{}
	step := rapid.Custom(func(rt *rapid.T) (v int) {
		for range 8 { // rapid's own numbers are small for the most part
			v <<= 1
			if rapid.Bool().Draw(rt, "bit") {
				v |= 1
			}
		}
		return v
	})
	plans := rapid.SliceOfN(rapid.SliceOfN(step, steps, steps), side, side)
	for round := range proof.Size(2, 40) {
		errs := make([]error, side)
		var wg sync.WaitGroup
		for i, plan := range plans.Example(int(seed) + round) {
			wg.Go(func() {
				k := newTurns(w)
				errs[i] = k.walk(plan)
				mu.Lock()
				defer mu.Unlock()
				played++
				for _, r := range k.want {
					ends[r.state]++
				}
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	proof.Figure(t, "CLM-2", "AI turns: %d sequences of %d steps: 0 divergences between model and database, no trigger answered twice, nobody left waiting; runs by end %v; %v", played, steps, ends, time.Since(began).Round(time.Second))
	for _, state := range []string{agents.Done, agents.HandedOver, agents.Superseded, agents.Cancelled, agents.FailedRun, agents.OverBudget} {
		if proof.Full() && ends[state] == 0 {
			t.Errorf("no run ever ended %s", state)
		}
	}
}

// turns is one conversation with its runs as they ought to be.
type turns struct {
	*world
	c     *customer
	r     *agents.Runner
	want  []wantRun
	trace []string

	next  llm.Response // what the model says next
	fails error
	point string // where something happens, and
	act   func() // what
	left  int    // how many times
}

type wantRun struct {
	state   string
	trigger int64
}

func newTurns(w *world) *turns {
	k := &turns{world: w}
	k.c = w.customer(agenttest.NewScripted().Otherwise(func(context.Context, llm.Request) (llm.Response, error) { return k.next, k.fails }))
	k.r = w.runner()
	k.r.Fault = func(point string) {
		if point == k.point && k.left > 0 {
			k.left--
			k.act()
		}
	}
	return k
}

func (k *turns) walk(plan []int) error {
	k.c.says("Hello")
	for _, n := range plan {
		if err := k.step(n); err != nil {
			return err
		}
		got := k.runs(k.c)
		for i, r := range got {
			if len(got) != len(k.want) || r.State != k.want[i].state || r.TriggerSeq != k.want[i].trigger {
				return fmt.Errorf("runs are %s, want %v; after %q", states(got), k.want, k.trace)
			}
		}
		if len(got) != len(k.want) {
			return fmt.Errorf("runs are %s, want %v; after %q", states(got), k.want, k.trace)
		}
		answered := map[int64]int{}
		for _, r := range k.want {
			if r.state == agents.Done {
				if answered[r.trigger]++; answered[r.trigger] > 1 {
					return fmt.Errorf("trigger %d was answered twice; after %q", r.trigger, k.trace)
				}
			}
		}
	}
	return nil
}

// errDied is how a worker ends in the middle of its turn.
var errDied = errors.New("died")

// step does one thing; what it wants of the runs is in k.want afterwards.
func (k *turns) step(n int) error {
	conv := k.conversation(k.c)
	name := ""
	asOwner := func(what string, fn func(ctx context.Context, tx pgx.Tx) error) error {
		name = what
		err := k.asOwner(fn)
		if kind := tandem.KindOf(err); err != nil && kind != tandem.Conflict && kind != tandem.Invalid {
			return err
		}
		return nil
	}
	defer func() { k.trace = append(k.trace, name) }()
	switch n % 16 {
	case 0, 1:
		name = "inbound"
		k.c.says("And another thing")
	case 2:
		return asOwner("takeover", func(ctx context.Context, tx pgx.Tx) error {
			_, err := inbox.Takeover(ctx, tx, k.c.conv, "")
			return err
		})
	case 3:
		return asOwner("release", func(ctx context.Context, tx pgx.Tx) error { _, err := inbox.Release(ctx, tx, k.c.conv); return err })
	case 4:
		return asOwner("hand to AI", func(ctx context.Context, tx pgx.Tx) error {
			_, err := inbox.HandToAI(ctx, tx, k.c.conv, k.ai.ID)
			return err
		})
	case 5, 6:
		if conv.Handoff == nil {
			name = "no handoff to decide"
			return nil
		}
		return asOwner("decide the handoff", func(ctx context.Context, tx pgx.Tx) (err error) {
			switch n / 16 % 3 {
			case 0:
				_, err = inbox.RejectHandoff(ctx, tx, conv.Handoff.ID, "You can do this.")
			case 1:
				_, err = inbox.CancelHandoff(ctx, tx, conv.Handoff.ID, "")
			default:
				_, err = inbox.AcceptHandoff(ctx, tx, conv.Handoff.ID)
			}
			return err
		})
	case 7:
		if n/16%2 == 0 {
			return asOwner("resolve", func(ctx context.Context, tx pgx.Tx) error { _, err := inbox.Resolve(ctx, tx, k.c.conv); return err })
		}
		return asOwner("reopen", func(ctx context.Context, tx pgx.Tx) error { _, err := inbox.Reopen(ctx, tx, k.c.conv); return err })
	case 8, 9:
		name = "lease over"
		k.tx(func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE conversations SET lease_until = now() - interval '1 hour' WHERE org_id = $1 AND id = $2 AND lease_run IS NOT NULL`, k.org, k.c.conv)
			if err != nil || n%16 == 9 || conv.LeaseRun == "" {
				return err
			}
			name = "lease over and swept"
			return inbox.Timers()["lease"](ctx, tx, k.c.conv)
		})
	default:
		return k.wakes(n/16, conv, &name)
	}
	return nil
}

// wakes lets the AI member look, and something happen to its turn.
func (k *turns) wakes(what int, conv inbox.Conversation, name *string) error {
	held := conv.LeaseRun != "" && conv.LeaseUntil.After(time.Now())
	free := conv.Owner == nil || conv.Owner.Kind == tandem.AI && !held
	goes := free && conv.Handoff == nil && conv.State != inbox.StateResolved && conv.Unanswered()
	before, trigger := len(k.wrote(k.c)), conv.LastInboundSeq
	k.next, _ = agenttest.Replies(fmt.Sprintf("Answer %d", before))(k.world.ctx, llm.Request{})
	k.fails, k.left, k.point, k.act = nil, 0, "", nil
	end, dies := agents.Done, false
	var newer []int64
	take := func() { must(k.t, k.takeover(k.c)) }
	die := func() { panic(errDied) }
	switch *name = "wake"; what {
	case 0, 1, 2:
	case 3:
		*name, end = "wake, asks for a person", agents.HandedOver
		k.next, _ = agenttest.HandsOff("customer_asked")(k.world.ctx, llm.Request{})
	case 4:
		*name, end = "wake, the model fails", agents.FailedRun
		k.fails = &llm.Error{Status: 401, Code: llm.CodeAuth}
	case 5:
		*name, end = "wake, too many tokens", agents.OverBudget
		k.next.Usage = llm.Usage{InputTokens: 30_000, OutputTokens: 2_001}
	case 6, 7:
		*name, end = "wake, taken over", agents.Cancelled
		k.point, k.left, k.act = []string{"turn.thinking", "turn.answered"}[what-6], 1, take
	case 8, 9, 10:
		*name = fmt.Sprintf("wake, %d newer messages", what-7)
		k.point, k.left, k.act = "turn.answered", what-7, func() {
			k.c.says("Oh, and")
			newer = append(newer, k.c.Seq)
		}
	default:
		dies = true
		k.point, k.left, k.act = []string{"turn.claimed", "turn.thinking", "turn.answered"}[what%3], 1, die
		*name = "wake, the worker dies at " + k.point
	}
	err := func() (err error) {
		defer func() {
			if p := recover(); p != nil && p != any(errDied) {
				panic(p)
			}
		}()
		return k.r.Wake(k.world.ctx, events.Fact{ID: tandem.NewID(), Org: k.org, Topic: "conversation.released", Record: k.c.conv})
	}()
	if err != nil {
		return fmt.Errorf("%s: %w", *name, err)
	}
	k.deliver(k.c)
	if !goes {
		return nil
	}
	// The model: what was left of the same trigger is over, whoever worked before is buried.
	crashes := 0
	for i := range k.want {
		r := &k.want[i]
		if r.state == agents.FailedRun && r.trigger == trigger {
			crashes++
		}
		if r.state == agents.Running {
			r.state = agents.FailedRun
		}
		if r.trigger == trigger && slices.Contains([]string{agents.Done, agents.HandedOver, agents.OverBudget}, r.state) {
			r.state = agents.Cancelled
		}
	}
	if crashes >= 3 && k.point != "turn.claimed" { // a message that costs workers goes to a person
		k.want = append(k.want, wantRun{agents.FailedRun, trigger})
		return k.ended(agents.FailedRun, before)
	}
	if dies {
		k.want = append(k.want, wantRun{agents.Running, trigger})
		return nil
	}
	for _, seq := range newer {
		k.want = append(k.want, wantRun{agents.Superseded, trigger})
		trigger = seq
	}
	k.want = append(k.want, wantRun{end, trigger})
	return k.ended(end, before)
}

// ended checks what the contact got of a turn that came to its end.
func (k *turns) ended(end string, before int) error {
	conv, lines := k.conversation(k.c), k.wrote(k.c)
	fresh := 0
	for _, l := range lines[before:] {
		if l.Status == inbox.Sent {
			fresh++
		}
	}
	switch end {
	case agents.Cancelled:
		if fresh != 0 || conv.Owner == nil || conv.Owner.Kind != tandem.Human {
			return fmt.Errorf("after a takeover %d lines went out, owner %+v; after %q", fresh, conv.Owner, k.trace)
		}
	case agents.Done:
		if fresh != 1 || conv.Unanswered() || conv.LeaseRun != "" || !strings.HasPrefix(lines[len(lines)-1].Text, "Answer") {
			return fmt.Errorf("an answer became %d lines, unanswered %v; after %q", fresh, conv.Unanswered(), k.trace)
		}
	default:
		if fresh != 1 || conv.Handoff == nil || conv.LeaseRun != "" {
			return fmt.Errorf("a turn that ended %s became %d lines, handoff %+v; after %q", end, fresh, conv.Handoff, k.trace)
		}
	}
	return nil
}
