package main

import (
	"context"
	"fmt"
	"time"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/hub"
	"github.com/tandemhq/tandem/internal/pg"
)

type serveCmd struct {
	place
}

func (c serveCmd) Run(ctx context.Context, io stdio) error {
	conf, err := c.config(io.err)
	if err != nil {
		return err
	}
	h, err := hub.Start(ctx, conf)
	if err != nil {
		return unlessAsked(ctx, err)
	}
	if u := h.URL(); u != "" {
		fmt.Fprintln(io.out, "Tandem answers on", u)
	}
	return untilDone(ctx, h)
}

// unlessAsked drops the error of a start that a signal interrupted: ending was what was asked for.
func unlessAsked(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// untilDone waits for a signal or for a part that cannot go on, and stops the hub.
func untilDone(ctx context.Context, h *hub.Hub) error {
	var cause error
	select {
	case <-ctx.Done():
	case cause = <-h.Failed():
	}
	sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	if err := h.Stop(sctx); cause == nil {
		cause = err
	}
	return cause
}

type migrateCmd struct {
	MigrateURL string `name:"migrate-url" required:"" help:"The database as the role that owns the schema." env:"TANDEM_MIGRATE_URL"`
}

func (c migrateCmd) Run(ctx context.Context, io stdio) error {
	if err := pg.Migrate(ctx, c.MigrateURL); err != nil {
		return err
	}
	applied, known, err := pg.SchemaVersion(ctx, c.MigrateURL)
	if err != nil {
		return err
	}
	if applied > known {
		return tandem.Errorf(tandem.Conflict, "The schema is at version %d, newer than this Tandem knows (%d); run a newer Tandem.", applied, known)
	}
	_, err = fmt.Fprintf(io.out, "The schema is at version %d.\n", applied)
	return err
}
