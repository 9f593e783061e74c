// Command bench is what `make bench` runs: it builds Tandem for release, starts a PostgreSQL cluster with fsync on,
// measures what docs/performance.md promises and prints a table of goals. It exits non-zero when a goal that could be
// judged was missed, and leaves nothing running.
//
//	bench all                  everything
//	bench --quick ingest llm   some of it, small
//	bench report a.json b.json the table of earlier runs
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/tandemhq/tandem/internal/bench"
	"github.com/tandemhq/tandem/internal/bench/live"
)

type cli struct {
	What   []string      `arg:"" help:"What to measure: all, or some of ${cells}; or report with files."`
	Quick  bool          `help:"Small data and short cells: under two minutes in all."`
	Reps   int           `help:"Repetitions of every cell; 0: 5, quick 2."`
	Cell   time.Duration `help:"How long one cell is measured; 0: 2s, quick 500ms."`
	Soak   time.Duration `help:"How long leads are taken at half of the limit; 0: 5m, quick 6s."`
	Seed   uint64        `help:"Seed of every random choice; 0: a new one, which is printed."`
	Tandem string        `help:"A built program; empty builds one." type:"path"`
	Dir    string        `help:"Where to make the scratch directory; empty: the system's temporary directory." type:"path"`
	JSON   string        `help:"File for the result as JSON." type:"path"`
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == live.BareCommand { // started by a measurement of ours
		if err := live.ServeBare(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	var c cli
	kong.Parse(&c, kong.Name("bench"), kong.Description("Measure Tandem against the limits of the machine."),
		kong.Vars{"cells": strings.Join(names(), ", ")})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	held, err := c.run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	if err != nil || !held {
		os.Exit(1)
	}
}

func (c cli) run(ctx context.Context, out io.Writer) (held bool, err error) {
	if c.What[0] == "report" {
		return report(out, c.What[1:])
	}
	todo, err := chosen(c.What)
	if err != nil {
		return false, err
	}
	e, err := c.prepare(ctx, out)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(e.Dir)) }()
	res := bench.NewResult(ctx, e)
	if e.Cluster, err = bench.StartCluster(ctx, e.Dir); err != nil {
		return false, err
	}
	defer func() {
		sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, e.Cluster.Stop(sctx))
	}()
	for _, cell := range todo {
		began := time.Now()
		rows, err := cell.run(ctx, e)
		if err != nil {
			return false, fmt.Errorf("%s: %w", cell.name, err)
		}
		res.Add(rows...)
		e.Log("%s took %.0f s", cell.name, time.Since(began).Seconds())
	}
	res.Done()
	res.Print(out)
	if c.JSON != "" {
		if err := res.Write(c.JSON); err != nil {
			return false, err
		}
	}
	return res.Held(), nil
}

// report prints the rows of earlier runs as one table.
func report(out io.Writer, files []string) (held bool, err error) {
	if len(files) == 0 {
		return false, errors.New("report needs the files that --json wrote")
	}
	held = true
	for _, f := range files {
		res, err := bench.ReadResult(f)
		if err != nil {
			return false, err
		}
		res.Print(out)
		held = held && res.Held()
	}
	return held, nil
}

func chosen(what []string) ([]cell, error) {
	if slices.Contains(what, "all") {
		return cells, nil
	}
	var list []cell
	for _, w := range what {
		i := slices.IndexFunc(cells, func(c cell) bool { return c.name == w })
		if i < 0 {
			return nil, fmt.Errorf("there is no %q; choose from all, %s", w, strings.Join(names(), ", "))
		}
		list = append(list, cells[i])
	}
	return list, nil
}

// prepare makes the scratch directory and builds the program.
func (c cli) prepare(ctx context.Context, out io.Writer) (*bench.Env, error) {
	began := time.Now()
	e := &bench.Env{Bin: c.Tandem, Reps: c.Reps, Cell: c.Cell, Soak: c.Soak, Seed: c.Seed, Quick: c.Quick}
	e.Log = func(format string, args ...any) {
		fmt.Fprintf(out, "%5.0f s  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	if e.Seed == 0 {
		e.Seed = uint64(began.UnixNano())
	}
	if e.Reps <= 0 {
		e.Reps = bench.Size(e, 2, 5)
	}
	if e.Cell <= 0 {
		e.Cell = bench.Size(e, 500*time.Millisecond, 2*time.Second)
	}
	var err error
	if e.Dir, err = os.MkdirTemp(c.Dir, "tandem-bench-"); err != nil {
		return nil, err
	}
	// PostgreSQL does not run as root: its account must be able to pass.
	if err := os.Chmod(e.Dir, 0o755); err != nil {
		return nil, err
	}
	e.Log("seed %d, %d repetitions of %s", e.Seed, e.Reps, e.Cell)
	if e.Bin != "" {
		return e, nil
	}
	e.Bin = filepath.Join(e.Dir, "tandem")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", e.Bin, "github.com/tandemhq/tandem/cmd/tandem")
	if text, err := build.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("build tandem: %w: %s", err, text), os.RemoveAll(e.Dir))
	}
	return e, nil
}
