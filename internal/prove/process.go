package prove

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Command says what Start starts.
type Command struct {
	Path string   // the program; empty: Binary
	Args []string // its arguments
	Env  []string // added to an environment without any TANDEM_ variable
	URL  string   // where it answers HTTP, for WaitReady; empty: nowhere
}

// Process is a running program in a process group of its own. It is killed at the end of the test.
type Process struct {
	URL string // where it answers, such as http://127.0.0.1:40123; empty without HTTP

	t       testing.TB
	cmd     *exec.Cmd
	started time.Time
	out     tail
	err     tail
	exited  chan struct{}
}

// Start starts a program. Its output is kept, and shown when the test fails.
func Start(t testing.TB, c Command) *Process {
	t.Helper()
	if c.Path == "" {
		c.Path = Binary(t)
	}
	p := &Process{URL: c.URL, t: t, cmd: exec.Command(c.Path, c.Args...), exited: make(chan struct{})}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "TANDEM_") {
			p.cmd.Env = append(p.cmd.Env, e)
		}
	}
	p.cmd.Env = append(p.cmd.Env, c.Env...)
	p.cmd.Dir = os.TempDir() // so that a forgotten --data cannot write into the sources
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.started = time.Now()
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", c.Path, err)
	}
	go func() {
		_ = p.cmd.Wait() // the exit code says it
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.Signal(syscall.SIGKILL)
		<-p.exited
		if t.Failed() {
			t.Logf("process %d: %s\n%s%s", p.PID(), strings.Join(c.Args, " "), p.out.String(), p.err.String())
		}
	})
	return p
}

// PID is the process id, also after the process has ended.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal to the process itself, not to its children: a private PostgreSQL is left to what the operating
// system does with it. It does nothing after the process has ended.
func (p *Process) Signal(s syscall.Signal) {
	select {
	case <-p.exited:
	default:
		_ = p.cmd.Process.Signal(s)
	}
}

// Kill is kill -9; it returns when the process is gone.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.exited
}

// Stop freezes the process until Cont: it keeps its connections and says nothing. It returns when all its threads stand
// still, which a signal alone does not wait for.
func (p *Process) Stop() {
	p.t.Helper()
	p.Signal(syscall.SIGSTOP)
	Until(p.t, Patience, "every thread stands still", func() bool { return !p.Running() || frozen(p.PID()) })
}

// frozen tells whether all threads of a process are stopped; where there is no /proc, it says so at once.
func frozen(pid int) bool {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		if f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])); len(f) == 0 || f[0] != "T" {
			return false
		}
	}
	return true
}

// Cont lets a frozen process go on.
func (p *Process) Cont() { p.Signal(syscall.SIGCONT) }

// Terminate sends SIGTERM and returns the exit code and how long the end took. It fails the test when the process has
// not ended within the time.
func (p *Process) Terminate(within time.Duration) (code int, took time.Duration) {
	p.t.Helper()
	began := time.Now()
	p.Signal(syscall.SIGTERM)
	code = p.Wait(within)
	return code, time.Since(began)
}

// Wait waits for the end and returns the exit code, -1 when a signal ended the process.
func (p *Process) Wait(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(within):
		p.t.Fatalf("process %d still runs after %s", p.PID(), within)
	}
	return p.cmd.ProcessState.ExitCode()
}

// Exited closes when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Running tells whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Stdout and Stderr are the last 64 kB of what the process wrote.
func (p *Process) Stdout() string { return p.out.String() }

// Stderr is the last 64 kB of the log.
func (p *Process) Stderr() string { return p.err.String() }

var readiness = &http.Client{Timeout: 5 * time.Second}

// Ready asks /readyz once.
func (p *Process) Ready() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+"/readyz", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	res, err := readiness.Do(req)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// WaitReady waits until /readyz says yes and returns the time since the start of the process. It fails the test when
// the process ends instead.
func (p *Process) WaitReady(within time.Duration) time.Duration {
	p.t.Helper()
	Until(p.t, within, "ready: "+strings.Join(p.cmd.Args[1:], " "), func() bool {
		if !p.Running() {
			p.t.Fatalf("ended with code %d instead of becoming ready: %s", p.cmd.ProcessState.ExitCode(), p.err.String())
		}
		return p.Ready()
	})
	return time.Since(p.started)
}

// tail keeps the end of what a process writes while a test reads.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const tailSize = 64 << 10

func (s *tail) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf.Write(b)
	if s.buf.Len() > 2*tailSize {
		s.buf.Next(s.buf.Len() - tailSize)
	}
	return len(b), nil
}

func (s *tail) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}
