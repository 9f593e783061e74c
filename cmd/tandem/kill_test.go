package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg/local"
	"github.com/tandemhq/tandem/internal/proof"
)

// driver writes leads without a pause, each by somebody else and with an id of its own, and sends each again until it
// is accepted. What a 2xx confirmed is on its journal.
type driver struct {
	url, key string
	stop     context.CancelFunc
	wg       sync.WaitGroup

	mu       sync.Mutex
	accepted map[string]string // external id -> message id
	again    int               // requests that were repeated
	other    []string          // answers that no repeat would mend, and repeats that got other ids
}

const (
	writers    = 4
	writeEvery = 60 * time.Millisecond // by each writer
)

// load starts a driver that goes on with the journal of an earlier one.
func load(url, key string, before *driver) *driver {
	d := &driver{url: url, key: key, accepted: map[string]string{}}
	if before != nil {
		d.accepted, d.again, d.other = before.accepted, before.again, before.other
	}
	ctx, stop := context.WithCancel(context.Background())
	d.stop = stop
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: writers}}
	for range writers {
		d.wg.Go(func() {
			for ctx.Err() == nil {
				d.write(ctx, client)
				wait(ctx, writeEvery)
			}
		})
	}
	return d
}

// end lets every lead that was begun be accepted; the program must be running.
func (d *driver) end() {
	d.stop()
	d.wg.Wait()
}

func (d *driver) write(ctx context.Context, client *http.Client) {
	id := string(tandem.NewID())
	body, _ := json.Marshal(map[string]any{ // plain maps always encode
		"title": "Lead " + id, "message": "Hello, is there a free trial?", "external_id": id,
		"contact": map[string]string{"name": "Somebody", "email": id + "@example.com"},
	})
	for try := 0; ; try++ {
		// Not ctx: what was begun is finished, or it would be unknown whether it has to be there.
		message, status := post(context.WithoutCancel(ctx), client, d.url+"/api/v1/inbound/lead", d.key, body)
		d.mu.Lock()
		if try > 0 {
			d.again++
		}
		switch {
		case status/100 == 2:
			d.accepted[id] = message
		case status/100 == 4 && status != http.StatusTooManyRequests:
			d.other = append(d.other, fmt.Sprint(status))
		}
		done := status/100 == 2 || len(d.other) > 0 || try > 3000
		d.mu.Unlock()
		if done {
			return
		}
		time.Sleep(20 * time.Millisecond) // it is down or starting
	}
}

// post returns the message's id and the status, 0 when there was no answer.
func post(ctx context.Context, client *http.Client, url, key string, body []byte) (message string, status int) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return "", 0
	}
	req.Header.Set("X-API-Key", key)
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return "", 0
	}
	defer res.Body.Close()
	var answer struct{ Message struct{ ID string } }
	if json.NewDecoder(res.Body).Decode(&answer) != nil && res.StatusCode/100 == 2 {
		return "", 0 // cut in the middle: as good as none
	}
	return answer.Message.ID, res.StatusCode
}

// books is what the database holds of the driver's leads.
type books struct {
	Messages int `db:"messages"` // stored
	Distinct int `db:"distinct_ids"`
	Answers  int `db:"answers"` // written by AI members
	Silent   int `db:"silent"`  // conversations without an answer
	Twice    int `db:"twice"`   // conversations with more than one
	Unknown  int `db:"unknown"` // answers of which it is not known whether they arrived
	Waiting  int `db:"waiting"` // answers that have not gone out
}

const booksSQL = `
WITH answers AS (
	SELECT c.id, count(m.id) FILTER (WHERE m.kind = 'message' AND m.sender_kind = 'ai' AND m.status <> 'cancelled') AS n
	FROM conversations c LEFT JOIN messages m ON m.org_id = c.org_id AND m.conversation_id = c.id
	GROUP BY c.id)
SELECT (SELECT count(*) FROM messages WHERE direction = 'inbound') AS messages,
       (SELECT count(DISTINCT external_id) FROM inbound) AS distinct_ids,
       (SELECT coalesce(sum(n), 0) FROM answers)::bigint AS answers,
       (SELECT count(*) FROM answers WHERE n = 0) AS silent,
       (SELECT count(*) FROM answers WHERE n > 1) AS twice,
       (SELECT count(*) FROM messages WHERE status = 'unknown') AS unknown,
       (SELECT count(*) FROM messages WHERE status IN ('queued', 'dispatching', 'retry_wait')) AS waiting`

func readBooks(t *testing.T, conn *pgx.Conn) books {
	t.Helper()
	rows, err := conn.Query(t.Context(), booksSQL)
	if err != nil {
		t.Fatal(err)
	}
	b, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[books])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// check compares the driver's journal with the database of dir, whose program runs, once everybody is answered.
