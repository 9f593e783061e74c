package tandem_test

import (
	"os/exec"
	"strings"
	"testing"
)

// floors gives each package its height; a package imports strictly lower floors only.
// A package that is not listed fails the test, so that nobody builds without choosing
// a floor. docs/architecture.md says what lives on each.
var floors = map[string]int{
	"": 0, "migrations": 0, "web": 0, "internal/proof": 0, "internal/prove/oracle": 0, "internal/mutant": 0, "internal/prove/lossyfs": 0, "tools/lossyfs": 1,
	"bus": 1, "channels": 1, "internal/pg": 1, "internal/seal": 1, "internal/egress": 1, "internal/blob": 1, "internal/richtext": 1, "internal/pg/local": 1,
	"internal/events": 2, "internal/timers": 2, "internal/blob/loose": 2, "internal/pg/pgtest": 2, "channels/channeltest": 2, "bus/bustest": 2,
	"internal/record": 3, "tools/cleanroom": 3,
	"crm": 4, "team": 4, "agents/llm": 4,
	"inbox": 5, "crm/report": 5, "agents/rules": 5, "agents/agenttest": 5,
	"agents": 6, "channels/webchat": 6, "channels/webhook": 6,
	"agents/tools": 7, "api": 7,
	"internal/hub":   8,
	"internal/bench": 9, "internal/bench/ingest": 10, "internal/bench/turns": 10, "internal/bench/live": 10, "internal/bench/soak": 10,
	"internal/bench/list": 10, "internal/bench/dashboard": 11, "internal/bench/start": 10, "tools/bench": 12,
	"cmd/tandem": 9, "internal/tandemtest": 9, "tools/testrun": 9, "tools/prove": 9, "internal/prove": 9, "internal/prove/road": 10, "internal/prove/scale": 10, "internal/prove/load": 10, "tools/oracle": 9, "internal/prove/faults": 9,
}

// adapterSees is all of ours that a channel adapter may know.
var adapterSees = map[string]bool{"": true, "channels": true}

// onlyImporter names the one package that, with those below it, may import a library.
var onlyImporter = map[string]string{
	"github.com/tmc/langchaingo": "agents/llm",
	"github.com/nats-io":         "bus",
	"github.com/minio/minio-go":  "internal/blob",
}

const module = "github.com/tandemhq/tandem"

func TestFloors(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...")
	cmd.Dir = "."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := 0
	for line := range strings.Lines(string(out)) {
		imports := strings.Fields(line)
		from := ours(imports[0])
		packages++
		height, ok := floors[from]
		if !ok {
			t.Errorf("%s has no floor: add it to floors and to docs/architecture.md", imports[0])
			continue
		}
		for _, imp := range imports[1:] {
			for library, owner := range onlyImporter {
				if strings.HasPrefix(imp, library) && from != owner && !strings.HasPrefix(from, owner+"/") {
					t.Errorf("%s imports %s, which only %s may", imports[0], imp, owner)
				}
			}
			if imp != module && !strings.HasPrefix(imp, module+"/") {
				continue
			}
			to := ours(imp)
			if floors[to] >= height {
				t.Errorf("%s (floor %d) imports %s (floor %d)", imports[0], height, imp, floors[to])
			}
			if isAdapter(from) && !adapterSees[to] {
				t.Errorf("the adapter %s imports %s; it may know only channels and the root package", from, to)
			}
		}
	}
	if packages < 10 {
		t.Fatalf("go list found %d packages; the test looks at nothing", packages)
	}
}

func ours(path string) string { return strings.TrimPrefix(strings.TrimPrefix(path, module), "/") }

func isAdapter(p string) bool {
	return strings.HasPrefix(p, "channels/") && p != "channels/channeltest"
}
