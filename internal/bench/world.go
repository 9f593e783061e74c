package bench

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/team"
)

// World is a database with organizations and contacts who all have written before.
type World struct {
	*Database
	Pool *pgxpool.Pool // as the superuser
	Orgs []Org
	body string // most of each message
	mark string // makes external ids of this run its own

	n atomic.Int64
}

// Inhabitants says who lives in a World.
type Inhabitants struct {
	Orgs     int             // organizations
	Contacts int             // in all of them
	AI       *team.AIProfile // of the AI member that answers; nil: nobody answers
}

// NewWorld makes the database name in the cluster and fills it with contacts, each with a lead and a conversation without
// messages. Close it.
func NewWorld(ctx context.Context, e *Env, name string, who Inhabitants) (*World, error) {
	db, err := e.Cluster.OpenDatabase(ctx, name)
	if err != nil {
		return nil, err
	}
	w := &World{Database: db, body: Text(e.Rand("ingest"), 800), mark: strconv.FormatUint(e.Seed, 36)}
	if w.Pool, err = e.Cluster.Pool(ctx, name, 4); err != nil {
		db.Close()
		return nil, err
	}
	for i := range who.Orgs {
		o, err := db.NewOrg(ctx, name+" "+strconv.Itoa(i+1), who.AI)
		if err != nil {
			w.Close()
			return nil, err
		}
		w.Orgs = append(w.Orgs, o)
	}
	if err := w.fill(ctx, who.Contacts); err != nil {
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
		o := w.Orgs[(i+1)%len(w.Orgs)]
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

// Sender writes leads over one connection and keeps a journal of what was confirmed. Not for several goroutines at once.
type Sender struct {
	R *rand.Rand

	w        *World
	conn     Conn
	targets  []Target // by organization
	buf      []byte
	accepted []Accepted
	open     int
}

// Senders makes n for the process at url.
func (w *World) Senders(e *Env, url string, n int) []*Sender {
	targets := make([]Target, len(w.Orgs))
	for i, o := range w.Orgs {
		targets[i] = NewTarget(url+"/api/v1/inbound/lead", o.Key)
	}
	list := make([]*Sender, n)
	for i := range list {
		list[i] = &Sender{w: w, targets: targets, R: e.Rand("sender " + strconv.FormatInt(w.n.Add(1), 10))}
	}
	return list
}

// Lead is a request of 1 KB.
type Lead struct {
	External string
	Body     []byte

	org int
}

// lead makes one of a contact with that address; the body is valid until the next call.
func (s *Sender) lead(org int, address string) Lead {
	l := Lead{org: org, External: s.w.mark + "-" + strconv.FormatInt(s.w.n.Add(1), 36)}
	b := append(s.buf[:0], `{"external_id":"`...)
	b = append(b, l.External...)
	b = append(b, `","title":"Enquiry","contact":{"name":"A contact","email":"`...)
	b = append(b, address...)
	b = append(b, `"},"message":"`...)
	b = append(b, s.w.body...)
	b = append(b, TextMark...)
	b = append(b, l.External...)
	s.buf = append(b, `"}`...)
	l.Body = s.buf
	return l
}

// TextMark stands in the text of each lead before its external id, which ends the text.
const TextMark = " id="

// Known is a lead of the contact with that number, from 1; valid until the next call.
func (s *Sender) Known(contact int) Lead { return s.lead(contact%len(s.w.Orgs), email(contact)) }

// First is the first lead of somebody new; valid until the next call.
func (s *Sender) First() Lead {
	return s.lead(s.R.IntN(len(s.w.Orgs)), "new"+strconv.FormatInt(s.w.n.Add(1), 36)+s.w.mark+"@example.com")
}

var messageField = []byte(`"message":{"id":"`)

// Send posts once. An error is anything but a 2xx with the ids; its status is 0 when no answer came.
func (s *Sender) Send(ctx context.Context, l Lead) (status int, err error) {
	status, answer, err := s.conn.Post(ctx, s.targets[l.org], l.Body)
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
	o := s.w.Orgs[l.org]
	s.accepted = append(s.accepted, Accepted{Org: o.ID, Channel: o.Form.ID, External: l.External, Message: tandem.ID(rest[:36])})
	return status, nil
}

// Close ends the connection. The journal stays.
func (s *Sender) Close() { s.conn.Close() }

// Journal is what the senders had confirmed, and how many requests ended without an answer.
func Journal(list []*Sender) (accepted []Accepted, open int) {
	for _, s := range list {
		accepted = append(accepted, s.accepted...)
		open += s.open
	}
	return accepted, open
}
