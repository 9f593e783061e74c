package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tandemhq/tandem"
)

// Accepted is a lead that a 2xx confirmed.
type Accepted struct {
	Org      tandem.ID
	Channel  tandem.ID
	External string    // the id it was sent with
	Message  tandem.ID // the id it was answered with
}

// Effects is what a database holds of what was accepted since a moment. [Effects.Check] compares.
type Effects struct {
	Accepted int `db:"accepted"` // distinct ids that were confirmed
	Stored   int `db:"stored"`   // of these, with the confirmed message in the database
	Inbound  int `db:"inbound"`  // rows of what came in
	Messages int `db:"messages"` // inbound messages
	Events   int `db:"events"`   // facts that tell of an inbound message
	Told     int `db:"told"`     // messages of which a fact tells
	Unsealed int `db:"unsealed"` // facts that are neither in the outbox nor in the audit chain
	Wrong    int `db:"wrong"`    // conversations whose counters differ from their messages
}

// The ids of all tables begin with the time they were made at, so that what is new is the end of each primary key.
const effectsSQL = `
WITH org AS MATERIALIZED (SELECT id FROM organizations),
a AS MATERIALIZED (
	SELECT DISTINCT * FROM unnest(@orgs::uuid[], @channels::uuid[], @externals::text[], @messages::uuid[]) AS u(org, channel, external, message)
), stored AS (
	SELECT a.external FROM a
	JOIN inbound i ON i.org_id = a.org AND i.channel_id = a.channel AND i.external_id = a.external AND i.message_id = a.message
	JOIN messages m ON m.org_id = i.org_id AND m.id = i.message_id
), inb AS (
	SELECT i.id FROM org CROSS JOIN LATERAL (SELECT id FROM inbound WHERE org_id = org.id AND id >= @since) i
), msg AS MATERIALIZED (
	SELECT m.* FROM org CROSS JOIN LATERAL (
		SELECT org_id, id, conversation_id FROM messages WHERE org_id = org.id AND id >= @since AND direction = 'inbound') m
), ev AS MATERIALIZED (
	SELECT e.* FROM org CROSS JOIN LATERAL (SELECT org_id, id, noun, verb, record_id FROM events WHERE org_id = org.id AND id >= @since) e
), touched AS (
	SELECT DISTINCT org_id, conversation_id FROM msg
), wrong AS (
	SELECT t.conversation_id FROM touched t
	JOIN conversations c ON c.org_id = t.org_id AND c.id = t.conversation_id
	CROSS JOIN LATERAL (SELECT count(*) AS n, max(m.seq) AS last, max(m.seq) FILTER (WHERE m.direction = 'inbound') AS last_in
	                    FROM messages m WHERE m.org_id = t.org_id AND m.conversation_id = t.conversation_id) m
	WHERE c.message_count <> m.n OR c.next_seq <> m.last + 1 OR c.last_inbound_seq <> m.last_in
)
SELECT (SELECT count(*) FROM a) AS accepted, (SELECT count(*) FROM stored) AS stored, (SELECT count(*) FROM inb) AS inbound,
       (SELECT count(*) FROM msg) AS messages,
       (SELECT count(*) FROM ev WHERE noun = 'message' AND verb = 'received') AS events,
       (SELECT count(DISTINCT ev.record_id) FROM ev JOIN msg ON msg.org_id = ev.org_id AND msg.id = ev.record_id
        WHERE ev.noun = 'message' AND ev.verb = 'received') AS told,
       (SELECT count(*) FROM ev WHERE NOT EXISTS (SELECT FROM outbox o WHERE o.msg_id = ev.id)
        AND NOT EXISTS (SELECT FROM event_seals s WHERE s.org_id = ev.org_id AND s.event_id = ev.id)) AS unsealed,
       (SELECT count(*) FROM wrong) AS wrong`

