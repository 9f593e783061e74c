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

	"github.com/tandemhq/tandem/internal/pg/local"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	adoptOrphans()
	code := run(ctx, os.Stdout)
	stop()
	os.Exit(code)
}

// bench is what the steps of a run share.
type bench struct {
	root string   // the repository
	tmp  string   // removed at the end; other accounts may pass through it
	env  []string // for every command
	out  io.Writer

	mu      sync.Mutex // guards out and results
	results []result
}

func run(ctx context.Context, out io.Writer) int {
	began := time.Now()
	b, err := newBench(out)
	if err != nil {
		fmt.Fprintln(out, "testrun:", err)
		return 1
	}
	defer os.RemoveAll(b.tmp)
	stopPostgres, err := b.startPostgres(ctx)
	if err != nil {
		b.record(result{name: "PostgreSQL", failed: 1, output: err.Error()})
	} else {
		b.steps(ctx)
		stopPostgres()
	}
	for _, name := range endOrphans() {
		b.record(result{name: "left running and ended: " + name})
	}
	return b.summarize(ctx, time.Since(began))
}

func newBench(out io.Writer) (*bench, error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("find the repository: %w", err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		return nil, fmt.Errorf("run it from the repository's root: %w", err)
	}
	tmp, err := os.MkdirTemp("", "tandem-make-test-")
	if err != nil {
		return nil, fmt.Errorf("make a temporary folder: %w", err)
	}
	// PostgreSQL, and that of the program under test, may run under another account.
	for _, dir := range []string{tmp, filepath.Join(tmp, "e2e")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make a temporary folder: %w", err)
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			return nil, fmt.Errorf("open a temporary folder: %w", err)
		}
	}
	return &bench{root: root, tmp: tmp, out: out, env: append(os.Environ(), "CI=true", "NO_COLOR=1", "FORCE_COLOR=0")}, nil
}

// startPostgres starts the cluster that all Go test processes share and names it in their environment.
func (b *bench) startPostgres(ctx context.Context) (stop func(), err error) {
	dir := filepath.Join(b.tmp, "postgres")
	server, err := local.Start(ctx, pgtest.ServerOptions(dir))
	if err != nil {
		return nil, err
	}
	b.env = append(b.env, "TANDEM_TEST_PG="+dir)
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			fmt.Fprintln(b.out, "testrun:", err)
		}
	}, nil
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
			b.goTest(ctx)
		},
		func() {
			if !webBuilt {
				b.skip("web checks and tests", "the web app did not build")
				return
			}
			b.command(ctx, "web check", "web", output("npm", "run", "--silent", "check"))
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
		b.env = append(b.env, "TANDEM_BIN="+filepath.Join(b.root, "bin", "tandem"), "TMPDIR="+filepath.Join(b.tmp, "e2e"))
		b.vitest(ctx, "end-to-end", "vitest.e2e.config.ts")
	default:
		b.skip("end-to-end", "the program did not build")
	}
}

// unformatted lists the Go files that gofumpt would change; any is a failure.
func (b *bench) unformatted(ctx context.Context, prepare func(*exec.Cmd)) (string, error) {
	args := []string{"tool", "-modfile=tools/gofumpt/go.mod", "gofumpt", "-l"}
	err := filepath.WalkDir(b.root, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && (name == "node_modules" || path == filepath.Join(b.root, "data") || strings.HasPrefix(name, ".")) && path != b.root {
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
