package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/tandemhq/tandem/tools/cleanroom"
)

// result is what one step came to.
type result struct {
	name                    string
	passed, failed, skipped int
	took                    time.Duration
	output                  string   // what explains a failure
	notes                   []string // what was skipped, and why
	figures                 []string // what tests measured
}

// A job runs a command, after prepare has set its folder, environment and process group, and returns what it printed.
type job func(ctx context.Context, prepare func(*exec.Cmd)) (string, error)

// output is the job of a plain command.
func output(name string, args ...string) job {
	return func(ctx context.Context, prepare func(*exec.Cmd)) (string, error) {
		cmd := exec.CommandContext(ctx, name, args...)
		prepare(cmd)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
}

// command records a step that passes or fails as a whole.
func (b *bench) command(ctx context.Context, name, dir string, do job) (ok bool) {
	if ctx.Err() != nil {
		return false
	}
	began := time.Now()
	out, err := do(ctx, b.room.Prepare(dir))
	r := result{name: name, passed: 1, took: time.Since(began), figures: cleanroom.FiguresIn(out)}
	if err != nil {
		r.passed, r.failed, r.output = 0, 1, strings.TrimRight(out, "\n")+"\n"+err.Error()
	}
	b.record(r)
	return err == nil
}

func (b *bench) skip(name, reason string) {
	b.record(result{name: name, skipped: 1, notes: []string{name + ": " + reason}})
}

// record keeps r and prints its line, and its output when it failed.
func (b *bench) record(r result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.results = append(b.results, r)
	mark := "ok"
	switch {
	case r.failed > 0:
		mark = "FAIL"
	case r.passed == 0:
		mark = "-"
	}
	fmt.Fprintf(b.out, "%-5s %-24s %6.1fs", mark, r.name, r.took.Seconds())
	if r.passed+r.failed > 1 {
		fmt.Fprintf(b.out, "  %d passed, %d failed", r.passed, r.failed)
	}
	fmt.Fprintln(b.out)
	if r.failed > 0 {
		fmt.Fprintf(b.out, "\n%s\n\n", indent(r.output))
	}
}

// summarize prints figures, what was skipped, and the last line, and returns the exit code.
func (b *bench) summarize(ctx context.Context, took time.Duration) int {
	var all result
	for _, r := range b.results {
		all.passed += r.passed
		all.failed += r.failed
		all.notes = append(all.notes, r.notes...)
		all.figures = append(all.figures, r.figures...)
	}
	code := 0
	if ctx.Err() != nil {
		fmt.Fprintln(b.out, "\nInterrupted.")
		all.failed++
	}
	if all.failed > 0 || all.passed == 0 {
		code = 1
	}
	section(b.out, "Figures", all.figures)
	section(b.out, "Skipped", all.notes)
	fmt.Fprintf(b.out, "\nTook %v.\n%d passed, %d failed\n", took.Round(time.Second), all.passed, all.failed)
	return code
}

func section(out interface{ Write([]byte) (int, error) }, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(out, "\n%s\n", title)
	for _, line := range lines {
		fmt.Fprintln(out, "  "+line)
	}
}

// maxShown bounds the output that a failure shows; the end of it is kept, where the reason usually is.
const maxShown = 200_000

func indent(text string) string {
	if len(text) > maxShown {
		text = "[...]\n" + text[len(text)-maxShown:]
	}
	var buf bytes.Buffer
	for line := range strings.Lines(text) {
		buf.WriteString("    " + line)
	}
	return strings.TrimRight(buf.String(), "\n")
}
