package hub_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/bus/bustest"
	"github.com/tandemhq/tandem/internal/hub"
	"github.com/tandemhq/tandem/internal/pg/local"
	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/tandemtest"
)

// Two processes share the work over one database and one NATS server: one answers HTTP and drains the outbox, the other
// runs the AI members and the channels. A visitor of the first is answered by the second.
func TestRolesOverTwoProcesses(t *testing.T) {
	t.Parallel()
	nats, key := bustest.Server(t), strings.Repeat("2a", 32)
	front := tandemtest.Start(t, func(c *hub.Config) {
		c.NATSURL, c.MasterKey, c.Roles = nats, key, []hub.Role{hub.RoleAPI, hub.RoleJobs}
	})
	back := tandemtest.Start(t, func(c *hub.Config) {
		c.NATSURL, c.MasterKey, c.DatabaseURL, c.Roles = nats, key, front.Config.DatabaseURL, []hub.Role{hub.RoleAgents, hub.RoleChannels}
	})
	if back.URL() != "" {
		t.Errorf("the process without the role api answers at %s", back.URL())
	}
	org := front.NewOrg("split")
	token := visitor(t, front, org)
	stream := openStream(t, front.URL()+"/chat/"+org.WidgetKey+"/stream?token="+token)
	began := time.Now()
	front.Want(http.StatusCreated, http.MethodPost, "/chat/"+org.WidgetKey+"/messages", "",
		map[string]string{"id": string(tandem.NewID()), "text": "Hello, what do you offer?"}, "Authorization", "Bearer "+token)
	for {
		line, err := stream.ReadString('\n')
		if err != nil {
			t.Fatalf("the stream ended without an answer: %v", err)
		}
		if strings.HasPrefix(line, "data: ") && strings.Contains(line, `"from":"ai","name":"split AI","text"`) {
			break
		}
	}
	t.Logf("figure: roles over two processes (api, jobs | agents, channels): a visitor sees the answer after %d ms", time.Since(began).Milliseconds())

	// Without the second process messages are accepted and wait; when it comes back they are answered.
	stop(t, back)
	later := visitor(t, front, org)
	front.Want(http.StatusCreated, http.MethodPost, "/chat/"+org.WidgetKey+"/messages", "",
		map[string]string{"id": string(tandem.NewID()), "text": "Hello, is anybody there?"}, "Authorization", "Bearer "+later)
	resume(t, back, func(c *hub.Config) {
		c.NATSURL, c.MasterKey, c.Roles = nats, key, []hub.Role{hub.RoleAgents, hub.RoleChannels}
	})
	front.Eventually(atMost, "the visitor who came meanwhile is answered", func() bool {
		var thread struct{ Items []struct{ From string } }
		front.Want(http.StatusOK, http.MethodGet, "/chat/"+org.WidgetKey+"/messages?after=1", "", nil, "Authorization", "Bearer "+later).Into(t, &thread)
		return len(thread.Items) > 0 && thread.Items[0].From == "ai"
	})
}

func openStream(t *testing.T, url string) *bufio.Reader {
	t.Helper()
	client := &http.Client{Timeout: atMost}
	t.Cleanup(client.CloseIdleConnections)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if res.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s", url, res.Status)
	}
	return bufio.NewReader(res.Body)
}

// The private PostgreSQL is killed, again and again, while visitors write: what was accepted is there and answered
// once, readiness says so while it lasts, and nobody has to do anything.
func TestTheDatabaseIsKilled(t *testing.T) {
	t.Parallel()
	const kills, visitors = 3, 90
	dir := dataDir(t)
	h := tandemtest.Start(t, func(c *hub.Config) { c.Data, c.DatabaseURL, c.Lease = dir, "", 2*time.Second })
	org := h.NewOrg("killed")
	var slowest time.Duration
	for range kills {
		asked := make(chan struct{})
		go func() { defer close(asked); askMany(t, h, org, visitors/kills) }()
		time.Sleep(50 * time.Millisecond) // into the middle of them
		kill(t, dir)
		began := time.Now()
		h.Eventually(10*time.Second, "readiness says that the database is away", func() bool { return ready(h) == http.StatusServiceUnavailable })
		h.Eventually(10*time.Second, "the hub is ready again", func() bool { return ready(h) == http.StatusOK })
		slowest = max(slowest, time.Since(began))
		<-asked
	}
	ctx, cancel := context.WithTimeout(t.Context(), atMost)
	defer cancel()
	conn, err := pgx.Connect(ctx, local.DSN(filepath.Join(dir, "postgres"), "tandem", local.Super))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	answered := settled(t, h, conn, org.ID, visitors)
	if slowest > 10*time.Second {
		t.Errorf("the hub was away for %s", slowest)
	}
	proof.Figure(t, "REL-5", "small: PostgreSQL killed %d times under load, %d messages: 0 lost, 0 twice; ready again after at most %d ms, all answered %.1f s after the last",
		kills, visitors, slowest.Milliseconds(), answered.Seconds())
}

func ready(h *tandemtest.Hub) int { return h.Do(http.MethodGet, "/readyz", "", nil).Status }

// kill ends the private PostgreSQL's first process as the kernel would when memory runs out.
func kill(t *testing.T, dir string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, "postgres", "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil || pid <= 1 {
		t.Fatal(fmt.Errorf("postmaster.pid says %q: %w", first, err))
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}
