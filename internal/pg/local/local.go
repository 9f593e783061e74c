// Package local runs a private PostgreSQL cluster as a child process, for a machine where nobody set up a database.
//
// The cluster listens on a unix socket only, has no passwords (the operating system vouches for the account), and is
// owned by exactly one Tandem process at a time: a lock in the directory keeps a second one out and vanishes with its
// holder, however that one ends. On Linux the server stops when its parent dies; elsewhere the next Start adopts it.
//
// The directory holds data/ (the cluster), sock/ (its socket), postgres.log and tandem.lock. It may be deleted when no
// Tandem runs; nothing else of the machine is touched.
package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// The three roles of every cluster. Super exists for Provision and for tests; the running program is App.
const (
	Super = "tandem_super" // made by initdb; bypasses row-level security
	Owner = "tandem_owner" // owns the database and its schema, runs migrations; no superuser
	App   = "tandem_app"   // the pool's role: owns nothing and bypasses nothing
)

// Options says where a cluster lives and how it runs. Only Dir is needed.
type Options struct {
	Dir          string            // the cluster's directory, made when absent
	BinDir       string            // folder of initdb and postgres; empty: TANDEM_PG_BIN, else the newest found
	Settings     map[string]string // postgresql.conf settings that replace the defaults of this package
	StartTimeout time.Duration     // until the server answers, crash recovery included; 0 means one minute
	Fast         bool              // for tests: no fsync, a power cut may ruin the cluster
	Detach       bool              // the server outlives this process; the next Start on Dir adopts it
}

// Server is a running cluster, started or adopted by this process.
type Server struct {
	opt     Options
	bin     string
	sock    string
	account *account // nil: the server runs as we do
	lock    *os.File

	pid     int
	adopted bool
	exited  chan struct{}
	exitErr error // set before exited closes

	stopOnce sync.Once
	stopErr  error
}

