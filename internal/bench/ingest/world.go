// Package ingest measures how leads come in: committed ones per second against what PostgreSQL can store at best, and
// whether each is there exactly once afterwards, also when the process is killed again and again.
package ingest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/bench"
)

// World is a database with organizations and contacts who all have written before, and whom nobody answers.
type World struct {
	*bench.Database
	Pool *pgxpool.Pool // as the superuser
	orgs []bench.Org
	body string // most of each message
	mark string // makes external ids of this run its own

	n atomic.Int64
}

// Open makes the database in the cluster and fills it with contacts, each with a lead and a conversation without messages.
func Open(ctx context.Context, e *bench.Env, name string, contacts int) (*World, error) {
	db, err := e.Cluster.OpenDatabase(ctx, name)
	if err != nil {
		return nil, err
	}
	w := &World{Database: db, body: bench.Text(e.Rand("ingest"), 800), mark: strconv.FormatUint(e.Seed, 36)}
	if w.Pool, err = e.Cluster.Pool(ctx, name, 4); err != nil {
		db.Close()
		return nil, err
	}
	for i := range bench.Orgs {
		o, err := db.NewOrg(ctx, "Ingest "+strconv.Itoa(i+1), nil)
		if err != nil {
			w.Close()
			return nil, err
		}
		w.orgs = append(w.orgs, o)
	}
	if err := w.fill(ctx, contacts); err != nil {
		w.Close()
		return nil, err
	}
	if err := e.Cluster.Settle(ctx, name); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// Close ends the connections.
func (w *World) Close() {
	w.Pool.Close()
	w.Database.Close()
}

func email(contact int) string { return "contact" + strconv.Itoa(contact) + "@example.com" }

// fill writes contacts 1 to n. Nobody reads them before they are all there, so foreign keys are not looked up.
func (w *World) fill(ctx context.Context, n int) error {
	conn, err := w.Pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "SET session_replication_role = replica"); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	type row struct{ org, contact, lead, conversation, channel, board, stage string }
	rows := make([]row, n)
	for i := range rows {
		o := w.orgs[(i+1)%bench.Orgs]
		rows[i] = row{
			string(o.ID), string(tandem.NewID()), string(tandem.NewID()), string(tandem.NewID()), string(o.Form.ID), string(o.Board.ID),
			string(o.Board.Stages[0].ID),
		}
	}
	tables := []struct {
		name    string
		columns []string
		values  func(i int) []any
	}{
		{"contacts", []string{"org_id", "id", "name", "first_name", "last_name", "email"}, func(i int) []any {
			return []any{rows[i].org, rows[i].contact, "Contact " + strconv.Itoa(i+1), "Contact", strconv.Itoa(i + 1), email(i + 1)}
		}},
		{"contact_identities", []string{"org_id", "kind", "value", "contact_id", "evidence"}, func(i int) []any {
			return []any{rows[i].org, "email", email(i + 1), rows[i].contact, "wrote to us"}
		}},
		{"leads", []string{"org_id", "id", "contact_id", "board_id", "stage_id", "title"}, func(i int) []any {
			return []any{rows[i].org, rows[i].lead, rows[i].contact, rows[i].board, rows[i].stage, "Enquiry"}
		}},
		{"conversations", []string{"org_id", "id", "channel_id", "contact_id", "lead_id", "subject"}, func(i int) []any {
			return []any{rows[i].org, rows[i].conversation, rows[i].channel, rows[i].contact, rows[i].lead, "Enquiry"}
		}},
	}
	for _, t := range tables {
		_, err := conn.CopyFrom(ctx, pgx.Identifier{t.name}, t.columns, pgx.CopyFromSlice(n, func(i int) ([]any, error) { return t.values(i), nil }))
		if err != nil {
			return fmt.Errorf("fill %s: %w", t.name, err)
		}
	}
	_, err = conn.Exec(ctx, "RESET session_replication_role")
	return err
}

// Journal is what was sent and confirmed.
type Journal struct {
	began time.Time

	mu       sync.Mutex
	accepted []bench.Accepted
	open     int // requests without an answer, whose lead may or may not be there
}

func newJournal() *Journal { return &Journal{began: time.Now()} }

func (j *Journal) accept(a []bench.Accepted) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.accepted = append(j.accepted, a...)
}

// check compares with the database.
func (j *Journal) check(ctx context.Context, w *World) (bench.Effects, error) {
	f, err := bench.Count(ctx, w.Pool, j.began, j.accepted)
	if err != nil {
		return f, err
	}
	return f, f.Check(j.open)
}

// sender writes leads over one connection. Not for several goroutines at once.
type sender struct {
	w        *World
	conn     bench.Conn
	targets  []bench.Target // by organization
	r        *rand.Rand
	buf      []byte
	accepted []bench.Accepted
	open     int
}

func (w *World) senders(e *bench.Env, url string, n int) []*sender {
	targets := make([]bench.Target, len(w.orgs))
	for i, o := range w.orgs {
		targets[i] = bench.NewTarget(url+"/api/v1/inbound/lead", o.Key)
	}
	list := make([]*sender, n)
	for i := range list {
		list[i] = &sender{w: w, targets: targets, r: e.Rand("sender " + strconv.FormatInt(w.n.Add(1), 10))}
	}
	return list
}

// lead is a body of 1 KB.
type lead struct {
	org      int
	external string
	body     []byte
}

// lead makes one of a contact with that address; the body is valid until the next call.
func (s *sender) lead(org int, address string) lead {
	l := lead{org: org, external: s.w.mark + "-" + strconv.FormatInt(s.w.n.Add(1), 36)}
	b := append(s.buf[:0], `{"external_id":"`...)
	b = append(b, l.external...)
	b = append(b, `","title":"Enquiry","contact":{"name":"A contact","email":"`...)
	b = append(b, address...)
	b = append(b, `"},"message":"`...)
	b = append(b, s.w.body...)
	b = append(b, " id="...)
	b = append(b, l.external...)
	s.buf = append(b, `"}`...)
	l.body = s.buf
	return l
}

// known is a lead of a random contact below or at most.
func (s *sender) known(most int) lead {
	c := 1 + s.r.IntN(most)
	return s.lead(c%bench.Orgs, email(c))
}

// first is the first lead of somebody new.
func (s *sender) first() lead {
	return s.lead(s.r.IntN(bench.Orgs), "new"+strconv.FormatInt(s.w.n.Add(1), 36)+s.w.mark+"@example.com")
}

var messageField = []byte(`"message":{"id":"`)

// send posts once; an error is anything but a 2xx with the ids.
func (s *sender) send(ctx context.Context, l lead) (status int, err error) {
	status, answer, err := s.conn.Post(ctx, s.targets[l.org], l.body)
	if err != nil {
		s.open++
		return 0, err
	}
	if status/100 != 2 {
		return status, fmt.Errorf("status %d: %s", status, answer)
	}
	_, rest, ok := bytes.Cut(answer, messageField)
	if !ok || len(rest) < 36 {
		return status, fmt.Errorf("status %d without the message's id: %s", status, answer)
	}
	o := s.w.orgs[l.org]
	s.accepted = append(s.accepted, bench.Accepted{Org: o.ID, Channel: o.Form.ID, External: l.external, Message: tandem.ID(rest[:36])})
	return status, nil
}

// finish closes connections and notes what was accepted.
func finish(j *Journal, list []*sender) {
	for _, s := range list {
		s.conn.Close()
		j.accept(s.accepted)
		j.mu.Lock()
		j.open += s.open
		j.mu.Unlock()
	}
}
