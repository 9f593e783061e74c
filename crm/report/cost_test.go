package report_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem/bus"
	"github.com/tandemhq/tandem/crm/report"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
)

// What the rollups cost while much comes in: the processor's time of the consumer with its bus, and of the database.
func TestWhatFactsCost(t *testing.T) {
	db := pgtest.New(t)
	var worlds []*world
	for i := range 5 {
		worlds = append(worlds, newWorld(t, db, fmt.Sprintf("org%d", i)))
	}
	r := proof.Rand(t)
	n := proof.Size(300, 4000)
	for i := range n {
		worlds[i%len(worlds)].write(r, i%60)
	}
	b, err := bus.Open(t.Context(), bus.Options{Dir: filepath.Join(t.TempDir(), "bus"), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close(context.Background()) }()
	rollups := &report.Rollups{DB: db, Logger: quiet}
	d := &events.Drain{DB: db, Publish: b.Publish, State: b.State, Consumers: []events.Subscription{rollups.Subscription()}, Logger: quiet}
	stop := background(t, d.Run)
	wait := func(sql string) {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(250 * time.Millisecond) { // seldom: to ask costs too
			var left int
			if err := db.Global(t.Context(), func(ctx context.Context, tx pgx.Tx) error { return tx.QueryRow(ctx, sql).Scan(&left) }); err != nil {
				t.Fatal(err)
			}
			if left == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d facts wait after a minute", left)
			}
		}
	}
	wait(`SELECT count(*) FROM outbox WHERE published_at IS NULL`)
	stop()
	super := pgtest.Connect(t, db, pgtest.Super)
	own, server := processTime(), serverTime(t, super)
	began := time.Now()
	stop = background(t, func(ctx context.Context) error { return events.Consume(ctx, db, b, rollups.Subscription()) })
	wait(`SELECT count(*) FROM outbox o WHERE o.topic IN ('message.received', 'conversation.opened', 'lead.created')
		AND NOT EXISTS (SELECT FROM processed p WHERE p.consumer = 'rollups' AND p.msg_id = o.msg_id)`)
	took := time.Since(began)
	stop()
	var facts float64
	if err := super.QueryRow(t.Context(), `SELECT count(*) FROM processed WHERE consumer = 'rollups'`).Scan(&facts); err != nil {
		t.Fatal(err)
	}
	if facts < float64(n) {
		t.Fatalf("%.0f facts of %d messages", facts, n)
	}
	t.Logf("figure: rollups: %.0f facts of %d organizations in %.1f s; per 1,000 facts %.0f ms of the consumer's processor time, %.0f ms of the database's",
		facts, len(worlds), took.Seconds(), float64((processTime()-own).Milliseconds())*1000/facts, float64((serverTime(t, super)-server).Milliseconds())*1000/facts)
}

func processTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// serverTime is what the sessions of the database have used, where the system tells.
func serverTime(t *testing.T, super *pgx.Conn) (sum time.Duration) {
	t.Helper()
	rows, err := super.Query(t.Context(), `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	if err != nil {
		t.Fatal(err)
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		f := strings.Fields(rest)
		for _, i := range []int{11, 12} { // utime, stime, in hundredths
			if n, err := strconv.Atoi(f[i]); err == nil {
				sum += time.Duration(n) * 10 * time.Millisecond
			}
		}
	}
	return sum
}
