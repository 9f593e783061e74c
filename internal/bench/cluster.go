package bench

import (
	"context"
	"encoding/hex"
	"fmt"
	"path/filepath"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/hub"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/local"
	"github.com/tandemhq/tandem/internal/seal"
)

// Cluster is a PostgreSQL server with several databases: Tandem's and those of the limits.
type Cluster struct{ *local.Server }

// StartCluster runs a cluster below dir with the settings of Tandem's private one; only the number of connections and
// the size of the log differ, because generator and limits connect too.
func StartCluster(ctx context.Context, dir string) (*Cluster, error) {
	s, err := local.Start(ctx, local.Options{Dir: filepath.Join(dir, "postgres"), Settings: map[string]string{
		"max_connections": "160", "max_wal_size": "4GB",
	}})
	if err != nil {
		return nil, err
	}
	return &Cluster{s}, nil
}

// Pool connects to a database as the superuser, past row-level security: for the limits, for filling and for counting.
// All n connections are open when it returns.
func (c *Cluster) Pool(ctx context.Context, database string, n int) (*pgxpool.Pool, error) {
	conf, err := pgxpool.ParseConfig(c.DSN(database, local.Super))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", database, err)
	}
	conf.MaxConns, conf.MinConns = int32(n), int32(n)
	pool, err := pgxpool.NewWithConfig(ctx, conf)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", database, err)
	}
	held := make([]*pgxpool.Conn, 0, n)
	for range n {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			pool.Close()
			return nil, fmt.Errorf("connect to %s: %w", database, err)
		}
		held = append(held, conn)
	}
	for _, conn := range held {
		conn.Release()
	}
	return pool, nil
}

// Settle brings a database to rest before it is measured: statistics are fresh and nothing waits to be written.
func (c *Cluster) Settle(ctx context.Context, database string) error {
	conn, err := pgx.Connect(ctx, c.DSN(database, local.Super))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", database, err)
	}
	defer conn.Close(ctx)
	for _, q := range []string{"VACUUM (ANALYZE)", "CHECKPOINT"} {
		if _, err := conn.Exec(ctx, q); err != nil {
			return fmt.Errorf("settle %s: %w", database, err)
		}
	}
	return nil
}

// masterKey is of every process of a run, so that they and the generator read each other's secrets.
const masterKey = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

// Database is a migrated database of Tandem in a cluster, and what is needed to make organizations in it.
type Database struct {
	Name    string
	Cluster *Cluster
	DB      *pg.DB // as the application role
	Sealer  *seal.Sealer
	Inbox   *inbox.Inbox
}

// OpenDatabase makes the database when it is new, brings its schema up to date and connects. Close it.
func (c *Cluster) OpenDatabase(ctx context.Context, name string) (*Database, error) {
	if err := c.Provision(ctx, name); err != nil {
		return nil, err
	}
	if err := pg.Migrate(ctx, c.DSN(name, local.Owner)); err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(masterKey)
	if err != nil {
		return nil, err
	}
	d := &Database{Name: name, Cluster: c}
	if d.Sealer, err = seal.Open(key); err != nil {
		return nil, err
	}
	if d.DB, err = pg.Open(ctx, pg.Config{URL: c.DSN(name, local.App), MaxConns: 2}); err != nil {
		return nil, err
	}
	d.Inbox = inbox.New(inbox.Options{DB: d.DB, Sealer: d.Sealer, Kinds: hub.Kinds})
	return d, nil
}

// Close ends the connections.
func (d *Database) Close() { d.DB.Close() }
