package report_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/bus"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/channels/webhook"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/crm/report"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/seal"
	"github.com/tandemhq/tandem/team"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// world is an organization in which much happens.
type world struct {
	*testing.T
	db       *pg.DB
	org      tandem.ID
	board    crm.Board
	people   []tandem.Actor
	ava      tandem.Actor
	channels []tandem.ID

	convs    []tandem.ID
	leads    []tandem.ID
	sent     []tandem.ID
	handoffs []tandem.ID
	known    map[tandem.ID]bool
	n        int // messages of contacts
}

func newWorld(t *testing.T, db *pg.DB, name string) *world {
	t.Helper()
	w := &world{T: t, db: db, known: map[tandem.ID]bool{}}
	sealer, err := seal.Open(make([]byte, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	o, owner, err := team.CreateOrg(t.Context(), db, team.NewOrg{Name: name, OwnerName: "Sam", OwnerEmail: name + "@example.com", OwnerPassword: "correct horse battery"})
	if err != nil {
		t.Fatal(err)
	}
	w.org = o.ID
	in := inbox.New(inbox.Options{DB: db, Sealer: sealer, Kinds: []channels.Kind{webhook.Kind}, Logger: quiet})
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) (err error) {
		if w.board, err = crm.SeedBoard(ctx, tx, "Sales", []crm.BoardStage{{Name: "New"}, {Name: "Qualified"}, {Name: "Won", Kind: "won"}, {Name: "Lost", Kind: "lost"}}); err != nil {
			return err
		}
		ava, err := team.AddAI(ctx, tx, sealer, team.NewAI{Name: "Ava"})
		if err != nil {
			return err
		}
		for _, name := range []string{"Form", "Shop"} {
			c, err := in.Channels.Create(ctx, tx, inbox.NewChannel{Kind: webhook.Kind.Name, Name: name})
			if err != nil {
				return err
			}
			w.channels = append(w.channels, c.ID)
		}
		if w.ava, err = team.MemberActor(ctx, tx, ava.ID); err != nil {
			return err
		}
		sam, err := team.MemberActor(ctx, tx, owner.ID)
		w.people = append(w.people, sam)
		if err != nil {
			return err
		}
		user, id := tandem.NewID(), tandem.NewID()
		if _, err := tx.Exec(ctx, `INSERT INTO users (id, email, name, password_hash) VALUES ($1, $2, 'Rita', 'x')`, user, string(user)+"@example.com"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO members (org_id, id, kind, user_id, name, role) VALUES ($1, $2, 'human', $3, 'Rita', 'admin')`, w.org, id, user); err != nil {
			return err
		}
		rita, err := team.MemberActor(ctx, tx, id)
		w.people = append(w.people, rita)
		return err
	})
	return w
}

func (w *world) system() context.Context { return tandem.AsSystem(w.Context(), w.org) }

func (w *world) as(a tandem.Actor) context.Context {
	a.Chain = tandem.NewID()
	return tandem.WithActor(w.Context(), a)
}

func (w *world) do(ctx context.Context, fn pg.TxFunc) {
	w.Helper()
	if err := w.db.Tx(ctx, fn); err != nil {
		w.Fatal(err)
	}
}

// try is do for what may be refused, as somebody may try anything.
func (w *world) try(ctx context.Context, fn pg.TxFunc) bool {
	w.Helper()
	err := w.db.Tx(ctx, fn)
	switch tandem.KindOf(err) {
	case tandem.Conflict, tandem.Invalid, tandem.Forbidden, tandem.NotFound:
		return false
	}
	if err != nil {
		w.Fatal(err)
	}
	return true
}

// write is a message of a contact, who may be new.
func (w *world) write(r *rand.Rand, contact int) {
	w.Helper()
	w.n++
	channel := w.channels[r.IntN(len(w.channels))]
	var got channels.Accepted
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) (err error) {
		got, err = inbox.Ingest(ctx, tx, channels.Inbound{
			Org: w.org, Channel: channel, ID: channels.ExternalID(fmt.Sprint(w.n)), FromKind: channels.IdentityEmail,
			From: channels.Address(fmt.Sprintf("contact%d@example.com", contact)), Text: "Hello",
		})
		return err
	})
	if !w.known[got.Conversation] {
		w.convs = append(w.convs, got.Conversation)
	}
	if got.Lead != "" && !w.known[got.Lead] {
		w.leads = append(w.leads, got.Lead)
	}
	w.known[got.Conversation], w.known[got.Lead] = true, true
}

// handover lets one person ask another to go on with somebody new, and be heard.
func (w *world) handover(r *rand.Rand) {
	w.Helper()
	w.write(r, 1000+w.n)
	var h inbox.Handoff
	w.do(w.as(w.people[0]), func(ctx context.Context, tx pgx.Tx) (err error) {
		h, err = inbox.RequestHandoff(ctx, tx, w.convs[len(w.convs)-1], inbox.HandoffRequest{Reason: inbox.Reasons[0], Packet: inbox.Packet{Summary: "Help"}, CustomerLine: "A colleague will answer."})
		return err
	})
	w.do(w.as(w.people[1]), func(ctx context.Context, tx pgx.Tx) error {
		_, err := inbox.AcceptHandoff(ctx, tx, h.ID)
		return err
	})
}

func pick(r *rand.Rand, list []tandem.ID) tandem.ID { return list[r.IntN(len(list))] }

// sell does one thing at random, as somebody.
func (w *world) sell(r *rand.Rand) {
	w.Helper()
	who := w.people[r.IntN(len(w.people))]
	if len(w.convs) == 0 || r.IntN(10) < 3 {
		w.write(r, r.IntN(12))
		return
	}
	conv := pick(r, w.convs)
	switch r.IntN(16) {
	case 0, 1, 2:
		w.try(w.as(who), func(ctx context.Context, tx pgx.Tx) error {
			_, err := inbox.Reply(ctx, tx, conv, inbox.Draft{Text: "Good day"})
			return err
		})
	case 3, 4:
		w.answer(conv)
	case 5, 6, 7, 8:
		w.deliver(r)
	case 9:
		w.try(w.as(who), func(ctx context.Context, tx pgx.Tx) error { _, err := inbox.Resolve(ctx, tx, conv); return err })
	case 10:
		w.try(w.as(who), func(ctx context.Context, tx pgx.Tx) error {
			switch r.IntN(3) {
			case 0:
				_, err := inbox.Spam(ctx, tx, conv)
				return err
			case 1:
				_, err := inbox.Snooze(ctx, tx, conv, time.Now().Add(time.Hour))
				return err
			}
			_, err := inbox.Reopen(ctx, tx, conv)
			return err
		})
	case 11:
		w.try(w.as(who), func(ctx context.Context, tx pgx.Tx) error {
			h, err := inbox.RequestHandoff(ctx, tx, conv, inbox.HandoffRequest{Reason: inbox.Reasons[r.IntN(3)], Packet: inbox.Packet{Summary: "Help"}, CustomerLine: "A colleague will answer."})
			if err == nil {
				w.handoffs = append(w.handoffs, h.ID)
			}
			return err
		})
	case 12:
		if len(w.handoffs) > 0 {
			w.try(w.as(who), func(ctx context.Context, tx pgx.Tx) (err error) {
				switch h := pick(r, w.handoffs); r.IntN(3) {
				case 0:
					_, err = inbox.RejectHandoff(ctx, tx, h, "Not mine")
				case 1:
					_, err = inbox.CancelHandoff(ctx, tx, h, "")
				default:
					_, err = inbox.AcceptHandoff(ctx, tx, h)
				}
				return err
			})
		}
	case 13:
		w.try(w.as(who), func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Leads.Patch(ctx, tx, pick(r, w.leads), fmt.Appendf(nil, `{"source":"source %d"}`, r.IntN(4)), nil)
			return err
		})
	default:
		w.try(w.as(who), func(ctx context.Context, tx pgx.Tx) error {
			lead := pick(r, w.leads)
			if _, err := crm.Leads.SetFields(ctx, tx, lead, crm.LeadFields{Value: &crm.Money{Minor: r.Int64N(100_000), Currency: []string{"EUR", "USD"}[r.IntN(2)]}}); err != nil {
				return err
			}
			_, err := crm.Leads.Move(ctx, tx, lead, crm.LeadMove{Stage: w.board.Stages[r.IntN(len(w.board.Stages))].ID})
			return err
		})
	}
}

// answer lets the AI member take a turn.
func (w *world) answer(conv tandem.ID) {
	w.Helper()
	run := tandem.NewID()
	w.try(w.as(w.ava), func(ctx context.Context, tx pgx.Tx) error {
		c, err := inbox.ClaimForRun(ctx, tx, conv, run, time.Minute)
		if err != nil {
			return err
		}
		if _, err := inbox.Reply(ctx, tx, conv, inbox.Draft{Text: "At your service", Fence: c.Fence, Run: run, Trigger: c.LastInboundSeq, Late: true}); err != nil {
			return err
		}
		return inbox.Park(ctx, tx, conv, run, c.Fence)
	})
}

// fickle is a provider that takes some messages, refuses some, and leaves some in doubt.
type fickle struct{ r *rand.Rand }

func (fickle) Run(ctx context.Context, _ channels.Host) error { <-ctx.Done(); return nil }
func (fickle) Close() error                                   { return nil }

func (f fickle) Send(context.Context, channels.Outbound) (channels.Receipt, error) {
	switch f.r.IntN(8) {
	case 0:
		return channels.Receipt{}, &channels.SendError{Outcome: channels.Refused, Err: io.EOF}
	case 1:
		return channels.Receipt{}, &channels.SendError{Outcome: channels.Ambiguous, Err: io.EOF}
	}
	return channels.Receipt{}, nil
}

// deliver hands a message to its provider, and tells what providers tell of messages later: late, twice, in any order.
func (w *world) deliver(r *rand.Rand) {
	w.Helper()
	var id tandem.ID
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT coalesce((SELECT id::text FROM messages WHERE status = 'queued' ORDER BY id LIMIT 1), '')`).Scan(&id)
	})
	if id != "" {
		courier := &inbox.Courier{DB: w.db, Logger: quiet, Channels: func(context.Context, tandem.ID, tandem.ID) (channels.Channel, error) { return fickle{r}, nil }}
		if err := courier.Deliver(w.system(), events.Fact{ID: tandem.NewID(), Org: w.org, Topic: events.TopicOut, Record: id}); err != nil {
			w.Fatal(err)
		}
		w.sent = append(w.sent, id)
	}
	if len(w.sent) > 0 && r.IntN(2) == 0 {
		id := pick(r, w.sent)
		w.try(w.system(), func(ctx context.Context, tx pgx.Tx) error {
			return inbox.Status(ctx, tx, w.channelOf(id), channels.ExternalID(id), []string{"failed", "delivered", "read"}[r.IntN(3)], "")
		})
	}
}

