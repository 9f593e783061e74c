package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tandemhq/tandem/tools/cleanroom"
)

// vitestReport is what we read of vitest's JSON report.
type vitestReport struct {
	NumPassedTests      int
	NumFailedTests      int
	NumPendingTests     int
	NumFailedTestSuites int
	TestResults         []struct {
		Name             string
		AssertionResults []struct {
			FullName string
			Status   string
		}
	}
}

// vitest runs the tests of one vitest configuration in web/ and records them as one step. It does not go through npm
// test, which runs several configurations and so could not be told where each shall put its report.
func (b *bench) vitest(ctx context.Context, name, config string) {
	if ctx.Err() != nil {
		return
	}
	began := time.Now()
	path := filepath.Join(b.room.Tmp, config+".json")
	out, err := output("node_modules/.bin/vitest", "run", "--config", config, "--reporter=default", "--reporter=json", "--outputFile.json="+path)(ctx, b.room.Prepare("web"))
	r := result{name: name, output: out, figures: cleanroom.FiguresIn(out)}
	var report vitestReport
	content, readErr := os.ReadFile(path)
	if readErr == nil {
		readErr = json.Unmarshal(content, &report)
	}
	r.passed, r.failed, r.skipped = report.NumPassedTests, report.NumFailedTests, report.NumPendingTests
	for _, file := range report.TestResults {
		for _, test := range file.AssertionResults {
			if test.Status == "skipped" || test.Status == "pending" || test.Status == "todo" {
				r.notes = append(r.notes, fmt.Sprintf("%s: %s (marked %s in its file)", filepath.Base(file.Name), test.FullName, test.Status))
			}
		}
	}
	// A file that does not load, an error outside of a test, or no test at all fails without a failed test.
	if r.failed == 0 && (err != nil || readErr != nil || r.passed == 0) {
		r.failed = 1
		for _, e := range []error{err, readErr} {
			if e != nil {
				r.output += "\n" + e.Error()
			}
		}
	}
	r.took = time.Since(began)
	b.record(r)
}
