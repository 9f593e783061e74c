package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tandemhq/tandem/internal/mutant"
)

// Mutant is a deliberate defect and the tests that must see it.
type Mutant struct {
	Name  string
	What  string // what is broken, in plain words
	Tests []Test
}

// kill is what became of one mutant.
type kill struct {
	Name    string  `json:"name"`
	What    string  `json:"what"`
	By      string  `json:"killed_by,omitempty"` // the test that failed; empty: it survived
	Late    bool    `json:"late,omitempty"`      // not by a test named for it, but by another of the package
	Seconds float64 `json:"seconds"`
}

type killReport struct {
	Seconds float64 `json:"seconds"`
	Mutants []kill  `json:"mutants"`
}

func (r killReport) survivors() (names []string) {
	for _, k := range r.Mutants {
		if k.By == "" {
			names = append(names, k.Name)
		}
	}
	return names
}

// mutate is `make mutants`.
func mutate(ctx context.Context, g *ground, o options) (bool, error) {
	chosen, err := choose(mutants, func(m Mutant) string { return m.Name }, o.only)
	if err != nil {
		return false, err
	}
	r, err := g.hunt(ctx, chosen, o)
	if err != nil || ctx.Err() != nil {
		return false, err
	}
	g.say("")
	for _, k := range r.Mutants {
		by := k.By
		switch {
		case by == "":
			by = "SURVIVED: no test sees it"
		case k.Late:
			by += " (not among its own tests)"
		}
		g.say("%-28s %5.1f s  %s", k.Name, k.Seconds, by)
	}
	left := r.survivors()
	g.say("\n%d of %d mutants killed in %v.", len(r.Mutants)-len(left), len(r.Mutants), time.Duration(r.Seconds*float64(time.Second)).Round(time.Second))
	text, err := json.MarshalIndent(r, "", "  ")
	if err == nil && len(o.only) == 0 {
		err = errors.Join(os.MkdirAll(o.dir, 0o755), os.WriteFile(o.path("mutants.json"), append(text, '\n'), 0o644))
	}
	if err != nil {
		return false, fmt.Errorf("write the table: %w", err)
	}
	return len(left) == 0, nil
}

// hunt tries mutant after mutant, after the same tests were green without any.
func (g *ground) hunt(ctx context.Context, chosen []Mutant, o options) (killReport, error) {
	began := time.Now()
	byPackage := map[string][]string{}
	var packages []string
	for _, m := range chosen {
		for _, t := range m.Tests {
			if byPackage[t.Package] == nil {
				packages = append(packages, t.Package)
				if err := g.build(ctx, t.Package, "mutant"); err != nil {
					return killReport{}, err
				}
			}
			if !slices.Contains(byPackage[t.Package], t.Run) {
				byPackage[t.Package] = append(byPackage[t.Package], t.Run)
			}
		}
	}
	g.say("Built in %v. Without a mutant:", time.Since(began).Round(time.Second))
	sick := make([]error, len(packages))
	lanes(o.lanes, len(packages), func(i int) {
		pkg := packages[i]
		out := g.run(ctx, Test{Package: pkg, Run: strings.Join(byPackage[pkg], "|"), Tags: "mutant", Timeout: 4 * time.Minute}, []string{mutant.Env + "="}, nil, nil)
		if !out.green() {
			sick[i] = fmt.Errorf("the tests of %s fail without any mutant (%s), so nothing can be learned from them\n%s", pkg, out.killer(), indent(out.output))
			return
		}
		g.say("    green %-18s %3d tests %5.1f s", pkg, out.passed, out.took.Seconds())
	})
	if err := errors.Join(sick...); err != nil {
		return killReport{}, err
	}
	r := killReport{Mutants: make([]kill, len(chosen))}
	lanes(o.lanes, len(chosen), func(i int) {
		r.Mutants[i] = g.try(ctx, chosen[i])
		if by := r.Mutants[i].By; by != "" {
			g.say("    killed %s by %s", chosen[i].Name, by)
		} else {
			g.say("    SURVIVED %s", chosen[i].Name)
		}
	})
	r.Seconds = time.Since(began).Seconds()
	return r, ctx.Err()
}

// try runs the tests that should see the mutant, and the whole of their packages when they do not.
func (g *ground) try(ctx context.Context, m Mutant) (k kill) {
	k.Name, k.What = m.Name, m.What
	began := time.Now()
	defer func() { k.Seconds = time.Since(began).Seconds() }()
	env := []string{mutant.Env + "=" + m.Name}
	attempt := func(pkg, run string, timeout time.Duration) bool {
		out := g.run(ctx, Test{Package: pkg, Run: run, Tags: "mutant", Timeout: timeout}, env, []string{"-test.failfast"}, nil)
		if ctx.Err() != nil || out.green() {
			return false
		}
		k.By = pkg + " " + out.killer()
		return true
	}
	var packages []string
	for _, t := range m.Tests {
		if attempt(t.Package, t.Run, cmp.Or(t.Timeout, 60*time.Second)) {
			return k
		}
		if !slices.Contains(packages, t.Package) {
			packages = append(packages, t.Package)
		}
	}
	for _, pkg := range packages {
		if attempt(pkg, "", 4*time.Minute) {
			k.Late = true
			return k
		}
	}
	return k
}

// mutantsRow is the row of make prove: a run of its own when there is time, else the last one.
func mutantsRow(ctx context.Context, g *ground, o options, left time.Duration) Row {
	row := Row{Goal: goals[place(mutantsGoal)]}
	var r killReport
	var err error
	if left >= mutantsTime || len(o.only) > 0 {
		g.say("\n%s: %s", row.ID, row.Promise)
		r, err = g.hunt(ctx, mutants, o)
		row.Seconds = r.Seconds
	} else {
		var text []byte
		if text, err = os.ReadFile(o.path("mutants.json")); err == nil {
			err = json.Unmarshal(text, &r)
		}
		if err != nil {
			row.Cause = "skipped: no time is left for it; run make mutants"
			return row
		}
	}
	survivors := r.survivors()
	switch {
	case err != nil:
		row.Cause, row.Failed = firstLine(err.Error()), true
	case len(survivors) > 0:
		row.Cause, row.Failed = "survived: "+strings.Join(survivors, ", "), true
	default:
		row.Held = true
	}
	if len(r.Mutants) > 0 {
		row.Measured = []string{fmt.Sprintf("%d of %d deliberate defects are seen by the tests", len(r.Mutants)-len(survivors), len(r.Mutants))}
	}
	return row
}

// lanes does n pieces of work, at most so many at once.
func lanes(most, n int, do func(i int)) {
	slots := make(chan struct{}, max(most, 1))
	var wg sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			do(i)
		})
	}
	wg.Wait()
}
