package inbox

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
)

func TestReplyIsIdempotent(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	got := make([]Message, 50)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = w.reply(w.owner, conv, Draft{Text: "Twelve euros", ClientKey: "k1"}); err != nil {
				t.Errorf("reply: %v", err)
			}
		})
	}
	wg.Wait()
	for _, m := range got {
		if m.ID != got[0].ID || m.Seq != got[0].Seq {
			t.Fatalf("answers differ: %+v and %+v", m, got[0])
		}
	}
	if all := w.messages(conv); len(all) != 2 {
		t.Errorf("%d messages", len(all))
	}
	_, err := w.reply(w.owner, conv, Draft{Text: "Thirteen", ClientKey: "k1"})
	if te := want(t, err, tandem.Invalid); te.Fields[0].Field != "Idempotency-Key" {
		t.Errorf("fields %v", te.Fields)
	}
	proof.Figure(t, "REL-22", "the same reply %d times at once: 1 message, %d equal answers", len(got), len(got))
}

func TestReplyByPerson(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	people := w.people(2, "agent")
	m := w.answer(w.ava, conv, "I am Ava")
	if c := w.get(conv); c.AIStreak != 1 || c.AnsweredSeq != 1 || c.PreviewKind != "ai" {
		t.Errorf("after the AI member's answer: %+v", c)
	}
	_, err := w.reply(people[0], conv, Draft{Text: "at an old fence", Fence: 7})
	if !errors.Is(err, ErrFenceMoved) {
		t.Errorf("stale fence: %v", err)
	}
	p, err := w.reply(people[0], conv, Draft{Text: "Let me take this"})
	if err != nil {
		t.Fatal(err)
	}
	if p.ProviderID != "in:" && string(p.ProviderID) != string(p.ID) {
		t.Errorf("provider id %q", p.ProviderID)
	}
	c := w.get(conv)
	if c.Owner == nil || c.Owner.ID != people[0].Member || c.AIStreak != 0 || c.Unread != 0 || c.Fence != 2 {
		t.Errorf("after the person's answer: %+v", c)
	}
	if m = w.message(conv, m.ID); m.Status != Cancelled {
		t.Errorf("the AI member's message is %s", m.Status)
	}
	_, err = w.reply(people[1], conv, Draft{Text: "Me too"})
	if te := want(t, err, tandem.Conflict); te.Owner == nil || te.Owner.ID != people[0].Member {
		t.Errorf("told %+v", te.Owner)
	}
	w.do(w.as(people[1]), func(ctx context.Context, tx pgx.Tx) error {
		n, err := Note(ctx, tx, conv, Draft{Text: "She called yesterday"})
		if n.Kind != "note" || n.Status != Noted {
			t.Errorf("note %+v", n)
		}
		return err
	})
	if c = w.get(conv); c.Preview != "Let me take this" || c.MessageCount != 4 {
		t.Errorf("a note shows in the list: %+v", c)
	}
	want(t, second(w.reply(people[0], conv, Draft{Text: "  "})), tandem.Invalid)
	want(t, second(w.reply(w.people(1, "viewer")[0], conv, Draft{Text: "x"})), tandem.Forbidden)
}

func second[T any](_ T, err error) error { return err }

func TestReplyByAIMember(t *testing.T) {
	w := newWorld(t)
	conv := w.ingest(w.inbound("v", "one")).Conversation
	run, c := w.run(w.ava, conv, time.Minute)
	w.ingest(w.inbound("v", "two"))
	_, err := w.reply(w.ava, conv, Draft{Text: "stale", Fence: c.Fence, Run: run, Trigger: 1})
	if !errors.Is(err, ErrSuperseded) {
		t.Errorf("after a newer message: %v", err)
	}
	want(t, second(w.reply(w.bob, conv, Draft{Text: "not mine", Fence: c.Fence, Run: run, Trigger: 2})), tandem.Conflict)
	_, err = w.reply(w.ava, conv, Draft{Text: "other run", Fence: c.Fence, Run: tandem.NewID(), Trigger: 2})
	if !errors.Is(err, ErrFenceMoved) {
		t.Errorf("another run: %v", err)
	}
	m, err := w.reply(w.ava, conv, Draft{Text: "good", Fence: c.Fence, Run: run, Trigger: 2, AI: &AIMeta{Model: "rules", Confidence: 0.8, Sources: []Source{{Title: "Prices", Score: 1}}}})
	if err != nil {
		t.Fatal(err)
	}
	if m = w.message(conv, m.ID); m.AI == nil || m.AI.RunID != run || m.AI.Sources[0].Title != "Prices" || m.Status != Queued {
		t.Errorf("got %+v %+v", m, m.AI)
	}
	if c = w.get(conv); c.Unanswered() {
		t.Errorf("still unanswered: %+v", c)
	}
}

