package api_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tandemhq/tandem/internal/tandemtest"
)

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// The guide names every operation, and its examples run as they stand.
func TestGuide(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	h := tandemtest.Start(t, nil)
	o := h.NewOrg("guide")
	for id, op := range newContract(t, h).ops {
		if name := "`" + op.method + " " + strings.TrimPrefix(op.path, "/api/v1") + "`"; !strings.Contains(string(text), name) {
			t.Errorf("docs/api.md does not name %s (%s)", name, id)
		}
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash on this machine")
	}
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("no curl on this machine")
	}
	script := "set -euo pipefail\ntrap 'echo \"failed: $BASH_COMMAND\" >&2' ERR\nset -E\n"
	for _, block := range shellBlock.FindAllStringSubmatch(string(text), -1) {
		script += block[1]
	}
	cmd := exec.CommandContext(t.Context(), bash, "-c", script)
	cmd.Env = append(os.Environ(), "BASE="+h.URL(), "KEY="+o.Key, "EMAIL="+o.Email, "PASSWORD="+o.Password, "JAR="+filepath.Join(t.TempDir(), "jar"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("the examples of docs/api.md: %v\n%s", err, tail(string(out), 3000))
	}
	t.Logf("figure: docs/api.md: %d calls run as they stand", strings.Count(script, "call ")+strings.Count(script, "curl "))
}

func tail(s string, most int) string { return s[max(0, len(s)-most):] }
