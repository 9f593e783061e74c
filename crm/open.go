package crm

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
)

// NewLead is a chance of business as it comes in.
type NewLead struct {
	Contact     tandem.ID
	Board       tandem.ID // empty: BoardName decides
	BoardName   string    // upper or lower case alike; empty: the default board
	Title       string    // empty: named after the contact
	Source      string
	Value       *Money
	Priority    string // empty means normal
	Temperature string // empty means cold
	Tags        []string
	Custom      map[string]any
}

const (
	sqlOpen = `
INSERT INTO leads (org_id, id, contact_id, board_id, stage_id, title, source, value_minor, currency, priority, temperature, tags, custom)
SELECT @org, @id, c.id, @board, @stage, CASE WHEN @title <> '' THEN @title ELSE left('Enquiry from ' || c.name, 300) END,
       @source, @minor, @currency, @priority, @temperature, @tags, @custom
FROM contacts c WHERE c.org_id = @org AND c.id = @contact AND c.merged_into IS NULL FOR KEY SHARE OF c
ON CONFLICT (org_id, board_id, contact_id) WHERE NOT closed AND archived_at IS NULL DO NOTHING`
	sqlOpenLead = `
SELECT id FROM leads WHERE org_id = @org AND board_id = @board AND contact_id = @contact AND NOT closed AND archived_at IS NULL
FOR NO KEY UPDATE`
)

// OpenOrFind opens a lead for a contact on a board, or finds the one that is open there,
// and says which: of any number of callers at once, one opens it (the unique index
// leads_open decides). What a found lead lacks is filled in; tags are added. A board that
// does not exist, or wrong values, are Invalid; an unknown contact is NotFound.
func (s leads) OpenOrFind(ctx context.Context, tx pgx.Tx, in NewLead) (Lead, bool, error) {
	a, err := mayTakeIn(ctx, "lead:write")
	if err != nil {
		return Lead{}, false, err
	}
	if _, err := tandem.ParseID(string(in.Contact)); err != nil {
		return Lead{}, false, tandem.Errorf(tandem.NotFound, "There is no such contact.")
	}
	if err := in.check(); err != nil {
		return Lead{}, false, err
	}
	at, err := entry(ctx, tx, a.Org, "lead", in.Board, in.BoardName)
	if tandem.KindOf(err) == tandem.NotFound {
		return Lead{}, false, tandem.InvalidFields(tandem.FieldError{Field: "board", Message: "There is no such board with an open stage."})
	}
	if err != nil {
		return Lead{}, false, err
	}
	for range maxRaces {
		id := tandem.NewID()
		minor, currency := in.Value.columns()
		tag, err := tx.Exec(ctx, sqlOpen, pgx.StrictNamedArgs{
			"org": a.Org, "id": id, "contact": in.Contact, "board": at.Board, "stage": at.ID, "title": in.Title, "source": in.Source,
			"minor": minor, "currency": currency, "priority": in.Priority, "temperature": in.Temperature, "tags": in.Tags, "custom": in.Custom,
		})
		if err != nil {
			return Lead{}, false, fmt.Errorf("open lead: %w", err)
		}
		if tag.RowsAffected() == 1 {
			l, err := s.whole(ctx, tx, id)
			if err != nil {
				return l, false, err
			}
			return l, true, emitLead(ctx, tx, id, "created", a.Name+" opened the lead "+l.Title, tandem.Change{Field: "stage", New: at.Name})
		}
		err = tx.QueryRow(ctx, sqlOpenLead, pgx.StrictNamedArgs{"org": a.Org, "board": at.Board, "contact": in.Contact}).Scan(&id)
		if pg.NoRows(err) {
			if _, err := Contacts.Load(ctx, tx, in.Contact, false); err != nil {
				return Lead{}, false, err
			}
			continue // it was closed a moment ago: open another
		}
		if err != nil {
			return Lead{}, false, fmt.Errorf("find lead: %w", err)
		}
		l, err := s.join(ctx, tx, a, id, in)
		return l, false, err
	}
	return Lead{}, false, tandem.Errorf(tandem.Unavailable, "The lead changes too fast at this moment. Try again.")
}

