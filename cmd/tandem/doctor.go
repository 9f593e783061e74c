package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/bus"
	"github.com/tandemhq/tandem/internal/blob"
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
	answerWait = 3 * time.Second // of a Tandem on this machine
)

// Run looks at everything and changes nothing. It fails when a check needs mending.
func (c doctorCmd) Run(ctx context.Context, std stdio) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	checks := []func(context.Context) finding{c.configuration, c.disk, c.clock, c.address, c.database, c.bus, c.files}
	bad := 0
	for _, check := range checks {
		f := check(ctx)
		mark := "ok  "
		if f.mend != "" {
			mark = "MEND"
			bad++
		}
		fmt.Fprintf(std.out, "%s  %-13s  %s\n", mark, f.name, f.saw)
		if f.mend != "" {
			fmt.Fprintf(std.out, "      %-13s  → %s\n", "", f.mend)
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

// clock looks for time that ran backwards: ids and leases count on it. An external database's clock is compared with
// ours in database.
func (c doctorCmd) clock(context.Context) finding {
	f := finding{name: "clock", saw: time.Now().UTC().Format("2006-01-02 15:04 MST")}
	for _, name := range []string{".", "tandem.lock", "master.key", demoName} {
		info, err := os.Stat(filepath.Join(c.Data, name))
		if err == nil && time.Until(info.ModTime()) > clockSkew {
			f.saw += fmt.Sprintf(", but %s was written at %s", filepath.Join(c.Data, name), info.ModTime().UTC().Format("2006-01-02 15:04"))
			f.mend = "set this machine's clock, and keep it in time with NTP"
			return f
		}
	}
	return f
}

// address is fine when it is free and when a running Tandem answers there.
func (c doctorCmd) address(ctx context.Context) finding {
	ln, err := net.Listen("tcp", c.HTTP)
	if err == nil {
		ln.Close()
		return finding{name: "address", saw: c.HTTP + " is free"}
	}
	if running(ctx, c.HTTP) {
		return finding{name: "address", saw: "a running Tandem answers at " + c.HTTP}
	}
	return finding{"address", fmt.Sprintf("%s cannot be listened on: %v", c.HTTP, err), "stop what listens there, or choose another address with --http"}
}

func running(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	var health struct{ Checks map[string]string }
	return json.NewDecoder(io.LimitReader(res.Body, 1<<16)).Decode(&health) == nil && health.Checks["postgres"] != ""
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
	case err == nil && applied > known:
		f.mend = fmt.Sprintf("the schema is at version %d, newer than this Tandem knows (%d): run the newer Tandem", applied, known)
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
		return finding{"database", explain(err), "run scripts/setup, or give your own with --database-url"}
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

// files stores a few bytes and removes them again. A directory that Tandem would make is left to be made.
func (c doctorCmd) files(ctx context.Context) finding {
	conf, err := c.config(io.Discard)
	if err == nil {
		err = conf.Check()
	}
	if err != nil {
		return finding{name: "files", saw: "not looked at: the configuration cannot be used"}
	}
	if dir := filepath.Join(c.Data, "blobs"); c.BlobURL == "" {
		if _, err := os.Stat(dir); os.IsNotExist(err) {
			return finding{name: "files", saw: "will be kept in " + dir}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, doctorWait)
	defer cancel()
	store, err := conf.Blobs()
	if err == nil {
		defer store.Close()
		err = blob.Check(ctx, store)
	}
	if err != nil {
		return finding{"files", explain(err), "check --blob-url, its keys and that the bucket is there, or the directory's owner and room"}
	}
	return finding{name: "files", saw: "kept in " + store.String()}
}
