//go:build prove && linux

package faults

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tandemhq/tandem/internal/pg/local"
	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/prove"
	"github.com/tandemhq/tandem/internal/prove/lossyfs"
)

// machine is a stage whose whole data directory is on a disk that forgets what was not synced.
type machine struct {
	*stage
	program, point, store string
	disk                  *lossyfs.Process
	lost                  lossyfs.Loss
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	if err := lossyfs.Available(); err != nil {
		t.Skipf("power cuts need a lossy file system: %v", err)
	}
	base := prove.Dir(t)
	m := &machine{program: prove.Build(t, "tools/lossyfs"), point: filepath.Join(base, "disk"), store: filepath.Join(base, "store")}
	m.powerOn(t, lossyfs.Options{})
	t.Cleanup(func() { m.disk.Stop() })
	dir := filepath.Join(m.point, "data")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m.stage = newStage(t, prove.SiteOptions{Dir: dir})
	return m
}

func (m *machine) powerOn(t *testing.T, o lossyfs.Options) {
	t.Helper()
	var err error
	if m.disk, err = lossyfs.Start(t.Context(), m.program, m.point, m.store, o); err != nil {
		t.Fatal(err)
	}
}

// cut takes the power from everything at once. Tandem is frozen first, so that it sees nothing of the end: a cut leaves
// nobody the time to notice.
func (m *machine) cut() {
	m.t.Helper()
	m.p.Stop()
	m.killPostgres()
	loss, err := m.disk.Cut()
	if err != nil {
		m.t.Fatal(err)
	}
	m.p.Kill()
	m.lost.Files += loss.Files
	m.lost.Bytes += loss.Bytes
	prove.Until(m.t, prove.Patience, "nothing runs on the disk", func() bool { return len(prove.RunningIn(filepath.Join(m.point, "data"))) == 0 })
}

// REL-2: the power goes 20 times under load, and what was accepted is there.
func TestPowerCuts(t *testing.T) {
	took(t)
	r := proof.Rand(t)
	m := newMachine(t)
	const cuts = 20
	var starts []time.Duration
	amnesia := 0
	m.serve()
	m.load(100)
	for range cuts {
		time.Sleep(500*time.Millisecond + time.Duration(r.IntN(1500))*time.Millisecond)
		m.cut()
		m.powerOn(t, lossyfs.Options{})
		starts = append(starts, m.serve())
		if strings.Contains(m.p.Stderr(), "starting with an empty one") {
			amnesia++
		}
	}
	settled := m.settle()
	v := m.verdict()
	if m.lost.Bytes == 0 {
		t.Error("the cuts took nothing: the disk is not lossy")
	}
	slowest := percentile(starts, 100)
	held(t, len(v.Wrong()) == 0, "REL-2", "%d power cuts with PostgreSQL and the bus on a disk that keeps only what was synced (%d files, %d MB taken back; the bus came back empty %d times): %s; slowest start %.1f s, drained in %.1f s",
		cuts, m.lost.Files, m.lost.Bytes>>20, amnesia, figure(v, m.driver), slowest.Seconds(), settled.Seconds())
}

// The harness sees loss where there must be some: with commits that do not wait for the disk, and with a disk that lies.
func TestPowerCutsLoseWithoutSync(t *testing.T) {
	took(t)
	t.Run("synchronous_commit off", func(t *testing.T) {
		m := newMachine(t)
		m.serve()
		m.asyncCommits()
		m.load(200)
		m.mustLose("synchronous_commit=off")
	})
	t.Run("a disk that lies", func(t *testing.T) {
		m := newMachine(t)
		m.disk.Close()
		m.powerOn(t, lossyfs.Options{Lies: true})
		m.serve()
		m.load(200)
		m.mustLose("fsync that does nothing")
	})
}

// mustLose cuts the power and wants accepted messages to be gone.
func (m *machine) mustLose(how string) {
	m.t.Helper()
	time.Sleep(2 * time.Second)
	m.cut()
	m.powerOn(m.t, lossyfs.Options{})
	accepted := len(m.driver.Accepted())
	// Tandem itself would refuse to run on such a database.
	server, err := local.Start(m.t.Context(), local.Options{Dir: filepath.Join(m.site.Dir, "postgres"), StartTimeout: 10 * time.Second})
	if err != nil {
		proof.Figure(m.t, "REL-2", "self-check: with %s one power cut under load ruins the database: all %d accepted messages lost, as must be (%v)", how, accepted, err)
		return
	}
	defer func() {
		if err := server.Stop(context.WithoutCancel(m.t.Context())); err != nil {
			m.t.Error(err)
		}
	}()
	lost := len(m.compare().Lost)
	if lost == 0 || accepted == 0 {
		m.t.Errorf("with %s nothing of %d accepted messages was lost: the harness does not see loss", how, accepted)
	}
	proof.Figure(m.t, "REL-2", "self-check: with %s one power cut under load loses %d of %d accepted messages, as must be", how, lost, accepted)
}

// asyncCommits makes the application's commits return before they are on disk.
func (m *machine) asyncCommits() {
	m.t.Helper()
	conn := m.site.DB(m.t)
	for _, q := range []string{
		"ALTER SYSTEM SET wal_writer_delay = '10s'",
		"ALTER ROLE " + local.App + " SET synchronous_commit = off",
		"SELECT pg_reload_conf()",
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '" + local.App + "'",
	} {
		if _, err := conn.Exec(m.t.Context(), q); err != nil {
			m.t.Fatal(err)
		}
	}
	prove.Until(m.t, prove.Patience, "ready again", m.p.Ready)
}
