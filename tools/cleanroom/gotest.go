package cleanroom

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// TestEvent is a line of go test -json.
type TestEvent struct {
	Action      string
	Package     string
	ImportPath  string // of build output
	Test        string
	Output      string
	FailedBuild string
	Elapsed     float64
}

// ReadEvents calls event for each line that is an event, and other for each that is not: there go itself speaks.
func ReadEvents(from io.Reader, event func(TestEvent), other func(string)) error {
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e TestEvent
			if json.Unmarshal(line, &e) == nil {
				event(e)
			} else {
				other(string(line))
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the output of go test: %w", err)
		}
	}
}

// figure is a line that a test logged for the summary. The testing package puts file and line before it.
var figure = regexp.MustCompile(`^\s*(?:\S+\.go:\d+: )?figure: *(.+)$`)

// FiguresIn returns what stands behind "figure:" on lines of their own.
func FiguresIn(text string) (found []string) {
	for line := range strings.Lines(text) {
		if m := figure.FindStringSubmatch(strings.TrimRight(line, "\r\n")); m != nil {
			found = append(found, m[1])
		}
	}
	return found
}

// SkipReason is what a skipped test said, without the framework's lines around it.
func SkipReason(text string) string {
	var reason []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		if i := strings.Index(line, ".go:"); i > 0 {
			if _, said, ok := strings.Cut(line[i:], ": "); ok {
				line = said
			}
		}
		reason = append(reason, line)
	}
	return strings.Join(reason, " ")
}

// Module is the path of the repository's module.
const Module = "github.com/tandemhq/tandem"

// ShortPackage is an import path without the module's.
func ShortPackage(pkg string) string { return strings.TrimPrefix(pkg, Module+"/") }
