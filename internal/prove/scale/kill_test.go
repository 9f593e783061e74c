//go:build prove

package scale

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/prove"
)

const (
	processes = 3
	crowd     = 16 // visitors who write at the same time
	perPhase  = 10 * time.Second
	enough    = 1000 // turns, many times what the workers of one process take before others have their turn
	takeovers = 4    // every so many conversations a person takes over
)

// load is a crowd of visitors, each with one message and an id of its own, and a person who takes some of them over.
type load struct {
	urls   []string
	widget string
	person string // API key
	random *rand.Rand

	mu       sync.Mutex
	accepted map[string]bool
	failures []string
	taken    atomic.Int64
	wg       sync.WaitGroup
	end      context.CancelFunc
}

func startLoad(urls []string, widget, person string, random *rand.Rand) *load {
	l := &load{urls: urls, widget: widget, person: person, random: random, accepted: map[string]bool{}}
	ctx, end := context.WithCancel(context.Background())
	l.end = end
	for range crowd {
		l.wg.Go(func() {
			for ctx.Err() == nil {
				l.visit()
			}
		})
	}
	l.wg.Go(func() { l.takeOver(ctx) })
	return l
}

// stop lets every message that was begun be accepted.
func (l *load) stop() {
	l.end()
	l.wg.Wait()
}

func (l *load) fail(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, fmt.Sprintf(format, args...))
}

func (l *load) shuffled() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	urls := make([]string, len(l.urls))
	for i, j := range l.random.Perm(len(urls)) {
		urls[i] = l.urls[j]
	}
	return urls
}

// visit is one visitor's whole life. It is finished once begun, or nobody would know whether it has to be there.
func (l *load) visit() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*prove.Patience)
	defer cancel()
	l.mu.Lock()
	from := fmt.Sprintf("10.%d.%d.%d", l.random.IntN(256), l.random.IntN(256), l.random.IntN(256))
	l.mu.Unlock()
	v := &visitor{urls: l.shuffled(), chat: "/chat/" + l.widget, from: from}
	if err := v.open(ctx); err != nil {
		l.fail("open a chat: %v", err)
		return
	}
	id, err := v.write(ctx, "Hello, is there a free trial?")
	if err != nil {
		l.fail("write: %v", err)
		return
	}
	l.mu.Lock()
	l.accepted[id] = true
	l.mu.Unlock()
}