func (w *world) channelOf(message tandem.ID) (id tandem.ID) {
	w.Helper()
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT c.channel_id FROM messages m JOIN conversations c ON c.id = m.conversation_id WHERE m.id = $1`, message).Scan(&id)
	})
	return id
}

// one asks for a number.
func (w *world) one(sql string) (n int64) {
	w.Helper()
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error { return tx.QueryRow(ctx, sql).Scan(&n) })
	return n
}

func (w *world) dashboard(q report.Question) (d report.Dashboard) {
	w.Helper()
	w.do(w.as(w.people[0]), func(ctx context.Context, tx pgx.Tx) (err error) {
		d, err = report.Get(ctx, tx, q)
		return err
	})
	return d
}

// background runs fn until the returned function is called, which fails the test when fn ended in an error.
func background(t *testing.T, fn func(ctx context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- fn(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("background: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// machinery is a bus with what carries facts to the rollups, twice, as two processes would.
func machinery(t *testing.T, db *pg.DB, dir string, unheard func(bus.Msg) bool) (stop func()) {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Options{Dir: dir, Unheard: unheard, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	rollups := []*report.Rollups{{DB: db, Logger: quiet}, {DB: db, Logger: quiet}}
	d := &events.Drain{
		DB: db, Publish: b.Publish, State: b.State, Consumers: []events.Subscription{rollups[0].Subscription()},
		ReconcileEvery: 100 * time.Millisecond, Logger: quiet,
	}
	stops := []func(){background(t, d.Run)}
	for _, r := range rollups {
		stops = append(stops, background(t, r.Run), background(t, func(ctx context.Context) error { return events.Consume(ctx, db, b, r.Subscription()) }))
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		for _, s := range stops {
			s()
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			t.Errorf("close the bus: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// settled waits until every fact has been applied and nobody is to be counted anew.
func (w *world) settled() {
	w.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		var left int
		err := w.db.Global(w.Context(), func(ctx context.Context, tx pgx.Tx) error {
			return tx.QueryRow(ctx, `SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM timers WHERE kind = 'rollups')`).Scan(&left)
		})
		if err != nil {
			w.Fatal(err)
		}
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.Fatalf("%d facts are not applied within a minute", left)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
