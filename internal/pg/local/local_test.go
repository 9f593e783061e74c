package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// clusterDir is a directory that the server's account can reach: t.TempDir bars it when the tests run as root.
func clusterDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tandem-local")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "data", "postgres")
}

func start(t *testing.T, dir string) *Server {
	t.Helper()
	s, err := Start(t.Context(), Options{Dir: dir, Fast: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func exec1(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func one[T any](t *testing.T, conn *pgx.Conn, sql string) (got T) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql).Scan(&got); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return got
}

func TestStartStopStart(t *testing.T) {
	t.Parallel()
	dir := clusterDir(t)
	began := time.Now()
	s := start(t, dir)
	cold := time.Since(began)
	exec1(t, connect(t, s.DSN("postgres", Super)), "CREATE TABLE kept AS SELECT 1 AS n")
	stop(t, s)
	stop(t, s) // a second time does nothing
	select {
	case <-s.Exited():
	default:
		t.Error("Exited is open after Stop")
	}
	if running(s.PID()) {
		t.Error("the server runs after Stop")
	}
	began = time.Now()
	s = start(t, dir)
	warm := time.Since(began)
	if n := one[int](t, connect(t, s.DSN("postgres", Super)), "SELECT n FROM kept"); n != 1 {
		t.Errorf("kept %d", n)
	}
	t.Logf("figure: private Postgres cold start %v, warm start %v", cold.Round(time.Millisecond), warm.Round(time.Millisecond))
}

func TestSecondStartIsRefused(t *testing.T) {
	t.Parallel()
	dir := clusterDir(t)
	s := start(t, dir)
	_, err := Start(t.Context(), Options{Dir: dir, Fast: true})
	if err == nil || !strings.Contains(err.Error(), "another Tandem process is using "+dir) {
		t.Fatalf("the second start said: %v", err)
	}
	if one[int](t, connect(t, s.DSN("postgres", Super)), "SELECT 1") != 1 {
		t.Error("the first server suffered")
	}
}

// A child that is being forked shares every open file until its exec, the lock's too. It must not keep the directory.
func TestStopFreesTheLockThatAChildShares(t *testing.T) {
	t.Parallel()
	dir := clusterDir(t)
	s := start(t, dir)
	shared, err := syscall.Dup(int(s.lock.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(shared)
	stop(t, s)
	stop(t, start(t, dir))
}

func TestServerKilledRecovers(t *testing.T) {
	t.Parallel()
	dir := clusterDir(t)
	s := start(t, dir)
	conn := connect(t, s.DSN("postgres", Super))
	exec1(t, conn, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
	if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Exited():
	case <-time.After(10 * time.Second):
		t.Fatal("Exited stays open after the server was killed")
	}
	stop(t, s)
	s = start(t, dir) // while the dead server's children may still hold its memory
	if n := one[int](t, connect(t, s.DSN("postgres", Super)), "SELECT count(*) FROM kept"); n != 1000 {
		t.Errorf("%d of 1000 rows came back", n)
	}
}

const parentEnv = "LOCAL_TEST_PARENT"

// TestMain turns the test binary into the parent that TestParentKilled kills.
func TestMain(m *testing.M) {
	dir := os.Getenv(parentEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	s, err := Start(context.Background(), Options{Dir: dir, Fast: true, Detach: os.Getenv("LOCAL_TEST_DETACH") != ""})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("pid", s.PID())
	select {}
}

// killParent starts a process that starts the cluster, kills it, and returns its server's pid.
func killParent(t *testing.T, dir, detach string) int {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), parentEnv+"="+dir, "LOCAL_TEST_DETACH="+detach)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	pid, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "pid ")))
	if err != nil {
		t.Fatalf("the parent said %q", line)
	}
	return pid
}

func TestParentKilled(t *testing.T) {
	t.Parallel()
	dir := clusterDir(t)
	pid := killParent(t, dir, "")
	s := start(t, dir) // at once: the orphan may be shutting down right now
	if s.PID() == pid {
		t.Logf("adopted the server %d of the killed parent", pid)
	} else if running(pid) {
		t.Errorf("server %d of the killed parent runs beside %d", pid, s.PID())
	}
	if one[int](t, connect(t, s.DSN("postgres", Super)), "SELECT 1") != 1 {
		t.Error("no answer")
	}
}

func TestOrphanIsAdopted(t *testing.T) {
	t.Parallel()
	dir := clusterDir(t)
	pid := killParent(t, dir, "yes")
	s := start(t, dir)
	if !s.Adopted() || s.PID() != pid {
		t.Errorf("got server %d (adopted %v), want the orphan %d", s.PID(), s.Adopted(), pid)
	}
	stop(t, s)
	if running(pid) {
		t.Error("the adopted server runs after Stop")
	}
}

func TestForeignPidFile(t *testing.T) {
	t.Parallel()
	dir := clusterDir(t)
	stop(t, start(t, dir))
	// What a killed container leaves: a pid that now belongs to another program.
	stale := fmt.Sprintf("%d\n%s\n0\n5432\n%s\n\n0 0\nready\n", os.Getpid(), filepath.Join(dir, "data"), filepath.Join(dir, "sock"))
	if err := os.WriteFile(filepath.Join(dir, "data", "postmaster.pid"), []byte(stale), 0o600); err != nil {
		t.Fatal(err)
	}
	if s := start(t, dir); s.Adopted() {
		t.Error("adopted a process that is no server")
	}
}

