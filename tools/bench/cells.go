package main

import (
	"context"

	"github.com/tandemhq/tandem/internal/bench"
	"github.com/tandemhq/tandem/internal/bench/dashboard"
	"github.com/tandemhq/tandem/internal/bench/ingest"
	"github.com/tandemhq/tandem/internal/bench/list"
	"github.com/tandemhq/tandem/internal/bench/live"
	"github.com/tandemhq/tandem/internal/bench/soak"
	"github.com/tandemhq/tandem/internal/bench/start"
	"github.com/tandemhq/tandem/internal/bench/turns"
)

// cell is a group of measurements that shares its data.
type cell struct {
	name string
	run  func(ctx context.Context, e *bench.Env) ([]bench.Row, error)
}

// cells are in the order of a full run.
var cells = []cell{
	{"ingest", ingest.Run},
	{"llm", turns.Run},
	{"sse", live.Run},
	{"list", list.Run},
	{"dashboard", dashboard.Run},
	{"start", start.Run},
	{"soak", soak.Run},
}

func names() []string {
	list := make([]string, len(cells))
	for i, c := range cells {
		list[i] = c.name
	}
	return list
}
