package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/bus"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/local"
)

type doctorCmd struct {
	place
}

// finding is what one check saw. An empty mend means that nothing needs mending.
type finding struct {
	name, saw, mend string
}

const (
	leastFree  = 512 << 20
	clockSkew  = 2 * time.Second
	doctorWait = 10 * time.Second
)

// Run looks at everything and changes nothing. It fails when a check needs mending.
func (c doctorCmd) Run(ctx context.Context, io stdio) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	checks := []func(context.Context) finding{c.configuration, c.disk, c.port, c.database, c.bus}
	bad := 0
	for _, check := range checks {
		f := check(ctx)
		mark := "ok  "
		if f.mend != "" {
			mark = "MEND"
			bad++
		}
		fmt.Fprintf(io.out, "%s  %-13s  %s\n", mark, f.name, f.saw)
		if f.mend != "" {
			fmt.Fprintf(io.out, "      %-13s  → %s\n", "", f.mend)
		}
	}
	if bad > 0 {
		return tandem.Errorf(tandem.Invalid, "%d of %d checks need mending.", bad, len(checks))
	}
	return nil
}

func (c doctorCmd) configuration(context.Context) finding {
	conf, err := c.config(os.Stderr)
	if err == nil {
		err = conf.Check()
	}
	if err != nil {
		return finding{"configuration", tandem.Message(err), "correct the flag or its TANDEM_ variable; tandem serve --help lists them"}
	}
	return finding{name: "configuration", saw: "can be used"}
}

func (c doctorCmd) disk(context.Context) finding {
	dir := c.Data
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return finding{"disk", fmt.Sprintf("%s cannot be looked at: %v", dir, err), "choose another directory with --data"}
	}
	free := int64(st.Bavail) * int64(st.Bsize) //nolint:unconvert // the types differ between systems
	f := finding{name: "disk", saw: fmt.Sprintf("%d MB free for %s", free>>20, c.Data)}
	if free < leastFree {
		f.mend = "free some space, or choose another directory with --data"
	}
	return f
}

func (c doctorCmd) port(context.Context) finding {
	ln, err := net.Listen("tcp", c.HTTP)
	if err != nil {
		return finding{"address", fmt.Sprintf("%s is taken or not ours: %v", c.HTTP, err), "stop what listens there (it may be a running Tandem), or choose another address with --http"}
	}
	ln.Close()
	return finding{name: "address", saw: c.HTTP + " is free"}
}

func (c doctorCmd) database(ctx context.Context) finding {
	if c.DatabaseURL == "" {
		return c.privateDatabase()
	}
	ctx, cancel := context.WithTimeout(ctx, doctorWait)
	defer cancel()
	db, err := pg.Open(ctx, pg.Config{URL: c.DatabaseURL, MaxConns: 2})
	if err != nil {
		return finding{"database", explain(err), "check --database-url, and run scripts/postgres-init.sql as a superuser of that database"}
	}
	defer db.Close()
	var version, vector string
	var clock time.Time
	err = db.Global(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT current_setting('server_version'), (SELECT extversion FROM pg_extension WHERE extname = 'vector'), clock_timestamp()`).
			Scan(&version, &vector, &clock)
	})
	if err != nil {
		return finding{"database", explain(err), "see the database's log"}
	}
	f := finding{name: "database", saw: fmt.Sprintf("PostgreSQL %s, pgvector %s", version, vector)}
	if skew := time.Since(clock).Abs(); skew > clockSkew {
		f.mend = fmt.Sprintf("its clock differs from this machine's by %s: keep both in time with NTP", skew.Round(time.Millisecond))
		return f
	}
	applied, known, err := pg.SchemaVersion(ctx, c.DatabaseURL)
	switch {
	case err != nil:
		f.mend = "apply the schema: tandem migrate --migrate-url URL"
	case applied < known:
		f.mend = fmt.Sprintf("the schema is at version %d and this Tandem needs %d: tandem migrate --migrate-url URL", applied, known)
	}
	return f
}

// privateDatabase looks for the programs that a private cluster needs, without starting one.
func (c doctorCmd) privateDatabase() finding {
	version, err := local.Available()
	if err != nil {
		return finding{"database", err.Error(), "run scripts/setup, or give your own with --database-url"}
	}
	return finding{name: "database", saw: "a private one by " + version}
}

func (c doctorCmd) bus(ctx context.Context) finding {
	if c.NATSURL == "" {
		return finding{name: "bus", saw: "embedded"}
	}
	ctx, cancel := context.WithTimeout(ctx, doctorWait)
	defer cancel()
	saw, err := bus.Look(ctx, c.NATSURL)
	if err != nil {
		return finding{"bus", explain(err), "check --nats-url, and that the server runs with JetStream (nats-server -js)"}
	}
	return finding{name: "bus", saw: saw}
}
