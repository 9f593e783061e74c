package inbox

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

// What may happen to the model, in the words of RELIABILITY's state machines.

// own: every arrow raises the fence.
func (s *truth) own(who int) { s.owner, s.run, s.over, s.fence = who, "", false, s.fence+1 }

// stands reports whether a line of our side counts as an answer.
func (l wrote) stands() bool {
	return l.kind == "message" && l.from != "contact" && l.handoff == nobody && !slices.Contains([]string{Drafted, Cancelled, Failed}, l.status)
}

// unanswered: inbound counts as answered up to the last line that stands.
func (s *truth) unanswered() {
	last := int64(0)
	for i, l := range s.lines {
		if l.stands() {
			last = int64(i + 1)
		}
	}
	s.answered = min(s.answered, last)
}

// holdBack: what may have arrived at an earlier try cannot be held back any more.
func (s *truth) holdBack(i int) {
	s.lines[i].status = Cancelled
	if s.lines[i].unclear {
		s.lines[i].status = Unknown
	}
	s.says("message." + s.lines[i].status)
}

// cancelAI: what an AI member wrote and has not begun to go out is held back.
func (s *truth) cancelAI(keepHandoff bool) {
	n := 0
	for i := range s.lines {
		l := &s.lines[i]
		if (l.from == "ai" || l.from == "external") && (l.status == Queued || l.status == RetryWait) && (!keepHandoff || l.handoff == nobody) {
			s.holdBack(i)
			n++
		}
	}
	if n > 0 && s.open == nobody {
		s.unanswered()
	}
}

// release: nobody's again, and whoever comes next sees what has no answer.
func (s *truth) release() {
	if s.owner != nobody && machineMember(s.owner) {
		s.cancelAI(true)
	}
	if s.open == nobody {
		s.unanswered()
	}
	s.own(nobody)
	s.says("conversation.released")
}

func (s *truth) closeHandoff() {
	if s.open != nobody {
		s.handoffs[s.open].state = HandoffCancelled
		s.open = nobody
		s.says("handoff.cancelled")
	}
}

func (s *truth) takeover(who int) {
	topic := "conversation.taken_over"
	if s.owner == nobody {
		topic = "conversation.claimed"
	}
	s.closeHandoff()
	s.own(who)
	s.cancelAI(false)
	s.says(topic)
}

func (s *truth) reopen() {
	if s.state != StateOpen {
		s.state = StateOpen
		s.says("conversation.reopened")
	}
}

// write appends a line of our side; its id is filled in by the step.
func (s *truth) write(kind string, who, handoff int, answered int64) {
	l := wrote{kind: kind, from: string(kindOfCast(who)), status: Queued, fence: s.fence, handoff: handoff}
	topic := "message.queued"
	if kind == "note" {
		l.status, topic = Noted, "message.noted"
	}
	s.lines = append(s.lines, l)
	s.next++
	s.answered = max(s.answered, answered)
	s.says(topic)
}

func opAsk(w *walk, o op) (string, tandem.Kind, int, txFunc) {
	who, to, s := w.present(o), int(o.B)%4, &w.s
	in := HandoffRequest{Reason: "customer_asked", Packet: packet(), To: w.target(to)}
	holds := true
	if o.A%2 == 0 { // half of all requests are an AI member's
		o.A /= 2
		var run tandem.ID
		if who, run, in.Fence, holds = w.ofRun(o); s.over {
			holds = false
		}
		in.Run = run
	}
	if o.C%2 == 0 {
		in.CustomerLine = "A colleague will answer you."
	}
	if o.C%16 == 15 {
		in.Reason = "because"
	}
	want := fine
	switch {
	case who == guest:
		want = tandem.Forbidden
	case in.Reason == "because":
		want = tandem.Invalid
	case s.open != nobody, s.state == StateResolved, !holds:
		want = tandem.Conflict
	case who == ext && s.owner != nobody && s.owner != ext:
		want = tandem.Conflict
	case who != ava && who != bob && s.owner != nobody && !machineMember(s.owner) && s.owner != who && who != boss:
		want = tandem.Conflict
	case to == toKim && s.off[kim]:
		want = tandem.Invalid
	default:
		s.ask(who, to)
		if in.CustomerLine != "" {
			s.write("message", who, s.open, s.lastIn)
		}
	}
	at := s.open
	return "ask for a person", want, who, func(ctx context.Context, tx pgx.Tx) error {
		h, err := RequestHandoff(ctx, tx, w.conv, in)
		if err != nil || want != fine {
			return err
		}
		s.handoffs[at].id = h.ID
		if last := &s.lines[len(s.lines)-1]; in.CustomerLine != "" {
			return tx.QueryRow(ctx, `SELECT id FROM messages WHERE org_id = $1 AND handoff_id = $2`, w.org, h.ID).Scan(&last.id)
		}
		return nil
	}
}

