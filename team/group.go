package team

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
)

// Team is a named group of members that a handoff can be addressed to.
type Team struct {
	ID       tandem.ID   `json:"id" db:"id"`
	Name     string      `json:"name" db:"name"`
	Fallback bool        `json:"fallback" db:"fallback"` // handoffs that nobody took go here
	Members  []tandem.ID `json:"member_ids" db:"member_ids" nullable:"false"`
}

type teams struct{}

// Teams lists and gets teams; AddTeam makes one.
var Teams teams

const (
	sqlTeams = `
SELECT t.id, t.name, t.fallback,
       ARRAY(SELECT tm.member_id FROM team_members tm WHERE tm.org_id = t.org_id AND tm.team_id = t.id ORDER BY tm.member_id) AS member_ids
FROM teams t WHERE t.org_id = @org`
	sqlAddTeam     = `INSERT INTO teams (org_id, id, name, fallback) VALUES (@org, @id, @name, @fallback)`
	sqlTeamMembers = `
INSERT INTO team_members (org_id, team_id, member_id)
SELECT @org, @team, m.id FROM members m WHERE m.org_id = @org AND m.id = ANY(@members::uuid[])
ON CONFLICT DO NOTHING`
)

// List returns one page of teams, oldest first. It knows no filters.
func (teams) List(ctx context.Context, tx pgx.Tx, q tandem.Query) (p tandem.Page[Team], err error) {
	a, err := Members.May(ctx, "read")
	if err != nil {
		return p, err
	}
	for name, v := range q.Filter {
		if v != "" {
			return p, tandem.InvalidFields(tandem.FieldError{Field: name, Message: "Teams cannot be filtered."})
		}
	}
	sql, args := sqlTeams, pgx.StrictNamedArgs{"org": a.Org, "limit": q.Size() + 1}
	if q.Cursor != "" {
		key, err := tandem.DecodeCursor(q.Cursor, 1)
		if err != nil {
			return p, err
		}
		after, err := tandem.ParseID(key[0])
		if err != nil {
			return p, tandem.InvalidFields(tandem.FieldError{Field: "cursor", Message: "This is not a cursor of this list."})
		}
		sql += " AND t.id > @after"
		args["after"] = after
	}
	rows, err := tx.Query(ctx, sql+" ORDER BY t.id LIMIT @limit", args)
	if err != nil {
		return p, fmt.Errorf("list teams: %w", err)
	}
	items, err := pgx.CollectRows(rows, pgx.RowToStructByName[Team])
	if err != nil {
		return p, fmt.Errorf("list teams: %w", err)
	}
	return tandem.PageOf(items, q.Size(), func(t Team) []string { return []string{string(t.ID)} }), nil
}

// Get returns one team.
func (teams) Get(ctx context.Context, tx pgx.Tx, id tandem.ID) (t Team, err error) {
	if _, err := Members.May(ctx, "read"); err != nil {
		return t, err
	}
	if _, err := tandem.ParseID(string(id)); err != nil {
		return t, tandem.Errorf(tandem.NotFound, "There is no such team.")
	}
	return getTeam(ctx, tx, " AND t.id = @id", pgx.StrictNamedArgs{"id": id})
}

// Fallback returns the team that handoffs go to when nobody took them.
func (teams) Fallback(ctx context.Context, tx pgx.Tx) (Team, error) {
	return getTeam(ctx, tx, " AND t.fallback", pgx.StrictNamedArgs{})
}

func getTeam(ctx context.Context, tx pgx.Tx, cond string, args pgx.StrictNamedArgs) (t Team, err error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return t, err
	}
	args["org"] = a.Org
	rows, err := tx.Query(ctx, sqlTeams+cond, args)
	if err != nil {
		return t, fmt.Errorf("get team: %w", err)
	}
	t, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Team])
	switch {
	case pg.NoRows(err):
		return t, tandem.Errorf(tandem.NotFound, "There is no such team.")
	case err != nil:
		return t, fmt.Errorf("get team: %w", err)
	}
	return t, nil
}

// AddTeam makes a team. An organization has exactly one fallback team, which CreateOrg
// makes: a second one is Conflict. A member that does not exist is Invalid.
func AddTeam(ctx context.Context, tx pgx.Tx, name string, fallback bool, ids []tandem.ID) (tandem.ID, error) {
	a, err := Members.May(ctx, "write")
	if err != nil {
		return "", err
	}
	name = strings.TrimSpace(name)
	wrong := checkText(nil, "name", name, 120)
	seen := map[tandem.ID]bool{}
	for _, id := range ids {
		if _, err := tandem.ParseID(string(id)); err != nil {
			wrong = append(wrong, tandem.FieldError{Field: "member_ids", Message: "One of these is not a member."})
			break
		}
		seen[id] = true
	}
	if len(wrong) > 0 {
		return "", tandem.InvalidFields(wrong...)
	}
	id := tandem.NewID()
	if _, err := tx.Exec(ctx, sqlAddTeam, pgx.StrictNamedArgs{"org": a.Org, "id": id, "name": name, "fallback": fallback}); err != nil {
		if pg.IsUnique(err, "teams_fallback") {
			return "", tandem.Wrap(tandem.Conflict, err, "There is already a fallback team.")
		}
		return "", fmt.Errorf("add team: %w", err)
	}
	tag, err := tx.Exec(ctx, sqlTeamMembers, pgx.StrictNamedArgs{"org": a.Org, "team": id, "members": ids})
	if err != nil {
		return "", fmt.Errorf("add team: %w", err)
	}
	if tag.RowsAffected() != int64(len(seen)) {
		return "", tandem.InvalidFields(tandem.FieldError{Field: "member_ids", Message: "One of these is not a member."})
	}
	if _, err := events.Emit(ctx, tx, tandem.Event{
		Noun: "team", Verb: "created", Record: id, Category: "team", Severity: "info",
		Description: a.Name + " added the team " + name,
	}); err != nil {
		return "", fmt.Errorf("add team: %w", err)
	}
	return id, nil
}
