package pgtest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tandemhq/tandem/internal/pg/pgtest"
)

func TestDatabasesAreSeparate(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	one, two := pgtest.New(t), pgtest.New(t)
	if pgtest.Name(one) == pgtest.Name(two) {
		t.Fatalf("both tests got database %s", pgtest.Name(one))
	}
	const insert = `INSERT INTO users (id, email, name, password_hash) VALUES (gen_random_uuid(), 'a@example.com', 'A', 'x')`
	for _, db := range []interface {
		Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
	}{one.Pool(), two.Pool()} {
		if _, err := db.Exec(ctx, insert); err != nil {
			t.Fatal(err) // a shared database would refuse the second of a unique email
		}
	}
}

func TestRoles(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.New(t)
	_, err := db.Pool().Exec(ctx, "CREATE TABLE mine (id int)")
	var denied *pgconn.PgError
	if !errors.As(err, &denied) || denied.Code != "42501" {
		t.Errorf("the application role made a table: %v", err)
	}
	for role, super := range map[string]bool{pgtest.Super: true, pgtest.Owner: false} {
		var got string
		var isSuper bool
		err := pgtest.Connect(t, db, role).QueryRow(ctx, "SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user").Scan(&got, &isSuper)
		if err != nil || got != role || isSuper != super {
			t.Errorf("as %s: got %s, superuser %v, error %v", role, got, isSuper, err)
		}
	}
}

// TestOneOfMany is what TestManyProcesses runs several times at once, in processes of their own.
func TestOneOfMany(t *testing.T) {
	db := pgtest.New(t)
	var started time.Time
	if err := db.Pool().QueryRow(t.Context(), "SELECT pg_postmaster_start_time()").Scan(&started); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("cluster %d\n", started.UnixNano())
}

func TestManyProcesses(t *testing.T) {
	t.Parallel()
	tmp, err := os.MkdirTemp("", "pgtest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	if err := os.Chmod(tmp, 0o755); err != nil { // the server's account must pass when we are root
		t.Fatal(err)
	}
	const n = 6
	outputs := make(chan string, n)
	for range n {
		go func() {
			cmd := exec.Command(os.Args[0], "-test.run=^TestOneOfMany$", "-test.v")
			cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "TANDEM_TEST_PG=", "TANDEM_TEST_PG_IDLE=200ms")
			out, err := cmd.CombinedOutput()
			if err != nil {
				out = fmt.Appendf(out, "\n%v", err)
			}
			outputs <- string(out)
		}()
	}
	clusters := map[string]int{}
	for range n {
		out := <-outputs
		_, rest, ok := strings.Cut(out, "cluster ")
		if !ok {
			t.Fatalf("a process failed:\n%s", out)
		}
		clusters[strings.Fields(rest)[0]]++
	}
	if len(clusters) != 1 {
		t.Errorf("%d processes used %d clusters", n, len(clusters))
	}
	// The supervisor removes the cluster's files once its server has ended.
	dir := filepath.Join(tmp, "tandem-test-"+strconv.Itoa(os.Getuid()), "postgres")
	for deadline := time.Now().Add(20 * time.Second); ; {
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is still there", dir)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