func (s *truth) ask(from, to int) {
	s.open = len(s.handoffs)
	s.handoffs = append(s.handoffs, asking{state: HandoffRequested, from: from, to: to})
	s.answered = max(s.answered, s.lastIn)
	s.says("handoff.requested")
}

// someHandoff is the open one, or an old one now and then.
func (w *walk) someHandoff(o op) (i int, id tandem.ID) {
	s := w.s
	switch {
	case len(s.handoffs) == 0:
		return nobody, tandem.NewID()
	case s.open != nobody && o.C%4 != 0:
		return s.open, s.handoffs[s.open].id
	}
	i = int(o.C/4) % len(s.handoffs)
	return i, s.handoffs[i].id
}

// invited is somebody who was asked, in most cases.
func (w *walk) invited(o op, who int) int {
	if w.s.open == nobody || o.B%4 == 0 {
		return who
	}
	for k := range 5 {
		if i := (who + k) % 5; i != guest && !w.s.off[i] && asked(w.s.handoffs[w.s.open].to, i) {
			return i
		}
	}
	return who
}

// decides is what stands in the way of any decision about handoff i.
func (w *walk) decides(who, i int) tandem.Kind {
	switch {
	case w.s.off[who]:
		return tandem.Forbidden
	case i == nobody:
		return tandem.NotFound
	case w.s.handoffs[i].state != HandoffRequested:
		return tandem.Conflict
	}
	return fine
}

func opAccept(w *walk, o op) (string, tandem.Kind, int, txFunc) {
	who, s := w.invited(o, w.anybody(o, 7)), &w.s
	i, id := w.someHandoff(o)
	want := w.decides(who, i)
	switch {
	case who == guest, who == ava, who == bob:
		want = tandem.Forbidden
	case want != fine:
	case !asked(s.handoffs[i].to, who):
		want = tandem.Forbidden
	default:
		s.handoffs[i].state = HandoffAccepted
		s.cancelAI(true)
		s.open = nobody
		s.own(who)
		s.says("handoff.accepted")
	}
	return "accept", want, who, func(ctx context.Context, tx pgx.Tx) error { _, err := AcceptHandoff(ctx, tx, id); return err }
}

func opReject(w *walk, o op) (string, tandem.Kind, int, txFunc) {
	who, s := w.invited(o, w.present(o)), &w.s
	i, id := w.someHandoff(o)
	want := w.decides(who, i)
	switch {
	case who == guest:
		want = tandem.Forbidden
	case want != fine:
	case !asked(s.handoffs[i].to, who):
		want = tandem.Forbidden
	default:
		s.handoffs[i].state, s.open = HandoffRejected, nobody
		s.unanswered()
		s.says("handoff.rejected")
	}
	return "reject", want, who, func(ctx context.Context, tx pgx.Tx) error {
		_, err := RejectHandoff(ctx, tx, id, "Not mine")
		return err
	}
}

func opCancel(w *walk, o op) (string, tandem.Kind, int, txFunc) {
	who, s := w.anybody(o, 7), &w.s
	if s.off[who] {
		who = boss
	}
	i, id := w.someHandoff(o)
	want := w.decides(who, i)
	switch {
	case who == guest:
		want = tandem.Forbidden
	case want != fine:
	case s.handoffs[i].from != who && (who == ava || who == bob || !asked(s.handoffs[i].to, who)):
		want = tandem.Forbidden
	default:
		s.handoffs[i].state, s.open = HandoffCancelled, nobody
		for k := range s.lines { // nobody comes, so nobody is announced
			if l := &s.lines[k]; l.handoff == i && (l.status == Queued || l.status == RetryWait) {
				s.holdBack(k)
			}
		}
		s.cancelAI(false)
		s.unanswered()
		s.says("handoff.cancelled")
	}
	return "cancel", want, who, func(ctx context.Context, tx pgx.Tx) error {
		_, err := CancelHandoff(ctx, tx, id, "")
		return err
	}
}

