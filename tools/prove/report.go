package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Row is what became of one goal.
type Row struct {
	Goal
	Measured []string  `json:"measured"`
	Missed   []string  `json:"missed,omitempty"` // figures that were not reached
	Cause    string    `json:"cause,omitempty"`  // why it is not held
	Held     bool      `json:"held"`
	Failed   bool      `json:"failed,omitempty"` // a test failed, or none ran
	Seed     uint64    `json:"seed"`
	Seconds  float64   `json:"seconds"`
	At       time.Time `json:"at"`
}

// Report is one run, as JSON keeps it.
type Report struct {
	Seed    uint64  `json:"seed"`
	Seconds float64 `json:"seconds"`
	Machine string  `json:"machine"`
	Goals   []Row   `json:"goals"`
}

const missedMark = "MISSED: "

// judge fills the row from what ran.
func (r *Row) judge(ran map[Test]outcome) {
	seen := map[string]bool{}
	take := func(figures []string) {
		for _, f := range figures {
			text, mine := strings.CutPrefix(f, r.ID+": ")
			if !mine || seen[f] {
				continue
			}
			seen[f] = true
			if missed, is := strings.CutPrefix(text, missedMark); is {
				r.Missed = append(r.Missed, missed)
			} else {
				r.Measured = append(r.Measured, text)
			}
		}
	}
	var failed, skipped []string
	for _, t := range r.Tests {
		o := ran[t]
		take(o.figures)
		skipped = append(skipped, o.skipped...)
		switch {
		case len(o.failed) > 0:
			failed = append(failed, o.failed[0])
		case o.broken != nil:
			failed = append(failed, t.String()+": "+firstLine(o.broken.Error()))
		}
	}
	others := make([]string, 0, len(ran))
	for _, o := range ran {
		others = append(others, o.figures...)
	}
	slices.Sort(others)
	take(others)
	switch {
	case len(r.Tests) == 0:
		r.Cause, r.Failed = "no test stands for it", true
	case len(failed) > 0:
		r.Cause, r.Failed = "failed: "+strings.Join(failed, ", "), true
	case len(r.Missed) > 0:
		r.Cause = "missed: " + strings.Join(r.Missed, "; ")
	case len(skipped) > 0:
		r.Cause = "skipped: " + strings.Join(skipped, "; ")
	case len(r.Measured) == 0:
		r.Cause, r.Failed = "its tests passed and printed no figure", true
	default:
		r.Held = true
	}
}

// result is the measured figures, and the cause when the goal is not held.
func (r Row) result() string {
	parts := slices.Clone(r.Measured)
	if r.Cause != "" {
		parts = append(parts, r.Cause)
	}
	return strings.Join(parts, "; ")
}

func (r Row) state() string {
	if r.Held {
		return "held"
	}
	return "NOT HELD"
}

// text is the table for people: one goal after another, because figures are sentences.
func (r Report) text() string {
	var b strings.Builder
	held := 0
	for _, row := range r.Goals {
		if row.Held {
			held++
		}
		fmt.Fprintf(&b, "%-8s %-9s %5.0f s  seed %d\n", row.ID, row.state(), row.Seconds, row.Seed)
		fmt.Fprintf(&b, "         promised  %s\n", row.Promise)
		for _, m := range row.Measured {
			fmt.Fprintf(&b, "         measured  %s\n", m)
		}
		if row.Cause != "" {
			fmt.Fprintf(&b, "         because   %s\n", row.Cause)
		}
	}
	fmt.Fprintf(&b, "\n%d of %d goals held on %s, seed %d, in %v.", held, len(r.Goals), r.Machine, r.Seed, time.Duration(r.Seconds*float64(time.Second)).Round(time.Second))
	return b.String()
}

func (r Report) markdown() string {
	var b strings.Builder
	b.WriteString("| goal | promised | measured | seed | seconds | |\n|---|---|---|---|---|---|\n")
	for _, row := range r.Goals {
		fmt.Fprintf(&b, "| %s | %s | %s | %d | %.0f | %s |\n", row.ID, cell(row.Promise), cell(row.result()), row.Seed, row.Seconds, row.state())
	}
	return b.String()
}

// cell is text that fits between two bars of a table.
func cell(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", `\|`)
}

// save writes prove.json and prove.md. Goals that this run left out keep their last row.
func (r Report) save(o options) error {
	if old, err := loadReport(o); err == nil {
		for _, row := range old.Goals {
			known := slices.ContainsFunc(goals, func(g Goal) bool { return g.ID == row.ID })
			if known && !slices.ContainsFunc(r.Goals, func(mine Row) bool { return mine.ID == row.ID }) {
				r.Goals = append(r.Goals, row)
			}
		}
	}
	slices.SortStableFunc(r.Goals, func(a, b Row) int { return place(a.ID) - place(b.ID) })
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return errors.Join(os.WriteFile(o.path("prove.json"), append(text, '\n'), 0o644), os.WriteFile(o.path("prove.md"), []byte(r.markdown()), 0o644))
}

func loadReport(o options) (Report, error) {
	var r Report
	text, err := os.ReadFile(o.path("prove.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("%s is not there: run make prove first", o.path("prove.json"))
	}
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return r, fmt.Errorf("read the table: %w", err)
	}
	return r, nil
}

// place is where a goal stands in the table.
func place(id string) int {
	return slices.IndexFunc(goals, func(g Goal) bool { return g.ID == id })
}

func machine() string { return fmt.Sprintf("%d cores", runtime.NumCPU()) }

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
