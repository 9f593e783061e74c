package inbox

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/internal/proof"
)

// mail is a message from an address, on the form.
func (w *world) mail(from, text string) channels.Inbound {
	in := w.inbound(from, text)
	in.Channel, in.FromKind = w.form, channels.IdentityEmail
	return in
}

func (w *world) mergeContacts(into tandem.ID, from ...tandem.ID) (m []crm.Merge, err error) {
	err = w.db.Tx(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) (err error) {
		_, m, err = MergeContacts(ctx, tx, into, from)
		return err
	})
	return m, err
}

func (w *world) splitContacts(into, merge tandem.ID) error {
	return w.db.Tx(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) error {
		_, err := crm.Contacts.Split(ctx, tx, into, merge)
		return err
	})
}

// mergedTables are all that a merge may touch, as rows without what every change moves along.
var mergedTables = []string{"contacts", "contact_identities", "contact_consents", "leads", "conversations", "messages", "handoffs", "notes", "tasks", "calls", "inbound"}

func (w *world) rows() map[string][]string {
	w.Helper()
	all := map[string][]string{}
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		for _, table := range mergedTables {
			rows, _ := tx.Query(ctx, `SELECT (to_jsonb(t) - 'updated_at' - 'version' - 'raw')::text FROM `+table+` t ORDER BY 1`)
			found, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				return err
			}
			all[table] = found
		}
		return nil
	})
	return all
}

// somebody writes on some channels, has leads, notes, tasks, calls, consents and perhaps a handoff that waits.
func (w *world) somebody(r *rand.Rand, n int) tandem.ID {
	w.Helper()
	in := w.mail(fmt.Sprintf("person%d@example.com", n), "Hello")
	in.Contact = channels.ContactFacts{Name: []string{"", "Ada Lovelace", "Charles Babbage"}[r.IntN(3)], Company: []string{"", "Engines"}[r.IntN(2)]}
	if r.IntN(2) == 0 {
		in.Contact.Phone = fmt.Sprintf("+49 40 1234%02d", n)
	}
	if r.IntN(2) == 0 {
		in.Lead = &channels.LeadFacts{Title: fmt.Sprint("Racks ", n), Source: "fair", Tags: []string{"b2b"}}
	}
	got := w.ingest(in)
	for range r.IntN(3) {
		in := w.mail(fmt.Sprintf("person%d@example.com", n), "Another thread")
		in.Thread = w.name("thread")
		w.ingest(in)
	}
	do := func(sql string, args ...any) {
		w.Helper()
		w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, sql, append([]any{w.org, got.Contact}, args...)...)
			return err
		})
	}
	for range r.IntN(3) {
		do(`INSERT INTO notes (org_id, id, contact_id, body) VALUES ($1, gen_random_uuid(), $2, 'x')`)
		do(`INSERT INTO tasks (org_id, id, contact_id, title) VALUES ($1, gen_random_uuid(), $2, 'x')`)
		do(`INSERT INTO calls (org_id, id, contact_id, direction, outcome, started_at) VALUES ($1, gen_random_uuid(), $2, 'inbound', 'busy', now())`)
	}
	do(`UPDATE contacts SET tags = $3, custom = $4, city = $5 WHERE org_id = $1 AND id = $2`,
		[][]string{{}, {"vip"}, {"vip", "b2b"}}[r.IntN(3)], map[string]any{"seats": n, fmt.Sprint("only ", n): true}, []string{"", "London"}[r.IntN(2)])
	for _, kind := range []string{"fake", "email"} {
		if state := []string{"", crm.ConsentGranted, crm.ConsentDenied}[r.IntN(3)]; state != "" {
			w.do(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) error {
				_, err := SetConsent(ctx, tx, got.Contact, crm.Consent{Kind: kind, State: state, Source: "test"})
				return err
			})
		}
	}
	if r.IntN(2) == 0 {
		if _, err := w.handoff(w.owner, got.Conversation, HandoffRequest{Reason: "policy", Packet: Packet{Summary: "s"}, To: Target{Team: w.sales}}); err != nil {
			w.Fatal(err)
		}
	}
	return got.Contact
}

