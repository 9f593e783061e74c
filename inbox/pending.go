package inbox

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

// An owner or admin may accept whatever waits, as decision.invited says.
const invitedTo = ` AND (@leads OR to_member_id = @me
	    OR to_team_id IN (SELECT team_id FROM team_members WHERE org_id = @org AND member_id = @me)
	    OR to_skill IN (SELECT unnest(skills) FROM members WHERE org_id = @org AND id = @me))`

// PendingHandoffs returns a page of the handoffs that wait and that the actor may accept, the soonest deadline first. It
// needs handoff:decide.
func PendingHandoffs(ctx context.Context, tx pgx.Tx, q tandem.Query) (tandem.Page[Handoff], error) {
	var page tandem.Page[Handoff]
	a, err := allowed(ctx, "handoff:decide")
	if err != nil {
		return page, err
	}
	sql, args, err := pending(a, q)
	if err != nil {
		return page, err
	}
	rows, err := tx.Query(ctx, "SELECT"+handoffColumns+" FROM ("+sql+") h"+handoffJoins+" ORDER BY h.deadline, h.id", args)
	if err != nil {
		return page, fmt.Errorf("list pending handoffs: %w", err)
	}
	all, err := handoffsOf(rows)
	if err != nil {
		return page, fmt.Errorf("list pending handoffs: %w", err)
	}
	return tandem.PageOf(all, q.Size(), func(h Handoff) []string {
		return []string{h.Deadline.UTC().Format(time.RFC3339Nano), string(h.ID)}
	}), nil
}

func pending(a tandem.Actor, q tandem.Query) (string, pgx.StrictNamedArgs, error) {
	args := pgx.StrictNamedArgs{"org": a.Org, "leads": leads(a), "me": a.Member.Ptr()}
	sql := "SELECT * FROM handoffs WHERE org_id = @org AND state = 'requested'" + invitedTo
	if q.Cursor != "" {
		at, id, err := cursor(q.Cursor)
		if err != nil {
			return "", nil, err
		}
		sql += " AND (deadline, id) > (@at, @after)"
		args["at"], args["after"] = at, id
	}
	return sql + " ORDER BY deadline, id LIMIT " + limitOf(q.Size()), args, nil
}

// handoffsOf reads rows of handoffColumns.
func handoffsOf(rows pgx.Rows) ([]Handoff, error) {
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[handoffRow])
	if err != nil {
		return nil, err
	}
	all := make([]Handoff, len(found))
	for i, r := range found {
		if all[i], err = r.handoff(); err != nil {
			return nil, err
		}
	}
	return all, nil
}
