package pg

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the database/sql driver that goose runs on
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/migrations"
)

// Migrate brings the schema up to date, as the role that owns it. Running it again does
// nothing; two processes at once wait for each other.
func Migrate(ctx context.Context, ownerURL string) error {
	db, err := sql.Open("pgx", ownerURL)
	if err != nil {
		return tandem.Wrap(tandem.Invalid, err, "The database URL for migrations cannot be read.")
	}
	defer db.Close()
	if err := db.PingContext(ctx); err != nil {
		return unreachable(err)
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return fmt.Errorf("make the migration lock: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, migrations.FS, goose.WithSessionLocker(locker))
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return tandem.Wrap(tandem.Internal, err, "The database schema could not be brought up to date.")
	}
	return nil
}

// SchemaVersion returns the newest migration that is applied and the newest that this program knows.
func SchemaVersion(ctx context.Context, url string) (applied, known int64, err error) {
	db, err := sql.Open("pgx", url)
	if err != nil {
		return 0, 0, tandem.Wrap(tandem.Invalid, err, "The database URL cannot be read.")
	}
	defer db.Close()
	p, err := goose.NewProvider(goose.DialectPostgres, db, migrations.FS)
	if err != nil {
		return 0, 0, fmt.Errorf("read the migrations: %w", err)
	}
	sources := p.ListSources()
	if len(sources) > 0 {
		known = sources[len(sources)-1].Version
	}
	err = db.QueryRowContext(ctx, "SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied").Scan(&applied)
	var pe *pgconn.PgError
	if errors.As(err, &pe) && pe.Code == "42P01" { // no such table: never migrated
		return 0, known, nil
	}
	if err != nil {
		return 0, known, unreachable(err)
	}
	return applied, known, nil
}