// CLM-4 in small: a person takes over while an AI member answers. Whatever the moment, no
// message of the AI member begins to go out after the takeover has committed.
func TestTakeoverAgainstReply(t *testing.T) {
	w := newWorld(t)
	if _, err := pgtest.Connect(t, w.db, pgtest.Owner).Exec(t.Context(), journalSQL); err != nil {
		t.Fatal(err)
	}
	trials := proof.Size(10, 50)
	points := []string{"reply.before", "reply.locked", "reply.enqueued", "courier.before", "courier.dispatching", "courier.sent"}
	for _, point := range points {
		queued, out := 0, 0
		for range trials {
			q, o := w.takeoverAt(point)
			queued, out = queued+q, out+o
		}
		var late, people int
		err := w.db.Global(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
			if err := tx.QueryRow(ctx, `SELECT count(*) FROM journal WHERE what = 'person'`).Scan(&people); err != nil {
				return err
			}
			return tx.QueryRow(ctx, journalLateSQL).Scan(&late)
		})
		if err != nil || people == 0 || late != 0 {
			t.Fatalf("%s: %d AI messages let out after a takeover (%d takeovers seen, %v)", point, late, people, err)
		}
		proof.Figure(t, "CLM-4", "%d takeovers at %s: %d AI messages dispatched after the takeover; %d answers had been queued, %d were already on their way", trials, point, late, queued, out)
	}
}

// takeoverAt lets an AI member answer and the courier deliver, and a person take over from
// the moment the given point is passed. It returns how many answers were queued and how
// many went out.
func (w *world) takeoverAt(point string) (queued, out int) {
	w.Helper()
	conv := w.conversation()
	run, c := w.run(w.ava, conv, time.Minute)
	reached, taken := make(chan struct{}), make(chan struct{})
	var once sync.Once
	hit := func(at string) {
		if at != point {
			return
		}
		once.Do(func() {
			close(reached)
			if point != "reply.locked" && point != "reply.enqueued" { // there the takeover has to wait for the lock
				<-taken
			}
		})
	}
	var over error
	go func() {
		<-reached
		over = w.db.Tx(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) error {
			_, err := Takeover(ctx, tx, conv, "")
			return err
		})
		close(taken)
	}()
	var m Message
	err := w.db.Tx(WithFault(w.as(w.ava), hit), func(ctx context.Context, tx pgx.Tx) (err error) {
		m, err = Reply(ctx, tx, conv, Draft{Text: "An answer", Fence: c.Fence, Run: run, Trigger: 1})
		return err
	})
	if err != nil && !errors.Is(err, ErrFenceMoved) {
		w.Fatalf("reply: %v", err)
	}
	courier := w.courier()
	courier.Fault = hit
	for _, f := range w.commands() {
		if err := courier.Deliver(w.system(), f); err != nil {
			w.Fatalf("courier: %v", err)
		}
	}
	once.Do(func() { close(reached) }) // the point lies behind a refused reply
	<-taken
	if over != nil {
		w.Fatalf("takeover: %v", over)
	}
	w.deliver(w.courier())
	if c = w.get(conv); c.Owner == nil || c.Owner.ID != w.owner.Member {
		w.Fatalf("%s: the owner is %+v", point, c.Owner)
	}
	if err == nil {
		queued = 1
		now := w.message(conv, m.ID)
		switch now.Status {
		case Sent:
			out = 1
			if point == "reply.before" || point == "courier.before" {
				w.Fatalf("%s: the message was sent although it had been taken over", point)
			}
		case Cancelled:
		default:
			w.Fatalf("%s: the message is %s", point, now.Status)
		}
	}
	return queued, out
}

// journalSQL lets the database itself write down in which order people become owners and
// messages of AI members are let out. Both happen with the conversation's row locked until
// the commit, so the order of the journal is the order of the commits.
const journalSQL = `
	CREATE TABLE journal (n bigserial, conversation_id uuid, what text);
	GRANT INSERT, SELECT ON journal TO tandem_app;
	GRANT USAGE ON SEQUENCE journal_n_seq TO tandem_app;
	CREATE FUNCTION journal_owner() RETURNS trigger LANGUAGE plpgsql AS $$
	    BEGIN INSERT INTO journal (conversation_id, what) VALUES (NEW.id, 'person'); RETURN NULL; END $$;
	CREATE FUNCTION journal_out() RETURNS trigger LANGUAGE plpgsql AS $$
	    BEGIN INSERT INTO journal (conversation_id, what) VALUES (NEW.conversation_id, 'ai out'); RETURN NULL; END $$;
	CREATE TRIGGER journal_owner AFTER UPDATE ON conversations FOR EACH ROW
	    WHEN (NEW.owner_kind = 'human' AND OLD.owner_kind IS DISTINCT FROM 'human') EXECUTE FUNCTION journal_owner();
	CREATE TRIGGER journal_out AFTER UPDATE ON messages FOR EACH ROW
	    WHEN (NEW.status = 'dispatching' AND OLD.status <> 'dispatching' AND NEW.sender_kind = 'ai' AND NEW.handoff_id IS NULL) EXECUTE FUNCTION journal_out()`

const journalLateSQL = `
	SELECT count(*) FROM journal o WHERE o.what = 'ai out'
	   AND EXISTS (SELECT FROM journal p WHERE p.what = 'person' AND p.conversation_id = o.conversation_id AND p.n < o.n)`