// takeOver is a person who takes over some of the conversations in which an AI member works.
func (l *load) takeOver(ctx context.Context) {
	for ctx.Err() == nil {
		for _, url := range l.shuffled() {
			var page struct{ Items []struct{ ID string } }
			status, err := ask(ctx, http.MethodGet, url+"/api/v1/conversations?view=ai&limit=20", "", &page, "X-API-Key", l.person)
			if err != nil || status != http.StatusOK {
				continue
			}
			for i, c := range page.Items {
				if i%takeovers != 0 {
					continue
				}
				status, err := ask(ctx, http.MethodPost, url+"/api/v1/conversations/"+c.ID+"/takeover", `{"reason":"I know this customer"}`, nil, "X-API-Key", l.person)
				if err == nil && status == http.StatusOK {
					l.taken.Add(1)
				}
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// What the database saw happen, in the order of its commits' statements: people who took over, and AI messages that
// began to go out.
const journalSQL = `
	CREATE TABLE journal (n bigserial, conversation_id uuid, what text);
	GRANT INSERT, SELECT ON journal TO tandem_app;
	GRANT USAGE ON SEQUENCE journal_n_seq TO tandem_app;
	CREATE FUNCTION journal_owner() RETURNS trigger LANGUAGE plpgsql AS $$
	    BEGIN INSERT INTO journal (conversation_id, what) VALUES (NEW.id, 'person'); RETURN NULL; END $$;
	CREATE FUNCTION journal_out() RETURNS trigger LANGUAGE plpgsql AS $$
	    BEGIN INSERT INTO journal (conversation_id, what) VALUES (NEW.conversation_id, 'ai out'); RETURN NULL; END $$;
	CREATE TRIGGER journal_owner AFTER UPDATE ON conversations FOR EACH ROW
	    WHEN (NEW.owner_kind = 'human' AND OLD.owner_kind IS DISTINCT FROM 'human') EXECUTE FUNCTION journal_owner();
	CREATE TRIGGER journal_out AFTER UPDATE ON messages FOR EACH ROW
	    WHEN (NEW.status = 'dispatching' AND OLD.status <> 'dispatching' AND NEW.sender_kind = 'ai' AND NEW.handoff_id IS NULL) EXECUTE FUNCTION journal_out()`

const lateSQL = `
	SELECT count(*) FROM journal o WHERE o.what = 'ai out'
	   AND EXISTS (SELECT FROM journal p WHERE p.what = 'person' AND p.conversation_id = o.conversation_id AND p.n < o.n)`

const booksSQL = `
	WITH answers AS (
	    SELECT c.id, c.owner_kind, count(m.id) FILTER (WHERE m.kind = 'message' AND m.sender_kind = 'ai' AND m.status <> 'cancelled') AS n
	    FROM conversations c LEFT JOIN messages m ON m.org_id = c.org_id AND m.conversation_id = c.id GROUP BY c.org_id, c.id)
	SELECT (SELECT count(*) FROM messages WHERE direction = 'inbound') AS messages,
	       (SELECT count(DISTINCT external_id) FROM inbound) AS distinct_ids,
	       count(*) FILTER (WHERE n = 0 AND owner_kind IS DISTINCT FROM 'human') AS silent,
	       count(*) FILTER (WHERE n > 1) AS twice,
	       (SELECT count(*) FROM messages WHERE status = 'unknown') AS unknown,
	       (SELECT count(*) FROM messages WHERE status IN ('queued', 'dispatching', 'retry_wait')) AS waiting
	FROM answers`

type books struct {
	Messages    int `db:"messages"`
	DistinctIDs int `db:"distinct_ids"`
	Silent      int `db:"silent"`  // conversations without an answer that no person has
	Twice       int `db:"twice"`   // conversations with more than one answer to their one message
	Unknown     int `db:"unknown"` // answers of which it is not known whether they arrived
	Waiting     int `db:"waiting"` // answers that have not gone out
}

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

var turnsLine = regexp.MustCompile(`tandem_facts_total\{consumer="agents",outcome="done"\} (\d+)`)

// turns is how many facts the AI members of a process have worked off since it started.
func turns(t *testing.T, url string) int {
	t.Helper()
	res, err := client.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if m := turnsLine.FindSubmatch(b); m != nil {
		n, _ = strconv.Atoi(string(m[1])) // digits
	}
	return n
}

// Three processes, all alike, under load: the work is spread over them; one of them and one NATS node are killed, and
// come back.
func TestOneOfEachIsKilled(t *testing.T) {
	random := proof.Rand(t)
	site, nats := newSite(t)
	began := time.Now()
	alike := []*prove.Process{site.Serve(), site.ServeBeside(), site.ServeBeside()}
	conn := site.DB(t)
	if _, err := conn.Exec(t.Context(), journalSQL); err != nil {
		t.Fatal(err)
	}
	var urls []string
	for _, p := range alike {
		urls = append(urls, p.URL)
	}
	l := startLoad(urls, site.WidgetKey, site.APIKey, random)
	pause := func() { <-time.After(perPhase) }
	spread := make([]int, processes)
	all := 0
	prove.Until(t, prove.Patience, "enough turns to see how they are spread", func() bool {
		all = 0
		for i, p := range alike {
			spread[i] = turns(t, p.URL)
			all += spread[i]
		}
		return all >= enough
	})
	for i, n := range spread {
		if n*10 < all {
			t.Errorf("process %d has worked off %d of %d turns", i, n, all)
		}
	}

	victim, node := random.IntN(processes), random.IntN(len(nats.Nodes))
	alike[victim].Kill()
	pause()
	nats.Nodes[node].Kill()
	pause()
	nats.Start(node)
	if victim == 0 {
		alike[victim] = site.Serve()
	} else {
		alike[victim] = site.ServeBeside()
	}
	pause()
	l.stop()

	stopped := time.Now()
	var b books
	for deadline := time.Now().Add(2 * prove.Patience); ; <-time.After(100 * time.Millisecond) {
		if b = readBooks(t, conn); b.Silent+b.Waiting == 0 || time.Now().After(deadline) {
			break
		}
	}
	drained := time.Since(stopped)
	var late int
	if err := conn.QueryRow(t.Context(), lateSQL).Scan(&late); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for id := range l.accepted {
		ids = append(ids, id)
	}
	var kept int // the chat keeps the visitor's id before the message's
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM inbound i JOIN messages m ON m.org_id = i.org_id AND m.id = i.message_id
		WHERE right(i.external_id, 36) = ANY($1)`, ids).Scan(&kept); err != nil {
		t.Fatal(err)
	}
	if len(ids) == 0 || kept != len(ids) || b.Messages != len(ids) || b.DistinctIDs != b.Messages {
		t.Errorf("%d accepted, %d of them kept; stored: %+v", len(ids), kept, b)
	}
	if b.Silent+b.Twice+b.Waiting+late > 0 || len(l.failures) > 0 {
		t.Errorf("%+v, %d AI messages after a takeover, %v", b, late, l.failures)
	}
	if l.taken.Load() == 0 {
		t.Error("nobody has taken over anything: the test looks at nothing")
	}
	proof.Figure(t, "SCALE", "three processes alike, process %d and NATS node %d killed under load: %d messages, %d lost, %d doubled, %d takeovers, %d talk-overs, %d unknown; turns before the kill %v; all answered %.1f s after the load; %.0f s",
		victim, node, len(ids), len(ids)-kept, b.Messages-len(ids)+b.Twice, l.taken.Load(), late, b.Unknown, spread, drained.Seconds(), time.Since(began).Seconds())
}