func opExpire(w *walk, o op) (string, tandem.Kind, int, txFunc) {
	s := &w.s
	i, id := w.someHandoff(o)
	fresh := nobody
	if i != nobody && s.handoffs[i].state == HandoffRequested {
		from := s.handoffs[i].from
		s.handoffs[i].state = HandoffExpired
		s.says("handoff.expired")
		s.ask(from, toAnybody)
		fresh = s.open
	}
	return "handoff over", fine, nobody, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := w.strike(stage{w.machine, tx}, "handoff", id); err != nil || fresh == nobody {
			return err
		}
		// The new one is known by being open.
		return tx.QueryRow(ctx, `SELECT id FROM handoffs WHERE org_id = $1 AND conversation_id = $2 AND state = 'requested'`, w.org, w.conv).Scan(&s.handoffs[fresh].id)
	}
}

func opResolve(w *walk, o op) (string, tandem.Kind, int, txFunc) {
	who, s := w.present(o), &w.s
	want := fine
	switch {
	case who == guest:
		want = tandem.Forbidden
	case s.state == StateResolved:
	case s.owner != nobody && s.owner != who && who != boss && (who == ext || !machineMember(s.owner)):
		want = tandem.Conflict
	default:
		s.closeHandoff()
		s.cancelAI(false)
		s.state = StateResolved
		s.own(nobody)
		s.says("conversation.resolved")
	}
	return "resolve", want, who, func(ctx context.Context, tx pgx.Tx) error { _, err := Resolve(ctx, tx, w.conv); return err }
}

func opReopen(w *walk, o op) (string, tandem.Kind, int, txFunc) {
	who, s := w.present(o), &w.s
	want := fine
	switch {
	case who == guest:
		want = tandem.Forbidden
	case s.owner != nobody && !machineMember(s.owner) && s.owner != who && who != boss:
		want = tandem.Conflict
	default:
		s.reopen()
	}
	return "reopen", want, who, func(ctx context.Context, tx pgx.Tx) error { _, err := Reopen(ctx, tx, w.conv); return err }
}

// opReply is the answer of a person or an external AI member.
func opReply(w *walk, o op) (string, tandem.Kind, int, txFunc) {
	who, s := w.anybody(o, 5), &w.s
	d := Draft{Text: "Hello"}
	if o.B%4 == 0 {
		d.Fence = max(1, s.fence-int64(o.B/4%2))
	}
	want := fine
	switch {
	case who == guest, s.off[who]:
		want = tandem.Forbidden
	case d.Fence != 0 && d.Fence != s.fence:
		want = tandem.Conflict
	case who == ext && s.open != nobody: // it waits for a person
		want = tandem.Conflict
	case s.owner == who:
	case s.owner != nobody && (!machineMember(s.owner) || who == ext):
		want = tandem.Conflict
	default:
		s.reopen()
		s.takeover(who)
	}
	if want == fine {
		s.write("message", who, nobody, s.lastIn)
	}
	return "reply", want, who, w.replies(d, want)
}

func opAIReply(w *walk, o op) (string, tandem.Kind, int, txFunc) {
	who, run, fence, holds := w.ofRun(o)
	s := &w.s
	d := Draft{Text: "Hello", Fence: fence, Run: run, Trigger: s.lastIn - int64(o.B%4/3), Late: o.C%4 == 0}
	want := fine
	switch {
	case !holds || s.over, s.open != nobody, d.Trigger < s.lastIn && !d.Late:
		want = tandem.Conflict
	default:
		s.write("message", who, nobody, d.Trigger)
	}
	return "AI reply", want, who, w.replies(d, want)
}

func (w *walk) replies(d Draft, want tandem.Kind) txFunc {
	last := &w.s.lines[len(w.s.lines)-1]
	return func(ctx context.Context, tx pgx.Tx) error {
		m, err := Reply(ctx, tx, w.conv, d)
		if err == nil && want == fine {
			last.id = m.ID
		}
		return err
	}
}

func opNote(w *walk, o op) (string, tandem.Kind, int, txFunc) {
	s := &w.s
	d := Draft{Text: "A note"}
	who := w.present(o)
	want := fine
	switch {
	case o.B%2 == 0:
		o.A /= 2
		var run tandem.ID
		who, run, d.Fence, _ = w.ofRun(o)
		d.Run = run
		if s.owner != who || s.fence != d.Fence {
			want = tandem.Conflict
		}
	case who == guest:
		want = tandem.Forbidden
	}
	if want == fine {
		s.write("note", who, nobody, 0)
	}
	return "note", want, who, func(ctx context.Context, tx pgx.Tx) error { _, err := Note(ctx, tx, w.conv, d); return err }
}
