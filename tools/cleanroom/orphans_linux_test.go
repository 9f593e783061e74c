package cleanroom

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"
)

// What ends after its parent is collected, and what somebody here waits for is left to them.
func TestTheDeadAreCollected(t *testing.T) {
	AdoptOrphans()
	// The inner shell is orphaned, says that it is there, and ends.
	out, err := exec.Command("sh", "-c", "(sh -c 'read x; exit 7' </dev/null &)").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		mine := 0
		for _, p := range processes() {
			if p.parent == os.Getpid() {
				mine++
			}
		}
		if mine == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d children are left", mine)
		}
	}
	var ended *exec.ExitError
	if err := exec.Command("sh", "-c", "exit 3").Run(); !errors.As(err, &ended) || ended.ExitCode() != 3 {
		t.Errorf("a command of our own ended with %v, want code 3", err)
	}
}
