// Package pgtest gives each test a PostgreSQL database of its own: migrated, empty, gone when the test ends.
//
//	db := pgtest.New(t)
//
// All test processes share one cluster. `make test` starts it and names its directory in TANDEM_TEST_PG; a lone
// `go test ./inbox` starts one itself, which the next runs find again and which goes away when nobody has used it for
// two minutes. A database is a copy of a template that is made once for each state of the migrations.
package pgtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/local"
)

// The roles a test may connect as; New connects as App, like the program.
const (
	Super = local.Super // sees and changes everything, row-level security included
	Owner = local.Owner // owns the tables; row-level security still holds
	App   = local.App
)

// poolSize bounds the connections of one test's database, so that many test processes fit into one cluster.
const poolSize = 6

// patience bounds each step of a test's setup, the first start of a cluster on a busy machine included.
const patience = 2 * time.Minute

// New returns a pool on a new database, connected as the application role, and drops the database when t ends.
func New(t testing.TB) *pg.DB {
	t.Helper()
	return Open(t, Create(t))
}

// Create makes a new database and returns its name; see URL and Open. It is dropped when t ends.
func Create(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	dir, err := cluster()
	if err != nil {
		t.Fatalf("start PostgreSQL for tests: %v", err)
	}
	template, err := templateIn(ctx, dir)
	if err != nil {
		t.Fatalf("prepare the template database: %v", err)
	}
	suffix := make([]byte, 6)
	_, _ = rand.Read(suffix) // never fails
	name := "test_" + hex.EncodeToString(suffix)
	// Copied as files: four times as fast as through the WAL, which a cluster without fsync need not have whole.
	if err := administer(ctx, dir, fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s OWNER %s STRATEGY FILE_COPY", name, template, Owner)); err != nil {
		t.Fatalf("create the test's database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := administer(ctx, dir, fmt.Sprintf("DROP DATABASE IF EXISTS %s WITH (FORCE)", name)); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	return name
}

// Open returns a further pool on a database that Create made, as the application role. It is closed when t ends.
func Open(t testing.TB, database string) *pg.DB {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	db, err := pg.Open(ctx, pg.Config{URL: URL(t, database, App), MaxConns: poolSize, AllowUnsafe: true})
	if err != nil {
		t.Fatalf("open the test's database: %v", err)
	}
	t.Cleanup(db.Close)
	return db
}

// URL is the connection string of a database that Create made, as one of the three roles.
func URL(t testing.TB, database, role string) string {
	t.Helper()
	dir, err := cluster()
	if err != nil {
		t.Fatalf("start PostgreSQL for tests: %v", err)
	}
	return local.DSN(dir, database, role)
}

// Connect returns one connection to db's database as another role, to look at the catalog or to arrange what the
// application role may not. It is closed when t ends.
func Connect(t testing.TB, db *pg.DB, role string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, URL(t, Name(db), role))
	if err != nil {
		t.Fatalf("connect to the test's database as %s: %v", role, err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// Name is the name of db's database.
func Name(db *pg.DB) string { return db.Pool().Config().ConnConfig.Database }

// administer runs one statement as the superuser, outside of any test's database.
func administer(ctx context.Context, dir, statement string) error {
	return administerIn(ctx, dir, "postgres", statement)
}

func administerIn(ctx context.Context, dir, database, statement string) error {
	conn, err := pgx.Connect(ctx, local.DSN(dir, database, Super))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, statement)
	return err
}
