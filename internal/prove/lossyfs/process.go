//go:build linux

package lossyfs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// A test that mounted a file system in its own process could wait for itself, so the server is a program of its own:
// tools/lossyfs. It says "mounted" when it serves and, at its end, what the cut took.
const (
	sayMounted = "mounted"
	sayLoss    = "lost %d files, %d bytes"
)

// Serve is the program's main: it mounts, and cuts the power at SIGTERM. SIGINT ends it in an orderly way.
func Serve(point, store string, o Options, out io.Writer) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(stop)
	f, err := Mount(point, store, o)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, sayMounted); err != nil {
		return errors.Join(err, f.Close())
	}
	if <-stop == syscall.SIGINT {
		return f.Close()
	}
	loss, err := f.Cut()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, sayLoss+"\n", loss.Files, loss.Bytes)
	return err
}

// Process is the program, serving one mount.
type Process struct {
	Point, Store string

	cmd    *exec.Cmd
	said   *bufio.Reader
	exited chan struct{}
	err    error // of the exit, once exited is closed
}

// Start runs the program binary and returns once store shows at point, both of which it makes when they are absent.
// The power is cut as well when the calling process dies.
func Start(ctx context.Context, binary, point, store string, o Options) (*Process, error) {
	for _, dir := range []string{point, store} {
		Detach(dir)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make the lossy file system's folder: %w", err)
		}
	}
	args := []string{point, store}
	if o.Lies {
		args = append([]string{"-lies"}, args...)
	}
	p := &Process{Point: point, Store: store, cmd: exec.CommandContext(context.WithoutCancel(ctx), binary, args...)}
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("listen to the lossy file system: %w", err)
	}
	p.said = bufio.NewReader(out)
	p.exited = make(chan struct{})
	started := make(chan error, 1)
	go func() {
		// The kernel's "parent died" signal fires when the thread that forked ends, so this one stays until the end.
		runtime.LockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_, p.err = p.cmd.Process.Wait()
		}
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start the lossy file system: %w", err)
	}
	line, err := p.said.ReadString('\n')
	if err != nil || strings.TrimSpace(line) != sayMounted {
		_ = p.cmd.Process.Kill()
		<-p.exited
		return nil, errors.Join(fmt.Errorf("the lossy file system did not mount: %q", line), err)
	}
	return p, nil
}

// Cut takes the power away. Kill who writes there first: a process that goes on meets errors, not a cut.
func (p *Process) Cut() (Loss, error) {
	var loss Loss
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return loss, fmt.Errorf("cut the power: %w", err)
	}
	line, err := p.line()
	if err == nil {
		_, err = fmt.Sscanf(line, sayLoss, &loss.Files, &loss.Bytes)
	}
	<-p.exited
	if err := errors.Join(err, p.err); err != nil {
		return loss, fmt.Errorf("cut the power: %q: %w", strings.TrimSpace(line), err)
	}
	return loss, nil
}

const cutTimeout = time.Minute

// line reads what the program says next, and ends it when it says nothing.
func (p *Process) line() (string, error) {
	late := time.AfterFunc(cutTimeout, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	return p.said.ReadString('\n')
}

// Close unmounts in an orderly way: everything is kept.
func (p *Process) Close() { p.end(syscall.SIGINT) }

// Stop cuts the power unless that or Close has been done; nothing stays mounted.
func (p *Process) Stop() { p.end(syscall.SIGTERM) }

func (p *Process) end(how syscall.Signal) {
	select {
	case <-p.exited:
		return
	default:
	}
	_ = p.cmd.Process.Signal(how)
	_, _ = p.line() // or its end
	<-p.exited
	Detach(p.Point)
}
