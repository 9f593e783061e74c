package crm

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/record"
)

// Lead is one chance of business with a contact, on a stage of a board.
type Lead struct {
	ID             tandem.ID                `json:"id" db:"id"`
	Title          string                   `json:"title" db:"title"`
	ContactID      tandem.ID                `json:"contact_id" db:"contact_id"`
	Contact        LeadContact              `json:"contact" db:"contact"`
	BoardID        tandem.ID                `json:"board_id" db:"board_id"`
	Stage          LeadStage                `json:"stage" db:"stage"`
	Assignee       *tandem.MemberRef        `json:"assignee" db:"assignee"`
	Source         string                   `json:"source" db:"source"`
	LeadSourceID   *tandem.ID               `json:"lead_source_id" db:"lead_source_id" doc:"The lead source of that name, whatever the case; set it instead of source."`
	LeadSource     *LeadOrigin              `json:"lead_source" db:"lead_source"`
	Value          *Money                   `json:"value" db:"value"`
	Priority       string                   `json:"priority" db:"priority" enum:"low,normal,high,urgent"`
	Temperature    string                   `json:"temperature" db:"temperature" enum:"cold,warm,hot"`
	Tags           []string                 `json:"tags" db:"tags" nullable:"false"`
	Custom         map[string]any           `json:"custom" db:"custom" nullable:"false" doc:"Values of custom fields, by key. A change names those to set; null removes one."`
	Qualification  map[string]Qualification `json:"qualification" db:"-" nullable:"false"` // by field; only what is known
	Conversations  []tandem.ID              `json:"conversation_ids,omitempty" db:"-"`     // only from Get, at most 100
	Closed         bool                     `json:"-" db:"closed"`                         // on a won or lost stage
	LostReason     *string                  `json:"lost_reason" db:"lost_reason"`          // only on a lost stage
	ConvertedAt    *time.Time               `json:"converted_at" db:"converted_at"`        // when a customer came of it
	AccountID      *tandem.ID               `json:"account_id" db:"account_id"`            // the account that came of it
	DealID         *tandem.ID               `json:"deal_id" db:"deal_id"`                  // the deal that came of it
	StageChangedAt time.Time                `json:"stage_changed_at" db:"stage_changed_at"`
	CreatedAt      time.Time                `json:"created_at" db:"created_at"`
	UpdatedAt      time.Time                `json:"updated_at" db:"updated_at"`
	Version        int64                    `json:"version" db:"version"`
}

// LeadContact is a lead's contact as the lead shows it.
type LeadContact struct {
	ID      tandem.ID `json:"id"`
	Name    string    `json:"name"`
	Company string    `json:"company"`
}

// LeadOrigin is the lead source that a lead's source names, whatever the case.
type LeadOrigin struct {
	ID   tandem.ID `json:"id"`
	Name string    `json:"name"`
	Kind string    `json:"kind"`
}

// LeadStage is a lead's stage as the lead shows it.
type LeadStage struct {
	ID   tandem.ID `json:"id"`
	Name string    `json:"name"`
	Kind string    `json:"kind" enum:"open,won,lost"`
}

type leads struct{ customized[Lead] }