// Whatever is merged, nothing is left with a contact that became a part of another, and splitting all of it again, in an order
// that is possible, leaves every row as it was.
func TestSplittingRestoresEveryRow(t *testing.T) {
	w := newWorld(t)
	r := proof.Rand(t)
	merges, compared := 0, 0
	for range proof.Size(6, 60) {
		var people []tandem.ID
		for i := range 4 {
			w.n++
			people = append(people, w.somebody(r, w.n*10+i))
		}
		before := w.rows()
		type done struct{ into, merge tandem.ID }
		var stack []done
		alive := slices.Clone(people)
		for len(alive) > 1 && (len(stack) < 2 || r.IntN(3) > 0) {
			r.Shuffle(len(alive), func(i, j int) { alive[i], alive[j] = alive[j], alive[i] })
			n := 1 + r.IntN(len(alive)-1)
			ms, err := w.mergeContacts(alive[0], alive[1:1+n]...)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range ms {
				stack = append(stack, done{m.IntoID, m.ID})
			}
			alive = append(alive[:1:1], alive[1+n:]...)
			w.nothingLeft()
		}
		merges += len(stack)
		for len(stack) > 0 {
			i := r.IntN(len(stack))
			err := w.splitContacts(stack[i].into, stack[i].merge)
			if tandem.KindOf(err) == tandem.NotFound { // its contact is a part of another one still
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			want(t, w.splitContacts(stack[i].into, stack[i].merge), tandem.Conflict)
			stack = slices.Delete(stack, i, i+1)
			w.strictestCounts()
		}
		after := w.rows()
		for _, table := range slices.Sorted(maps.Keys(before)) {
			compared += len(before[table])
			if !slices.Equal(before[table], after[table]) {
				for i := range min(len(before[table]), len(after[table])) {
					if before[table][i] != after[table][i] {
						t.Fatalf("%s has changed:\n%s\nis\n%s", table, before[table][i], after[table][i])
					}
				}
				t.Fatalf("%s had %d rows and has %d", table, len(before[table]), len(after[table]))
			}
		}
	}
	t.Logf("figure: %d merges undone in a random order: %d rows compared, all as before", merges, compared)
}

// strictestCounts fails when somebody who is a part of a contact has said no, or yes, and the contact's own word is weaker.
func (w *world) strictestCounts() {
	w.Helper()
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		var n int
		err := tx.QueryRow(ctx, `
			SELECT count(*) FROM contact_merges m
			JOIN contact_consents theirs ON theirs.org_id = m.org_id AND theirs.contact_id = m.from_id
			LEFT JOIN contact_consents mine ON mine.org_id = m.org_id AND mine.contact_id = m.into_id AND mine.kind = theirs.kind
			WHERE m.undone_at IS NULL AND array_position(ARRAY['unknown','granted','denied'], theirs.state) >
			      coalesce(array_position(ARRAY['unknown','granted','denied'], mine.state), 1)`).Scan(&n)
		if err == nil && n > 0 {
			w.Fatalf("%d words of merged contacts do not count for those that they are a part of", n)
		}
		return err
	})
}

// nothingLeft fails when something belongs to a contact that is a part of another.
func (w *world) nothingLeft() {
	w.Helper()
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		for _, table := range []string{"contact_identities", "leads", "conversations", "notes", "tasks", "calls"} {
			var n int
			if err := tx.QueryRow(ctx, `SELECT count(*) FROM `+table+` t JOIN contacts c ON c.org_id = t.org_id AND c.id = t.contact_id WHERE c.merged_into IS NOT NULL`).Scan(&n); err != nil {
				return err
			}
			if n > 0 {
				w.Errorf("%d %s were left with a merged contact", n, table)
			}
		}
		return nil
	})
}

