//go:build linux

package bus

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/tandemhq/tandem"
)

// TestDiskFull fills the disk under the store. The server wedges then and stays wedged after
// space is free again, unless somebody restarts it.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=12m"); err != nil {
		t.Skipf("no right to mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	b, err := Open(t.Context(), Options{Dir: filepath.Join(disk, "bus"), ProbeEvery: 100 * time.Millisecond, MaxStore: 64 << 20, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeBus(t, b) })
	background(t, b.Run)
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 6<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, 16<<10)
	acked := uint64(0)
	var failed time.Time
	for range 2000 {
		if _, err := b.Publish(t.Context(), "ev.o.x", tandem.NewID(), body); err != nil {
			if tandem.KindOf(err) != tandem.Unavailable {
				t.Fatal(err)
			}
			failed = time.Now()
			break
		}
		acked++
	}
	if failed.IsZero() {
		t.Fatal("the disk did not fill up")
	}
	eventually(t, "the full disk shows", func() bool { return b.Healthy() != nil })
	shown := time.Since(failed)
	// While the disk is full no new server is tried: it could not open its store, and might not even say so.
	serving := func() *server.Server {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.srv
	}
	for was, full := serving(), time.Now(); time.Since(full) < 2*time.Second; {
		pad(t, ballast)
		if serving() != was {
			t.Fatal("restarted on a full disk")
		}
		if b.Healthy() == nil {
			t.Error("healthy on a full disk")
		}
		_ = pause(t.Context(), 20*time.Millisecond)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	freed := time.Now()
	eventually(t, "healthy again", func() bool { return b.Healthy() == nil })
	healed := time.Since(freed)
	if healed > 10*time.Second {
		t.Errorf("healthy %v after space was freed", healed)
	}
	if _, err := b.Publish(t.Context(), "ev.o.x", tandem.NewID(), body); err != nil {
		t.Fatal(err)
	}
	st, err := b.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st.Messages < acked {
		t.Errorf("%d messages kept of %d acknowledged", st.Messages, acked)
	}
	t.Logf("figure: disk full after %d publishes, unhealthy within %v, healthy %v after space was freed, %d restarts, %d messages kept for %d acknowledged (with probes)",
		acked, shown.Round(time.Millisecond), healed.Round(time.Millisecond), b.Restarts(), st.Messages, acked)
}

// pad grows a file until nothing fits on its disk.
func pad(t *testing.T, file string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 4<<10); err == nil; {
		_, err = f.Write(chunk)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}
