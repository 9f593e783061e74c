package crm

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
)

const sqlSourceName = `SELECT name FROM lead_sources WHERE org_id = @org AND id = @id AND archived_at IS NULL`

// sourceName is the name of a lead source, which makes a lead one of its leads. Another id is Invalid.
func sourceName(ctx context.Context, tx pgx.Tx, org, source tandem.ID) (name string, err error) {
	none := tandem.InvalidFields(tandem.FieldError{Field: "lead_source_id", Message: "There is no such lead source."})
	if _, err := tandem.ParseID(string(source)); err != nil {
		return "", none
	}
	err = tx.QueryRow(ctx, sqlSourceName, pgx.StrictNamedArgs{"org": org, "id": source}).Scan(&name)
	if pg.NoRows(err) {
		return "", none
	}
	if err != nil {
		return "", fmt.Errorf("find lead source: %w", err)
	}
	return name, nil
}

const sqlSourceKey = `SELECT name_key FROM lead_sources WHERE org_id = @org AND id = @id AND archived_at IS NULL`

// ofSource asks for the leads of a lead source by its name, for which there is an index in the list's order. What names no
// lead source, the set refuses or finds nothing for.
func ofSource(ctx context.Context, tx pgx.Tx, q tandem.Query) (tandem.Query, error) {
	id, err := tandem.ParseID(q.Filter["lead_source_id"])
	if err != nil || q.Filter["source_key"] != "" {
		return q, nil
	}
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return q, err
	}
	var key string
	err = tx.QueryRow(ctx, sqlSourceKey, pgx.StrictNamedArgs{"org": a.Org, "id": id}).Scan(&key)
	if pg.NoRows(err) {
		return q, nil
	}
	if err != nil {
		return q, fmt.Errorf("find lead source: %w", err)
	}
	q.Filter = maps.Clone(q.Filter)
	delete(q.Filter, "lead_source_id")
	q.Filter["source_key"] = key
	return q, nil
}

// sourced puts the name of the lead source that a change names into the change. null takes the source away.
func sourced(ctx context.Context, tx pgx.Tx, rest, source json.RawMessage) (json.RawMessage, error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return nil, err
	}
	var id *tandem.ID
	if err := json.Unmarshal(source, &id); err != nil {
		return nil, tandem.InvalidFields(tandem.FieldError{Field: "lead_source_id", Message: "This has the wrong type."})
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(rest, &all); err != nil {
		return nil, fmt.Errorf("change lead: %w", err)
	}
	if all["source"] != nil {
		return nil, bothSources()
	}
	name := ""
	if id != nil {
		if name, err = sourceName(ctx, tx, a.Org, *id); err != nil {
			return nil, err
		}
	}
	if all["source"], err = json.Marshal(name); err != nil {
		return nil, fmt.Errorf("change lead: %w", err)
	}
	return json.Marshal(all)
}

func bothSources() error {
	return tandem.InvalidFields(tandem.FieldError{Field: "lead_source_id", Message: "Give source or lead_source_id, not both: a lead source gives the source its name."})
}