// A power cut may leave the files by which a server says that it runs without content.
func TestEmptyLockFiles(t *testing.T) {
	t.Parallel()
	dir := clusterDir(t)
	stop(t, start(t, dir))
	for _, name := range []string{"data/postmaster.pid", "sock/.s.PGSQL.5432.lock"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Start(t.Context(), Options{Dir: dir, Fast: true, StartTimeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	stop(t, s)
}

func TestHalfMadeCluster(t *testing.T) {
	t.Parallel()
	dir := clusterDir(t)
	if err := os.MkdirAll(filepath.Join(dir, "data.new", "base"), 0o755); err != nil {
		t.Fatal(err)
	}
	start(t, dir)
	if _, err := os.Stat(filepath.Join(dir, "data.new")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the half-made cluster is still there")
	}
}

// Several may prepare databases of one new cluster at once.
func TestProvisionedAtOnce(t *testing.T) {
	t.Parallel()
	dir := clusterDir(t)
	start(t, dir)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if err := Provision(t.Context(), dir, fmt.Sprint("db", i%4)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestLongPath(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(clusterDir(t), strings.Repeat("long", 25))
	s := start(t, dir)
	if one[int](t, connect(t, DSN(dir, "postgres", Super)), "SELECT 1") != 1 {
		t.Error("no answer")
	}
	stop(t, s)
	if _, err := os.Stat(s.sock); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there", s.sock)
	}
}

func TestClosedParent(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		return // only root hands the cluster to another account
	}
	dir := clusterDir(t)
	closed := filepath.Dir(dir)
	if err := os.MkdirAll(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Options{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), closed+" bars the account") {
		t.Errorf("got %v", err)
	}
}

func TestNoBinaries(t *testing.T) {
	t.Setenv("TANDEM_PG_BIN", t.TempDir())
	_, err := Start(t.Context(), Options{Dir: clusterDir(t)})
	if err == nil || !strings.Contains(err.Error(), "TANDEM_PG_BIN") {
		t.Errorf("got %v", err)
	}
}

func TestCallersEnvironmentIsIgnored(t *testing.T) {
	t.Setenv("PGOPTIONS", "-c no_such_setting=1")
	t.Setenv("PGDATA", "/nowhere")
	s, err := Start(t.Context(), Options{Dir: clusterDir(t), Fast: true})
	if s != nil {
		defer stop(t, s)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestProvision(t *testing.T) {
	t.Parallel()
	s := start(t, clusterDir(t))
	for range 2 { // repeating it is fine
		if err := s.Provision(t.Context(), "tandem"); err != nil {
			t.Fatal(err)
		}
	}
	owner, app, super := connect(t, s.DSN("tandem", Owner)), connect(t, s.DSN("tandem", App)), connect(t, s.DSN("tandem", Super))
	exec1(t, owner, "CREATE TABLE thing (id bigint GENERATED BY DEFAULT AS IDENTITY, tags text[], v vector(3))")
	exec1(t, app, "INSERT INTO thing (tags, v) VALUES ('{a}', '[1,2,3]')")
	exec1(t, app, "UPDATE thing SET tags = '{b}'")
	exec1(t, app, "DELETE FROM thing")
	for _, sql := range []string{"CREATE TABLE mine (id int)", "TRUNCATE thing", "ALTER TABLE thing ADD x int", "SET ROLE tandem_owner"} {
		_, err := app.Exec(t.Context(), sql)
		var denied *pgconn.PgError
		if !errors.As(err, &denied) || denied.Code != "42501" {
			t.Errorf("the application role may %s: %v", sql, err)
		}
	}
	if one[bool](t, super, "SELECT bool_or(rolsuper OR rolbypassrls OR rolcreaterole) FROM pg_roles WHERE rolname IN ('tandem_owner', 'tandem_app')") {
		t.Error("a role of ours has powers that it must not have")
	}
	if !one[bool](t, super, "SELECT bool_and(proleakproof) FROM pg_proc WHERE proname IN ('ts_match_vq', 'texticlike', 'similarity_op')") {
		t.Error("search operators are not leakproof, so that row-level security would keep their indexes from being used")
	}
}

// A new table's rows are counted long before the minute that the server takes by itself: until then every statement is
// planned as if there were hardly any.
func TestNewTablesAreCounted(t *testing.T) {
	t.Parallel()
	s := start(t, clusterDir(t))
	if err := s.Provision(t.Context(), "tandem"); err != nil {
		t.Fatal(err)
	}
	owner := connect(t, s.DSN("tandem", Owner))
	exec1(t, owner, "CREATE TABLE thing (id int)")
	exec1(t, owner, "INSERT INTO thing SELECT generate_series(1, 1000)")
	for deadline := time.Now().Add(45 * time.Second); one[float32](t, owner, "SELECT reltuples FROM pg_class WHERE relname = 'thing'") != 1000; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not counted yet")
		}
	}
}

func TestVectorVersion(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{"0.8.0": true, "0.8": true, "0.10.1": true, "1.0.0": true, "0.7.4": false, "0": false, "": false} {
		if got := atLeast(version, vectorMinMajor, vectorMinMinor); got != want {
			t.Errorf("pgvector %q: got %v", version, got)
		}
	}
}

// The script for an operator's own PostgreSQL must prepare a database as Provision does.
func TestInitScriptMatches(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("../../../scripts/postgres-init.sql")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(string(script), DatabaseSQL) {
		t.Error("scripts/postgres-init.sql does not end with database.sql")
	}
}
