package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem/internal/pg/local"
)

// The environment through which processes agree.
const (
	dirEnv       = "TANDEM_TEST_PG"           // directory of a cluster that somebody else keeps running
	superviseEnv = "TANDEM_TEST_PG_SUPERVISE" // set only for the process that keeps a shared cluster
	idleEnv      = "TANDEM_TEST_PG_IDLE"      // how long an unused shared cluster lives; a Go duration
)

const defaultIdle = 2 * time.Minute

// ServerOptions is how a cluster for tests runs: without fsync, and with room for many test processes.
func ServerOptions(dir string) local.Options {
	return local.Options{Dir: dir, Fast: true, Settings: map[string]string{
		"max_connections": "300",
		"autovacuum":      "off", // it would hold up CREATE DATABASE, and test databases do not live long enough
		"max_wal_size":    "2GB", // fewer checkpoints
	}}
}

// cluster returns the directory of the cluster that this process uses, joining or starting it at the first call.
var cluster = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv(dirEnv); dir != "" {
		return dir, answers(dir)
	}
	return joinShared(filepath.Join(os.TempDir(), "tandem-test-"+strconv.Itoa(os.Getuid())))
})

// joinShared finds the shared cluster under base or starts a supervisor for one.
func joinShared(base string) (string, error) {
	// Passable by all: PostgreSQL may run under another account. What it holds is 0700.
	if err := os.Mkdir(base, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("make the shared test cluster's folder: %w", err)
	}
	if info, err := os.Lstat(base); err != nil {
		return "", fmt.Errorf("look at the shared test cluster's folder: %w", err)
	} else if st, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || ok && int(st.Uid) != os.Getuid() {
		return "", fmt.Errorf("%s is not a folder of this account", base)
	}
	// Held until this process ends: it tells the supervisor that the cluster is in use. It waits while a supervisor that
	// found nobody here shuts its cluster down.
	if _, err := lockFile(filepath.Join(base, "users.lock"), syscall.LOCK_SH); err != nil {
		return "", err
	}
	dir := filepath.Join(base, "postgres")
	if answers(dir) == nil {
		return dir, nil
	}
	// One process starts the supervisor, the others wait here and then find the cluster.
	starting, err := lockFile(filepath.Join(base, "start.lock"), syscall.LOCK_EX)
	if err != nil {
		return "", err
	}
	defer syscall.Close(starting)
	if answers(dir) == nil {
		return dir, nil
	}
	return dir, startSupervisor(base, dir)
}

// startSupervisor runs this very test binary again, detached, as the keeper of the shared cluster. See init.
func startSupervisor(base, dir string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the test binary: %w", err)
	}
	logPath := filepath.Join(base, "supervisor.log")
	log, err := os.Create(logPath)
	if err != nil {
		return fmt.Errorf("open the supervisor's log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(self)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), superviseEnv+"="+base)
	cmd.Stdout, cmd.Stderr = log, log // not ours: go test waits until all holders of its output are gone
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the supervisor of the shared test cluster: %w", err)
	}
	// It outlives us, so nothing here waits for it: a goroutine that did would look like a leak to
	// the tests that look for those.
	pid := cmd.Process.Pid
	defer func() { _ = cmd.Process.Release() }()
	deadline := time.After(patience)
	for {
		var status syscall.WaitStatus
		if done, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil); err == nil && done == pid {
			content, _ := os.ReadFile(logPath)
			return fmt.Errorf("the shared test cluster did not start (exit code %d): %s", status.ExitStatus(), content)
		}
		select {
		case <-deadline:
			return fmt.Errorf("the shared test cluster did not start within %v; see %s", patience, logPath)
		case <-time.After(20 * time.Millisecond):
		}
		if answers(dir) == nil {
			return nil
		}
	}
}

// The supervisor is the test binary itself, so that a lone `go test` needs nothing else built or running.
func init() {
	base := os.Getenv(superviseEnv)
	if base == "" {
		return
	}
	os.Unsetenv(superviseEnv)
	if err := supervise(base); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// supervise keeps the shared cluster until nobody has used it for a while, and then removes it.
func supervise(base string) error {
	idle := defaultIdle
	if text := os.Getenv(idleEnv); text != "" {
		var err error
		if idle, err = time.ParseDuration(text); err != nil {
			return fmt.Errorf("read %s: %w", idleEnv, err)
		}
	}
	ctx := context.Background()
	dir := filepath.Join(base, "postgres")
	server, err := local.Start(ctx, ServerOptions(dir))
	if err != nil && os.RemoveAll(dir) == nil { // without fsync a power cut ruins a cluster: make a new one
		server, err = local.Start(ctx, ServerOptions(dir))
	}
	if err != nil {
		return err
	}
	lastUse := time.Now()
	for {
		select {
		case <-server.Exited():
			return errors.New("the shared test cluster ended by itself")
		case <-time.After(min(time.Second, idle)):
		}
		alone, err := lockFile(filepath.Join(base, "users.lock"), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EWOULDBLOCK):
			lastUse = time.Now()
			continue
		case err != nil:
			return err
		case time.Since(lastUse) < idle:
			syscall.Close(alone)
			continue
		}
		// Newcomers wait on the lock until this process has ended, and then start a cluster of their own.
		defer syscall.Close(alone)
		if err := server.Stop(ctx); err != nil {
			return err
		}
		return os.RemoveAll(dir)
	}
}

// lockFile returns a descriptor and not an os.File, which would be closed, and so unlocked, once nobody refers to it.
func lockFile(path string, how int) (fd int, err error) {
	fd, err = syscall.Open(path, syscall.O_CREAT|syscall.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", path, err)
	}
	for {
		err = syscall.Flock(fd, how)
		if err == nil {
			return fd, nil
		}
		if !errors.Is(err, syscall.EINTR) {
			syscall.Close(fd)
			return 0, fmt.Errorf("lock %s: %w", path, err)
		}
	}
}

// answers tries the cluster in dir once.
func answers(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, local.DSN(dir, "postgres", Super))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}
