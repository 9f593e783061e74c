// Package cleanroom is where `make test`, `make prove` and `make mutants` run things: a temporary folder, one PostgreSQL
// cluster that all test processes share, process groups that end together, and nothing left behind.
package cleanroom

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tandemhq/tandem/internal/pg/local"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
)

// Room is one run's surroundings.
type Room struct {
	Root string   // the repository
	Tmp  string   // removed by Close; other accounts may pass through it
	Env  []string // for every command
}

// Open makes a room for the repository in the working directory. Its temporary folder, the name of which begins with name, is in
// base, or where the system keeps such when base is empty.
func Open(base, name string) (*Room, error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("find the repository: %w", err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		return nil, fmt.Errorf("run it from the repository's root: %w", err)
	}
	tmp, err := os.MkdirTemp(base, name)
	if err != nil {
		return nil, fmt.Errorf("make a temporary folder: %w", err)
	}
	r := &Room{Root: root, Tmp: tmp, Env: append(os.Environ(), "CI=true", "NO_COLOR=1", "FORCE_COLOR=0")}
	if err := os.Chmod(tmp, 0o755); err != nil { // PostgreSQL may run under another account
		return nil, fmt.Errorf("open a temporary folder: %w", err)
	}
	return r, nil
}

// Folder makes a folder in Tmp through which other accounts may pass.
func (r *Room) Folder(name string) (string, error) {
	dir := filepath.Join(r.Tmp, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make a temporary folder: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", fmt.Errorf("open a temporary folder: %w", err)
	}
	return dir, nil
}

// Close removes what the room holds.
func (r *Room) Close() { _ = os.RemoveAll(r.Tmp) }

// StartPostgres starts the cluster that all Go test processes share and names it in Env.
func (r *Room) StartPostgres(ctx context.Context) (stop func() error, err error) {
	dir := filepath.Join(r.Tmp, "postgres")
	server, err := local.Start(ctx, pgtest.ServerOptions(dir))
	if err != nil {
		return nil, err
	}
	r.Env = append(r.Env, "TANDEM_TEST_PG="+dir)
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		return server.Stop(ctx)
	}, nil
}

// Prepare returns what every command gets: a folder below Root, the environment, and a process group of its own, so that
// all it started can be ended with it.
func (r *Room) Prepare(dir string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		cmd.Dir = filepath.Join(r.Root, dir)
		cmd.Env = r.Env
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
		cmd.WaitDelay = 10 * time.Second
	}
}
