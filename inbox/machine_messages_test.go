package inbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
)

// TestMessageMachine walks at random over the life of outbound messages: people and AI members
// write, the courier delivers what the bus gives it in any order and as often as it likes, the
// provider takes, refuses, drops or keeps silent, the courier's process dies or freezes at each
// point, receipts come at any time, timers strike and people take over. Database and model agree
// after each step, and the provider's own journal shows nothing twice and nothing out of order.
func TestMessageMachine(t *testing.T) {
	t.Parallel()
	t.Logf("seed: %d", rapidSeed)
	began := time.Now()
	db := pgtest.New(t)
	machines := make([]*machine, perCheck)
	for i := range machines {
		machines[i] = newMachine(newWorldIn(t, db, fmt.Sprintf("Acme%d", i)))
	}
	most := proof.Size(2, 100)
	var played, taken, sent, again atomic.Int64
	checks := 0
	rapid.Check(t, func(rt *rapid.T) {
		if checks++; checks > most {
			return // rapid's number of checks is that of the machine of claims
		}
		errs := make([]error, perCheck)
		var wg sync.WaitGroup
		for i, ops := range sequences(rt, len(messageOps)) {
			wg.Go(func() {
				w := &walk{machine: machines[i], ops: messageOps, sink: &sink{dedupes: i%2 == 0, sends: map[tandem.ID]int{}}}
				errs[i] = errors.Join(w.walk(stage{m: machines[i]}, ops), w.sink.check())
				played.Add(1)
				taken.Add(int64(w.taken))
				for _, n := range w.sink.sends {
					sent.Add(1)
					again.Add(int64(n - 1))
				}
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			rt.Fatal(err)
		}
	})
	proof.Figure(t, "CLM-2", "outbound messages: %d sequences of %d steps: 0 divergences in %d steps; %d messages reached the provider, 0 of them twice where it cannot tell, %d repeats under the same id where it can, 0 out of order; %v",
		played.Load(), steps, taken.Load(), sent.Load(), again.Load(), time.Since(began).Round(time.Second))
}

// sink is a provider and its journal.
type sink struct {
	dedupes bool
	sends   map[tandem.ID]int // how often each message was taken
	ids     map[tandem.ID]channels.ExternalID
	order   []int64 // seqs in the order in which they were first handed over
	reply   func() error
	takes   bool // whether it takes what it answers with reply
	wrong   error
	seqOf   func(tandem.ID) int64
}

func (s *sink) Run(ctx context.Context, _ channels.Host) error { <-ctx.Done(); return nil }
func (s *sink) Close() error                                   { return nil }
func (s *sink) DedupesByID() bool                              { return s.dedupes }

func (s *sink) Send(_ context.Context, m channels.Outbound) (channels.Receipt, error) {
	if s.ids == nil {
		s.ids = map[tandem.ID]channels.ExternalID{}
	}
	if id, seen := s.ids[m.Message]; !seen {
		s.order = append(s.order, s.seqOf(m.Message))
	} else if id != m.ProviderID {
		s.wrong = fmt.Errorf("message %s went out as %s and as %s", m.Message, id, m.ProviderID)
	}
	s.ids[m.Message] = m.ProviderID
	if s.takes {
		s.sends[m.Message]++
	}
	return channels.Receipt{}, s.reply()
}

func (s *sink) check() error {
	if !slices.IsSorted(s.order) {
		return fmt.Errorf("messages went out in the order %v", s.order)
	}
	for id, n := range s.sends {
		if n > 1 && !s.dedupes {
			return fmt.Errorf("message %s reached the provider %d times", id, n)
		}
	}
	return s.wrong
}

var messageOps = []stepFunc{
	opDeliver, opDeliver, opDeliver, opDeliver, opDeliver, opDeliver, opDeliver, opDeliver, opDeliver, opDeliver, opStrike, opStrike, opStrike, opReceipt, opReceipt,
	opWrite, opWrite, opWrite, opReply, opAnswer, opAnswer, opAnswer, opRun, opAIReply, opPark, opAsk, opAccept, opCancel, opTakeover, opRelease, opHandToAI, opHandToAI,
	opLapse, opSweep, opResolve, opReopen, opExpire,
}

// opWrite is a person's answer, opAnswer a whole turn of an AI member, parked or not at its end.
func opWrite(w *walk, o op) (string, tandem.Kind, int, txFunc) {
	if o.A = boss; w.s.owner != nobody && !machineMember(w.s.owner) {
		o.A = uint8(w.s.owner)
	}
	o.B |= 1 // no fence of an earlier day
	return opReply(w, o)
}

func opAnswer(w *walk, o op) (string, tandem.Kind, int, txFunc) {
	s := &w.s
	if s.open != nobody || s.state != StateOpen || s.owner != nobody && s.owner != ava || s.run != "" {
		return opRun(w, o)
	}
	run, parks := tandem.NewID(), o.B%2 == 0
	if s.owner == nobody {
		s.fence++
		s.says("conversation.claimed")
	}
	s.owner, s.over = ava, false
	if !parks {
		s.run = run
	}
	w.runs[ava], w.fences[ava] = run, s.fence
	s.write("message", ava, nobody, s.lastIn)
	reply := w.replies(Draft{Text: "Hello", Fence: s.fence, Run: run, Trigger: s.lastIn}, fine)
	fence := s.fence
	return "answer", fine, ava, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := ClaimForRun(ctx, tx, w.conv, run, longLease); err != nil {
			return err
		}
		if err := reply(ctx, tx); err != nil || !parks {
			return err
		}
		return Park(ctx, tx, w.conv, run, fence)
	}
}

// out is a line of our side that may go out, or nobody.
func (w *walk) out(o op) int {
	var all []int
	for i, l := range w.s.lines {
		if l.kind == "message" && l.from != "contact" {
			all = append(all, i)
		}
	}
	if len(all) == 0 {
		return nobody
	}
	// The oldest that is under way in half of all cases, else any.
	if o.A%2 == 0 {
		for _, i := range all {
			if undone(w.s.lines[i].status) {
				return i
			}
		}
	}
	return all[int(o.A/2)%len(all)]
}

func (s *truth) stale(l wrote) bool {
	machine := l.from == "ai" || l.from == "external"
	orphan := s.owner == nobody && s.fence == l.fence+1
	return machine && l.fence != s.fence && !orphan && l.handoff == nobody
}

func (s *truth) cancelStale(i int) {
	s.holdBack(i)
	if s.lines[i].status == Cancelled && s.open == nobody && (s.owner == nobody || machineMember(s.owner)) {
		s.unanswered()
	}
}

// turn reports whether the courier may hand line i over.
func (s *truth) turn(i int) bool {
	if s.lines[i].status != Queued || s.stale(s.lines[i]) {
		return false
	}
	for _, p := range s.lines[:i] {
		if undone(p.status) {
			return false
		}
	}
	return true
}

// attempt is how the end of attempt n of line i is recorded.
func (s *truth) attempted(i, n int, out channels.Outcome, ok, dedupes bool) {
	l := &s.lines[i]
	if l.attempt != n {
		return
	}
	next := Sent
	switch {
	case ok:
	case n < maxAttempts && (out == channels.NotSent || out == channels.Ambiguous && dedupes):
		if l.status != Dispatching {
			return
		}
		l.unclear = l.unclear || out == channels.Ambiguous
		if s.stale(*l) {
			s.cancelStale(i)
			return
		}
		l.status = RetryWait
		return
	case out == channels.Ambiguous, out == channels.NotSent && l.unclear:
		next = Unknown
	default:
		next = Failed
	}
	s.raise(i, next)
}

// raise: what is known about a message only grows, and what went out was not held back.
func (s *truth) raise(i int, word string) {
	l := &s.lines[i]
	order := []string{Queued, RetryWait, Dispatching, Unknown, Sent, Failed, Delivered, Read}
	if l.status == Cancelled {
		if word != Delivered && word != Read && word != Sent {
			return
		}
	} else if slices.Index(order, word) <= slices.Index(order, l.status) {
		return
	}
	l.status = word
	s.says("message." + word)
}

// opDeliver is one delivery of the command to send, with what happens at the provider and to
// the courier's process.
func opDeliver(w *walk, o op) (string, tandem.Kind, int, txFunc) {
	i := w.out(o)
	if i == nobody {
		return opReply(w, o)
	}
	s := &w.s
	id := s.lines[i].id
	outcomes := []struct {
		err error
		out channels.Outcome
	}{
		{nil, 0},
		{&channels.SendError{Outcome: channels.NotSent, Err: errors.New("dial failed")}, channels.NotSent},
		{&channels.SendError{Outcome: channels.Ambiguous, Err: context.DeadlineExceeded}, channels.Ambiguous},
		{&channels.SendError{Outcome: channels.Refused, Err: errors.New("no such address")}, channels.Refused},
	}
	end := outcomes[[]int{0, 0, 0, 1, 1, 2, 2, 3}[o.B%8]]
	w.sink.reply = func() error { return end.err }
	w.sink.takes = end.err == nil || end.out == channels.Ambiguous
	w.sink.seqOf = func(m tandem.ID) int64 {
		return int64(slices.IndexFunc(s.lines, func(l wrote) bool { return l.id == m }))
	}
	happens := []string{"", "", "", "", "dies before", "dies dispatching", "dies after", "freezes", "taken over", "taken over after", "receipt first"}[o.C%11]
	if s.state == StateResolved && strings.HasPrefix(happens, "taken over") {
		happens = ""
	}
	goes := s.turn(i)
	w.fault = w.deliverOne(id, happens)
	// The model of the same.
	switch {
	case happens == "dies before":
	case !goes:
		if l := s.lines[i]; l.status == Queued && s.stale(l) {
			s.cancelStale(i)
		}
	default:
		s.lines[i].status = Dispatching
		s.lines[i].attempt++
		n := s.lines[i].attempt
		switch happens {
		case "taken over", "taken over after":
			if s.owner != boss {
				s.takeover(boss)
			}
		case "freezes":
			w.struck(i)
		case "receipt first":
			s.raise(i, Delivered)
		}
		if happens != "dies dispatching" && happens != "dies after" {
			s.attempted(i, n, end.out, end.err == nil, w.sink.dedupes)
		}
	}
	return fmt.Sprintf("deliver line %d, provider says %v, %s", i+1, end.err, happens), fine, nobody, nil
}

// deliverOne gives the courier one command. A courier that dies before it has begun has not
// acknowledged the command, which then stays.
func (w *walk) deliverOne(id tandem.ID, happens string) error {
	ctx := tandem.WithActor(w.Context(), w.systemActor())
	if happens != "dies before" {
		if err := w.db.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `DELETE FROM outbox WHERE topic = 'out' AND org_id = $1 AND record_id = $2`, w.org, id)
			return err
		}); err != nil {
			return err
		}
	}
	died := errors.New("died")
	var inside error
	c := w.courier()
	c.Channels = func(context.Context, tandem.ID, tandem.ID) (channels.Channel, error) { return w.sink, nil }
	c.Fault = func(point string) {
		switch {
		case happens == "dies before" && point == "courier.before", happens == "dies dispatching" && point == "courier.dispatching", happens == "dies after" && point == "courier.sent":
			panic(died)
		case happens == "taken over" && point == "courier.dispatching", happens == "taken over after" && point == "courier.sent":
			inside = w.db.Tx(w.as(w.cast[boss]), func(ctx context.Context, tx pgx.Tx) error {
				_, err := Takeover(ctx, tx, w.conv, "It is urgent")
				return err
			})
		case happens == "freezes" && point == "courier.sent": // longer than its time: others think it dead
			inside = w.mustStrike(w.lost(), id)
		case happens == "receipt first" && point == "courier.sent":
			inside = w.receipt(id, Delivered)
		}
	}
	err := func() (err error) {
		defer func() {
			if p := recover(); p != nil && p != any(died) {
				panic(p)
			}
		}()
		return c.Deliver(ctx, events.Fact{ID: tandem.NewID(), Org: w.org, Topic: events.TopicOut, Record: id})
	}()
	return errors.Join(err, inside)
}