func (d *driver) check(t *testing.T, dir string, within time.Duration) books {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), local.DSN(filepath.Join(dir, "postgres"), "tandem", local.Super))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var b books
	for deadline := time.Now().Add(within); ; time.Sleep(50 * time.Millisecond) {
		if b = readBooks(t, conn); b.Silent+b.Waiting == 0 || time.Now().After(deadline) {
			break
		}
	}
	lost := 0
	for id, message := range d.accepted {
		var n int
		err := conn.QueryRow(t.Context(), `SELECT count(*) FROM inbound i JOIN messages m ON m.org_id = i.org_id AND m.id = i.message_id
			WHERE i.external_id = $1 AND m.id = $2`, id, message).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		if n != 1 {
			lost++
		}
	}
	if len(d.accepted) == 0 || lost > 0 || b.Messages != len(d.accepted) || b.Distinct != b.Messages || len(d.other) > 0 {
		t.Errorf("%d accepted, %d of them lost; stored: %+v; other answers: %v", len(d.accepted), lost, b, d.other)
	}
	if b.Silent > 0 || b.Twice > 0 || b.Waiting > 0 {
		t.Errorf("answers: %+v\n%s", b, whySilent(t, conn))
	}
	return b
}

// whySilent tells of each conversation without an answer what a person needs to find the reason.
func whySilent(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	var text string
	err := conn.QueryRow(t.Context(), `
		SELECT coalesce(string_agg(jsonb_pretty(jsonb_build_object(
			'conversation', to_jsonb(c) - 'preview' - 'search',
			'runs', (SELECT jsonb_agg(to_jsonb(r) ORDER BY r.started_at) FROM runs r WHERE r.org_id = c.org_id AND r.conversation_id = c.id),
			'messages', (SELECT jsonb_agg(jsonb_build_object('seq', m.seq, 'sender', m.sender_kind, 'status', m.status, 'fence', m.fence, 'error', m.error) ORDER BY m.seq) FROM messages m WHERE m.org_id = c.org_id AND m.conversation_id = c.id),
			'timers', (SELECT jsonb_agg(to_jsonb(x)) FROM timers x WHERE x.record_id = c.id),
			'outbox', (SELECT jsonb_agg(to_jsonb(o)) FROM outbox o JOIN events e ON e.id = o.msg_id WHERE e.conversation_id = c.id),
			'events', (SELECT jsonb_agg(e.noun || '.' || e.verb || ' ' || e.at ORDER BY e.seq) FROM events e WHERE e.org_id = c.org_id AND e.conversation_id = c.id),
			'processed', (SELECT jsonb_agg(p.consumer || ' ' || e.noun || '.' || e.verb) FROM processed p JOIN events e ON e.id = p.msg_id WHERE e.conversation_id = c.id),
			'dead', (SELECT jsonb_agg(to_jsonb(d) - 'body') FROM dead_letters d JOIN events e ON e.id = d.msg_id WHERE e.conversation_id = c.id)
		)), E'\n'), '')
		FROM conversations c
		WHERE NOT EXISTS (SELECT FROM messages m WHERE m.org_id = c.org_id AND m.conversation_id = c.id AND m.kind = 'message' AND m.sender_kind = 'ai' AND m.status <> 'cancelled')`).Scan(&text)
	if err != nil {
		return err.Error()
	}
	return text
}

// REL-10 and REL-1 in small, on real processes: first the program is told to end ten times under load, then it is
// killed five times. Whatever it confirmed is there, once, and answered, once.
func TestNothingIsLostWhenTheProcessEnds(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	args := []string{"demo", "--quiet", "--data", dir, "--http", freePort(t)}
	p := launch(t, nil, args...)
	p.says("keys ")
	demo := demoOf(t, dir)
	d := load(demo.URL, demo.APIKey, nil)

	const terms, kills = 10, 5
	var slowest, slowestStart time.Duration
	restart := func() {
		began := time.Now()
		p = launch(t, nil, args...)
		p.says("keys ")
		slowestStart = max(slowestStart, time.Since(began))
	}
	for range terms {
		pauseUpTo(time.Second)
		slowest = max(slowest, stopped(t, p))
		nothingLeft(t, dir)
		restart()
	}
	d.end()
	b := d.check(t, dir, atMost)
	if b.Unknown > 0 {
		t.Errorf("%d messages are unknown after orderly ends", b.Unknown)
	}
	proof.Figure(t, "REL-10", "small: %d SIGTERMs under load, %d messages accepted (%d repeated): 0 lost, 0 doubled, %d unknown, %d answered once; slowest end %.1f s, slowest start %.1f s",
		terms, len(d.accepted), d.again, b.Unknown, b.Answers, slowest.Seconds(), slowestStart.Seconds())

	slowestStart = 0
	accepted, again := len(d.accepted), d.again
	d = load(demo.URL, demo.APIKey, d)
	for range kills {
		pauseUpTo(1500 * time.Millisecond)
		p.signal(syscall.SIGKILL)
		p.ends(atMost)
		restart()
	}
	pauseUpTo(time.Second)
	d.end()
	began := time.Now()
	// A killed worker's conversation is free once its lease of 30 s is over.
	b = d.check(t, dir, 2*atMost)
	proof.Figure(t, "REL-1", "small: %d kills, %d messages accepted (%d repeated): 0 lost, 0 doubled, %d answered once, %d unknown; backlog drained after %.1f s, slowest start %.1f s",
		kills, len(d.accepted)-accepted, d.again-again, b.Answers, b.Unknown, time.Since(began).Seconds(), slowestStart.Seconds())
	stopped(t, p)
	nothingLeft(t, dir)
}

// pauseUpTo waits for a random time, so that the end comes at any point of the work.
func pauseUpTo(most time.Duration) {
	time.Sleep(time.Duration(200+rand.IntN(int(most.Milliseconds()))) * time.Millisecond)
}
