package agents_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents"
	"github.com/tandemhq/tandem/agents/llm"
	"github.com/tandemhq/tandem/agents/tools"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/seal"
	"github.com/tandemhq/tandem/team"
)

// world is an organization with an AI member on a channel, and a provider that journals what is sent.
type world struct {
	t      testing.TB
	db     *pg.DB
	sealer *seal.Sealer
	org    tandem.ID
	ctx    context.Context // Tandem itself, in the organization
	owner  tandem.Actor
	ai     team.Member
	chan1  tandem.ID
	board  crm.Board

	minds    sync.Map // contact name -> llm.Model
	fallback llm.Model
	journal  *journal
	provider channels.Channel // where messages are sent; the journal when nil
	n        atomic.Int64
}

// journal is the outside world: what reached it, in order.
type journal struct {
	mu   sync.Mutex
	sent []channels.Outbound
}

func (j *journal) Run(ctx context.Context, _ channels.Host) error { <-ctx.Done(); return nil }
func (j *journal) Close() error                                   { return nil }
func (j *journal) Send(_ context.Context, m channels.Outbound) (channels.Receipt, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sent = append(j.sent, m)
	return channels.Receipt{}, nil
}

func (j *journal) of(conv tandem.ID) (out []channels.Outbound) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, m := range j.sent {
		if m.Conversation == conv {
			out = append(out, m)
		}
	}
	return out
}

func newWorld(t testing.TB) *world { return newWorldIn(t, pgtest.New(t), "Acme", team.Budget{}) }

func newWorldIn(t testing.TB, db *pg.DB, name string, b team.Budget) *world {
	t.Helper()
	sealer, err := seal.Open([]byte(strings.Repeat("k", 32)))
	must(t, err)
	w := &world{t: t, db: db, sealer: sealer, journal: &journal{}}
	org, owner, err := team.CreateOrg(context.Background(), db, team.NewOrg{
		Name: name, Currency: "EUR", OwnerName: "Olga Owner", OwnerEmail: "olga@" + strings.ToLower(name) + ".example", OwnerPassword: "correct horse battery",
	})
	must(t, err)
	w.org, w.ctx = org.ID, tandem.AsSystem(context.Background(), org.ID)
	w.tx(func(ctx context.Context, tx pgx.Tx) error {
		if w.owner, err = team.MemberActor(ctx, tx, owner.ID); err != nil {
			return err
		}
		if w.ai, err = team.AddAI(ctx, tx, sealer, team.NewAI{Name: "Ava", Profile: team.AIProfile{Persona: "Friendly and brief.", Budget: b}}); err != nil {
			return err
		}
		w.board, err = crm.SeedBoard(ctx, tx, "Sales", []crm.BoardStage{{Name: "New"}, {Name: "Contacted"}, {Name: "Qualified"}, {Name: "Won", Kind: "won"}, {Name: "Lost", Kind: "lost"}})
		if err != nil {
			return err
		}
		w.chan1 = tandem.NewID()
		_, err := tx.Exec(ctx, `INSERT INTO channels (org_id, id, kind, name, ai_member_id) VALUES ($1, $2, 'journal', 'Test channel', $3)`, w.org, w.chan1, w.ai.ID)
		return err
	})
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) tx(fn func(ctx context.Context, tx pgx.Tx) error) {
	w.t.Helper()
	must(w.t, w.db.Tx(w.ctx, fn))
}

// asOwner runs fn as the person who owns the organization.
func (w *world) asOwner(fn func(ctx context.Context, tx pgx.Tx) error) error {
	return w.db.Tx(tandem.WithActor(context.Background(), w.owner), fn)
}

// aiCtx carries the AI member.
func (w *world) aiCtx() context.Context {
	return tandem.WithActor(context.Background(), tandem.Actor{Org: w.org, Member: w.ai.ID, Kind: tandem.AI, Name: w.ai.Name, Role: team.AIRole, Grants: team.Grants(team.AIRole)})
}

// runner has models chosen by the name of the contact, because many conversations run at once.
func (w *world) runner() *agents.Runner {
	return &agents.Runner{
		DB: w.db, Sealer: w.sealer, Tools: tools.All(), Embedder: llm.HashedNgrams{},
		Models:    func(context.Context, team.AIProfile, seal.Secret) (llm.Model, error) { return mind{w}, nil },
		Logger:    slog.New(slog.NewTextHandler(io.Discard, nil)),
		Heartbeat: time.Hour, // tests look when they want to
	}
}

// mind passes a call on to the model of the contact it is about.
type mind struct{ w *world }