// Leads is the set of leads.
var Leads = leads{customized[Lead]{parts: func(l *Lead) (*tandem.ID, *map[string]any) { return &l.ID, &l.Custom }, Set: record.Set[Lead]{
	Noun: "lead", Table: "leads", Alias: "l",
	Select: `SELECT l.id, l.title, l.contact_id, l.board_id, l.source, l.priority, l.temperature, l.tags, l.custom, l.closed,
		l.lost_reason, l.converted_at, l.account_id, l.deal_id, l.stage_changed_at, l.created_at, l.updated_at, l.version,
		jsonb_build_object('id', c.id, 'name', c.name, 'company', c.company) AS contact,
		jsonb_build_object('id', s.id, 'name', s.name, 'kind', s.kind) AS stage,
		CASE WHEN m.id IS NOT NULL THEN jsonb_build_object('id', m.id, 'kind', m.kind, 'name', m.name) END AS assignee,
		CASE WHEN l.value_minor IS NOT NULL THEN jsonb_build_object('minor', l.value_minor, 'currency', l.currency) END AS value,
		CASE WHEN o.id IS NOT NULL THEN jsonb_build_object('id', o.id, 'name', o.name, 'kind', o.kind) END AS lead_source, o.id AS lead_source_id
	FROM leads l
	JOIN contacts c ON c.org_id = @org AND c.id = l.contact_id
	JOIN stages s ON s.org_id = @org AND s.id = l.stage_id
	LEFT JOIN members m ON m.org_id = @org AND m.id = l.assignee_id
	LEFT JOIN lead_sources o ON o.org_id = @org AND o.name_key = l.source_key AND o.archived_at IS NULL`,
	Fields: []record.Field{
		{Name: "contact_id", Type: record.ID, Filter: true},
		{Name: "board_id", Type: record.ID, Filter: true},
		{Name: "stage_id", Type: record.ID, Filter: true},
		{Name: "assignee_id", Type: record.ID, Filter: true},
		{Name: "closed", Type: record.Bool, Filter: true},
		{Name: "title", Filter: true, Write: true},
		{Name: "source", Filter: true, Write: true},
		{Name: "source_key", Filter: true}, // the source in small letters
		{Name: "lead_source_id", Column: "o.id", Type: record.ID, Filter: true},
		{Name: "priority", Filter: true, Write: true},
		{Name: "temperature", Filter: true, Write: true},
		{Name: "value", Column: "l.value_minor", Type: record.Int, Filter: true, Sort: "coalesce(l.value_minor, -1)"},
		{Name: "currency", Filter: true},
		{Name: "tags", Type: record.Texts, Filter: true, Write: true},
		{Name: "custom", Write: true},
		{Name: "lost_reason", Filter: true},
		{Name: "converted_at", Type: record.Time, Filter: true},
		{Name: "account_id", Type: record.ID, Filter: true},
		{Name: "stage_changed_at", Type: record.Time, Filter: true, Sort: "l.stage_changed_at"},
		{Name: "created_at", Type: record.Time, Filter: true},
		{Name: "updated_at", Type: record.Time, Filter: true},
	},
	Search:     []string{"l.title", "c.name", "c.company"},
	Archivable: true, Label: "title", Lead: "id", Category: "crm", Check: checkLead,
}}}

var (
	priorities   = map[string]bool{"low": true, "normal": true, "high": true, "urgent": true}
	temperatures = map[string]bool{"cold": true, "warm": true, "hot": true}
)

func checkLead(l *Lead) error {
	var wrong []tandem.FieldError
	if l.Title = strings.TrimSpace(l.Title); l.Title == "" || len([]rune(l.Title)) > 300 {
		wrong = append(wrong, tandem.FieldError{Field: "title", Message: "A lead needs a title of at most 300 characters."})
	}
	if !priorities[l.Priority] {
		wrong = append(wrong, tandem.FieldError{Field: "priority", Message: "Choose low, normal, high or urgent."})
	}
	if !temperatures[l.Temperature] {
		wrong = append(wrong, tandem.FieldError{Field: "temperature", Message: "Choose cold, warm or hot."})
	}
	if wrong = l.Value.check("value", wrong); len(wrong) > 0 {
		return tandem.InvalidFields(wrong...)
	}
	if l.Tags != nil {
		l.Tags = cleanTags(l.Tags)
	}
	return nil
}

// Info describes the set, with what New and Patch take besides the columns.
func (s leads) Info() record.Info {
	i := s.Set.Info()
	i.Fields = slices.Clone(i.Fields)
	for k, f := range i.Fields {
		switch f.Name {
		case "contact_id":
			i.Fields[k].Once, i.Fields[k].Needed = true, true
		case "board_id":
			i.Fields[k].Once = true
		case "value", "lead_source_id":
			i.Fields[k].Write = true
		}
	}
	return i
}

