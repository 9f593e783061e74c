//go:build linux

package hub

import (
	"syscall"
	"testing"

	"github.com/tandemhq/tandem"
)

// The private database may have a disk of its own, and that one may be full while the other has room.
func TestRoomIsLookedForOnEveryDisk(t *testing.T) {
	t.Parallel()
	large, small := t.TempDir(), t.TempDir()
	if err := room(large); err != nil {
		t.Skipf("the disk of the tests is full: %v", err)
	}
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("no right to mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(small, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := room(large, small); tandem.KindOf(err) != tandem.Unavailable {
		t.Errorf("a disk with 8 MB has room: %v", err)
	}
	if err := room(large, large+"/absent"); err == nil {
		t.Error("a directory that is not there has room")
	}
}
