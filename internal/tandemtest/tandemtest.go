// Package tandemtest runs the whole hub in one process for tests: real Postgres, the
// embedded bus, every role, and HTTP on a free port of the loopback.
package tandemtest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels/webchat"
	"github.com/tandemhq/tandem/channels/webhook"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/hub"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/team"
)

// Hub is a running hub on a database of its own.
type Hub struct {
	*hub.Hub
	t        testing.TB
	Database string // its name, for pgtest
	client   *http.Client
}

// Start runs a hub until t ends. change may alter the configuration; nil leaves it.
func Start(t testing.TB, change func(*hub.Config)) *Hub {
	t.Helper()
	database := pgtest.Create(t)
	c := hub.Config{
		Data: t.TempDir(), HTTP: "127.0.0.1:0", DatabaseURL: pgtest.URL(t, database, pgtest.App), Unsafe: true,
		Logger: slog.New(slog.NewTextHandler(logTo(t), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if change != nil {
		change(&c)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	h, err := hub.Start(ctx, c)
	if err != nil {
		t.Fatalf("start the hub: %v", err)
	}
	out := &Hub{Hub: h, t: t, Database: database, client: &http.Client{Timeout: 30 * time.Second}}
	t.Cleanup(func() {
		out.client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := h.Stop(ctx); err != nil {
			t.Errorf("stop the hub: %v", err)
		}
	})
	return out
}

// logTo keeps the hub's warnings out of passing tests' output unless they are asked for.
func logTo(testing.TB) io.Writer {
	if os.Getenv("TANDEM_TEST_LOG") != "" {
		return os.Stderr
	}
	return io.Discard
}

// Org is an organization with somebody and something in each place.
type Org struct {
	ID        tandem.ID
	Owner     team.Member
	AI        team.Member
	Board     crm.Board // for leads
	Deals     crm.Board // for deals
	Chat      inbox.Channel
	Form      inbox.Channel
	Key       string // an API key of the owner
	Email     string
	Password  string
	WidgetKey string
}

// NewOrg makes an organization whose names all carry mark.
func (h *Hub) NewOrg(mark string) Org {
	h.t.Helper()
	ctx := h.t.Context()
	o := Org{Email: strings.ToLower(mark) + "@example.com", Password: "a long enough password"}
	org, owner, err := team.CreateOrg(ctx, h.DB, team.NewOrg{Name: mark, Currency: "EUR", OwnerName: mark + " owner", OwnerEmail: o.Email, OwnerPassword: o.Password})
	if err != nil {
		h.t.Fatalf("create the organization %s: %v", mark, err)
	}
	o.ID, o.Owner = org.ID, owner
	h.In(o.ID, func(ctx context.Context, tx pgx.Tx) (err error) {
		if o.AI, err = team.AddAI(ctx, tx, h.Sealer, team.NewAI{Name: mark + " AI"}); err != nil {
			return err
		}
		if o.Board, err = crm.SeedBoard(ctx, tx, mark+" board", []crm.BoardStage{{Name: "New"}, {Name: "Qualified"}, {Name: "Won", Kind: "won"}, {Name: "Lost", Kind: "lost"}}); err != nil {
			return err
		}
		if o.Deals, err = crm.Boards.Create(ctx, tx, crm.Board{Name: mark + " deals", Kind: "deal"}); err != nil {
			return err
		}
		if o.Chat, err = h.Inbox.Channels.Create(ctx, tx, inbox.NewChannel{Kind: webchat.Kind.Name, Name: mark + " chat", AIMember: o.AI.ID}); err != nil {
			return err
		}
		if o.Form, err = h.Inbox.Channels.Create(ctx, tx, inbox.NewChannel{Kind: webhook.Kind.Name, Name: mark + " form"}); err != nil {
			return err
		}
		o.WidgetKey = *o.Chat.PublicKey
		o.Key, _, err = team.CreateKey(ctx, tx, mark+" key", owner.ID, nil)
		return err
	})
	return o
}

// In runs fn in a transaction of org, as Tandem itself.
func (h *Hub) In(org tandem.ID, fn func(ctx context.Context, tx pgx.Tx) error) {
	h.t.Helper()
	if err := h.DB.Tx(tandem.AsSystem(h.t.Context(), org), fn); err != nil {
		h.t.Fatalf("in organization %s: %v", org, err)
	}
}

// Answer is what came back from a request.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Into decodes the body.
func (a Answer) Into(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.Body, v); err != nil {
		t.Fatalf("answer %d is not the JSON we want: %v: %s", a.Status, err, a.Body)
	}
}

// Do sends a request with an API key; in is JSON-encoded unless it is nil or a string.
func (h *Hub) Do(method, path, key string, in any, header ...string) Answer {
	h.t.Helper()
	var body io.Reader
	switch v := in.(type) {
	case nil:
	case string:
		body = strings.NewReader(v)
	default:
		b, err := json.Marshal(v)
		if err != nil {
			h.t.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(h.t.Context(), method, h.URL()+path, body)
	if err != nil {
		h.t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("X-API-Key", key)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := h.client.Do(req)
	if err != nil {
		h.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err != nil {
		h.t.Fatalf("%s %s: read the answer: %v", method, path, err)
	}
	return Answer{res.StatusCode, res.Header, b}
}

// Want is Do that fails the test unless the status is the wanted one.
func (h *Hub) Want(status int, method, path, key string, in any, header ...string) Answer {
	h.t.Helper()
	a := h.Do(method, path, key, in, header...)
	if a.Status != status {
		h.t.Fatalf("%s %s: status %d, want %d: %s", method, path, a.Status, status, a.Body)
	}
	return a
}

// Eventually waits until ok returns true, at most for the given time.
func (h *Hub) Eventually(within time.Duration, what string, ok func() bool) {
	h.t.Helper()
	deadline := time.Now().Add(within)
	for !ok() {
		if time.Now().After(deadline) {
			h.t.Fatalf("after %s still not: %s", within, what)
		}
		select {
		case <-h.t.Context().Done():
			h.t.Fatal("the test ended while waiting for " + what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
