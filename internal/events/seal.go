package events

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/mutant"
)

// sealed is an event with its link in the chain.
type sealed struct {
	record
	N    int64
	Hash []byte
}

// canonical is the one spelling of an event that its hash covers: fixed field order, times in
// UTC with microseconds, the JSON of changes re-encoded with sorted keys.
func (r record) canonical() ([]byte, error) {
	dec := json.NewDecoder(strings.NewReader(r.Changes))
	dec.UseNumber() // 1.0 and 1 are different edits
	var changes any
	if err := dec.Decode(&changes); err != nil {
		return nil, fmt.Errorf("read the changes of event %s: %w", r.ID, err)
	}
	b, err := json.Marshal([]any{
		r.OrgID, r.ID, r.Seq, r.Noun, r.Verb, r.RecordID, r.ActorID, r.ActorKind, r.ActorName, r.OnBehalfOf, changes,
		r.Description, r.Category, r.Severity, r.ConversationID, r.LeadID, r.ChainID, r.At.UTC().Format(time.RFC3339Nano),
	})
	if err != nil {
		return nil, fmt.Errorf("encode event %s: %w", r.ID, err)
	}
	return b, nil
}

// link is SHA-256(prev || canonical event); prev is empty for the first.
func (r record) link(prev []byte) ([]byte, error) {
	c, err := r.canonical()
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	h.Write(prev)
	h.Write(c)
	return h.Sum(nil), nil
}

// sealBatch bounds the events sealed in one transaction; it is unsealedSQL's limit.
const sealBatch = 500

// The rows to seal are found through the outbox, which keeps an event's row until it is sealed. Two statements, and the
// seal looked up row by row: their plans have to be good whatever the server knows of the tables.
const (
	unsealedSQL = `
	SELECT ` + columns + ` FROM outbox o JOIN events e ON e.org_id = o.org_id AND e.id = o.msg_id
	WHERE o.org_id = @org AND o.topic <> 'out' AND o.published_at IS NOT NULL
	  AND (SELECT s.n FROM event_seals s WHERE s.org_id = o.org_id AND s.event_id = o.msg_id) IS NULL
	ORDER BY o.id LIMIT 500`

	unsealedOfSQL = `
	SELECT ` + columns + ` FROM outbox o JOIN events e ON e.org_id = o.org_id AND e.id = o.msg_id
	WHERE o.id = ANY(@ids::bigint[]) AND o.org_id = @org AND o.topic <> 'out' AND o.published_at IS NOT NULL
	  AND (SELECT s.n FROM event_seals s WHERE s.org_id = o.org_id AND s.event_id = o.msg_id) IS NULL
	ORDER BY o.id LIMIT 500`
)

const headSQL = `SELECT n, hash FROM event_seals WHERE org_id = @org ORDER BY n DESC LIMIT 1`

const appendSealsSQL = `
	INSERT INTO event_seals (org_id, n, event_id, hash)
	SELECT @org::uuid, @first::bigint + ordinality - 1, event_id, hash FROM unnest(@ids::uuid[], @hashes::bytea[]) WITH ORDINALITY u(event_id, hash)`

// seal appends published events of the organization entered by tx to its chain, only those of
// the outbox rows ids when given, and returns how many. Two sealers at once cannot fork the
// chain: the second violates its primary key.
func seal(ctx context.Context, tx pgx.Tx, org tandem.ID, ids []int64) (int, error) {
	q, args := unsealedSQL, pgx.StrictNamedArgs{"org": org}
	if ids != nil {
		q, args["ids"] = unsealedOfSQL, ids
	}
	rows, err := tx.Query(ctx, q, args)
	if err != nil {
		return 0, fmt.Errorf("find unsealed events: %w", err)
	}
	recs, err := pgx.CollectRows(rows, pgx.RowToStructByName[record])
	if err != nil || len(recs) == 0 {
		return 0, wrap(err, "find unsealed events")
	}
	n, prev, err := head(ctx, tx, org)
	if err != nil {
		return 0, err
	}
	if mutant.Is("audit-chain-not-linked") {
		prev = nil
	}
	first := n + 1
	events, hashes := make([]tandem.ID, len(recs)), make([][]byte, len(recs))
	for i, r := range recs {
		if prev, err = r.link(prev); err != nil {
			return 0, err
		}
		events[i], hashes[i] = r.ID, prev
	}
	_, err = tx.Exec(ctx, appendSealsSQL, pgx.StrictNamedArgs{"org": org, "first": first, "ids": events, "hashes": hashes})
	return len(recs), wrap(err, "append seals")
}

func head(ctx context.Context, tx pgx.Tx, org tandem.ID) (n int64, hash []byte, err error) {
	err = tx.QueryRow(ctx, headSQL, pgx.StrictNamedArgs{"org": org}).Scan(&n, &hash)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return 0, nil, fmt.Errorf("read the chain's head: %w", err)
	}
	return n, hash, nil
}

// Head returns how many events of the actor's organization are sealed and the hash of the last
// one. Whoever keeps a copy of it elsewhere can later prove that nothing before it was changed,
// not even by somebody who rewrote the whole chain.
func Head(ctx context.Context, tx pgx.Tx) (n int64, hash []byte, err error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return 0, nil, err
	}
	return head(ctx, tx, a.Org)
}

const verifySQL = `
	SELECT ` + columns + `, s.n, s.hash FROM event_seals s JOIN events e ON e.org_id = s.org_id AND e.id = s.event_id
	WHERE s.org_id = @org AND s.n > @after ORDER BY s.n LIMIT 1000`

const unexplainedSQL = `
	SELECT count(*) FROM events e WHERE e.org_id = @org
	  AND NOT EXISTS (SELECT FROM event_seals s WHERE s.org_id = e.org_id AND s.event_id = e.id)
	  AND NOT EXISTS (SELECT FROM outbox o WHERE o.msg_id = e.id)`

// Verify recomputes the chain of the actor's organization and returns how many events it
// proves. An event that was edited, deleted, put in another order, or slipped in without a
// seal is a Conflict that names the place. It cannot see the removal of the very last events
// together with their seals; compare n and Head with a copy kept elsewhere for that.
func Verify(ctx context.Context, tx pgx.Tx) (n int64, err error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return 0, err
	}
	var prev []byte
	for {
		rows, err := tx.Query(ctx, verifySQL, pgx.StrictNamedArgs{"org": a.Org, "after": n})
		if err != nil {
			return n, fmt.Errorf("read the chain: %w", err)
		}
		links, err := pgx.CollectRows(rows, pgx.RowToStructByName[sealed])
		if err != nil {
			return n, fmt.Errorf("read the chain: %w", err)
		}
		if len(links) == 0 {
			break
		}
		for _, l := range links {
			if l.N != n+1 {
				return n, tandem.Errorf(tandem.Conflict, "The event log was tampered with: entry %d of the chain is missing.", n+1)
			}
			if prev, err = l.link(prev); err != nil {
				return n, err
			}
			if !bytes.Equal(prev, l.Hash) {
				return n, tandem.Errorf(tandem.Conflict, "The event log was tampered with: entry %d of the chain, event %s, does not match its seal.", l.N, l.ID)
			}
			n = l.N
		}
	}
	var loose int64
	if err := tx.QueryRow(ctx, unexplainedSQL, pgx.StrictNamedArgs{"org": a.Org}).Scan(&loose); err != nil {
		return n, fmt.Errorf("look for events without a seal: %w", err)
	}
	if loose > 0 {
		return n, tandem.Errorf(tandem.Conflict, "The event log was tampered with: %d events have no seal.", loose)
	}
	return n, nil
}

func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
