// Package start measures what Tandem takes before it has done anything: the time to be ready, memory and disk.
package start

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/tandemhq/tandem/internal/bench"
)

const (
	wantWarm   = 500 * time.Millisecond // G16
	wantCold   = 5 * time.Second        // REL-13
	wantMemory = 62                     // G15, in MB
	wantSize   = 40                     // G17, in MB
)

// Run measures G15, G16, G17 and REL-13 of docs/performance.md.
func Run(ctx context.Context, e *bench.Env) ([]bench.Row, error) {
	w, err := bench.NewWorld(ctx, e, "start", bench.Inhabitants{Orgs: 2, Contacts: 2000})
	if err != nil {
		return nil, err
	}
	defer w.Close()
	var rows []bench.Row
	for _, measure := range []func(context.Context, *bench.Env, *bench.World) ([]bench.Row, error){times, memory, size, backlog} {
		r, err := measure(ctx, e, w)
		if err != nil {
			return nil, err
		}
		rows = append(rows, r...)
	}
	return rows, nil
}

// times measures from the start of the process to the first 200 of /readyz.
func times(ctx context.Context, e *bench.Env, w *bench.World) ([]bench.Row, error) {
	var warm, private, cold []time.Duration
	again := func(into *[]time.Duration, l bench.Launch) (string, error) {
		t, err := e.Start(ctx, l)
		if err != nil {
			return "", err
		}
		*into = append(*into, t.Ready)
		return t.Data, t.Stop()
	}
	var first []time.Duration
	data, err := again(&first, bench.Launch{Database: w.Database})
	if err != nil {
		return nil, err
	}
	var own string
	for range bench.Size(e, 1, 2) {
		if own, err = again(&cold, bench.Launch{}); err != nil {
			return nil, err
		}
	}
	for range e.Reps {
		if _, err := again(&warm, bench.Launch{Database: w.Database, Data: data}); err != nil {
			return nil, err
		}
		if _, err := again(&private, bench.Launch{Data: own}); err != nil {
			return nil, err
		}
	}
	return []bench.Row{
		bench.Within("G16", "warm start to ready, migrated database of one's own", wantWarm, warm, fmt.Sprintf("the first on an empty bus: %.0f ms", bench.Millis(first[0]))),
		noGoal(bench.Within("G16", "warm start with the private database", wantWarm, private, "PostgreSQL starts too")),
		noGoal(bench.Within("G16", "first start on an empty directory", wantWarm, cold, "initdb and all migrations")),
	}, nil
}

// noGoal keeps a row that is shown for comparison.
func noGoal(r bench.Row) bench.Row {
	r.Want, r.Held = "", true
	return r
}

// size is that of the program that was built for release. One without the web app would be too small to count.
func size(ctx context.Context, e *bench.Env, w *bench.World) ([]bench.Row, error) {
	info, err := os.Stat(e.Bin)
	if err != nil {
		return nil, fmt.Errorf("look at the program: %w", err)
	}
	t, err := e.Start(ctx, bench.Launch{Database: w.Database})
	if err != nil {
		return nil, err
	}
	note := "stripped, with the web app"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL+"/index.html", nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask for the web app: %w", err)
	}
	res.Body.Close()
	app := res.StatusCode == http.StatusOK
	if !app {
		note = "the web app is missing: run make web first"
	}
	mb := float64(info.Size()) / 1e6
	return []bench.Row{{
		Goal: "G17", Name: "size of the program", Want: fmt.Sprintf("≤ %d MB", wantSize), Got: fmt.Sprintf("%.1f MB", mb), Note: note, Held: app && mb <= wantSize,
	}}, t.Stop()
}
