package inbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/seal"
	"github.com/tandemhq/tandem/internal/timers"
	"github.com/tandemhq/tandem/team"
)

// world is one organization with people, AI members and two channels.
type world struct {
	*testing.T
	db      *pg.DB
	org     tandem.ID
	owner   tandem.Actor
	chat    tandem.ID // webchat; Ava answers first
	form    tandem.ID // webhook; people answer
	sales   tandem.ID // a team
	ava     tandem.Actor
	bob     tandem.Actor
	log     *slog.Logger
	n       int // for unique names
	nameMu  sync.Mutex
	sealer  *seal.Sealer
	channel *fakeChannel
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	return newWorldIn(t, pgtest.New(t), "Acme")
}

func newWorldIn(t *testing.T, db *pg.DB, name string) *world {
	t.Helper()
	w := &world{T: t, db: db, log: quiet, channel: &fakeChannel{}}
	var err error
	if w.sealer, err = seal.Open(make([]byte, seal.KeySize)); err != nil {
		t.Fatal(err)
	}
	o, owner, err := team.CreateOrg(t.Context(), db, team.NewOrg{Name: name, OwnerName: "Sam", OwnerEmail: name + "@example.com", OwnerPassword: "correct horse battery"})
	if err != nil {
		t.Fatal(err)
	}
	w.org = o.ID
	var ava, bob team.Member
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := crm.SeedBoard(ctx, tx, "Sales", []crm.BoardStage{{Name: "New"}, {Name: "Won", Kind: "won"}}); err != nil {
			return err
		}
		if ava, err = team.AddAI(ctx, tx, w.sealer, team.NewAI{Name: "Ava"}); err != nil {
			return err
		}
		if bob, err = team.AddAI(ctx, tx, w.sealer, team.NewAI{Name: "Bob"}); err != nil {
			return err
		}
		w.sales, err = team.AddTeam(ctx, tx, "Sales", false, []tandem.ID{owner.ID})
		return err
	})
	w.owner, w.ava, w.bob = w.member(owner.ID), w.member(ava.ID), w.member(bob.ID)
	in := w.inbox(nil)
	w.do(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) error {
		c, err := in.Channels.Create(ctx, tx, NewChannel{Kind: "fake", Name: "Shop chat", AIMember: ava.ID})
		if err != nil {
			return err
		}
		w.chat = c.ID
		c, err = in.Channels.Create(ctx, tx, NewChannel{Kind: "fake", Name: "Form"})
		w.form = c.ID
		return err
	})
	return w
}

func (w *world) inbox(fanout *events.Fanout) *Inbox {
	b := NewBatcher(w.db, BatchOptions{Logger: quiet})
	return New(Options{DB: w.db, Sealer: w.sealer, Fanout: fanout, Logger: quiet, Deliver: b.Deliver, Kinds: []channels.Kind{{
		Name: "fake", Title: "Fake", Open: func(context.Context, channels.Config) (channels.Channel, error) { return w.channel, nil },
	}}})
}

func (w *world) system() context.Context { return tandem.AsSystem(w.Context(), w.org) }

func (w *world) as(a tandem.Actor) context.Context { return tandem.WithActor(w.Context(), a) }

func (w *world) do(ctx context.Context, fn pg.TxFunc) {
	w.Helper()
	if err := w.db.Tx(ctx, fn); err != nil {
		w.Fatalf("%v", err)
	}
}

func (w *world) member(id tandem.ID) (a tandem.Actor) {
	w.Helper()
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) (err error) {
		a, err = team.MemberActor(ctx, tx, id)
		return err
	})
	return a
}