// lost is the timer that finds what a dead courier was sending.
func (w *walk) lost() string {
	if w.sink.dedupes {
		return "redispatch"
	}
	return "dispatch"
}

func (w *walk) mustStrike(kind string, id tandem.ID) error {
	fired, err := w.strike(w.on, kind, id)
	if err == nil && !fired {
		err = fmt.Errorf("there is no timer %s of message %s", kind, id)
	}
	return err
}

// struck is the model of the timer for a send that nobody finished.
func (w *walk) struck(i int) {
	s := &w.s
	l := &s.lines[i]
	l.unclear = l.unclear || w.sink.dedupes
	switch {
	case !w.sink.dedupes:
		s.raise(i, Unknown)
	case s.stale(*l):
		s.cancelStale(i)
	case l.attempt >= maxAttempts:
		s.raise(i, Unknown)
	default:
		l.status = Queued
	}
}

// opStrike lets the time pass that a message under way waits for.
func opStrike(w *walk, o op) (string, tandem.Kind, int, txFunc) {
	i := w.out(o)
	if i == nobody {
		return opRun(w, o)
	}
	s := &w.s
	l := &s.lines[i]
	name := "time for a " + l.status + " line"
	switch l.status {
	case Dispatching:
		w.struck(i)
		w.fault = w.mustStrike(w.lost(), l.id)
	case RetryWait:
		if s.stale(*l) {
			s.cancelStale(i)
		} else {
			l.status = Queued
		}
		w.fault = w.mustStrike("retry", l.id)
	default: // whatever timer was left behind does nothing
		_, e1 := w.strike(w.on, "retry", l.id)
		_, e2 := w.strike(w.on, w.lost(), l.id)
		w.fault = errors.Join(e1, e2)
	}
	return name, fine, nobody, nil
}

func (w *walk) receipt(id tandem.ID, word string) error {
	return w.on.do(w.systemActor(), func(ctx context.Context, tx pgx.Tx) error {
		return Status(ctx, tx, w.chat, channels.ExternalID(id), word, "why")
	})
}

func opReceipt(w *walk, o op) (string, tandem.Kind, int, txFunc) {
	i := w.out(o)
	if i == nobody {
		return opAIReply(w, o)
	}
	word := []string{Sent, Delivered, Read, Failed}[o.B%4]
	if w.s.lines[i].attempt > 0 {
		w.s.raise(i, word)
	}
	w.fault = w.receipt(w.s.lines[i].id, word)
	return fmt.Sprintf("receipt %s for line %d", word, i+1), fine, nobody, nil
}
