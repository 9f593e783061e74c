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

	cmd  *exec.Cmd
	said *bufio.Reader
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
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the lossy file system: %w", err)
	}
	p.said = bufio.NewReader(out)
	line, err := p.said.ReadString('\n')
	if err != nil || strings.TrimSpace(line) != sayMounted {
		_ = p.cmd.Process.Kill()
		return nil, errors.Join(fmt.Errorf("the lossy file system did not mount: %q", line), err, p.cmd.Wait())
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
	if err := errors.Join(err, p.cmd.Wait()); err != nil {
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

// Stop unmounts in an orderly way, and with force when that fails. Calling it after Cut does nothing.
func (p *Process) Stop() {
	if p.cmd.ProcessState != nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_, _ = p.line()
	_ = p.cmd.Wait()
	Detach(p.Point)
}
