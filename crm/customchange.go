package crm

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

// change is one change of a record's custom values by a member, and what is wrong with it.
type change struct {
	fields []CustomField
	actor  tandem.Actor
	wrong  []tandem.FieldError
	named  map[string]map[tandem.ID][]string // ids that must be of something, by what, with the keys that name them
}

func (c *change) refuse(key, message string) {
	c.wrong = append(c.wrong, tandem.FieldError{Field: customPrefix + tandem.Clip(key, 40), Message: message})
}

// apply returns old with what is asked, in its one spelling. A field that is not for AI members is Forbidden to them.
func (c *change) apply(ctx context.Context, tx pgx.Tx, old, asked map[string]any) (map[string]any, error) {
	now := maps.Clone(old)
	if now == nil {
		now = map[string]any{}
	}
	for _, key := range slices.Sorted(maps.Keys(asked)) {
		f, had := fieldOf(c.fields, key), false
		if f == nil {
			if _, had = old[key]; !had || asked[key] != nil || byMachine(c.actor) {
				c.refuse(key, "There is no such custom field.")
				continue
			}
			delete(now, key) // what came from outside, or was defined once, may go
			continue
		}
		if byMachine(c.actor) && !f.AIMayWrite {
			return old, tandem.Errorf(tandem.Forbidden, "Only a person may set %s.", f.Label)
		}
		v, wrong := f.read(asked[key])
		switch {
		case wrong != "":
			c.refuse(key, wrong)
		case v == nil && f.Required:
			c.refuse(key, "This is needed.")
		case v == nil:
			delete(now, key)
		default:
			now[key] = v
			c.name(f, v)
		}
	}
	return now, c.exist(ctx, tx)
}

// complete fills the default of a field of which asked, for a new record, says nothing, and asks for one that it needs.
func (c *change) complete(f *CustomField, asked, custom map[string]any) {
	if _, said := asked[f.Key]; said {
		return
	}
	if v := f.preset(); v != nil {
		custom[f.Key] = v
	} else if f.Required {
		c.refuse(f.Key, "This is needed.")
	}
}

// name notes what v, a value of f, names.
func (c *change) name(f *CustomField, v any) {
	of := ""
	switch f.Type {
	case "user":
		of = "member"
	case "relation":
		of = *f.Target
	default:
		return
	}
	if c.named == nil {
		c.named = map[string]map[tandem.ID][]string{}
	}
	if c.named[of] == nil {
		c.named[of] = map[tandem.ID][]string{}
	}
	id := tandem.ID(v.(string))
	c.named[of][id] = append(c.named[of][id], f.Key)
}

const sqlMembersNamed = `SELECT id FROM members WHERE org_id = @org AND id = ANY(@ids) AND status = 'active'`

// sqlNamed has %s for a table of crm.All.
const sqlNamed = `SELECT id FROM %s WHERE org_id = @org AND id = ANY(@ids) AND archived_at IS NULL`

// exist refuses ids of nothing.
func (c *change) exist(ctx context.Context, tx pgx.Tx) error {
	for _, of := range slices.Sorted(maps.Keys(c.named)) {
		ids, sql, none := slices.Collect(maps.Keys(c.named[of])), sqlMembersNamed, "This is not an active member."
		if of != "member" {
			sql, none = fmt.Sprintf(sqlNamed, tableOf(of)), "There is no such "+of+"."
		}
		var found []tandem.ID
		if of == "member" || tableOf(of) != "" {
			rows, _ := tx.Query(ctx, sql, pgx.StrictNamedArgs{"org": c.actor.Org, "ids": ids}) // CollectRows tells its error
			var err error
			if found, err = pgx.CollectRows(rows, pgx.RowTo[tandem.ID]); err != nil {
				return fmt.Errorf("look for what custom fields name: %w", err)
			}
		}
		for _, id := range ids {
			if slices.Contains(found, id) {
				continue
			}
			for _, key := range c.named[of][id] {
				c.refuse(key, none)
			}
		}
	}
	return nil
}