func (mind) Name() string { return "scripted" }
func (m mind) Next(ctx context.Context, req llm.Request) (llm.Response, error) {
	if model, ok := m.w.minds.Load(req.Facts.ContactName); ok {
		return model.(llm.Model).Next(ctx, req)
	}
	return m.w.fallback.Next(ctx, req)
}

// customer is one contact with one conversation.
type customer struct {
	w    *world
	name string
	conv tandem.ID
	channels.Accepted
	last events.Fact
}

func (w *world) customer(model llm.Model) *customer {
	n := w.n.Add(1)
	c := &customer{w: w, name: fmt.Sprintf("Customer %d of %s", n, w.org[len(w.org)-6:])}
	if model != nil {
		w.minds.Store(c.name, model)
	}
	return c
}

// says stores an inbound message.
func (c *customer) says(text string) events.Fact {
	c.w.t.Helper()
	id := tandem.NewID()
	c.w.tx(func(ctx context.Context, tx pgx.Tx) error {
		var err error
		c.Accepted, err = inbox.Ingest(ctx, tx, channels.Inbound{
			Org: c.w.org, Channel: c.w.chan1, ID: channels.ExternalID(id), From: channels.Address(c.name), FromKind: channels.IdentityVisitor,
			Text: text, Contact: channels.ContactFacts{Name: c.name},
		})
		return err
	})
	c.conv = c.Conversation
	c.last = events.Fact{ID: tandem.NewID(), Org: c.w.org, Topic: "message.received", Record: c.Message}
	return c.last
}

// deliver sends everything that is queued, as the bus would have it done.
func (w *world) deliver(c *customer) { w.deliverWith(c, nil) }

func (w *world) deliverWith(c *customer, fault inbox.Fault) {
	w.t.Helper()
	courier := &inbox.Courier{Fault: fault, DB: w.db, Channels: func(context.Context, tandem.ID, tandem.ID) (channels.Channel, error) {
		if w.provider != nil {
			return w.provider, nil
		}
		return w.journal, nil
	}}
	for {
		ids := []tandem.ID{}
		w.tx(func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, `SELECT id FROM messages WHERE org_id = $1 AND conversation_id = $2 AND status = 'queued' ORDER BY seq LIMIT 1`, w.org, c.conv)
			if err != nil {
				return err
			}
			ids, err = pgx.CollectRows(rows, pgx.RowTo[tandem.ID])
			return err
		})
		if len(ids) == 0 {
			return
		}
		for _, id := range ids {
			must(w.t, courier.Deliver(w.ctx, events.Fact{ID: tandem.NewID(), Org: w.org, Topic: events.TopicOut, Record: id}))
		}
	}
}

func (w *world) conversation(c *customer) (got inbox.Conversation) {
	w.t.Helper()
	w.tx(func(ctx context.Context, tx pgx.Tx) (err error) {
		got, err = inbox.GetConversation(ctx, tx, c.conv)
		return err
	})
	return got
}

type said struct {
	Text, Status, Kind, SenderKind string
	Handoff                        bool
	AI                             []byte `db:"ai"`
}

// wrote are the lines of our side, oldest first.
func (w *world) wrote(c *customer) (out []said) {
	w.t.Helper()
	w.tx(func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT text, status, kind, sender_kind, handoff_id IS NOT NULL AS handoff, ai FROM messages
			WHERE org_id = $1 AND conversation_id = $2 AND direction = 'outbound' ORDER BY seq`, w.org, c.conv)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByName[said])
		return err
	})
	return out
}

// runs are the conversation's runs with their steps, oldest first.
func (w *world) runs(c *customer) (out []agents.Run) {
	w.t.Helper()
	w.tx(func(ctx context.Context, tx pgx.Tx) error {
		out = nil
		p, err := agents.ListRuns(ctx, tx, agents.RunQuery{Conversation: c.conv, Limit: 1000})
		if err != nil {
			return err
		}
		for i := len(p.Items) - 1; i >= 0; i-- {
			r, err := agents.GetRun(ctx, tx, p.Items[i].ID)
			if err != nil {
				return err
			}
			out = append(out, r)
		}
		return nil
	})
	return out
}

func (w *world) wake(r *agents.Runner, f events.Fact) {
	w.t.Helper()
	must(w.t, r.Wake(w.ctx, f))
}

// wait polls until ok, so that no test sleeps longer than it must.
func wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func states(runs []agents.Run) string {
	out := make([]string, len(runs))
	for i, r := range runs {
		out[i] = r.State
	}
	return strings.Join(out, " ")
}
