// Command testrun is what `make test` runs: every check and every test of the repository, against one PostgreSQL cluster
// that it starts and stops. It prints the output of what failed, the figures that tests logged and, as its last line,
// "N passed, N failed"; it exits non-zero when anything failed, and leaves nothing running, interrupted or not.
//
// Formatting, vet, staticcheck and go test run beside the web app's checks and unit tests; the end-to-end test has the
// machine to itself at the end.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tandemhq/tandem/tools/cleanroom"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	cleanroom.AdoptOrphans()
	code := run(ctx, os.Stdout)
	stop()
	os.Exit(code)
}

// bench is what the steps of a run share.
type bench struct {
	room *cleanroom.Room
	out  io.Writer

	mu      sync.Mutex // guards out and results
	results []result
}

// roomy is how much has to be free for tests to keep their files in memory: they need a third of it.
const roomy = 12 << 30

func run(ctx context.Context, out io.Writer) int {
	began := time.Now()
	room, err := cleanroom.Open(cleanroom.Memory(roomy), "tandem-make-test-")
	if err != nil {
		fmt.Fprintln(out, "testrun:", err)
		return 1
	}
	defer room.Close()
	b := &bench{room: room, out: out}
	stopPostgres, err := room.StartPostgres(ctx)
	if err != nil {
		b.record(result{name: "PostgreSQL", failed: 1, output: err.Error()})
	} else {
		b.steps(ctx)
		if err := stopPostgres(); err != nil {
			fmt.Fprintln(out, "testrun:", err)
		}
	}
	for _, name := range cleanroom.EndOrphans() {
		b.record(result{name: "left running and ended: " + name})
	}
	return b.summarize(ctx, time.Since(began))
}

// steps runs everything. The web app is built first, because one Go package embeds its output.
func (b *bench) steps(ctx context.Context) {
	var webBuilt bool
	parallel(
		func() { b.command(ctx, "gofumpt", ".", b.unformatted) },
		func() { webBuilt = b.command(ctx, "web build", ".", output("scripts/web", "build")) },
	)
	parallel(
		func() {
			b.command(ctx, "go vet", ".", output("go", "vet", "./..."))
			b.command(ctx, "staticcheck", ".", output("go", "tool", "-modfile=tools/staticcheck/go.mod", "staticcheck", "./..."))
			b.tagged(ctx)
			b.goTests(ctx)
		},
		func() {
			if !webBuilt {
				b.skip("web checks and tests", "the web app did not build")
				return
			}
			b.command(ctx, "web check", "web", output("npm", "run", "--silent", "check"))
			b.command(ctx, "API description", "web", output("npm", "run", "--silent", "lint:api"))
			b.command(ctx, "API client", "web", output("npm", "run", "--silent", "check:api"))
			b.vitest(ctx, "web tests", "vite.config.ts")
			b.vitest(ctx, "widget tests", "vite.widget.config.ts")
		},
	)
	switch {
	case !webBuilt:
		b.skip("end-to-end", "the web app did not build")
	case os.Getenv("CHROMIUM") == "":
		b.record(result{name: "end-to-end", failed: 1, output: "No Chromium was found: run scripts/setup --browser."})
	case b.command(ctx, "build", ".", output("go", "build", "-o", "bin/tandem", "./cmd/tandem")):
		dir, err := b.room.Folder("e2e")
		if err != nil {
			b.record(result{name: "end-to-end", failed: 1, output: err.Error()})
			return
		}
		b.room.Env = append(b.room.Env, "TANDEM_BIN="+filepath.Join(b.room.Root, "bin", "tandem"), "TMPDIR="+dir)
		b.vitest(ctx, "end-to-end", "vitest.e2e.config.ts")
	default:
		b.skip("end-to-end", "the program did not build")
	}
}

// tagged looks at what is built only with a tag, so that it does not rot: the proving ground and the deliberate defects.
func (b *bench) tagged(ctx context.Context) {
	proving := []string{"./tools/..."}
	if _, err := os.Stat(filepath.Join(b.room.Root, "internal", "prove")); err == nil {
		proving = append(proving, "./internal/prove/...")
	}
	b.command(ctx, "vet -tags prove", ".", output("go", append([]string{"vet", "-tags=prove"}, proving...)...))
	b.command(ctx, "staticcheck -tags prove", ".",
		output("go", append([]string{"tool", "-modfile=tools/staticcheck/go.mod", "staticcheck", "-tags=prove"}, proving...)...))
	// The defects themselves are plain conditions, which every build compiles.
	b.command(ctx, "vet -tags mutant", ".", output("go", "vet", "-tags=mutant", "./internal/mutant"))
}

// unformatted lists the Go files that gofumpt would change; any is a failure.
func (b *bench) unformatted(ctx context.Context, prepare func(*exec.Cmd)) (string, error) {
	args := []string{"tool", "-modfile=tools/gofumpt/go.mod", "gofumpt", "-l"}
	err := filepath.WalkDir(b.room.Root, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && (name == "node_modules" || path == filepath.Join(b.room.Root, "data") || strings.HasPrefix(name, ".")) && path != b.room.Root {
			return filepath.SkipDir
		}
		if !entry.IsDir() && strings.HasSuffix(name, ".go") {
			args = append(args, path)
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("list the Go files: %w", err)
	}
	text, err := output("go", args...)(ctx, prepare)
	if err == nil && strings.TrimSpace(text) != "" {
		err = fmt.Errorf("not formatted; make fmt formats them")
	}
	return text, err
}

func parallel(lanes ...func()) {
	var wg sync.WaitGroup
	for _, lane := range lanes {
		wg.Go(lane)
	}
	wg.Wait()
}