// After a merge each address goes on in its own conversation and is answered there; owner and fence are as they were.
func TestAddressesGoOnInTheirThreads(t *testing.T) {
	w := newWorld(t)
	ada, twin := w.ingest(w.mail("ada@example.com", "one")), w.ingest(w.mail("twin@example.com", "two"))
	if _, err := w.reply(w.owner, twin.Conversation, Draft{Text: "queued before the merge"}); err != nil {
		t.Fatal(err)
	}
	was := w.get(twin.Conversation)
	ms, err := w.mergeContacts(ada.Contact, twin.Contact)
	if err != nil {
		t.Fatal(err)
	}
	now := w.get(twin.Conversation)
	if now.Contact.ID != ada.Contact || now.Fence != was.Fence || now.Owner == nil || now.Owner.ID != was.Owner.ID {
		t.Errorf("the conversation is %+v, was %+v", now, was)
	}
	if now.Lead == nil || now.Lead.ID != w.get(ada.Conversation).Lead.ID {
		t.Errorf("its lead is %+v, want the open one of the contact that stays", now.Lead)
	}
	again, other := w.ingest(w.mail("twin@example.com", "three")), w.ingest(w.mail("ada@example.com", "four"))
	if again.Conversation != twin.Conversation || again.Contact != ada.Contact || other.Conversation != ada.Conversation {
		t.Errorf("further messages went to %+v and %+v", again, other)
	}
	in := w.mail("twin@example.com", "elsewhere") // a thread that is opened after the merge, by the slow path
	in.Thread, in.Contact.Company = "t2", "Engines"
	later := w.ingest(in)
	for _, conv := range []tandem.ID{ada.Conversation, later.Conversation} {
		if _, err := w.reply(w.owner, conv, Draft{Text: "to " + string(conv)}); err != nil {
			t.Fatal(err)
		}
	}
	w.deliver(w.courier())
	for _, m := range w.channel.sent() {
		to, thread := channels.Address("twin@example.com"), ""
		if m.Conversation == ada.Conversation {
			to = "ada@example.com"
		}
		if m.Conversation == later.Conversation {
			thread = "t2"
		}
		if m.To != to || m.Thread != thread {
			t.Errorf("%q went to %s in the thread %q, want %s and %q", m.Text, m.To, m.Thread, to, thread)
		}
	}
	if n := len(w.channel.sent()); n != 3 {
		t.Errorf("%d messages sent, want 3", n)
	}
	if err := w.splitContacts(ada.Contact, ms[0].ID); err != nil {
		t.Fatal(err)
	}
	for conv, contact := range map[tandem.ID]tandem.ID{ada.Conversation: ada.Contact, twin.Conversation: twin.Contact, later.Conversation: twin.Contact} {
		if c := w.get(conv); c.Contact.ID != contact {
			t.Errorf("after the split the conversation belongs to %s", c.Contact.Name)
		}
	}
	if back := w.ingest(w.mail("twin@example.com", "five")); back.Conversation != twin.Conversation || back.Contact != twin.Contact {
		t.Errorf("after the split a message went to %+v", back)
	}
}