// New reads a lead to be opened: its contact, its board or else the default one, and its fields.
func (s leads) New(raw json.RawMessage) (Lead, error) {
	rest, own, err := apart(raw, "contact_id", "board_id", "value", "lead_source_id")
	if err != nil {
		return Lead{}, err
	}
	l, err := s.Set.New(rest)
	wrong := tandem.FieldErrors(err)
	if err != nil && len(wrong) == 0 {
		return l, err
	}
	if own["contact_id"] == nil {
		wrong = append(wrong, tandem.FieldError{Field: "contact_id", Message: "This is needed."})
	}
	for name, to := range map[string]any{"contact_id": &l.ContactID, "board_id": &l.BoardID, "value": &l.Value, "lead_source_id": &l.LeadSourceID} {
		if part := own[name]; part != nil && json.Unmarshal(part, to) != nil {
			wrong = append(wrong, tandem.FieldError{Field: name, Message: "This has the wrong type."})
		}
	}
	if len(wrong) > 0 {
		return l, tandem.InvalidFields(wrong...)
	}
	return l, nil
}

// apart takes the named members out of an object. An object that is none is left to the caller's own reader.
func apart(raw json.RawMessage, names ...string) (rest json.RawMessage, own map[string]json.RawMessage, err error) {
	var all map[string]json.RawMessage
	if json.Unmarshal(raw, &all) != nil || all == nil {
		return raw, nil, nil
	}
	own = map[string]json.RawMessage{}
	for _, n := range names {
		if part, ok := all[n]; ok {
			own[n] = part
			delete(all, n)
		}
	}
	rest, err = json.Marshal(all)
	return rest, own, err
}

// Create opens a lead for a contact on a board. One that is open there already is Conflict: there is one chance at a time.
func (s leads) Create(ctx context.Context, tx pgx.Tx, l Lead) (Lead, error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return l, err
	}
	fields, err := s.ready(ctx, tx, &l, nil)
	if err != nil {
		return l, err
	}
	if l.LeadSourceID != nil {
		if l.Source != "" {
			return l, bothSources()
		}
		if l.Source, err = sourceName(ctx, tx, a.Org, *l.LeadSourceID); err != nil {
			return l, err
		}
	}
	made, opened, err := s.OpenOrFind(ctx, tx, NewLead{
		Contact: l.ContactID, Board: l.BoardID, Title: l.Title, Source: l.Source, Value: l.Value, Priority: l.Priority,
		Temperature: l.Temperature, Tags: l.Tags, Custom: l.Custom,
	})
	if err != nil {
		return made, err
	}
	if !opened {
		return made, tandem.Errorf(tandem.Conflict, "%s already has an open lead on this board: %s.", made.Contact.Name, made.Title)
	}
	return made, s.settle(ctx, tx, fields, &made)
}

// List returns one page of leads with what is known of each.
func (s leads) List(ctx context.Context, tx pgx.Tx, q tandem.Query) (tandem.Page[Lead], error) {
	q, err := ofSource(ctx, tx, q)
	if err != nil {
		return tandem.Page[Lead]{}, err
	}
	p, err := s.customized.List(ctx, tx, q)
	if err != nil {
		return p, err
	}
	return p, withQualification(ctx, tx, p.Items)
}

const sqlLeadConversations = `
SELECT id FROM conversations WHERE org_id = @org AND lead_id = @lead AND merged_into IS NULL ORDER BY last_message_at DESC LIMIT 100`

// Get returns one lead with what is known of it and its conversations, the latest first.
func (s leads) Get(ctx context.Context, tx pgx.Tx, id tandem.ID) (Lead, error) {
	if _, err := s.May(ctx, "read"); err != nil {
		return Lead{}, err
	}
	l, err := s.whole(ctx, tx, id)
	if err != nil {
		return l, err
	}
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return l, err
	}
	rows, err := tx.Query(ctx, sqlLeadConversations, pgx.StrictNamedArgs{"org": a.Org, "lead": id})
	if err != nil {
		return l, fmt.Errorf("get lead's conversations: %w", err)
	}
	if l.Conversations, err = pgx.CollectRows(rows, pgx.RowTo[tandem.ID]); err != nil {
		return l, fmt.Errorf("get lead's conversations: %w", err)
	}
	return l, nil
}

