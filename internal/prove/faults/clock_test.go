//go:build prove && linux

package faults

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/local"
	"github.com/tandemhq/tandem/internal/prove"
	"github.com/tandemhq/tandem/internal/timers"
)

// clock is a PostgreSQL whose clock the test moves: libfaketime stands between it and the kernel.
type clock struct {
	*prove.Cluster
	t    *testing.T
	file string
}

func newClock(t *testing.T) *clock {
	t.Helper()
	libs, _ := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	if len(libs) == 0 {
		t.Skip("the database's clock cannot be moved without libfaketime; install the package faketime")
	}
	c := &clock{t: t, file: filepath.Join(prove.Dir(t), "clock")}
	c.set("+0")
	for name, value := range map[string]string{
		// Timeouts inside of PostgreSQL run on the monotonic clock, which no jump moves.
		"LD_PRELOAD": libs[0], "FAKETIME_TIMESTAMP_FILE": c.file, "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
	} {
		t.Setenv(name, value)
	}
	c.Cluster = prove.NewCluster(t, prove.WatchSettings)
	os.Unsetenv("LD_PRELOAD") // the servers' children have it from the server
	return c
}

// set writes the clock: "+3600" is an hour ahead, "-3600" an hour behind.
func (c *clock) set(offset string) {
	c.t.Helper()
	// Replaced in one step: the server reads it at each look at the clock.
	if err := os.WriteFile(c.file+".new", []byte(offset+"\n"), 0o644); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Rename(c.file+".new", c.file); err != nil {
		c.t.Fatal(err)
	}
}

func (c *clock) jump(d time.Duration) {
	c.t.Helper()
	c.set(fmt.Sprintf("%+d", int(d.Seconds())))
}

// REL-12: timers under a database clock that jumps by an hour in both directions and over a change to summer time. None
// fires before its time on that clock, none twice, and a process whose own clock does not jump notices nothing.
func TestClockJumpsUnderTimers(t *testing.T) {
	took(t)
	c := newClock(t)
	name := c.Database(t)
	db, err := pg.Open(t.Context(), pg.Config{URL: local.DSN(c.Dir, name, local.App)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	super, err := pgx.Connect(t.Context(), local.DSN(c.Dir, name, local.Super))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = super.Close(context.Background()) })
	org := tandem.NewID()
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := super.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec("INSERT INTO organizations (id, name) VALUES ($1, 'Clock')", org)
	exec("CREATE TABLE effects (record uuid, at timestamptz DEFAULT clock_timestamp()); GRANT ALL ON effects TO " + local.App)
	exec("CREATE TABLE planned (record uuid, due timestamptz)")
	count := func(sql string, args ...any) (n int) {
		t.Helper()
		if err := super.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if ahead := count("SELECT extract(epoch FROM clock_timestamp())::bigint - $1", time.Now().Unix()); ahead < -2 || ahead > 2 {
		t.Fatalf("the clock is %d s ahead before any jump", ahead)
	}
	runner := &timers.Runner{DB: db, Every: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler), Handlers: map[string]timers.Handler{
		"test": func(ctx context.Context, tx pgx.Tx, record tandem.ID) error {
			_, err := tx.Exec(ctx, "INSERT INTO effects (record) VALUES ($1)", record)
			return err
		},
	}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = runner.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	const each = 50
	set := func(after time.Duration) {
		t.Helper()
		err := db.Tx(tandem.AsSystem(t.Context(), org), func(ctx context.Context, tx pgx.Tx) error {
			for range each {
				if err := timers.Set(ctx, tx, "test", tandem.NewID(), after); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		exec("INSERT INTO planned SELECT record_id, due_at FROM timers WHERE NOT EXISTS (SELECT FROM planned p WHERE p.record = record_id)")
	}
	fired := func() int { return count("SELECT count(*) FROM effects") }
	// steady wants n effects in all: soon, and not one more a second later.
	steady := func(n int, when string) {
		t.Helper()
		prove.Until(t, 20*time.Second, fmt.Sprintf("%d timers have fired %s", n, when), func() bool { return fired() >= n })
		time.Sleep(time.Second)
		if got := fired(); got != n {
			t.Errorf("%d timers have fired %s, want %d", got, when, n)
		}
	}

	set(2 * time.Hour)
	set(30 * time.Minute)
	set(time.Second)
	steady(each, "at first")
	c.jump(time.Hour)
	steady(2*each, "an hour ahead") // those of 30 minutes are due on this clock
	set(time.Second)
	steady(3*each, "an hour ahead, set there")
	c.jump(0)
	steady(3*each, "when the clock is right again")
	set(2 * time.Second)
	c.jump(-time.Hour)
	steady(3*each, "an hour behind") // late, never early
	set(time.Second)
	steady(4*each, "an hour behind, set there")
	c.jump(0)
	steady(5*each, "when it is right once more")

	// Two seconds before summer time begins in Berlin, for sessions that keep Berlin's time.
	exec("ALTER DATABASE " + name + " SET timezone = 'Europe/Berlin'")
	spring := time.Date(2027, 3, 28, 1, 0, 0, 0, time.UTC)
	c.jump(time.Until(spring.Add(-2 * time.Second)))
	steady(6*each, "in another year") // those of two hours are due now
	c.jump(time.Until(spring.Add(-2 * time.Second)))
	began := time.Now()
	set(4 * time.Second)
	prove.Until(t, 20*time.Second, "timers over the change of time", func() bool { return fired() >= 7*each })
	if d := time.Since(began); d < 3500*time.Millisecond || d > 7*time.Second {
		t.Errorf("timers of 4 s over the change to summer time fired after %s", d)
	}
	steady(7*each, "after the change of time")

	early := count("SELECT count(*) FROM effects e JOIN planned p USING (record) WHERE e.at < p.due")
	twice := count("SELECT count(*) FROM (SELECT FROM effects GROUP BY record HAVING count(*) > 1) d")
	unknown := count("SELECT count(*) FROM effects e WHERE NOT EXISTS (SELECT FROM planned p WHERE p.record = e.record)")
	if early+twice+unknown > 0 {
		t.Errorf("%d fired early, %d twice, %d unplanned", early, twice, unknown)
	}
	held(t, early+twice+unknown == 0, "REL-12", "the database's clock jumps +1 h, back, -1 h, back, and over a change to summer time: %d timers, %d early, %d twice, each fired as soon as it was due on that clock", 7*each, early, twice)
}

// The same jumps under the whole program and load: leases, retries and sends stand on the database's clock.
func TestClockJumpsUnderLoad(t *testing.T) {
	took(t)
	c := newClock(t)
	s := newStage(t, prove.SiteOptions{Cluster: c.Cluster})
	s.serve()
	s.load(60)
	for _, d := range []time.Duration{time.Hour, 0, -time.Hour, 0} {
		time.Sleep(3 * time.Second)
		c.jump(d)
	}
	time.Sleep(3 * time.Second)
	settled := s.settle()
	v := s.verdict()
	held(t, len(v.Wrong()) == 0, "REL-12", "the database's clock jumps +1 h, back, -1 h, back under load: %s; drained in %.1f s", figure(v, s.driver), settled.Seconds())
}
