package hub_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/internal/hub"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/tandemtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// atMost bounds what should take a moment, on a machine that is busy with other tests.
const atMost = time.Minute

// dataDir is an empty directory that another account may enter, as PostgreSQL's must when we are root.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tandem-hub-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// resume starts a hub where an earlier one was: the same data directory and the same database.
func resume(t *testing.T, before *tandemtest.Hub, change func(*hub.Config)) *tandemtest.Hub {
	t.Helper()
	return tandemtest.Start(t, func(c *hub.Config) {
		c.Data, c.DatabaseURL, c.Lease = before.Config.Data, before.Config.DatabaseURL, before.Config.Lease
		if change != nil {
			change(c)
		}
	})
}

// stop ends a hub before its test does.
func stop(t *testing.T, h *tandemtest.Hub) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	began := time.Now()
	if err := h.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
	return time.Since(began)
}

// ask is what a visitor nobody has seen before writes in the chat.
func ask(org tandemtest.Org) channels.Inbound {
	id := string(tandem.NewID())
	return channels.Inbound{
		Org: org.ID, Channel: org.Chat.ID, ID: channels.ExternalID(id), From: channels.Address("visitor-" + id), FromKind: channels.IdentityVisitor,
		Text: "Hello, what do you offer?", Raw: []byte(id),
	}
}

