package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/tandemhq/tandem/tools/cleanroom"
)

// unraced are tests, by package, that send thousands of requests one after the other or start the whole program again and
// again, of which the race detector makes three times as much. They run without it, after all others. With it run the API's
// scenarios, which call every operation, and the hub's own tests and TestDemo, in which all of it works together.
var unraced = map[string][]string{
	"./api": {
		"TestExamples", "TestExamplesAreAccepted", "TestForeignIdsAreNotFoundEverywhere", "TestForeignIdsInBodies", "TestGuide",
		"TestHostileFiles", "TestHostileLists", "TestRandomRequests", "TestRolesAndRoutes",
	},
	"./cmd/tandem": {
		"TestInit", "TestMigrateAndVersion", "TestNothingIsLostWhenTheProcessEnds", "TestSecondSignalForces",
		"TestServeOnAnExternalDatabase", "TestUnfitDatabaseIsOneSentence",
	},
}

// named is the pattern of go test for the tests of unraced.
func named() string {
	var all []string
	for _, tests := range unraced {
		all = append(all, tests...)
	}
	slices.Sort(all)
	return "^(" + strings.Join(all, "|") + ")$"
}

// goTests runs every Go test once: all with the race detector but for those of unraced.
func (b *bench) goTests(ctx context.Context) {
	b.goTest(ctx, "go test -race", "-race", "-skip="+named(), "./...")
	b.goTest(ctx, "go test", append([]string{"-run=" + named()}, slices.Sorted(maps.Keys(unraced))...)...)
}

// goTest runs Go tests and records them as one step. Vet is a step of its own.
func (b *bench) goTest(ctx context.Context, name string, args ...string) {
	if ctx.Err() != nil {
		return
	}
	began := time.Now()
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-vet=off", "-shuffle=on", "-json", "-timeout=15m"}, args...)...)
	b.room.Prepare(".")(cmd)
	dir, err := b.room.Folder("go")
	if err != nil {
		b.record(result{name: name, failed: 1, output: err.Error()})
		return
	}
	// The tests' own files; the test programs stay on the disk, where they are many and large.
	cmd.Env = append(slices.Clip(cmd.Env), "TMPDIR="+dir, "GOTMPDIR="+os.TempDir())
	var stderr strings.Builder
	cmd.Stderr = &stderr
	var tally goTally
	events, err := cmd.StdoutPipe()
	if err == nil {
		if err = cmd.Start(); err == nil {
			err = errors.Join(tally.read(events), cmd.Wait())
		}
	}
	r := tally.result(err, stderr.String())
	r.name, r.took = name, time.Since(began)
	b.record(r)
}

// goTally counts tests, subtests included, and keeps the output of those that have not passed.
type goTally struct {
	passed, failed, skipped int
	output                  map[string]*strings.Builder // by package, test
	failures                []string                    // in order of appearance
	failedTests             map[string]int              // by package
	notes, figures          []string
}

func (g *goTally) read(events io.Reader) error {
	g.output, g.failedTests = map[string]*strings.Builder{}, map[string]int{}
	return cleanroom.ReadEvents(events, g.add, func(line string) { g.failures = append(g.failures, line) })
}

func (g *goTally) add(e cleanroom.TestEvent) {
	pkg := e.Package
	if pkg == "" {
		pkg = e.ImportPath
	}
	key := pkg + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		if g.output[key] == nil {
			g.output[key] = &strings.Builder{}
		}
		g.output[key].WriteString(e.Output)
		g.figures = append(g.figures, cleanroom.FiguresIn(e.Output)...)
	case "pass":
		if e.Test != "" {
			g.passed++
			delete(g.output, key)
		}
	case "skip":
		if e.Test != "" {
			g.skipped++
			g.notes = append(g.notes, fmt.Sprintf("%s %s: %s", cleanroom.ShortPackage(pkg), e.Test, cleanroom.SkipReason(g.take(key))))
		}
	case "fail":
		if e.Test != "" {
			g.failed++
			g.failedTests[pkg]++
			g.failures = append(g.failures, cleanroom.ShortPackage(pkg)+" "+e.Test+"\n"+g.take(key))
			return
		}
		g.failPackage(pkg, e.FailedBuild)
	}
}

// failPackage counts a package that failed as a whole (it did not build, it panicked, it timed out) as one failure, and
// shows the tests that had not ended.
func (g *goTally) failPackage(pkg, failedBuild string) {
	text := g.take(pkg + " ")
	if failedBuild != "" {
		text = g.take(failedBuild+" ") + text
	}
	if g.failedTests[pkg] == 0 {
		g.failed++
		for key := range g.output {
			if strings.HasPrefix(key, pkg+" ") {
				text += key + "\n" + g.take(key)
			}
		}
	}
	g.failures = append(g.failures, cleanroom.ShortPackage(pkg)+"\n"+text)
}

func (g *goTally) take(key string) string {
	b := g.output[key]
	if b == nil {
		return ""
	}
	delete(g.output, key)
	return b.String()
}

func (g *goTally) result(err error, stderr string) result {
	r := result{
		passed: g.passed, failed: g.failed, skipped: g.skipped, notes: g.notes, figures: g.figures,
		output: strings.Join(g.failures, "\n"),
	}
	if err != nil && r.failed == 0 {
		r.failed = 1
		r.output += stderr + err.Error()
	}
	if err == nil && r.passed == 0 {
		r.failed, r.output = 1, "go test ran no test"
	}
	return r
}
