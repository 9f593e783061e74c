package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/tools/cleanroom"
)

// mutantsTime is about what the mutants take.
const mutantsTime = 8 * time.Minute

// prove runs goal after goal and prints the table. It reports whether no test failed.
func prove(ctx context.Context, g *ground, o options) (bool, error) {
	chosen, err := choose(goals, func(goal Goal) string { return goal.ID }, o.only)
	if err != nil {
		return false, err
	}
	began := time.Now()
	g.say("Seed %d. To repeat: make prove SEED=%d", o.seed, o.seed)
	program, unbuilt := g.builds(ctx, chosen)
	g.room.Env = append(g.room.Env, proof.EnvFull+"=1", proof.EnvSeed+"="+strconv.FormatUint(o.seed, 10), "TANDEM_PROVE_BIN="+program)
	g.say("Built in %v.", time.Since(began).Round(time.Second))

	ran := map[Test]outcome{}
	rows := make([]Row, 0, len(chosen))
	for i, goal := range chosen {
		if ctx.Err() != nil {
			break
		}
		if goal.ID == mutantsGoal {
			rows = append(rows, mutantsRow(ctx, g, o, o.within-time.Since(began)))
			continue
		}
		g.say("\n[%d/%d %v] %s: %s", i+1, len(chosen), time.Since(began).Round(time.Second), goal.ID, goal.Promise)
		rows = append(rows, proveGoal(ctx, g, goal, ran, unbuilt))
	}
	// A test of one goal may have measured something for another.
	report := Report{Seed: o.seed, Seconds: time.Since(began).Seconds(), Machine: machine()}
	for _, row := range rows {
		row.Seed, row.At = o.seed, began.UTC().Truncate(time.Second)
		if row.ID != mutantsGoal {
			row.judge(ran)
		}
		report.Goals = append(report.Goals, row)
	}
	g.say("\n%s", report.text())
	if ctx.Err() == nil {
		if err := report.save(o); err != nil {
			return false, err
		}
	}
	return !slices.ContainsFunc(report.Goals, func(r Row) bool { return r.Failed }), nil
}

// builds makes the program and the test binaries, and returns the program's path and what could not be built.
func (g *ground) builds(ctx context.Context, chosen []Goal) (program string, unbuilt map[string]error) {
	unbuilt = map[string]error{}
	program, err := g.program(ctx)
	if err != nil {
		g.say("%v", err)
	}
	for _, goal := range chosen {
		for _, t := range goal.Tests {
			if err := g.build(ctx, t.Package, t.Tags); err != nil {
				unbuilt[t.Package+" "+t.Tags] = err
			}
		}
	}
	return program, unbuilt
}

// proveGoal runs the tests of one goal that have not run yet.
func proveGoal(ctx context.Context, g *ground, goal Goal, ran map[Test]outcome, unbuilt map[string]error) Row {
	row := Row{Goal: goal}
	for _, t := range goal.Tests {
		if _, done := ran[t]; done {
			continue
		}
		if err := unbuilt[t.Package+" "+t.Tags]; err != nil {
			ran[t] = outcome{broken: err}
			g.say("    %v", err)
			continue
		}
		if t.Root && os.Geteuid() != 0 {
			ran[t] = outcome{skipped: []string{"it needs root"}}
			continue
		}
		out := g.run(ctx, t, nil, nil, func(e cleanroom.TestEvent) {
			if !strings.Contains(e.Test, "/") && (e.Action == "pass" || e.Action == "fail" || e.Action == "skip") {
				g.say("    %-4s %s %s %.1fs", e.Action, t.Package, e.Test, e.Elapsed)
			}
		})
		for _, f := range out.figures {
			g.say("         %s", f)
		}
		if !out.green() {
			g.say("%s", indent(out.output))
			if out.broken != nil {
				g.say("    %v", out.broken)
			}
		}
		row.Seconds += out.took.Seconds()
		ran[t] = out
	}
	return row
}

// choose returns the items that are named, or all of them.
func choose[T any](all []T, name func(T) string, only []string) ([]T, error) {
	if len(only) == 0 {
		return all, nil
	}
	var out []T
	for _, want := range only {
		i := slices.IndexFunc(all, func(item T) bool { return strings.EqualFold(name(item), want) })
		if i < 0 {
			return nil, fmt.Errorf("there is no %q", want)
		}
		out = append(out, all[i])
	}
	return out, nil
}

// indent keeps both ends of a long output: why a test failed stands before what its processes logged.
func indent(text string) string {
	const most = 10_000
	if len(text) > 2*most {
		text = text[:most] + "\n[...]\n" + text[len(text)-most:]
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("      " + line)
	}
	return strings.TrimRight(b.String(), "\n")
}