// Start makes the cluster when Dir is empty, starts its server or adopts one left by a killed process, and returns
// when it answers queries. It does not create roles or databases: see Provision. The error is one sentence that says
// what is wrong and what to do: another process on Dir, no PostgreSQL installed, no disk space, a folder that the
// database account cannot enter.
func Start(ctx context.Context, opt Options) (_ *Server, err error) {
	if opt.Dir == "" {
		return nil, errors.New("no directory was given for the private PostgreSQL cluster")
	}
	if opt.StartTimeout == 0 {
		opt.StartTimeout = time.Minute
	}
	if opt.Dir, err = filepath.Abs(opt.Dir); err != nil {
		return nil, fmt.Errorf("find the private PostgreSQL cluster's directory: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, opt.StartTimeout)
	defer cancel()

	s := &Server{opt: opt, sock: socketDir(opt.Dir)}
	if err := s.prepareDir(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.unlock()
		}
	}()
	version, err := s.chooseBinaries()
	if err != nil {
		return nil, err
	}
	if err := enoughSpace(opt.Dir, version == ""); err != nil {
		return nil, err
	}
	if version == "" {
		if err := s.initdb(ctx); err != nil {
			return nil, err
		}
	}
	if err := s.writeAccess(); err != nil {
		return nil, err
	}
	if err := s.bringUp(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// DSN is the connection string of database db as one of the three roles.
func (s *Server) DSN(db, role string) string { return DSN(s.opt.Dir, db, role) }

// DSN is the connection string for a cluster in dir that this or another process started.
func DSN(dir, db, role string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	quote := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
	// The empty options keep the caller's PGOPTIONS out.
	return fmt.Sprintf("host='%s' port=5432 dbname='%s' user=%s sslmode=disable options=''", quote.Replace(socketDir(dir)), quote.Replace(db), role)
}

// PID is the postmaster's process id.
func (s *Server) PID() int { return s.pid }

// Adopted tells that the server was already running, left behind by a process that was killed.
func (s *Server) Adopted() bool { return s.adopted }

// Exited closes when the postmaster has ended, by Stop or by itself. After the latter call Stop, which frees the
// directory, and Start again.
func (s *Server) Exited() <-chan struct{} { return s.exited }

// Stop shuts the server down: open transactions are rolled back and sessions ended, and when ctx is done first, at once
// with a crash recovery at the next start (then the error is ctx's). It frees the directory for the next Start.
// Stopping twice, or after the server ended by itself, is fine.
func (s *Server) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() {
		defer s.unlock()
		s.stopErr = s.shutDown(ctx)
		if s.sock != filepath.Join(s.opt.Dir, "sock") {
			os.RemoveAll(s.sock)
		}
	})
	return s.stopErr
}

// unlock gives the directory back. Closing alone would not be enough: a child that another goroutine is
// just forking shares the lock until its exec.
func (s *Server) unlock() {
	_ = syscall.Flock(int(s.lock.Fd()), syscall.LOCK_UN)
	s.lock.Close()
}

func (s *Server) shutDown(ctx context.Context) error {
	if s.pid == 0 {
		return nil
	}
	// SIGINT ends sessions in an orderly way, SIGQUIT ends them at once, SIGKILL is for a postmaster that hangs.
	signal := func(sig syscall.Signal) {
		select {
		case <-s.exited: // its number may belong to another process by now
		default:
			_ = syscall.Kill(s.pid, sig)
		}
	}
	signal(syscall.SIGINT)
	select {
	case <-s.exited:
		return nil
	case <-ctx.Done():
	}
	signal(syscall.SIGQUIT)
	select {
	case <-s.exited:
	case <-time.After(10 * time.Second):
		signal(syscall.SIGKILL)
		<-s.exited
	}
	return fmt.Errorf("PostgreSQL was stopped at once and will recover at the next start: %w", ctx.Err())
}

// bringUp adopts or spawns the postmaster and waits until it answers. A postmaster that was found may be shutting down,
// and one that was killed may leave children that still hold its memory for a moment: both are answered by trying anew.
func (s *Server) bringUp(ctx context.Context) error {
	for {
		logStart := fileSize(s.logPath())
		if pid := findPostmaster(s.dataDir(), s.sock); pid > 0 {
			s.adopt(pid)
		} else if err := s.spawn(); err != nil {
			return err
		}
		err := s.waitReady(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
		default: // never became ready within the time: do not leave it running
			stopped, cancel := context.WithCancel(context.Background())
			cancel()
			_ = s.shutDown(stopped)
			return err
		}
		reason := fatalSince(s.logPath(), logStart)
		passing := s.adopted || strings.Contains(reason, "pre-existing shared memory block") || strings.Contains(reason, "lock file")
		if !passing || ctx.Err() != nil {
			return s.startError(reason)
		}
		select {
		case <-ctx.Done():
			return s.startError(reason)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (s *Server) startError(reason string) error {
	if strings.Contains(reason, "No space left on device") {
		return fmt.Errorf("PostgreSQL could not start because the disk that holds %s is full: free some space and start again", s.opt.Dir)
	}
	if reason == "" && s.exitErr != nil {
		reason = s.exitErr.Error()
	}
	return fmt.Errorf("PostgreSQL ended while starting (%s); see %s", reason, s.logPath())
}

// waitReady returns nil once the server answers, or an error when it ended or ctx did.
func (s *Server) waitReady(ctx context.Context) error {
	for {
		conn, err := pgx.Connect(ctx, s.DSN("postgres", Super))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.exited:
			return errors.New("PostgreSQL ended while starting")
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL did not answer in time (%w); see %s", err, s.logPath())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// command runs a PostgreSQL program as the cluster's account, in a process group of its own so that Ctrl-C at the
// terminal reaches only us, and without the caller's PGHOST, PGOPTIONS and the like.
func (s *Server) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, name), args...)
	cmd.Dir = s.opt.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if s.account != nil {
		cmd.SysProcAttr.Credential = s.account.credential()
	}
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "PG") && !strings.HasPrefix(entry, "HOME=") {
			cmd.Env = append(cmd.Env, entry)
		}
	}
	cmd.Env = append(cmd.Env, "HOME="+s.opt.Dir)
	return cmd
}

func (s *Server) dataDir() string { return filepath.Join(s.opt.Dir, "data") }
func (s *Server) logPath() string { return filepath.Join(s.opt.Dir, "postgres.log") }