// Patch changes a lead as customized does, and its value.
func (s leads) Patch(ctx context.Context, tx pgx.Tx, id tandem.ID, raw json.RawMessage, version *int64) (Lead, error) {
	if _, err := s.May(ctx, "write"); err != nil {
		return Lead{}, err
	}
	rest, own, err := apart(raw, "value", "lead_source_id")
	if err != nil {
		return Lead{}, err
	}
	if source := own["lead_source_id"]; source != nil {
		if rest, err = sourced(ctx, tx, rest, source); err != nil {
			return Lead{}, err
		}
	}
	var value *Money
	if part := own["value"]; part != nil {
		if json.Unmarshal(part, &value) != nil || value == nil {
			return Lead{}, tandem.InvalidFields(tandem.FieldError{Field: "value", Message: "Give an amount in the currency's smallest unit and the currency, such as {\"minor\":125000,\"currency\":\"EUR\"}."})
		}
	}
	if _, err := s.customized.Patch(ctx, tx, id, rest, version); err != nil {
		return Lead{}, err
	}
	if value != nil {
		return s.SetFields(ctx, tx, id, LeadFields{Value: value})
	}
	return s.whole(ctx, tx, id)
}

// Restore brings an archived lead back. It is Conflict while its contact has another open lead on the board, and while its
// stage or its board is archived.
func (s leads) Restore(ctx context.Context, tx pgx.Tx, id tandem.ID) (Lead, error) {
	l, err := s.customized.Restore(ctx, tx, id)
	if err != nil {
		return l, err
	}
	if err := stillThere(ctx, tx, s.Noun, l.BoardID, l.Stage.ID, l.Closed); err != nil {
		return l, err
	}
	return s.whole(ctx, tx, id)
}

// whole loads a lead with its qualification.
func (s leads) whole(ctx context.Context, tx pgx.Tx, id tandem.ID) (Lead, error) {
	l, err := s.Load(ctx, tx, id, false)
	if err != nil {
		return l, err
	}
	one := []Lead{l}
	err = withQualification(ctx, tx, one)
	return one[0], err
}

// LeadMove is where a lead goes and why.
type LeadMove struct {
	Stage      tandem.ID
	LostReason string // why it is lost, at most 1,000 characters; only with a lost stage
	Version    *int64 // the lead's version that the caller saw; nil for any
}