// askMany delivers n messages of n visitors, each again until it is accepted.
func askMany(t *testing.T, h *tandemtest.Hub, org tandemtest.Org, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), atMost)
	defer cancel()
	var wg sync.WaitGroup
	slots := make(chan struct{}, 32)
	for range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			in := ask(org)
			for {
				_, err := h.Batcher.Deliver(ctx, in)
				if err == nil {
					return
				}
				if tandem.KindOf(err) != tandem.Unavailable {
					t.Errorf("deliver: %v", err)
					return
				}
				select {
				case <-ctx.Done():
					t.Errorf("not accepted: %v", err)
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
	wg.Wait()
}

// books is what the database holds of an organization where every visitor wrote once.
type books struct {
	Inbound int `db:"inbound"`
	Sent    int `db:"sent"`    // answers of AI members that went out
	Once    int `db:"once"`    // conversations with exactly one
	Twice   int `db:"twice"`   // conversations with more
	Unknown int `db:"unknown"` // answers of which it is not known whether they arrived
	Outbox  int `db:"outbox"`  // facts that somebody has still to hear of
	Dead    int `db:"dead"`    // facts that were given up
}

const booksSQL = `
WITH answers AS (
	SELECT c.id, count(m.id) FILTER (WHERE m.kind = 'message' AND m.sender_kind = 'ai' AND m.status IN ('sent', 'delivered', 'read')) AS n
	FROM conversations c LEFT JOIN messages m ON m.org_id = c.org_id AND m.conversation_id = c.id
	WHERE c.org_id = $1 GROUP BY c.id)
SELECT (SELECT count(*) FROM messages WHERE org_id = $1 AND direction = 'inbound') AS inbound,
       (SELECT coalesce(sum(n), 0) FROM answers)::bigint AS sent, (SELECT count(*) FROM answers WHERE n = 1) AS once,
       (SELECT count(*) FROM answers WHERE n > 1) AS twice,
       (SELECT count(*) FROM messages WHERE org_id = $1 AND status = 'unknown') AS unknown,
       (SELECT count(*) FROM outbox) AS outbox, (SELECT count(*) FROM dead_letters WHERE org_id = $1) AS dead`

func readBooks(t *testing.T, conn *pgx.Conn, org tandem.ID) books {
	t.Helper()
	rows, err := conn.Query(t.Context(), booksSQL, org)
	if err != nil {
		t.Fatal(err)
	}
	b, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[books])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// settled waits until n visitors are answered and nothing is under way, and wants each answered once. It returns when
// all were answered; the outbox is cleared later, by the reconciler.
func settled(t *testing.T, h *tandemtest.Hub, conn *pgx.Conn, org tandem.ID, n int) time.Duration {
	t.Helper()
	began := time.Now()
	var b books
	var answered time.Duration
	for time.Since(began) < 2*atMost {
		b = readBooks(t, conn, org)
		if answered == 0 && b.Once+b.Twice == n {
			answered = time.Since(began)
		}
		if answered > 0 && b.Outbox == 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if b != (books{Inbound: n, Sent: n, Once: n}) {
		t.Errorf("the books say %+v, want %d messages, each answered once, and nothing left over", b, n)
	}
	return answered
}

// REL-3 for the whole hub: the bus forgets everything while turns, sends and facts are under way.
func TestNothingIsLostWithTheBus(t *testing.T) {
	t.Parallel()
	visitors := proof.Size(200, 1300) // nine facts each
	h := tandemtest.Start(t, func(c *hub.Config) { c.Lease = 2 * time.Second })
	org := h.NewOrg("amnesia")
	conn := pgtest.Connect(t, h.DB, pgtest.Super)
	askMany(t, h, org, visitors)
	took := stop(t, h)
	before := readBooks(t, conn, org.ID)
	if before.Outbox == 0 || before.Sent == visitors {
		t.Fatalf("nothing was under way any more: %+v", before)
	}
	if err := os.RemoveAll(h.Config.Data + "/nats"); err != nil {
		t.Fatal(err)
	}
	h = resume(t, h, nil)
	answered := settled(t, h, conn, org.ID, visitors)
	proof.Figure(t, "REL-3", "whole hub: stopped in %.1f s with %d of %d visitors unanswered and %d facts pending, bus deleted: 0 lost, 0 twice, all answered after %.1f s",
		took.Seconds(), visitors-before.Sent, visitors, before.Outbox, answered.Seconds())
}

// Facts go on their way while turns, sends and timers have taken every connection that they may have.
func TestTheDrainDoesNotWaitForOtherWork(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	org := h.NewOrg("busy")
	conn := pgtest.Connect(t, h.DB, pgtest.Super)
	ctx, cancel := context.WithTimeout(t.Context(), atMost)
	defer cancel()
	for range hub.WorkConns {
		c, err := h.Work().Pool().Acquire(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Release()
	}
	got, err := h.Batcher.Deliver(ctx, ask(org))
	if err != nil {
		t.Fatal(err)
	}
	const told = `SELECT count(*) FROM outbox WHERE topic = 'message.received' AND record_id = $1 AND published_at IS NOT NULL`
	for n := 0; n == 0; time.Sleep(10 * time.Millisecond) {
		if err := conn.QueryRow(ctx, told, got.Message).Scan(&n); err != nil {
			t.Fatalf("the fact of a message is not told: %v", err)
		}
	}
}

// TestNothingIsLostWithTheBus without a stop: the store is deleted under a running hub, and the hub mends itself.
func TestTheBusIsDeletedUnderneath(t *testing.T) {
	t.Parallel()
	const visitors = 60
	h := tandemtest.Start(t, func(c *hub.Config) { c.Lease = 2 * time.Second })
	org := h.NewOrg("underneath")
	conn := pgtest.Connect(t, h.DB, pgtest.Super)
	askMany(t, h, org, visitors/2)
	if err := os.RemoveAll(h.Config.Data + "/nats/jetstream"); err != nil {
		t.Fatal(err)
	}
	askMany(t, h, org, visitors/2)
	answered := settled(t, h, conn, org.ID, visitors)
	h.Want(http.StatusOK, http.MethodGet, "/readyz", "", nil)
	proof.Figure(t, "REL-3", "deleted under the running hub: %d visitors, 0 lost, 0 twice, all answered after %.1f s", visitors, answered.Seconds())
}

// Requests under way are answered, live streams end, and neither holds up the end.
func TestStopAnswersWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	org := h.NewOrg("stopping")
	var streams []*http.Response
	client := &http.Client{}
	t.Cleanup(client.CloseIdleConnections)
	for _, path := range []string{"/api/v1/live", "/chat/" + org.WidgetKey + "/stream?token=" + visitor(t, h, org)} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.URL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-API-Key", org.Key)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if _, err := bufio.NewReaderSize(res.Body, 16).ReadString('\n'); err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", path, res.Status, err)
		}
		streams = append(streams, res)
	}
	// Half a request, sent by hand.
	body := fmt.Sprintf(`{"title":"t","message":"m","contact":{"email":"%s@example.com"}}`, tandem.NewID())
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", h.URL()[len("http://"):])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /api/v1/inbound/lead HTTP/1.1\r\nHost: localhost\r\nX-API-Key: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", org.Key, len(body), body[:10])
	h.Eventually(atMost, "the request has begun", func() bool { return inFlight(t, conn) })

	ended := make(chan time.Duration, 1)
	go func() { ended <- stop(t, h) }()
	for _, res := range streams {
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Errorf("a stream was cut instead of ended: %v", err)
		}
	}
	if _, err := io.WriteString(conn, body[10:]); err != nil {
		t.Fatalf("the connection was cut: %v", err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("the request under way was not answered: %v", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusCreated {
		t.Errorf("the request under way: %s %v %s", answer.Status, err, text)
	}
	took := <-ended
	if took > 10*time.Second {
		t.Errorf("the end took %s", took)
	}
	t.Logf("figure: stop with two live streams and a request under way: streams ended, request answered, %d ms", took.Milliseconds())
}

// inFlight is true once the server has had the time to read what was sent: nothing comes back yet.
func inFlight(t *testing.T, conn net.Conn) bool {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	_, err := conn.Read(make([]byte, 1))
	_ = conn.SetReadDeadline(time.Time{})
	var ne net.Error
	return err != nil && errors.As(err, &ne) && ne.Timeout()
}

// visitor opens a chat and returns its token.
func visitor(t *testing.T, h *tandemtest.Hub, org tandemtest.Org) string {
	t.Helper()
	var session struct{ Token string }
	h.Want(http.StatusOK, http.MethodPost, "/chat/"+org.WidgetKey+"/session", "", "{}").Into(t, &session)
	return session.Token
}
