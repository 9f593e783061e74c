package prove

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// NATS is a JetStream cluster of processes of its own, of which single nodes can be killed and started again.
type NATS struct {
	URL   string // of all nodes, as --nats-url takes it
	Nodes []*Process

	t    testing.TB
	path string
	dir  string
	conf []string
}

const natsServer = "github.com/nats-io/nats-server/v2" // the version that go.mod names

// NewNATS starts a cluster of n nodes on the loopback. It ends with the test.
func NewNATS(t testing.TB, n int) *NATS {
	t.Helper()
	c := &NATS{t: t, path: buildServer(t), dir: Dir(t)}
	var urls, routes []string
	clients := make([]string, n)
	for i := range n {
		clients[i] = FreeAddr(t)
		urls = append(urls, "nats://"+clients[i])
		routes = append(routes, "nats-route://"+FreeAddr(t))
	}
	c.URL = strings.Join(urls, ",")
	for i := range n {
		conf := filepath.Join(c.dir, fmt.Sprintf("node%d.conf", i))
		text := fmt.Sprintf("server_name: node%d\nlisten: %q\njetstream { store_dir: %q, sync_interval: always }\ncluster { name: proof, listen: %q, routes: [%s] }\n",
			i, clients[i], filepath.Join(c.dir, fmt.Sprintf("store%d", i)), strings.TrimPrefix(routes[i], "nats-route://"), strings.Join(routes, ", "))
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c.conf, c.Nodes = append(c.conf, conf), append(c.Nodes, nil)
		c.Start(i)
	}
	for i := range n {
		Until(t, Patience, "node "+clients[i]+" listens", func() bool { return listens(clients[i]) })
	}
	return c
}

// Start starts node i, which must not run. It comes back with what it had stored.
func (c *NATS) Start(i int) {
	c.t.Helper()
	c.Nodes[i] = Start(c.t, Command{Path: c.path, Args: []string{"-c", c.conf[i]}})
}

func listens(addr string) bool {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// buildServer builds nats-server from the module that this one requires.
func buildServer(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nats-server")
	cmd := exec.Command("go", "build", "-o", path, natsServer)
	cmd.Dir = moduleRoot(t)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", natsServer, err, out)
	}
	return path
}