// Move puts a lead on another stage of its board and closes or reopens it as the stage
// says. AI members may not move a lead to or away from won or lost: that is Forbidden.
// A stage of another board or an archived one is Invalid, and a lost reason with a stage that is not lost is as
// well. Reopening is Conflict while the contact has another open lead on the board, and so is
// a version that is not the lead's. A move to the stage where the lead is does nothing, but
// for a lost reason that it brings.
func (s leads) Move(ctx context.Context, tx pgx.Tx, lead tandem.ID, m LeadMove) (Lead, error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return Lead{}, err
	}
	l, err := s.Load(ctx, tx, lead, true)
	if err != nil {
		return l, err
	}
	if m.Version != nil && *m.Version != l.Version {
		return l, tandem.Errorf(tandem.Conflict, "Somebody else changed this lead in the meantime: it is at version %d. Load it again.", l.Version)
	}
	to, err := targetOn(ctx, tx, a.Org, l.BoardID, m.Stage, s.Noun)
	if err != nil {
		return l, err
	}
	var reason *string
	if m.LostReason = clean(m.LostReason, 1000); m.LostReason != "" {
		reason = &m.LostReason
	}
	if reason != nil && to.Kind != "lost" {
		return l, tandem.InvalidFields(tandem.FieldError{Field: "lost_reason", Message: "Only a lead on a lost stage has a lost reason."})
	}
	stays := to.ID == l.Stage.ID
	if stays && (reason == nil || l.LostReason != nil && *reason == *l.LostReason) {
		return s.whole(ctx, tx, lead)
	}
	if byMachine(a) && (to.closes() || l.Closed) {
		return l, tandem.Errorf(tandem.Forbidden, "Only a person may move a lead to or from a stage that is won or lost.")
	}
	const sqlMove = `
UPDATE leads SET stage_id = @stage, closed = @closed, lost_reason = @reason, updated_at = now(), version = version + 1,
	stage_changed_at = CASE WHEN stage_id = @stage THEN stage_changed_at ELSE now() END
WHERE org_id = @org AND id = @id`
	if _, err := tx.Exec(ctx, sqlMove, pgx.StrictNamedArgs{"org": a.Org, "id": lead, "stage": to.ID, "closed": to.closes(), "reason": reason}); err != nil {
		if pg.IsUnique(err, "leads_open") {
			return l, tandem.Wrap(tandem.Conflict, err, "%s already has another open lead on this board.", l.Contact.Name)
		}
		return l, fmt.Errorf("move lead: %w", err)
	}
	verb, said, changes := "updated", a.Name+" said why the lead is lost", []tandem.Change(nil)
	if !stays {
		if err := pass(ctx, tx, a, s.Noun, lead, l.Stage.ID, l.StageChangedAt, to.ID); err != nil {
			return l, err
		}
		verb, said = "moved", a.Name+" moved the lead to "+to.Name
		changes = append(changes, tandem.Change{Field: "stage", Old: l.Stage.Name, New: to.Name}, tandem.Change{Field: "stage_id", Old: l.Stage.ID, New: to.ID})
	}
	if reason != nil || l.LostReason != nil {
		changes = append(changes, tandem.Change{Field: "lost_reason", Old: l.LostReason, New: reason})
	}
	if err := emitLead(ctx, tx, lead, verb, said, changes...); err != nil {
		return l, err
	}
	return s.whole(ctx, tx, lead)
}

// Assign makes a member responsible for a lead; the empty id makes nobody. AI members may
// not assign (Forbidden); a disabled or unknown member is Invalid.
func (s leads) Assign(ctx context.Context, tx pgx.Tx, lead, member tandem.ID) (Lead, error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return Lead{}, err
	}
	if byMachine(a) {
		return Lead{}, tandem.Errorf(tandem.Forbidden, "Only a person may assign a lead.")
	}
	l, err := s.Load(ctx, tx, lead, true)
	if err != nil {
		return l, err
	}
	name, err := assigneeName(ctx, tx, a.Org, member)
	if err != nil {
		return l, err
	}
	var old tandem.ID
	var oldName any
	if l.Assignee != nil {
		old, oldName = l.Assignee.ID, l.Assignee.Name
	}
	if old == member {
		return s.whole(ctx, tx, lead)
	}
	const sqlAssign = `
UPDATE leads SET assignee_id = @member, updated_at = now(), version = version + 1 WHERE org_id = @org AND id = @id`
	if _, err := tx.Exec(ctx, sqlAssign, pgx.StrictNamedArgs{"org": a.Org, "id": lead, "member": member.Ptr()}); err != nil {
		return l, fmt.Errorf("assign lead: %w", err)
	}
	if err := emitLead(ctx, tx, lead, "updated", a.Name+" assigned the lead to "+name,
		tandem.Change{Field: "assignee", Old: oldName, New: name}, tandem.Change{Field: "assignee_id", Old: old.Ptr(), New: member.Ptr()}); err != nil {
		return l, err
	}
	return s.whole(ctx, tx, lead)
}

// assigneeName is what a sentence calls whom something is assigned to: a member, or nobody for the empty id. A disabled or
// unknown member is Invalid.
func assigneeName(ctx context.Context, tx pgx.Tx, org, member tandem.ID) (name string, err error) {
	if member == "" {
		return "nobody", nil
	}
	notOne := tandem.InvalidFields(tandem.FieldError{Field: "member_id", Message: "This is not an active member."})
	if _, err := tandem.ParseID(string(member)); err != nil {
		return "", notOne
	}
	const sqlActive = `SELECT name FROM members WHERE org_id = @org AND id = @member AND status = 'active'`
	err = tx.QueryRow(ctx, sqlActive, pgx.StrictNamedArgs{"org": org, "member": member}).Scan(&name)
	if pg.NoRows(err) {
		return "", notOne
	}
	if err != nil {
		return "", fmt.Errorf("look for the assignee: %w", err)
	}
	return name, nil
}

