package inbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/team"
)

// TestClaimMachine is CLM-2: random walks over everything that may change who owns a
// conversation. After each step the database must say what the model says; a step that the
// model forbids must be refused with the right kind of error and leave no trace.
func TestClaimMachine(t *testing.T) {
	t.Parallel()
	t.Logf("seed: %d", rapidSeed)
	began := time.Now()
	db := pgtest.New(t)
	machines := make([]*machine, perCheck)
	for i := range machines {
		machines[i] = newMachine(newWorldIn(t, db, fmt.Sprintf("Acme%d", i)))
	}
	var played, taken, refused, committed atomic.Int64
	done := map[string]int{}
	var mu sync.Mutex
	rapid.Check(t, func(rt *rapid.T) {
		errs := make([]error, perCheck)
		var wg sync.WaitGroup
		for i, ops := range sequences(rt, len(claimOps)) {
			commits := i == 0 // of each four sequences one in real transactions
			wg.Go(func() {
				w := &walk{machine: machines[i], ops: claimOps}
				errs[i] = w.play(commits, func(on stage) error { return w.walk(on, ops) })
				played.Add(1)
				taken.Add(int64(w.taken))
				refused.Add(int64(w.refused))
				mu.Lock()
				for name, n := range w.done {
					done[name] += n
				}
				mu.Unlock()
				if commits {
					committed.Add(1)
					errs[i] = errors.Join(errs[i], w.enableAll())
				}
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			rt.Fatal(err)
		}
	})
	proof.Figure(t, "CLM-2", "%d sequences of %d steps (%d of them in transactions that commit): %d steps, %d illegal ones refused with the right kind and no trace, 0 divergences between model and database; %v",
		played.Load(), steps, committed.Load(), taken.Load(), refused.Load(), time.Since(began).Round(time.Second))
	t.Logf("taken: %v", done)
	for _, name := range []string{"claim", "release", "takeover", "claim for a run", "heartbeat", "park", "sweep", "hand to AI", "ask for a person", "accept", "reject", "cancel", "handoff over", "resolve", "reopen", "reply", "AI reply", "note"} {
		if proof.Full() && done[name] == 0 {
			t.Errorf("no walk ever took the step %q", name)
		}
	}
}

// walk is one sequence under way.
type walk struct {
	*machine
	on             stage
	conv           tandem.ID
	from           string
	s              truth
	runs           map[int]tandem.ID // the last run of each AI member
	fences         map[int]int64     // and its fence
	trace          []string
	taken, refused int
	ops            []stepFunc
	sink           *sink          // of a walk with a courier
	fault          error          // of a step that is no transaction of its own
	done           map[string]int // steps that the model and the database both took, by name
}

func (w *walk) walk(on stage, ops []op) (err error) {
	w.on, w.runs, w.fences, w.done = on, map[int]tandem.ID{}, map[int]int64{}, map[string]int{}
	if w.conv, w.from, w.s, err = w.opens(on); err != nil {
		return err
	}
	if err := w.compare(); err != nil {
		return err
	}
	for _, o := range ops {
		before := w.s.clone()
		name, want, who, call := w.ops[o.Code](w, o)
		after := w.s
		if want != fine {
			w.s = before
		}
		w.trace = append(w.trace, fmt.Sprintf("%s by %s (%d %d %d)", name, w.who(who), o.A, o.B, o.C))
		w.taken++
		got := fine
		var err error
		switch {
		case call != nil:
			err = on.do(w.actor(who), call)
		case who != nobody:
			continue
		}
		if w.fault != nil {
			return fmt.Errorf("%s: %w; after %q", name, w.fault, w.trace)
		}
		if err != nil {
			got = tandem.KindOf(err)
		}
		if got != want {
			return fmt.Errorf("%s: got %v, the model wants %s; before:\n%s%v", name, err, kindName(want), w.spell(before), w.trace)
		}
		if want == fine {
			w.s = after
			w.done[name]++
		} else {
			w.refused++
		}
		if err := w.compare(); err != nil {
			return err
		}
	}
	return nil
}

const fine = tandem.Kind(255)

func kindName(k tandem.Kind) string {
	if k == fine {
		return "success"
	}
	return k.String()
}

func (w *walk) who(i int) string {
	if i == nobody {
		return "time"
	}
	return w.cast[i].Name
}

func (w *walk) actor(i int) tandem.Actor {
	if i == nobody {
		return w.systemActor()
	}
	return w.cast[i]
}

func (w *walk) compare() error {
	return w.on.do(w.systemActor(), func(ctx context.Context, tx pgx.Tx) error {
		got, err := w.account(ctx, tx, w.conv)
		if err != nil {
			return err
		}
		if want := w.spell(w.s); got != want {
			return fmt.Errorf("the database says\n%s\nthe model says\n%s\nafter %q", got, want, w.trace)
		}
		return nil
	})
}

func (w *walk) enableAll() error {
	return w.db.Tx(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE members SET status = 'active' WHERE org_id = $1`, w.org)
		return err
	})
}

type (
	txFunc   = func(ctx context.Context, tx pgx.Tx) error
	stepFunc = func(w *walk, o op) (name string, want tandem.Kind, who int, call txFunc)
)

// claimOps say of each step what must come of it: success, in which case they have moved the
// model, or the kind of refusal. A step is repeated in the list as often as it shall be likely.
var claimOps = []stepFunc{
	opInbound, opClaim, opClaim, opRelease, opTakeover, opTakeover, opRun, opRun, opRun, opHeartbeat, opPark, opLapse, opSweep, opHandToAI,
	opAsk, opAsk, opAsk, opAccept, opAccept, opReject, opCancel, opExpire, opResolve, opReopen, opDisable, opEnable, opReply, opReply, opAIReply, opAIReply, opNote,
}

func opInbound(w *walk, _ op) (string, tandem.Kind, int, txFunc) {
	s := &w.s
	in := w.inbound(w.from, "And another thing")
	i := len(s.lines)
	s.lines = append(s.lines, wrote{kind: "message", from: "contact", status: Received, handoff: nobody})
	s.lastIn = s.next
	s.next++
	if s.state == StateResolved {
		s.state = StateOpen
		s.says("conversation.reopened")
	}
	s.says("message.received")
	return "inbound", fine, nobody, func(ctx context.Context, tx pgx.Tx) error {
		got, err := Ingest(ctx, tx, in)
		w.s.lines[i].id = got.Message
		return err
	}
}

// anybody is a member, in most cases one who is not disabled: only what makes somebody an owner
// is tried with those who are.
func (w *walk) anybody(o op, n int) int { return int(o.A) % n }

func kindOfCast(i int) tandem.ActorKind {
	switch i {
	case ext:
		return tandem.External
	case ava, bob:
		return tandem.AI
	}
	return tandem.Human
}

func machineMember(i int) bool { return i >= ext }

func opClaim(w *walk, o op) (string, tandem.Kind, int, txFunc) {
	who, s := w.anybody(o, 7), &w.s
	call := func(ctx context.Context, tx pgx.Tx) error { _, err := Claim(ctx, tx, w.conv); return err }
	want := fine
	switch {
	case who == guest, who == ava, who == bob:
		want = tandem.Forbidden
	case s.owner != nobody && !machineMember(s.owner) && s.owner != who: // the answer that needs no lock
		want = tandem.Conflict
	case s.off[who]:
		want = tandem.Forbidden
	case s.state == StateResolved:
		want = tandem.Conflict
	case s.owner == who:
	case s.open != nobody && who == ext: // it waits for a person
		want = tandem.Conflict
	case s.open == nobody && (s.owner == nobody || machineMember(s.owner) && s.over):
		s.own(who)
		s.cancelAI(true)
		s.says("conversation.claimed")
	case who != ext && (s.owner == nobody || machineMember(s.owner)):
		s.takeover(who)
	default:
		want = tandem.Conflict
	}
	return "claim", want, who, call
}

func opRelease(w *walk, o op) (string, tandem.Kind, int, txFunc) {
	who, s := w.present(o), &w.s
	want := fine
	switch {
	case who == guest:
		want = tandem.Forbidden
	case s.owner == nobody:
	case s.owner != who && who != boss:
		want = tandem.Conflict
	default:
		s.release()
	}
	return "release", want, who, func(ctx context.Context, tx pgx.Tx) error { _, err := Release(ctx, tx, w.conv); return err }
}

// present is somebody who can sign in.
func (w *walk) present(o op) int {
	who := int(o.A) % 5
	if w.s.off[who] {
		return boss
	}
	return who
}

func opTakeover(w *walk, o op) (string, tandem.Kind, int, txFunc) {
	who, s := w.anybody(o, 7), &w.s
	reason := ""
	if o.B%2 == 0 {
		reason = "She is ill"
	}
	want := fine
	switch {
	case who == guest, who >= ext, s.off[who]:
		want = tandem.Forbidden
	case s.owner == who:
	case s.state == StateResolved:
		want = tandem.Conflict
	case s.owner != nobody && !machineMember(s.owner) && who != boss:
		want = tandem.Conflict
	case s.owner != nobody && !machineMember(s.owner) && reason == "":
		want = tandem.Invalid
	default:
		s.takeover(who)
	}
	return "takeover", want, who, func(ctx context.Context, tx pgx.Tx) error { _, err := Takeover(ctx, tx, w.conv, reason); return err }
}

func opRun(w *walk, o op) (string, tandem.Kind, int, txFunc) {
	who, s := ava+int(o.A)%2, &w.s
	run := tandem.NewID()
	if last := w.runs[who]; o.B%4 == 0 && last != "" {
		run = last
	}
	want := fine
	keeps := s.owner == who && (s.run == "" || s.run == run)
	switch {
	case s.off[who]:
		want = tandem.Forbidden
	case s.state == StateResolved, s.open != nobody:
		want = tandem.Conflict
	case keeps:
	case s.owner == nobody:
	case machineMember(s.owner) && s.over:
		s.cancelAI(true)
	default:
		want = tandem.Conflict
	}
	if want == fine {
		if !keeps {
			s.fence++
			s.says("conversation.claimed")
		}
		s.owner, s.run, s.over = who, run, false
		w.runs[who], w.fences[who] = run, s.fence
	}
	return "claim for a run", want, who, func(ctx context.Context, tx pgx.Tx) error {
		_, err := ClaimForRun(ctx, tx, w.conv, run, longLease)
		return err
	}
}

func (w *walk) ofRun(o op) (who int, run tandem.ID, fence int64, holds bool) {
	who = ava + int(o.A)%2
	if w.s.owner >= ava && o.A%8 != 0 {
		who = w.s.owner
	}
	run, fence = w.runs[who], w.fences[who]
	if run == "" {
		run = tandem.NewID()
	}
	return who, run, fence, w.s.owner == who && w.s.run == run && w.s.fence == fence
}

func opHeartbeat(w *walk, o op) (string, tandem.Kind, int, txFunc) {
	who, run, fence, holds := w.ofRun(o)
	want := tandem.Conflict
	if holds {
		want, w.s.over = fine, false
	}
	return "heartbeat", want, who, func(ctx context.Context, tx pgx.Tx) error {
		return Heartbeat(ctx, tx, w.conv, run, fence, longLease)
	}
}

func opPark(w *walk, o op) (string, tandem.Kind, int, txFunc) {
	who, run, fence, holds := w.ofRun(o)
	want := tandem.Conflict
	if holds {
		want, w.s.run, w.s.over = fine, "", false
	}
	return "park", want, who, func(ctx context.Context, tx pgx.Tx) error { return Park(ctx, tx, w.conv, run, fence) }
}

func opLapse(w *walk, _ op) (string, tandem.Kind, int, txFunc) {
	w.s.over = w.s.over || w.s.run != ""
	return "lease over", fine, nobody, func(ctx context.Context, tx pgx.Tx) error { return w.lapse(stage{w.machine, tx}, w.conv) }
}

func opSweep(w *walk, _ op) (string, tandem.Kind, int, txFunc) {
	if w.s.over {
		w.s.release()
	} else if w.s.run != "" {
		return "sweep too early", fine, nobody, nil // the timer is not due
	}
	return "sweep", fine, nobody, func(ctx context.Context, tx pgx.Tx) error {
		_, err := w.strike(stage{w.machine, tx}, "lease", w.conv)
		return err
	}
}

func opHandToAI(w *walk, o op) (string, tandem.Kind, int, txFunc) {
	who, to, s := w.present(o), []int{ava, bob, kim}[o.B%3], &w.s
	want := fine
	switch {
	case who == guest:
		want = tandem.Forbidden
	case to == kim, s.off[to]:
		want = tandem.Invalid
	case s.state == StateResolved:
		want = tandem.Conflict
	case s.owner != nobody && !machineMember(s.owner) && s.owner != who && who != boss:
		want = tandem.Conflict
	default:
		s.closeHandoff()
		s.cancelAI(false)
		s.unanswered()
		s.own(to)
		s.says("conversation.handed_to_ai")
	}
	member := w.cast[to].Member
	return "hand to AI", want, who, func(ctx context.Context, tx pgx.Tx) error { _, err := HandToAI(ctx, tx, w.conv, member); return err }
}

func opDisable(w *walk, o op) (string, tandem.Kind, int, txFunc) {
	who, s := kim+int(o.A)%6, &w.s
	if o.B%3 != 0 {
		return opInbound(w, o) // rarer than the rest
	}
	s.off[who] = true
	if s.owner == who {
		s.release()
	}
	id := w.cast[who].Member
	return "disable " + w.cast[who].Name, fine, boss, func(ctx context.Context, tx pgx.Tx) error {
		if err := team.Disable(ctx, tx, id); err != nil {
			return err
		}
		_, err := ReleaseAllOf(ctx, tx, id)
		return err
	}
}

func opEnable(w *walk, o op) (string, tandem.Kind, int, txFunc) {
	if o.A%4 != 0 {
		return opAIReply(w, o)
	}
	w.s.off = [7]bool{}
	return "enable all", fine, nobody, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE members SET status = 'active' WHERE org_id = $1 AND status <> 'active'`, w.org)
		return err
	}
}
