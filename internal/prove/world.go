package prove

import (
	"bufio"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/tandemhq/tandem/internal/prove/oracle"
)

// NewOracle starts tools/oracle as a process of its own, which survives whatever happens to Tandem. It ends with the
// test; its journal is in the test's temporary directory. The bytes of models and visitors are only counted.
func NewOracle(t testing.TB) oracle.Client {
	t.Helper()
	cmd := exec.Command(Build(t, "tools/oracle"), "-brief", "model", "-journal", filepath.Join(t.TempDir(), "oracle.jsonl"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe() // its end ends the oracle, even when we are killed
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var log tail
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait() // it ends by itself then
		if t.Failed() && log.String() != "" {
			t.Logf("oracle: %s", log.String())
		}
	})
	var c oracle.Client
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &c.Addresses)
	}
	if err != nil {
		t.Fatalf("the oracle did not start: %v %s", err, log.String())
	}
	return c
}
