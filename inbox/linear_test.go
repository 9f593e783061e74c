package inbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/proof"
)

// TestOwnershipIsLinearizable is CLM-3: many callers at once claim, release, steal, park, ask,
// accept and cancel on two conversations, and each history of calls and answers must be one that
// a single caller could have seen, one call after the other.
func TestOwnershipIsLinearizable(t *testing.T) {
	w := newWorld(t)
	rng := proof.Rand(t)
	histories := proof.Size(8, 240)
	const callers, each = 6, 12
	c := &callersWorld{world: w, people: w.people(2, "agent"), admin: w.people(1, "admin")[0], xen: w.external("Xen")}
	began := time.Now()
	ops, refused, overlaps := 0, 0, 0
	var sample []porcupine.Operation
	for n := range histories {
		h := c.history(rng, callers, each)
		switch res := porcupine.CheckOperationsTimeout(ownership, h, time.Minute); res {
		case porcupine.Ok:
		case porcupine.Unknown:
			t.Fatalf("history %d of %d calls could not be decided within a minute", n, len(h))
		default:
			for _, o := range h {
				t.Logf("%d..%d caller %d: %s", o.Call, o.Return, o.ClientId, ownership.DescribeOperation(o.Input, o.Output))
			}
			t.Fatalf("history %d is not linearizable", n)
		}
		ops += len(h)
		for i, o := range h {
			if o.Output.(told).kind != fine {
				refused++
			}
			if slices.ContainsFunc(h[i+1:], func(p porcupine.Operation) bool { return p.Call < o.Return && o.Call < p.Return }) {
				overlaps++
			}
		}
		sample = h
	}
	proof.Figure(t, "CLM-3", "%d histories of %d calls by %d callers at once on 2 conversations: all linearizable; %d calls, %d overlapping another, %d refused; %v",
		histories, callers*each, callers, ops, overlaps, refused, time.Since(began).Round(time.Second))
	if overlaps < ops/2 {
		t.Errorf("only %d of %d calls overlapped: the histories prove little", overlaps, ops)
	}
	c.doctored(t, sample)
}

// doctored: the checker refuses a history in which a loser was told it had won, and one in which
// a winner was told another fence.
func (c *callersWorld) doctored(t *testing.T, h []porcupine.Operation) {
	t.Helper()
	tries, seen := 0, 0
	for i, o := range h {
		in, out := o.Input.(asks), o.Output.(told)
		if in.what != "claim" {
			continue
		}
		switch {
		case out.kind != fine: // with a fence that nobody ever held: a mere win might have been possible
			out = told{kind: fine, owner: in.who, fence: 1_000_000, state: true}
		case out.state:
			out.fence += 1000
		default:
			continue // nothing was told that could be wrong
		}
		bad := slices.Clone(h)
		bad[i].Output = out
		tries++
		if !porcupine.CheckOperations(ownership, bad) {
			seen++
		}
	}
	if tries == 0 || seen != tries {
		t.Errorf("the checker refused %d of %d doctored histories", seen, tries)
	}
	t.Logf("figure: CLM-3 self-check: %d of %d doctored histories refused", seen, tries)
}

// asks is a call, told its answer.
type asks struct {
	what    string
	conv    tandem.ID
	who     tandem.ID
	kind    tandem.ActorKind
	run     tandem.ID
	fence   int64
	handoff tandem.ID
}

type told struct {
	kind    tandem.Kind // fine, or of the refusal
	owner   tandem.ID   // of the conversation, or named by the Conflict
	named   bool        // a Conflict that names an owner
	fence   int64
	handoff tandem.ID
	state   bool // owner and fence are told
}

type holding struct {
	owner   tandem.ID
	kind    tandem.ActorKind
	fence   int64
	run     tandem.ID
	handoff tandem.ID
}

func (s holding) taken(who tandem.ID, kind tandem.ActorKind) holding {
	return holding{owner: who, kind: kind, fence: s.fence + 1}
}

