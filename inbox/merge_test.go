package inbox

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
)

// letter is a message of somebody who writes in several threads.
func (w *world) letter(from, thread, text string) channels.Inbound {
	in := w.inbound(from, text)
	in.Channel, in.FromKind, in.Thread = w.form, channels.IdentityExternal, thread
	return in
}

func (w *world) merge(a tandem.Actor, into, from tandem.ID) (m Merged, err error) {
	err = w.db.Tx(w.as(a), func(ctx context.Context, tx pgx.Tx) (err error) {
		m, err = Merge(ctx, tx, into, from)
		return err
	})
	return m, err
}

func (w *world) split(a tandem.Actor, conv tandem.ID, s Split) (Conversation, error) {
	return w.act(a, func(ctx context.Context, tx pgx.Tx) (Conversation, error) { return Divide(ctx, tx, conv, s) })
}

func (w *world) texts(conv tandem.ID) (out []string) {
	for _, m := range w.messages(conv) {
		out = append(out, fmt.Sprintf("%d %s", m.Seq, m.Text))
	}
	return out
}

// liesSQL finds conversations whose row says something else than their messages, and messages out of their place.
const liesSQL = `
SELECT c.id::text || ': ' || c.message_count || ' messages, not ' || s.n || '; last inbound ' || c.last_inbound_seq || ', not ' || s.inbound || '; next ' || c.next_seq || ', top ' || s.top || '; unread ' || c.unread
FROM conversations c, LATERAL (
    SELECT count(*) AS n, coalesce(max(seq) FILTER (WHERE direction = 'inbound'), 0) AS inbound, coalesce(max(seq), 0) AS top,
           count(*) FILTER (WHERE direction = 'inbound') AS came,
           (SELECT m.text FROM messages m WHERE m.org_id = c.org_id AND m.conversation_id = c.id AND m.kind = 'message' ORDER BY m.created_at DESC, m.seq DESC LIMIT 1) AS last
    FROM messages m WHERE m.org_id = c.org_id AND m.conversation_id = c.id) s
WHERE c.message_count <> s.n OR c.last_inbound_seq <> s.inbound OR c.next_seq <= s.top OR c.unread NOT BETWEEN 0 AND s.came
   OR s.last <> c.preview OR (c.merged_into IS NOT NULL AND (s.n > 0 OR c.state <> 'resolved' OR c.owner_id IS NOT NULL))
   OR EXISTS (SELECT FROM conversations t WHERE t.org_id = c.org_id AND t.id = c.merged_into AND t.merged_into IS NOT NULL)`

func (w *world) noLies() {
	w.Helper()
	rows, err := pgtest.Connect(w.T, w.db, pgtest.Super).Query(w.Context(), liesSQL)
	if err != nil {
		w.Fatal(err)
	}
	lies, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(lies) > 0 {
		w.Fatalf("%v, %v", lies, err)
	}
}