// people adds n agents. They never sign in, so they need no real password.
func (w *world) people(n int, role string) []tandem.Actor {
	w.Helper()
	ids := make([]tandem.ID, n)
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		for i := range ids {
			ids[i] = tandem.NewID()
			user := tandem.NewID()
			if _, err := tx.Exec(ctx, `INSERT INTO users (id, email, name, password_hash) VALUES ($1, $2, 'x', 'x')`, user, string(user)+"@example.com"); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `INSERT INTO members (org_id, id, kind, user_id, name, role) VALUES ($1, $2, 'human', $3, $4, $5)`, w.org, ids[i], user, fmt.Sprintf("Person %d", i), role); err != nil {
				return err
			}
		}
		return nil
	})
	out := make([]tandem.Actor, n)
	for i, id := range ids {
		out[i] = tandem.Actor{Org: w.org, Member: id, Kind: tandem.Human, Name: fmt.Sprintf("Person %d", i), Role: role, Grants: team.Grants(role), Chain: tandem.NewID()}
	}
	return out
}

func (w *world) name(prefix string) string {
	w.nameMu.Lock()
	defer w.nameMu.Unlock()
	w.n++
	return fmt.Sprintf("%s-%d", prefix, w.n)
}

func (w *world) inbound(from, text string) channels.Inbound {
	return channels.Inbound{
		Org: w.org, Channel: w.chat, ID: channels.ExternalID(w.name("m")), From: channels.Address(from), FromKind: channels.IdentityVisitor,
		Text: text, Raw: []byte(text),
	}
}

func (w *world) ingest(in channels.Inbound) (got channels.Accepted) {
	w.Helper()
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) (err error) {
		got, err = Ingest(ctx, tx, in)
		return err
	})
	return got
}

// conversation opens one with a first message.
func (w *world) conversation() tandem.ID {
	w.Helper()
	return w.ingest(w.inbound(w.name("visitor"), "Hello, what does it cost?")).Conversation
}

func (w *world) get(conv tandem.ID) (c Conversation) {
	w.Helper()
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) (err error) {
		c, err = GetConversation(ctx, tx, conv)
		return err
	})
	return c
}

func (w *world) messages(conv tandem.ID) (items []Message) {
	w.Helper()
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) (err error) {
		items, _, err = Messages(ctx, tx, conv, 0, 0, 1000)
		return err
	})
	return items
}

func (w *world) message(conv, id tandem.ID) Message {
	w.Helper()
	for _, m := range w.messages(conv) {
		if m.ID == id {
			return m
		}
	}
	w.Fatalf("message %s is not there", id)
	return Message{}
}

// run claims the conversation for a run of the AI member.
func (w *world) run(a tandem.Actor, conv tandem.ID, lease time.Duration) (run tandem.ID, c Conversation) {
	w.Helper()
	run = tandem.NewID()
	w.do(w.as(a), func(ctx context.Context, tx pgx.Tx) (err error) {
		if _, err = ClaimForRun(ctx, tx, conv, run, lease); err != nil {
			return err
		}
		c, err = GetConversation(ctx, tx, conv)
		return err
	})
	return run, c
}

// answer has the AI member claim the conversation and queue a reply.
func (w *world) answer(a tandem.Actor, conv tandem.ID, text string) Message {
	w.Helper()
	run, c := w.run(a, conv, time.Minute)
	m, err := w.reply(a, conv, Draft{Text: text, Fence: c.Fence, Run: run, Trigger: c.LastInboundSeq})
	if err != nil {
		w.Fatal(err)
	}
	return m
}

func (w *world) reply(a tandem.Actor, conv tandem.ID, d Draft) (m Message, err error) {
	err = w.db.Tx(w.as(a), func(ctx context.Context, tx pgx.Tx) (err error) {
		m, err = Reply(ctx, tx, conv, d)
		return err
	})
	return m, err
}

func (w *world) handoff(a tandem.Actor, conv tandem.ID, in HandoffRequest) (h Handoff, err error) {
	err = w.db.Tx(w.as(a), func(ctx context.Context, tx pgx.Tx) (err error) {
		h, err = RequestHandoff(ctx, tx, conv, in)
		return err
	})
	return h, err
}