var ownership = porcupine.Model{
	Partition: func(h []porcupine.Operation) [][]porcupine.Operation {
		by := map[tandem.ID][]porcupine.Operation{}
		for _, o := range h {
			by[o.Input.(asks).conv] = append(by[o.Input.(asks).conv], o)
		}
		var out [][]porcupine.Operation
		for _, part := range by {
			out = append(out, part)
		}
		return out
	},
	Init: func() any { return holding{} },
	Step: func(state, input, output any) (bool, any) {
		s, in, out := state.(holding), input.(asks), output.(told)
		want, next := s.step(in, out)
		ok := want == out.kind
		if ok && out.named {
			ok = out.owner == s.owner
		}
		if ok && out.kind == fine && out.state {
			ok = out.owner == next.owner && out.fence == next.fence
		}
		return ok, next
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

// step is the sequential specification: what must come of a call, and the state after it.
func (s holding) step(in asks, out told) (tandem.Kind, holding) {
	free := s.owner == ""
	switch in.what {
	case "read":
		return fine, s
	case "claim":
		switch {
		case s.owner == in.who:
			return fine, s
		case s.handoff != "" && in.kind == tandem.External:
			return tandem.Conflict, s
		case free, in.kind == tandem.Human && s.kind != tandem.Human:
			return fine, s.taken(in.who, in.kind)
		}
	case "release":
		switch {
		case free:
			return fine, s
		case s.owner == in.who:
			next := s.taken("", "")
			next.handoff = s.handoff
			return fine, next
		}
	case "steal":
		if s.owner == in.who {
			return fine, s
		}
		return fine, s.taken(in.who, in.kind)
	case "run":
		switch {
		case s.handoff != "":
		case free:
			next := s.taken(in.who, in.kind)
			next.run = in.run
			return fine, next
		case s.owner == in.who && s.run == "":
			s.run = in.run
			return fine, s
		}
	case "park":
		if s.owner == in.who && s.run == in.run && s.fence == in.fence {
			s.run = ""
			return fine, s
		}
	case "ask":
		if s.handoff == "" {
			s.handoff = out.handoff
			if out.kind != fine {
				s.handoff = "?" // it must have succeeded
			}
			return fine, s
		}
	case "accept":
		if s.handoff == in.handoff {
			return fine, s.taken(in.who, in.kind)
		}
	case "cancel":
		if s.handoff == in.handoff {
			s.handoff = ""
			return fine, s
		}
	}
	return tandem.Conflict, s
}

type callersWorld struct {
	*world
	people []tandem.Actor
	admin  tandem.Actor
	xen    tandem.Actor

	mu   sync.Mutex
	last map[tandem.ID]tandem.ID // the newest handoff of each conversation
	runs map[tandem.ID]asks      // the newest run of each AI member
}

// history lets the callers loose on two fresh conversations and returns what they did and heard.
func (c *callersWorld) history(rng *rand.Rand, callers, each int) []porcupine.Operation {
	c.Helper()
	convs := []tandem.ID{c.conversation(), c.conversation()}
	c.last, c.runs = map[tandem.ID]tandem.ID{}, map[tandem.ID]asks{}
	plans := make([][2]uint64, callers)
	for i := range plans {
		plans[i] = [2]uint64{rng.Uint64(), rng.Uint64()}
	}
	start := make(chan struct{})
	got := make([][]porcupine.Operation, callers)
	began := time.Now()
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			mine := rand.New(rand.NewPCG(plans[i][0], plans[i][1]))
			<-start
			for range each {
				in, a := c.draw(mine, convs[mine.IntN(2)])
				call := time.Since(began).Nanoseconds()
				out := c.call(a, in)
				got[i] = append(got[i], porcupine.Operation{ClientId: i, Input: in, Call: call, Output: out, Return: time.Since(began).Nanoseconds()})
			}
		})
	}
	close(start)
	wg.Wait()
	return slices.Concat(got...)
}

func (c *callersWorld) draw(rng *rand.Rand, conv tandem.ID) (asks, tandem.Actor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	members := []tandem.Actor{c.people[0], c.people[1], c.xen, c.owner, c.admin}
	a := members[rng.IntN(3)]
	what := []string{"claim", "claim", "claim", "release", "release", "steal", "run", "run", "park", "ask", "accept", "cancel", "read"}[rng.IntN(13)]
	in := asks{what: what, conv: conv}
	switch what {
	case "steal", "ask", "accept", "cancel":
		a = members[3+rng.IntN(2)]
		if in.handoff = c.last[conv]; what != "steal" && what != "ask" && in.handoff == "" {
			in.what = "claim"
		}
	case "run", "park":
		a = []tandem.Actor{c.ava, c.bob}[rng.IntN(2)]
		in.run = tandem.NewID()
		if what == "park" {
			last, known := c.runs[a.Member]
			if !known || last.conv != conv {
				in.what = "run"
			} else {
				in.run, in.fence = last.run, last.fence
			}
		}
	}
	in.who, in.kind = a.Member, a.Kind
	return in, a
}

func (c *callersWorld) call(a tandem.Actor, in asks) (out told) {
	conv := func(got Conversation, err error) error {
		if err == nil {
			out.state, out.fence = true, got.Fence
			if got.Owner != nil {
				out.owner = got.Owner.ID
			}
		}
		return err
	}
	err := c.db.Tx(c.as(a), func(ctx context.Context, tx pgx.Tx) error {
		out = told{kind: fine}
		switch in.what {
		case "read":
			return conv(GetConversation(ctx, tx, in.conv))
		case "claim":
			return conv(Claim(ctx, tx, in.conv))
		case "release":
			return conv(Release(ctx, tx, in.conv))
		case "steal":
			return conv(Takeover(ctx, tx, in.conv, "It is urgent"))
		case "run":
			if _, err := ClaimForRun(ctx, tx, in.conv, in.run, longLease); err != nil {
				return err
			}
			return conv(GetConversation(ctx, tx, in.conv))
		case "park":
			return Park(ctx, tx, in.conv, in.run, in.fence)
		case "ask":
			h, err := RequestHandoff(ctx, tx, in.conv, HandoffRequest{Reason: "policy"})
			out.handoff = h.ID
			return err
		case "accept":
			return second(AcceptHandoff(ctx, tx, in.handoff))
		}
		return second(CancelHandoff(ctx, tx, in.handoff, ""))
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	var te *tandem.Error
	switch {
	case err == nil && in.what == "ask":
		c.last[in.conv] = out.handoff
	case err == nil && in.what == "run":
		in.fence = out.fence
		c.runs[in.who] = in
	case errors.As(err, &te):
		out = told{kind: te.Kind}
		if te.Owner != nil && in.what != "accept" && in.what != "cancel" { // those name the owner for the screen, not as the reason
			out.named, out.owner = true, te.Owner.ID
		}
	case err != nil:
		out = told{kind: tandem.Internal}
	}
	return out
}