// A merge shows both threads as one, takes in what is written in either, and is undone exactly.
func TestMergeAndUndo(t *testing.T) {
	w := newWorld(t)
	kim := w.people(1, "agent")[0]
	one := w.ingest(w.letter("ada", "racks", "Two racks, please.")).Conversation
	two := w.ingest(w.letter("ada", "bolts", "And bolts?")).Conversation
	if _, err := w.reply(kim, two, Draft{Text: "Which bolts?", ClientKey: "k"}); err != nil {
		t.Fatal(err)
	}
	w.deliver(w.courier())
	w.ingest(w.letter("ada", "bolts", "M6."))
	m, err := w.merge(kim, one, two)
	if err != nil || m.Messages != 3 || m.IntoID != one || m.FromID != two || m.By.ID != kim.Member {
		t.Fatalf("%+v, %v", m, err)
	}
	if got, want := w.texts(one), []string{"1 Two racks, please.", "2 And bolts?", "3 Which bolts?", "4 M6."}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	c, gone := w.get(one), w.get(two)
	if c.MessageCount != 4 || c.Unread != 2 || c.Preview != "M6." || c.LastInboundSeq != 4 || !c.Unanswered() || c.State != StateOpen {
		t.Errorf("the survivor: %+v", c)
	}
	if tandem.Deref(gone.MergedInto) != one || gone.State != StateResolved || gone.Owner != nil || gone.MessageCount != 0 || gone.Unanswered() {
		t.Errorf("what was merged: %+v", gone)
	}
	for name, err := range map[string]error{
		"reply":    second(w.reply(kim, two, Draft{Text: "Hello?"})),
		"claim":    second(w.claim(kim, two)),
		"reopen":   second(w.act(kim, func(ctx context.Context, tx pgx.Tx) (Conversation, error) { return Reopen(ctx, tx, two) })),
		"takeover": second(w.act(w.owner, func(ctx context.Context, tx pgx.Tx) (Conversation, error) { return Takeover(ctx, tx, two, "x") })),
		"handoff":  second(w.handoff(kim, two, HandoffRequest{Reason: "policy"})),
		"merge":    second(w.merge(kim, two, one)),
		"split":    second(w.split(kim, two, Split{From: 1})),
	} {
		if err == nil || tandem.KindOf(err) != tandem.Conflict {
			t.Errorf("%s on what was merged: %v", name, err)
		}
	}
	late := w.ingest(w.letter("ada", "bolts", "Forty of them."))
	again := w.letter("ada", "bolts", "Twice")
	first, repeat := w.ingest(again), w.ingest(again)
	if late.Conversation != one || first.Conversation != one || !repeat.Duplicate || repeat.Conversation != one {
		t.Errorf("later messages went to %s, %s, %s, not %s", late.Conversation, first.Conversation, repeat.Conversation, one)
	}
	back, err := w.split(kim, one, Split{Merge: m.ID})
	if err != nil || back.ID != two || back.MergedInto != nil || back.State != StateOpen || back.MessageCount != 3 || back.Unread != 1 || !back.Unanswered() {
		t.Fatalf("%+v, %v", back, err)
	}
	if got, want := w.texts(two), []string{"1 And bolts?", "2 Which bolts?", "3 M6."}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got, want := w.texts(one), []string{"1 Two racks, please.", "5 Forty of them.", "6 Twice"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if r, err := w.reply(kim, two, Draft{Text: "Which bolts?", ClientKey: "k"}); err != nil || r.Seq != 2 {
		t.Errorf("the same reply again: %+v, %v", r, err)
	}
	if got := w.ingest(w.letter("ada", "bolts", "Thanks.")); got.Conversation != two || got.Seq != 4 {
		t.Errorf("%+v", got)
	}
	want(t, second(w.split(kim, one, Split{Merge: m.ID})), tandem.Invalid)
	if n := count(w.topics(one), "conversation.merged"); n != 1 || count(w.topics(two), "conversation.split") != 1 {
		t.Errorf("%v, %v", w.topics(one), w.topics(two))
	}
	w.noLies()
}

// What is under way, somebody else's or another's is not merged, and neither is a part of it split off.
func TestMergeWaitsForWhatIsUnderWay(t *testing.T) {
	w := newWorld(t)
	kim, lee := w.people(2, "agent")[0], w.people(1, "agent")[0]
	fresh := func() (into, from tandem.ID) {
		who := w.name("who")
		into, from = w.ingest(w.letter(who, "a", "one")).Conversation, w.ingest(w.letter(who, "b", "two")).Conversation
		w.ingest(w.letter(who, "b", "three"))
		return into, from
	}
	for name, begin := range map[string]func(conv tandem.ID){
		"a queued reply": func(c tandem.ID) { _, _ = w.reply(kim, c, Draft{Text: "Hello"}) },
		"a turn":         func(c tandem.ID) { w.run(w.ava, c, time.Minute) },
		"a handoff":      func(c tandem.ID) { _, _ = w.handoff(kim, c, HandoffRequest{Reason: "policy"}) },
		"a colleague":    func(c tandem.ID) { _, _ = w.claim(lee, c) },
		"spam": func(c tandem.ID) {
			_, _ = w.act(kim, func(ctx context.Context, tx pgx.Tx) (Conversation, error) { return Spam(ctx, tx, c) })
		},
	} {
		for k := range 2 {
			into, from := fresh()
			begin([]tandem.ID{into, from}[k])
			if err := second(w.merge(kim, into, from)); tandem.KindOf(err) != tandem.Conflict {
				t.Errorf("merged over %s: %v", name, err)
			}
			if k == 1 {
				if err := second(w.split(kim, from, Split{From: 2})); tandem.KindOf(err) != tandem.Conflict {
					t.Errorf("split over %s: %v", name, err)
				}
			}
		}
	}
	into, from := fresh()
	other, _ := fresh()
	in := w.letter("who-1", "", "elsewhere")
	in.Channel = w.chat
	elsewhere := w.ingest(in).Conversation
	want(t, second(w.merge(kim, into, other)), tandem.Invalid)
	want(t, second(w.merge(kim, into, elsewhere)), tandem.Invalid)
	want(t, second(w.merge(kim, into, into)), tandem.Invalid)
	want(t, second(w.merge(kim, into, tandem.NewID())), tandem.NotFound)
	want(t, second(w.merge(w.external("Xen"), into, from)), tandem.Forbidden)
	want(t, second(w.merge(w.ava, into, from)), tandem.Forbidden)
	want(t, second(w.split(kim, from, Split{})), tandem.Invalid)
	want(t, second(w.split(kim, from, Split{From: 1})), tandem.Invalid)
	want(t, second(w.split(kim, from, Split{From: 9})), tandem.Invalid)
	want(t, second(w.split(kim, from, Split{Messages: []tandem.ID{tandem.NewID()}})), tandem.Invalid)
	want(t, second(w.split(kim, w.conversation(), Split{From: 1})), tandem.Conflict) // a visitor reads it
	w.noLies()
}

// What is split off is answered in the thread that it came from, and a reply that is sent again is not sent twice.
func TestSplitKeepsItsThread(t *testing.T) {
	w := newWorld(t)
	kim := w.people(1, "agent")[0]
	conv := w.ingest(w.letter("ada", "racks", "Racks")).Conversation
	asked, err := w.reply(kim, conv, Draft{Text: "How many?", ClientKey: "k"})
	if err != nil {
		t.Fatal(err)
	}
	w.deliver(w.courier())
	w.ingest(w.letter("ada", "racks", "Bolts"))
	n, err := w.split(kim, conv, Split{From: 2})
	if err != nil || n.ID == conv || n.Owner != nil || n.MessageCount != 2 || n.LastInboundSeq != 2 || n.Unread != 1 || !n.Unanswered() {
		t.Fatalf("%+v, %v", n, err)
	}
	if again, err := w.reply(kim, conv, Draft{Text: "How many?", ClientKey: "k"}); err != nil || again.ID != asked.ID {
		t.Errorf("the same reply again is %s, %v, not %s", again.ID, err, asked.ID)
	}
	if c := w.get(conv); c.MessageCount != 1 || c.Preview != "Racks" || c.Unread != 0 || c.Unanswered() {
		t.Errorf("what stayed: %+v", c)
	}
	if _, err := w.reply(kim, n.ID, Draft{Text: "Which ones?"}); err != nil {
		t.Fatal(err)
	}
	w.deliver(w.courier())
	sent := w.channel.sent()
	if last := sent[len(sent)-1]; last.Thread != "racks" || last.Conversation != n.ID {
		t.Errorf("sent %+v", last)
	}
	if got := w.ingest(w.letter("ada", "racks", "Blue")); got.Conversation != conv {
		t.Errorf("went to %s", got.Conversation)
	}
	if _, err := w.merge(kim, conv, n.ID); err != nil {
		t.Fatal(err)
	}
	if got := len(w.messages(conv)); got != 5 {
		t.Errorf("%d messages", got)
	}
	w.noLies()
}

// While people merge, undo and claim, what the contact writes is stored once and in a conversation that stands.
func TestMergesRaceIntakeAndClaims(t *testing.T) {
	w := newWorld(t)
	kim := w.people(1, "agent")[0]
	b := NewBatcher(w.db, BatchOptions{Logger: quiet, Patience: time.Minute})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = b.Run(ctx) }()
	defer func() { stop(); <-done }()
	threads := []string{"a", "b", "c"}
	var convs []tandem.ID
	for _, th := range threads {
		convs = append(convs, w.ingest(w.letter("ada", th, "first "+th)).Conversation)
	}
	each := proof.Size(30, 300)
	var g, people sync.WaitGroup
	for k, th := range threads {
		for half := range 2 {
			g.Go(func() {
				for n := range each {
					in := w.letter("ada", th, fmt.Sprintf("%d/%d/%d", k, half, n))
					if n%7 == 0 {
						in.Contact.Company = "Engines" // tells something new: the slow path
					}
					if _, err := b.Deliver(w.system(), in); err != nil {
						t.Errorf("deliver: %v", err)
					}
				}
			})
		}
	}
	ended := make(chan struct{})
	tries, merges, undone := 0, 0, 0
	people.Go(func() {
		rng := proof.Rand(t)
		for ; ; tries++ {
			select {
			case <-ended:
				return
			default:
			}
			x, y := convs[rng.IntN(3)], convs[rng.IntN(3)]
			m, err := w.merge(kim, x, y)
			if err != nil {
				if k := tandem.KindOf(err); k != tandem.Conflict && k != tandem.Invalid {
					t.Errorf("merge: %v", err)
				}
				x := convs[rng.IntN(3)]
				var list []Merged
				w.do(w.as(kim), func(ctx context.Context, tx pgx.Tx) (err error) { list, err = Merges(ctx, tx, x); return err })
				for _, m := range list {
					if _, err := w.split(kim, m.IntoID, Split{Merge: m.ID}); err == nil {
						undone++
					} else if k := tandem.KindOf(err); k != tandem.Conflict && k != tandem.Invalid {
						t.Errorf("undo: %v", err)
					}
				}
				continue
			}
			merges++
			_ = m
		}
	})
	people.Go(func() {
		for k := 0; ; k++ {
			select {
			case <-ended:
				return
			default:
			}
			if _, err := w.claim(kim, convs[k%3]); err != nil && tandem.KindOf(err) != tandem.Conflict {
				t.Errorf("claim: %v", err)
			}
		}
	})
	g.Wait()
	close(ended)
	people.Wait()
	total := 0
	for _, c := range convs {
		last := int64(0)
		for _, m := range w.messages(c) {
			if m.Seq <= last {
				t.Errorf("%s: %d after %d", c, m.Seq, last)
			}
			last = m.Seq
			total++
		}
	}
	if want := len(threads)*(2*each) + 3; total != want && total < 1000 { // a page of each
		t.Errorf("%d messages of %d", total, want)
	}
	var stored int
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*) FROM messages m JOIN conversations c ON c.org_id = m.org_id AND c.id = m.conversation_id WHERE c.merged_into IS NULL`).Scan(&stored)
	})
	if stored != len(threads)*2*each+3 {
		t.Errorf("%d messages in conversations that stand, of %d", stored, len(threads)*2*each+3)
	}
	w.noLies()
	if merges == 0 || undone == 0 {
		t.Errorf("%d merges and %d undone in %d tries: the race proves little", merges, undone, tries)
	}
	t.Logf("figure: %d messages arrived during %d merges, of which %d were undone: each is in one conversation, in order", stored, merges, undone)
}