// topics are all events of the conversation, in order.
func (w *world) topics(conv tandem.ID) (out []string) {
	w.Helper()
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		rows, err := events.ForConversation(ctx, tx, conv, "", time.Time{}, time.Time{}, 1000)
		for _, r := range rows {
			out = append(out, r.Topic())
		}
		return err
	})
	return out
}

func count(list []string, s string) int {
	n := 0
	for _, x := range list {
		if x == s {
			n++
		}
	}
	return n
}

// commands takes all commands to the courier out of the outbox, oldest first.
func (w *world) commands() (out []events.Fact) {
	w.Helper()
	err := w.db.Global(w.Context(), func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `DELETE FROM outbox WHERE topic = 'out' AND org_id = $1 RETURNING id, msg_id, record_id`, w.org)
		if err != nil {
			return err
		}
		type row struct {
			ID     int64
			MsgID  tandem.ID
			Record tandem.ID `db:"record_id"`
		}
		found, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
		slices.SortFunc(found, func(x, y row) int { return int(x.ID - y.ID) })
		out = nil
		for _, r := range found {
			out = append(out, events.Fact{ID: r.MsgID, Org: w.org, Topic: events.TopicOut, Record: r.Record})
		}
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return out
}

func (w *world) courier() *Courier {
	return &Courier{DB: w.db, SendTimeout: time.Second, Logger: quiet, Channels: func(context.Context, tandem.ID, tandem.ID) (channels.Channel, error) { return w.channel, nil }}
}

// deliver lets the courier work off all commands, also those that come up meanwhile.
func (w *world) deliver(c *Courier) {
	w.Helper()
	for list := w.commands(); len(list) > 0; list = w.commands() {
		for _, f := range list {
			if err := c.Deliver(w.system(), f); err != nil {
				w.Fatalf("courier: %v", err)
			}
		}
	}
}

// fire makes the timer due and lets it happen.
func (w *world) fire(kind string, record tandem.ID) {
	w.Helper()
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `DELETE FROM timers WHERE kind = $1 AND record_id = $2`, kind, record)
		if err != nil {
			return err
		}
		if tag.RowsAffected() != 1 {
			return fmt.Errorf("there is no timer %s", kind)
		}
		return Timers()[kind](ctx, tx, record)
	})
}

// runTimers runs the real timer runner until the test ends.
func (w *world) runTimers() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	r := &timers.Runner{DB: w.db, Handlers: Timers(), Every: 10 * time.Millisecond, Logger: quiet}
	go func() {
		defer close(done)
		_ = r.Run(ctx)
	}()
	w.Cleanup(func() { cancel(); <-done })
}

// until polls, because what is awaited happens in another goroutine.
func (w *world) until(what string, ok func() bool) {
	w.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			w.Fatalf("waited 20 s in vain: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func want(t *testing.T, err error, k tandem.Kind) *tandem.Error {
	t.Helper()
	var te *tandem.Error
	if !errors.As(err, &te) || te.Kind != k {
		t.Fatalf("got %v, want %s", err, k)
	}
	return te
}

func p99(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)*99/100]
}

// fakeChannel is a provider that remembers what reached it and answers as told.
type fakeChannel struct {
	mu      sync.Mutex
	taken   []channels.Outbound
	answer  func(m channels.Outbound) error // nil: takes everything
	dedupes bool
}

func (f *fakeChannel) Run(ctx context.Context, _ channels.Host) error { <-ctx.Done(); return nil }
func (f *fakeChannel) Close() error                                   { return nil }
func (f *fakeChannel) DedupesByID() bool                              { return f.dedupes }

func (f *fakeChannel) Send(_ context.Context, m channels.Outbound) (channels.Receipt, error) {
	f.mu.Lock()
	f.taken = append(f.taken, m)
	answer := f.answer
	f.mu.Unlock()
	if answer != nil {
		return channels.Receipt{}, answer(m)
	}
	return channels.Receipt{}, nil
}

func (f *fakeChannel) sent() []channels.Outbound {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.taken)
}
