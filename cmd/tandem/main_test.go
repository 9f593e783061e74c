package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/local"
)

// asProgram makes this test binary be tandem itself, so that the tests look at real processes from outside.
const asProgram = "TANDEM_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run(os.Args[1:], stdio{os.Stdout, os.Stderr}))
	}
	code := m.Run()
	stopExternal()
	os.Exit(code)
}

// atMost bounds what should take a moment, on a machine that is busy with other tests.
const atMost = time.Minute

// program is tandem running as a process of its own.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	out    shared
	err    shared
	exited chan struct{}
}

// shared is a buffer that a process writes while a test reads.
type shared struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *shared) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(b)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// launch starts tandem with args. env adds to an environment without any TANDEM_ variable.
func launch(t *testing.T, env []string, args ...string) *program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, cmd: exec.Command(self, args...), exited: make(chan struct{})}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "TANDEM_") {
			p.cmd.Env = append(p.cmd.Env, e)
		}
	}
	p.cmd.Env = append(append(p.cmd.Env, env...), asProgram+"=1")
	p.cmd.Dir = t.TempDir() // so that a forgotten --data cannot write here
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // the exit code says it
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		<-p.exited
		if t.Failed() {
			t.Logf("tandem %s\n%s%s", strings.Join(args, " "), p.out.String(), last(p.err.String(), 4000))
		}
	})
	return p
}

func (p *program) signal(s syscall.Signal) {
	select {
	case <-p.exited:
	default:
		_ = p.cmd.Process.Signal(s)
	}
}

// ends waits for the process and returns its exit code, -1 when a signal ended it.
func (p *program) ends(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(within):
		p.t.Fatalf("still running after %s", within)
	}
	return p.cmd.ProcessState.ExitCode()
}

// says waits until the program's output has text.
func (p *program) says(text string) {
	p.t.Helper()
	eventually(p.t, "output: "+text, func() bool {
		select {
		case <-p.exited:
			p.t.Fatalf("ended instead of saying %q", text)
		default:
		}
		return strings.Contains(p.out.String(), text)
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(atMost); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", atMost, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func last(text string, n int) string {
	if len(text) > n {
		return "[...]" + text[len(text)-n:]
	}
	return text
}

// dataDir is an empty directory that another account may enter, as PostgreSQL's must when we are root.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tandem-cmd-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		eventually(t, "nothing runs in "+dir, func() bool { return len(runningIn(dir)) == 0 })
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// runningIn lists the processes whose command line names dir. Where there is no /proc, it sees none.
func runningIn(dir string) (found []string) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		b, err := os.ReadFile(path)
		if err == nil && bytes.Contains(b, []byte(dir)) {
			found = append(found, string(bytes.ReplaceAll(b, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// freePort is an address that nobody listened on a moment ago, for programs that must keep theirs over a restart.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// demoOf reads what a demo that is ready has written.
func demoOf(t *testing.T, dir string) (demo demoFile) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, demoName))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&demo); err != nil {
		t.Fatal(err)
	}
	return demo
}

// ask sends a GET with the demo's key and decodes the answer.
func (d demoFile) ask(t *testing.T, path string, into any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-API-Key", d.APIKey)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s", path, res.Status)
	}
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}

// external is a PostgreSQL of the operator's own, shared by the tests of this package. Unlike the cluster of pgtest it
// flushes to disk, because tandem refuses one that does not.
type external struct {
	dir    string
	server *local.Server
}

var startExternal = sync.OnceValues(func() (external, error) {
	dir, err := os.MkdirTemp("", "tandem-cmd-pg-")
	if err != nil {
		return external{}, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return external{}, err
	}
	e := external{dir: filepath.Join(dir, "postgres")}
	ctx, cancel := context.WithTimeout(context.Background(), 2*atMost)
	defer cancel()
	if e.server, err = local.Start(ctx, local.Options{Dir: e.dir}); err != nil {
		return e, err
	}
	stopExternal = func() {
		ctx, cancel := context.WithTimeout(context.Background(), atMost)
		defer cancel()
		if err := e.server.Stop(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		_ = os.RemoveAll(dir)
	}
	return e, nil
})

var stopExternal = func() {}

// database makes a database in the external server and returns its URL for each role.
func database(t *testing.T, name string, migrated bool) (url func(role string) string) {
	t.Helper()
	e, err := startExternal()
	if err != nil {
		t.Fatal(err)
	}
	if err := local.Provision(t.Context(), e.dir, name); err != nil {
		t.Fatal(err)
	}
	url = func(role string) string { return local.DSN(e.dir, name, role) }
	if migrated {
		if err := pg.Migrate(t.Context(), url(local.Owner)); err != nil {
			t.Fatal(err)
		}
	}
	return url
}
