package local

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// DatabaseSQL prepares a new database: extensions, the app role's privileges, and the marks that let searches use
// their indexes under row-level security. It needs a superuser, which is why it is no migration.
//
//go:embed database.sql
var DatabaseSQL string

const (
	vectorMinMajor = 0
	vectorMinMinor = 8
)

const createRoles = `
DO $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tandem_owner') THEN
		CREATE ROLE tandem_owner LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
	END IF;
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tandem_app') THEN
		CREATE ROLE tandem_app LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
	END IF;
END $$`

// Provision makes the roles and the database db, ready for migrations by Owner. Repeating it is fine. When pgvector is
// missing or too old the error is one sentence that says what to install.
func (s *Server) Provision(ctx context.Context, db string) error {
	return Provision(ctx, s.opt.Dir, db)
}

// Provision is Server.Provision for a cluster in dir that this or another process runs.
func Provision(ctx context.Context, dir, db string) error {
	admin, err := pgx.Connect(ctx, DSN(dir, "postgres", Super))
	if err != nil {
		return fmt.Errorf("connect to provision the database: %w", err)
	}
	defer admin.Close(context.WithoutCancel(ctx))
	if err := checkVector(ctx, admin); err != nil {
		return err
	}
	// One at a time in a cluster: roles and databases are made by looking first. The lock ends with the connection.
	if _, err := admin.Exec(ctx, "SELECT pg_advisory_lock(hashtext('tandem provision'))"); err != nil {
		return fmt.Errorf("wait for another preparation of the database: %w", err)
	}
	if _, err := admin.Exec(ctx, createRoles); err != nil {
		return fmt.Errorf("create the database roles: %w", err)
	}
	create := fmt.Sprintf("CREATE DATABASE %s OWNER %s", pgx.Identifier{db}.Sanitize(), Owner)
	if _, err := admin.Exec(ctx, create); err != nil {
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || pgErr.Code != "42P04" { // duplicate_database
			return fmt.Errorf("create database %s: %w", db, err)
		}
	}
	inside, err := pgx.Connect(ctx, DSN(dir, db, Super))
	if err != nil {
		return fmt.Errorf("connect to database %s: %w", db, err)
	}
	defer inside.Close(context.WithoutCancel(ctx))
	// The simple protocol takes all statements in one go and makes one transaction of them.
	if _, err := inside.PgConn().Exec(ctx, DatabaseSQL).ReadAll(); err != nil {
		return fmt.Errorf("prepare database %s: %w", db, err)
	}
	return nil
}

func checkVector(ctx context.Context, conn *pgx.Conn) error {
	var server string
	var vector *string
	err := conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int / 10000 || '', (SELECT default_version FROM pg_available_extensions WHERE name = 'vector')`).Scan(&server, &vector)
	if err != nil {
		return fmt.Errorf("ask PostgreSQL for pgvector: %w", err)
	}
	if vector == nil {
		return fmt.Errorf("PostgreSQL %s has no pgvector extension: run scripts/setup, or install postgresql-%s-pgvector (0.8 or later)", server, server)
	}
	if !atLeast(*vector, vectorMinMajor, vectorMinMinor) {
		return fmt.Errorf("PostgreSQL %s has pgvector %s and Tandem needs 0.8 or later: run scripts/setup, or upgrade postgresql-%s-pgvector", server, *vector, server)
	}
	return nil
}

func atLeast(version string, major, minor int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	gotMajor, err1 := strconv.Atoi(parts[0])
	gotMinor, err2 := strconv.Atoi(parts[1])
	if err1 != nil || err2 != nil {
		return false
	}
	return gotMajor > major || gotMajor == major && gotMinor >= minor
}