// LeadFields are the fields of a lead to set; nil leaves one as it is.
type LeadFields struct {
	Title       *string
	Value       *Money
	Priority    *string
	Temperature *string
	Tags        []string // nil leaves them; empty clears them
}

// SetFields changes a lead's fields and emits lead.updated, or does nothing when nothing
// differs. The value decides what business is worth, so AI members may not set it (Forbidden).
func (s leads) SetFields(ctx context.Context, tx pgx.Tx, lead tandem.ID, f LeadFields) (Lead, error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return Lead{}, err
	}
	if f.Value != nil && byMachine(a) {
		return Lead{}, tandem.Errorf(tandem.Forbidden, "Only a person may set the value of a lead.")
	}
	old, err := s.Load(ctx, tx, lead, true)
	if err != nil {
		return old, err
	}
	l := old
	var changes []tandem.Change
	var said []string
	set := func(field, word string, was, now any) {
		changes = append(changes, tandem.Change{Field: field, Old: was, New: now})
		said = append(said, word)
	}
	if f.Title != nil {
		l.Title = clean(*f.Title, 300)
	}
	if f.Priority != nil {
		l.Priority = *f.Priority
	}
	if f.Temperature != nil {
		l.Temperature = *f.Temperature
	}
	if f.Value != nil {
		l.Value = f.Value
	}
	if f.Tags != nil {
		l.Tags = f.Tags
	}
	if err := checkLead(&l); err != nil {
		return old, err
	}
	if l.Title != old.Title {
		set("title", "the title to "+l.Title, old.Title, l.Title)
	}
	if l.Priority != old.Priority {
		set("priority", "the priority to "+l.Priority, old.Priority, l.Priority)
	}
	if l.Temperature != old.Temperature {
		set("temperature", "the temperature to "+l.Temperature, old.Temperature, l.Temperature)
	}
	if l.Value != nil && (old.Value == nil || *l.Value != *old.Value) {
		set("value", "the value", old.Value, l.Value)
	}
	if strings.Join(l.Tags, "\n") != strings.Join(old.Tags, "\n") {
		set("tags", "the tags", old.Tags, l.Tags)
	}
	if len(changes) == 0 {
		return s.whole(ctx, tx, lead)
	}
	const sqlSet = `
UPDATE leads SET title = @title, priority = @priority, temperature = @temperature, tags = @tags, value_minor = @minor, currency = @currency,
	updated_at = now(), version = version + 1
WHERE org_id = @org AND id = @id`
	minor, currency := l.Value.columns()
	if _, err := tx.Exec(ctx, sqlSet, pgx.StrictNamedArgs{
		"org": a.Org, "id": lead, "title": l.Title, "priority": l.Priority, "temperature": l.Temperature, "tags": l.Tags,
		"minor": minor, "currency": currency,
	}); err != nil {
		return old, fmt.Errorf("set lead's fields: %w", err)
	}
	if err := emitLead(ctx, tx, lead, "updated", a.Name+" set "+strings.Join(said, ", "), changes...); err != nil {
		return old, err
	}
	return s.whole(ctx, tx, lead)
}

func emitLead(ctx context.Context, tx pgx.Tx, lead tandem.ID, verb, description string, changes ...tandem.Change) error {
	_, err := events.Emit(ctx, tx, tandem.Event{
		Noun: "lead", Verb: verb, Record: lead, Lead: lead, Category: "crm", Severity: "info", Description: description, Changes: changes,
	})
	if err != nil {
		return fmt.Errorf("lead %s: %w", verb, err)
	}
	return nil
}