// Messages come in by all ways while their contacts are merged crosswise and split again: none is lost, none is left behind,
// and nobody waits in a circle.
func TestIntakeWhileContactsMerge(t *testing.T) {
	w := newWorld(t)
	r := proof.Rand(t)
	const people = 4
	rounds, writers := proof.Size(25, 400), 4
	ids := make([]tandem.ID, people)
	for i := range ids {
		ids[i] = w.ingest(w.mail(fmt.Sprintf("p%d@example.com", i), "first")).Contact
	}
	seeds := make([]uint64, writers+2)
	for i := range seeds {
		seeds[i] = r.Uint64()
	}
	var stored, merged, undone atomic.Int64
	var over atomic.Bool
	var wg, mergers sync.WaitGroup
	for k := range writers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seeds[k], 1))
			for n := 0; !over.Load() || n < rounds; n++ {
				in := w.mail(fmt.Sprintf("p%d@example.com", r.IntN(people)), "more")
				if r.IntN(3) == 0 {
					in.Thread = fmt.Sprint("t", r.IntN(4))
				}
				if r.IntN(3) == 0 { // something to learn: the slow path
					in.Lead = &channels.LeadFacts{Title: "x", Tags: []string{fmt.Sprint("tag", r.IntN(9))}}
				}
				deliver := func() error {
					return w.db.Tx(w.system(), func(ctx context.Context, tx pgx.Tx) error { _, err := Ingest(ctx, tx, in); return err })
				}
				err := deliver()
				for tandem.KindOf(err) == tandem.Unavailable { // as whoever sends does it
					err = deliver()
				}
				if err != nil {
					t.Errorf("ingest: %v", err)
					return
				}
				stored.Add(1)
			}
		})
	}
	for k := range 2 {
		mergers.Go(func() {
			r := rand.New(rand.NewPCG(seeds[writers+k], 2))
			for range rounds {
				into, from := ids[r.IntN(people)], ids[r.IntN(people)]
				ms, err := w.mergeContacts(into, from)
				switch {
				case err == nil:
					merged.Add(1)
				case tandem.KindOf(err) == tandem.NotFound, tandem.KindOf(err) == tandem.Invalid:
					continue
				default:
					t.Errorf("merge: %v", err)
					return
				}
				if r.IntN(4) > 0 {
					err := w.splitContacts(into, ms[0].ID)
					if err == nil {
						undone.Add(1)
					} else if tandem.KindOf(err) != tandem.NotFound {
						t.Errorf("split: %v", err)
						return
					}
				} else if r.IntN(2) == 0 {
					w.splitAll()
				}
			}
		})
	}
	mergers.Wait()
	over.Store(true)
	wg.Wait()
	w.nothingLeft()
	var messages, deadlocks int
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM messages WHERE direction = 'inbound'`).Scan(&messages); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`).Scan(&deadlocks)
	})
	if messages != int(stored.Load())+people || deadlocks > 0 {
		t.Errorf("%d messages stored, want %d; %d deadlocks", messages, int(stored.Load())+people, deadlocks)
	}
	w.splitAll()
	var open int
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*) FROM contacts WHERE archived_at IS NULL`).Scan(&open)
	})
	if open != people {
		t.Errorf("%d contacts after all splits, want %d", open, people)
	}
	if merged.Load() == 0 || undone.Load() == 0 {
		t.Error("nothing was merged and split: this test asks for too little")
	}
	t.Logf("figure: %d messages while %d merges and %d splits ran: 0 lost, 0 left behind, %d deadlocks", stored.Load(), merged.Load(), undone.Load(), deadlocks)
}

// splitAll undoes whatever can be undone.
func (w *world) splitAll() {
	w.Helper()
	for range 20 {
		type one struct{ IntoID, ID tandem.ID }
		var left []one
		w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
			rows, _ := tx.Query(ctx, `SELECT into_id, id FROM contact_merges WHERE undone_at IS NULL ORDER BY id DESC`)
			var err error
			left, err = pgx.CollectRows(rows, pgx.RowToStructByName[one])
			return err
		})
		if len(left) == 0 {
			return
		}
		for _, m := range left {
			if err := w.splitContacts(m.IntoID, m.ID); err != nil && tandem.KindOf(err) != tandem.NotFound && tandem.KindOf(err) != tandem.Conflict {
				w.Errorf("split: %v", err)
			}
		}
	}
}

// Two contacts are not split while conversations of both are one: what one of them writes would come to the other's.
func TestMergedConversationsHoldTheirContactsTogether(t *testing.T) {
	w := newWorld(t)
	ada, twin := w.ingest(w.mail("ada@example.com", "one")), w.ingest(w.mail("twin@example.com", "two"))
	ms, err := w.mergeContacts(ada.Contact, twin.Contact)
	if err != nil {
		t.Fatal(err)
	}
	m, err := w.merge(w.owner, ada.Conversation, twin.Conversation)
	if err != nil {
		t.Fatal(err)
	}
	if got := w.ingest(w.mail("twin@example.com", "three")); got.Conversation != ada.Conversation {
		t.Errorf("a message for the merged thread went to %+v", got)
	}
	if err := w.splitContacts(ada.Contact, ms[0].ID); tandem.KindOf(err) != tandem.Conflict {
		t.Errorf("split while their conversations are one: %v", err)
	}
	if _, err := w.split(w.owner, ada.Conversation, Split{Merge: m.ID}); err != nil {
		t.Fatal(err)
	}
	if err := w.splitContacts(ada.Contact, ms[0].ID); err != nil {
		t.Fatal(err)
	}
	if got := w.ingest(w.mail("twin@example.com", "four")); got.Conversation != twin.Conversation || got.Contact != twin.Contact {
		t.Errorf("a message after the split went to %+v", got)
	}
}
