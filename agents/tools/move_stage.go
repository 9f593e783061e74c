package tools

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents"
	"github.com/tandemhq/tandem/crm"
)

type stageArgs struct {
	Stage string `json:"stage" max:"120" about:"The name of a stage of this lead's board, or its id."`
}

var moveStage = agents.NewTool("move_stage", "Move this conversation's lead to another open stage of its board. Winning or losing a lead is for people.",
	agents.TierWrite,
	func(ctx context.Context, tx pgx.Tx, t *agents.Turn, a stageArgs) (agents.Result, error) {
		if err := needLead(t); err != nil {
			return agents.Result{}, err
		}
		id, name, err := stage(ctx, tx, t, a.Stage)
		if err != nil {
			return agents.Result{}, err
		}
		if _, err := crm.Leads.Move(ctx, tx, t.Lead, crm.LeadMove{Stage: id}); err != nil {
			return agents.Result{}, err
		}
		return ok("The lead is on " + name + "."), nil
	})

const sqlBoard = `SELECT id, name, kind FROM stages WHERE org_id = @org AND board_id = @board ORDER BY position`

// stage finds a stage of the lead's own board; no other stage exists for a turn.
func stage(ctx context.Context, tx pgx.Tx, t *agents.Turn, wanted string) (id tandem.ID, name string, err error) {
	rows, err := tx.Query(ctx, sqlBoard, pgx.StrictNamedArgs{"org": t.Org, "board": t.Board})
	if err != nil {
		return "", "", fmt.Errorf("read stages: %w", err)
	}
	wanted = strings.TrimSpace(wanted)
	var open []string
	closing := false
	var sid tandem.ID
	var sname, kind string
	_, err = pgx.ForEachRow(rows, []any{&sid, &sname, &kind}, func() error {
		if kind == "open" {
			open = append(open, sname)
		}
		if id == "" && (strings.EqualFold(sname, wanted) || strings.EqualFold(string(sid), wanted)) {
			id, name, closing = sid, sname, kind != "open"
		}
		return nil
	})
	switch {
	case err != nil:
		return "", "", fmt.Errorf("read stages: %w", err)
	case id == "":
		return "", "", tandem.Errorf(tandem.NotFound, "This board has no such stage. You may choose %s.", strings.Join(open, ", "))
	case closing:
		return "", "", tandem.Errorf(tandem.Forbidden, "Only a person may move a lead to %s. You may choose %s.", name, strings.Join(open, ", "))
	}
	return id, name, nil
}
