//go:build linux

package bus

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

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
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	freed := time.Now()
	eventually(t, "healthy again", func() bool { return b.Healthy() == nil })
	healed := time.Since(freed)
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
