//go:build prove && linux

package faults

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/tandemhq/tandem/internal/prove"
)

// REL-4: the disk under one of the directories is full, with and without messages under way. Inbound is refused with 503
// and a Retry-After or taken for good; readiness says so within 5 s; the process lives; and once there is room again all
// is well within 30 s without anybody's help.
func TestDiskFull(t *testing.T) {
	needRoot(t)
	for _, place := range []struct {
		name, dir string
		size      string
	}{
		{"nats", "nats", "size=12m"},
		{"postgres", "postgres", "size=400m"}, // an empty cluster and its log take more than 12 MB; ballast leaves 12
	} {
		t.Run(place.name, func(t *testing.T) { diskFull(t, place.dir, place.size) })
	}
}

func diskFull(t *testing.T, dir, size string) {
	took(t)
	base := prove.Dir(t)
	data := filepath.Join(base, "data")
	disk := filepath.Join(data, dir)
	if err := os.MkdirAll(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, size); err != nil {
		t.Skipf("no right to mount a small disk: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	s := newStage(t, prove.SiteOptions{Dir: data})
	s.serve()
	s.load(100)
	time.Sleep(2 * time.Second)

	ballast := filepath.Join(disk, "ballast")
	fill(t, ballast, disk, 12<<20)
	time.Sleep(time.Second)
	full := time.Now()
	fill(t, ballast, disk, 0)
	var shown time.Duration
	refused := func() int { return s.driver.Statuses()[http.StatusServiceUnavailable] }
	before := refused()
	for time.Since(full) < 20*time.Second {
		if !s.p.Ready() && shown == 0 {
			shown = time.Since(full)
		}
		fill(t, ballast, disk, 0) // what recycling gave back
		time.Sleep(100 * time.Millisecond)
	}
	turned := refused() - before
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	freed := time.Now()
	healthy := s.recovers(freed)
	if !s.p.Running() {
		t.Fatal("the process has ended")
	}
	settled := s.settle()
	v := s.verdict()
	statuses := s.driver.Statuses()
	for status, n := range statuses {
		if !slices.Contains([]int{0, 200, 201, 503}, status) {
			t.Errorf("%d answers were %d", n, status)
		}
	}
	if shown == 0 && turned > 0 {
		t.Error("readiness never said that the disk is full")
	}
	held(t, len(v.Wrong()) == 0 && (shown > 0 && shown <= 5*time.Second) && healthy <= 30*time.Second, "REL-4",
		"disk under %s full for 20 s: not ready after %.1f s, %d sends refused with 503; healthy %.1f s after space was freed; %s; drained in %.1f s; answers by status %v",
		dir, shown.Seconds(), turned, healthy.Seconds(), figure(v, s.driver), settled.Seconds(), statuses)
}

// fill grows the file ballast until so many bytes are free on its disk.
func fill(t *testing.T, ballast, disk string, leave uint64) {
	t.Helper()
	f, err := os.OpenFile(ballast, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	chunk := make([]byte, 64<<10)
	for {
		var st syscall.Statfs_t
		if err := syscall.Statfs(disk, &st); err != nil {
			t.Fatal(err)
		}
		free := st.Bavail * uint64(st.Bsize)
		if free <= leave {
			return
		}
		if _, err := f.Write(chunk[:min(uint64(len(chunk)), free-leave)]); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			return
		}
	}
}

// The store of the bus is deleted under the running process, under load.
func TestBusDeletedUnderneath(t *testing.T) {
	took(t)
	s := newStage(t, prove.SiteOptions{})
	s.serve()
	s.load(100)
	for range 3 {
		time.Sleep(2 * time.Second)
		prove.Until(t, prove.Patience, "the store is deleted", func() bool { // while somebody writes there
			return os.RemoveAll(filepath.Join(s.site.Dir, "nats", "jetstream")) == nil
		})
	}
	time.Sleep(2 * time.Second)
	settled := s.settle()
	v := s.verdict()
	prove.Until(t, prove.Patience, "ready", s.p.Ready)
	held(t, len(v.Wrong()) == 0, "REL-3", "the bus's store deleted three times under the running process and load: %s; drained in %.1f s", figure(v, s.driver), settled.Seconds())
}