// querier is a pool or a transaction, as the superuser.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Count counts what is in the database of what was made since, when every org's new leads are in accepted.
func Count(ctx context.Context, db querier, since time.Time, accepted []Accepted) (Effects, error) {
	args := pgx.StrictNamedArgs{"since": string(firstID(since))}
	var orgs, channels, externals, messages []string
	for _, a := range accepted {
		orgs, channels = append(orgs, string(a.Org)), append(channels, string(a.Channel))
		externals, messages = append(externals, a.External), append(messages, string(a.Message))
	}
	args["orgs"], args["channels"], args["externals"], args["messages"] = orgs, channels, externals, messages
	rows, err := db.Query(ctx, effectsSQL, args)
	if err != nil {
		return Effects{}, fmt.Errorf("count effects: %w", err)
	}
	f, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Effects])
	if err != nil {
		return f, fmt.Errorf("count effects: %w", err)
	}
	return f, nil
}

// firstID is lower than all ids that are made from then on.
func firstID(at time.Time) tandem.ID {
	id := []byte(tandem.NewIDAt(at))
	for i := 15; i < len(id); i++ { // what follows time and version is random
		if id[i] != '-' {
			id[i] = '0'
		}
	}
	return tandem.ID(id)
}

// Check says what is wrong: nil when each of the accepted leads is there once with its message, its fact and its place in
// the counters, and nothing else is. open is the number of requests that ended without an answer, each of which may or
// may not have been stored.
func (f Effects) Check(open int) error {
	var wrong []error
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if f.Stored != f.Accepted {
		bad("%d of %d accepted leads are not stored as answered", f.Accepted-f.Stored, f.Accepted)
	}
	if f.Messages < f.Accepted || f.Messages > f.Accepted+open {
		bad("%d messages of %d accepted leads", f.Messages, f.Accepted)
	}
	if f.Inbound != f.Messages {
		bad("%d inbound rows of %d messages", f.Inbound, f.Messages)
	}
	if f.Events != f.Messages || f.Told != f.Messages {
		bad("%d facts tell of %d of %d messages", f.Events, f.Told, f.Messages)
	}
	if f.Unsealed > 0 {
		bad("%d facts are neither waiting nor in the audit chain", f.Unsealed)
	}
	if f.Wrong > 0 {
		bad("%d conversations count wrongly", f.Wrong)
	}
	return errors.Join(wrong...)
}

const (
	quietWithin = time.Minute
	quietLook   = 100 * time.Millisecond
	quietShare  = 0.15 // of one processor; the clock of processes ticks every 10 ms
)

// Quiet waits until everything that was accepted has been told to all who want to know, so that the next measurement
// begins with an idle machine. It returns how long that took.
func (t *Tandem) Quiet(ctx context.Context, pool *pgxpool.Pool) (time.Duration, error) {
	took, quiet, err := t.QuietWithin(ctx, pool, quietWithin)
	if err == nil && !quiet {
		err = fmt.Errorf("tandem was still at work after %s", quietWithin)
	}
	return took, err
}

// QuietWithin is Quiet that gives up after a while, and says so.
func (t *Tandem) QuietWithin(ctx context.Context, pool *pgxpool.Pool, within time.Duration) (took time.Duration, quiet bool, err error) {
	began := time.Now()
	for {
		before, err := cpu(t.PID)
		if err != nil {
			return 0, false, err
		}
		time.Sleep(quietLook)
		after, err := cpu(t.PID)
		if err != nil {
			return 0, false, err
		}
		var waiting bool
		if err := pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM outbox WHERE published_at IS NULL)`).Scan(&waiting); err != nil {
			return 0, false, fmt.Errorf("look at the outbox: %w", err)
		}
		took = time.Since(began)
		quiet = !waiting && float64(after-before) < quietShare*float64(quietLook)
		if quiet || took > within {
			return took, quiet, nil
		}
	}
}

// cpu is the processor time that a process has taken.
func cpu(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, fmt.Errorf("read the processor time of %d: %w", pid, err)
	}
	_, rest, ok := strings.Cut(string(stat), ") ")
	f := strings.Fields(rest)
	if !ok || len(f) < 13 {
		return 0, fmt.Errorf("process %d does not tell its processor time", pid)
	}
	user, err1 := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}
