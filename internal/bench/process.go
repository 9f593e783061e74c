package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tandemhq/tandem/internal/pg/local"
)

// Launch says how a process of Tandem is started.
type Launch struct {
	Data     string    // its data directory; empty: one of its own below Env.Dir
	Database *Database // nil: the private cluster of its data directory
	Addr     string    // to listen on; empty: a free port of the loopback
	Args     []string  // further arguments of `tandem serve`
}

// Tandem is a running process of Tandem.
type Tandem struct {
	URL   string        // such as http://127.0.0.1:34567
	Data  string        // its data directory
	PID   int           //
	Ready time.Duration // from the start of the process to the first 200 of /readyz

	cmd    *exec.Cmd
	exited chan struct{}
	out    output
}

const (
	startWithin = time.Minute
	stopWithin  = 30 * time.Second
	readyPath   = "/readyz"
)

// Start runs `tandem serve` and returns when it is ready. Leads are not throttled and only errors are logged. Stop or
// Kill it.
func (e *Env) Start(ctx context.Context, l Launch) (*Tandem, error) {
	t := &Tandem{Data: l.Data, exited: make(chan struct{})}
	var err error
	if t.Data == "" {
		if t.Data, err = os.MkdirTemp(e.Dir, "data-"); err != nil {
			return nil, fmt.Errorf("make a data directory: %w", err)
		}
		if err := os.Chmod(t.Data, 0o755); err != nil { // PostgreSQL runs as another account when we are root
			return nil, fmt.Errorf("open the data directory: %w", err)
		}
	}
	addr := l.Addr
	if addr == "" {
		if addr, err = freeAddr(); err != nil {
			return nil, err
		}
	}
	t.URL = "http://" + addr
	args := []string{"serve", "--data", t.Data, "--http", addr, "--inbound-per-minute", "100000000", "--log-level", "error"}
	if l.Database != nil {
		args = append(args, "--database-url", l.Database.Cluster.DSN(l.Database.Name, local.App), "--master-key", masterKey)
	}
	t.cmd = exec.Command(e.Bin, append(args, l.Args...)...)
	t.cmd.Dir = e.Dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "TANDEM_") {
			t.cmd.Env = append(t.cmd.Env, v)
		}
	}
	t.cmd.Stdout, t.cmd.Stderr = &t.out, &t.out
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches us, and we end it
	began := time.Now()
	if err := t.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start tandem: %w", err)
	}
	t.PID = t.cmd.Process.Pid
	go func() {
		_ = t.cmd.Wait() // what it said is in out
		close(t.exited)
	}()
	if err := t.waitReady(ctx); err != nil {
		t.Kill()
		return nil, err
	}
	t.Ready = time.Since(began)
	return t, nil
}

func (t *Tandem) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL+readyPath, nil)
		if err != nil {
			return fmt.Errorf("ask whether tandem is ready: %w", err)
		}
		if res, err := client.Do(req); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-t.exited:
			return fmt.Errorf("tandem ended while starting: %s", t.Output())
		case <-ctx.Done():
			return fmt.Errorf("tandem was not ready in time: %w: %s", ctx.Err(), t.Output())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// Stop tells the process to end and waits for it.
func (t *Tandem) Stop() error {
	_ = t.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-t.exited:
	case <-time.After(stopWithin):
		t.Kill()
		return errors.New("tandem did not stop when told to")
	}
	if code := t.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("tandem ended with code %d: %s", code, t.Output())
	}
	return nil
}

// Kill ends the process at once, as a power cut would.
func (t *Tandem) Kill() {
	_ = t.cmd.Process.Kill() // it may have ended already
	<-t.exited
}

// Output is the end of what the process wrote.
func (t *Tandem) Output() string { return t.out.String() }

// RSS is the memory of the process that is not shared with its file: what the system must keep for it, in bytes.
func (t *Tandem) RSS() (int64, error) { return RSS(t.PID) }

// RSS is the resident memory of a process in bytes.
func RSS(pid int) (int64, error) {
	content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, fmt.Errorf("read the memory of process %d: %w", pid, err)
	}
	for line := range strings.Lines(string(content)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read the memory of process %d: %w", pid, err)
			}
			return kb << 10, nil
		}
	}
	return 0, fmt.Errorf("process %d does not tell its memory", pid)
}

func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// output keeps the end of what a process writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const keptOutput = 8 << 10

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.buf.Len() > keptOutput {
		rest := append([]byte(nil), o.buf.Bytes()[o.buf.Len()-keptOutput/2:]...)
		o.buf.Reset()
		o.buf.Write(rest)
	}
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
