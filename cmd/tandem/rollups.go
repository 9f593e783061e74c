package main

import (
	"context"
	"fmt"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm/report"
	"github.com/tandemhq/tandem/internal/hub"
	"github.com/tandemhq/tandem/internal/pg"
)

type rollupsCmd struct {
	place
	Organization string `help:"The id of one organization; empty means all."`
}

// Run has the dashboard's numbers counted anew by whichever process has the role jobs.
func (c rollupsCmd) Run(ctx context.Context, io stdio) error {
	var org tandem.ID
	if c.Organization != "" {
		var err error
		if org, err = tandem.ParseID(c.Organization); err != nil {
			return tandem.Errorf(tandem.Invalid, "--organization must be an id.")
		}
	}
	n, err := c.ask(ctx, io, org)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(io.out, "The rollups of %d organizations are counted anew by the next process with the role jobs.\n", n)
	return err
}

// ask leaves the note in the operator's database, beside whatever runs on it, or in the private one.
func (c rollupsCmd) ask(ctx context.Context, io stdio, org tandem.ID) (int64, error) {
	if c.DatabaseURL != "" {
		db, err := pg.Open(ctx, pg.Config{URL: c.DatabaseURL, MaxConns: 1})
		if err != nil {
			return 0, err
		}
		defer db.Close()
		return report.Ask(ctx, db, org)
	}
	c.HTTP = "127.0.0.1:0" // nobody calls
	conf, err := c.config(io.err)
	if err != nil {
		return 0, err
	}
	conf.Roles = hub.AllRoles
	h, err := hub.Start(ctx, conf)
	if err != nil {
		return 0, err
	}
	n, err := report.Ask(ctx, h.DB, org)
	if stopErr := untilDone(cancelled(), h); err == nil {
		err = stopErr
	}
	return n, err
}
