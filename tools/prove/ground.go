package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tandemhq/tandem/tools/cleanroom"
)

// Test names tests of one package.
type Test struct {
	Package string // below the module, such as "inbox"
	Run     string // as for go test -run; empty: all of the package
	Tags    string
	Timeout time.Duration // 0: 8 minutes
	Root    bool          // needs root, such as for mounts
}

func (t Test) timeout() time.Duration {
	if t.Timeout > 0 {
		return t.Timeout
	}
	return 8 * time.Minute
}

func (t Test) String() string { return t.Package + " " + t.Run }

// outcome is what running a Test came to.
type outcome struct {
	passed  int
	failed  []string // tests, the innermost first
	skipped []string // what each skipped test said
	figures []string
	output  string // of what failed
	broken  error  // the run as a whole: it did not build, panicked, or took too long
	took    time.Duration
}

func (o outcome) green() bool { return len(o.failed) == 0 && o.broken == nil }

// killer names what failed.
func (o outcome) killer() string {
	if len(o.failed) > 0 {
		return o.failed[0]
	}
	if o.broken != nil {
		return o.broken.Error()
	}
	return ""
}

// ground builds and runs tests.
type ground struct {
	room *cleanroom.Room
	out  io.Writer

	mu   sync.Mutex // guards out
	bins map[string]string
}

func (g *ground) say(format string, args ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fmt.Fprintf(g.out, format+"\n", args...)
}

// build makes the test binary of a package. It is called from one goroutine, before the runs.
func (g *ground) build(ctx context.Context, pkg, tags string) error {
	key := pkg + " " + tags
	if g.bins[key] != "" {
		return nil
	}
	dir, err := g.room.Folder("tests")
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(key))
	bin := filepath.Join(dir, path.Base(pkg)+"-"+hex.EncodeToString(sum[:4])+".test")
	if _, err := os.Stat(filepath.Join(g.room.Root, pkg)); err != nil {
		return fmt.Errorf("there is no package %s", pkg)
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-tags="+tags, "-o", bin, "./"+pkg)
	g.room.Prepare(".")(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the tests of %s: %w\n%s", pkg, err, out)
	}
	if _, err := os.Stat(bin); err != nil {
		return fmt.Errorf("%s has no tests", pkg)
	}
	g.bins[key] = bin
	return nil
}

// run runs the test with more environment and flags of the test binary. tell, which may be nil, hears of each test that
// ended.
func (g *ground) run(ctx context.Context, t Test, env, flags []string, tell func(cleanroom.TestEvent)) outcome {
	bin := g.bins[t.Package+" "+t.Tags]
	if bin == "" {
		return outcome{broken: fmt.Errorf("the tests of %s are not built", t.Package)}
	}
	// A binary that hangs in spite of its own timeout is ended from outside.
	ctx, cancel := context.WithTimeout(ctx, t.timeout()+30*time.Second)
	defer cancel()
	args := append([]string{
		"tool", "test2json", "-t", "-p", cleanroom.Module + "/" + t.Package, bin, "-test.v=test2json", "-test.count=1",
		"-test.timeout=" + t.timeout().String(), "-test.run=" + t.Run,
	}, flags...)
	cmd := exec.CommandContext(ctx, "go", args...)
	g.room.Prepare(t.Package)(cmd)
	cmd.Env = append(append([]string{}, cmd.Env...), env...)
	began := time.Now()
	var r reading
	events, err := cmd.StdoutPipe()
	if err == nil {
		cmd.Stderr = &r.loose
		if err = cmd.Start(); err == nil {
			err = errors.Join(cleanroom.ReadEvents(events, func(e cleanroom.TestEvent) {
				r.add(e)
				if tell != nil && e.Test != "" && e.Action != "output" {
					tell(e)
				}
			}, func(line string) { r.loose.WriteString(line) }), cmd.Wait())
		}
	}
	o := r.outcome(err)
	o.took = time.Since(began)
	return o
}

// reading collects the events of one run.
type reading struct {
	o      outcome
	output map[string]*strings.Builder
	order  []string
	loose  strings.Builder
	sawEnd bool // the package's own verdict
}

func (r *reading) add(e cleanroom.TestEvent) {
	if r.output == nil {
		r.output = map[string]*strings.Builder{}
	}
	switch e.Action {
	case "output":
		if r.output[e.Test] == nil {
			r.output[e.Test] = &strings.Builder{}
			r.order = append(r.order, e.Test)
		}
		r.output[e.Test].WriteString(e.Output)
		r.o.figures = append(r.o.figures, cleanroom.FiguresIn(e.Output)...)
	case "pass":
		if e.Test == "" {
			r.sawEnd = true
			return
		}
		r.o.passed++
		delete(r.output, e.Test)
	case "skip":
		if e.Test != "" {
			r.o.skipped = append(r.o.skipped, e.Test+": "+cleanroom.SkipReason(r.take(e.Test)))
		}
	case "fail":
		if e.Test == "" {
			r.sawEnd = true
			return
		}
		r.o.failed = append(r.o.failed, e.Test)
		r.o.output += e.Test + "\n" + r.take(e.Test)
	}
}

func (r *reading) take(test string) string {
	b := r.output[test]
	if b == nil {
		return ""
	}
	delete(r.output, test)
	return b.String()
}

func (r *reading) outcome(err error) outcome {
	o := r.o
	if err != nil && len(o.failed) == 0 {
		o.broken = err
		for _, name := range r.order {
			if text := r.take(name); text != "" {
				if strings.Contains(text, "panic: test timed out") {
					o.broken = errors.New("a timeout")
				} else if strings.Contains(text, "panic: ") {
					o.broken = errors.New("a panic")
				}
				o.output += name + "\n" + text
			}
		}
		o.output += r.loose.String()
	}
	if err == nil && o.passed+len(o.skipped) == 0 {
		o.broken = errors.New("no test of this name")
	}
	return o
}