func (in *NewLead) check() error {
	var wrong []tandem.FieldError
	if in.Priority == "" {
		in.Priority = "normal"
	}
	if !priorities[in.Priority] {
		wrong = append(wrong, tandem.FieldError{Field: "priority", Message: "Choose low, normal, high or urgent."})
	}
	if in.Temperature == "" {
		in.Temperature = "cold"
	}
	if !temperatures[in.Temperature] {
		wrong = append(wrong, tandem.FieldError{Field: "temperature", Message: "Choose cold, warm or hot."})
	}
	if len(in.Custom) > maxCustom {
		wrong = append(wrong, tandem.FieldError{Field: "custom", Message: "There may be at most 100 custom fields."})
	}
	if in.Board != "" {
		if _, err := tandem.ParseID(string(in.Board)); err != nil {
			wrong = append(wrong, tandem.FieldError{Field: "board", Message: "There is no such board."})
		}
	}
	if wrong = in.Value.check("value", wrong); len(wrong) > 0 {
		return tandem.InvalidFields(wrong...)
	}
	in.BoardName, in.Title, in.Source = clean(in.BoardName, 120), clean(in.Title, 300), clean(in.Source, 200)
	in.Tags = cleanTags(in.Tags)
	custom, ok := cleanJSON(in.Custom).(map[string]any)
	if !ok || custom == nil {
		custom = map[string]any{}
	}
	in.Custom = custom
	return nil
}

// cleanJSON drops from decoded JSON what Postgres cannot store as text.
func cleanJSON(v any) any {
	switch v := v.(type) {
	case string:
		return strings.ToValidUTF8(strings.ReplaceAll(v, "\x00", ""), "")
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = cleanJSON(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			out[cleanJSON(k).(string)] = cleanJSON(x)
		}
		return out
	}
	return v
}

// join adds to an open lead what a further enquiry says and the lead lacks. The caller
// holds the row's lock.
func (s leads) join(ctx context.Context, tx pgx.Tx, a tandem.Actor, id tandem.ID, in NewLead) (Lead, error) {
	l, err := s.whole(ctx, tx, id)
	if err != nil {
		return l, err
	}
	var changes []tandem.Change
	if in.Source != "" && l.Source == "" {
		changes = append(changes, tandem.Change{Field: "source", New: in.Source})
		l.Source = in.Source
	}
	if in.Value != nil && l.Value == nil {
		changes = append(changes, tandem.Change{Field: "value", New: in.Value})
		l.Value = in.Value
	}
	if tags := cleanTags(append(append([]string{}, l.Tags...), in.Tags...)); len(tags) > len(l.Tags) {
		changes = append(changes, tandem.Change{Field: "tags", Old: l.Tags, New: tags})
		l.Tags = tags
	}
	for _, k := range slices.Sorted(maps.Keys(in.Custom)) { // sorted, so that the same enquiry is always told in the same words
		if _, ok := l.Custom[k]; !ok && len(l.Custom) < maxCustom {
			changes = append(changes, tandem.Change{Field: "custom." + k, New: in.Custom[k]})
			l.Custom[k] = in.Custom[k]
		}
	}
	if len(changes) == 0 {
		return l, nil
	}
	const sqlJoin = `
UPDATE leads SET source = @source, value_minor = @minor, currency = @currency, tags = @tags, custom = @custom,
	updated_at = now(), version = version + 1
WHERE org_id = @org AND id = @id`
	minor, currency := l.Value.columns()
	if _, err := tx.Exec(ctx, sqlJoin, pgx.StrictNamedArgs{
		"org": a.Org, "id": id, "source": l.Source, "minor": minor, "currency": currency, "tags": l.Tags, "custom": l.Custom,
	}); err != nil {
		return l, fmt.Errorf("join lead: %w", err)
	}
	if err := emitLead(ctx, tx, id, "updated", a.Name+" added a further enquiry to the lead", changes...); err != nil {
		return l, err
	}
	return s.whole(ctx, tx, id)
}
