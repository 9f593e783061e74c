package crm

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/record"
)

// Deal is what a company may buy, for how much and by when, on a stage of a board for deals.
type Deal struct {
	ID               tandem.ID         `json:"id" db:"id"`
	Name             string            `json:"name" db:"name" example:"Two racks"`
	BoardID          tandem.ID         `json:"board_id" db:"board_id" doc:"A board for deals; the default one when left out."`
	Stage            LeadStage         `json:"stage" db:"stage"`
	StageID          tandem.ID         `json:"stage_id" db:"stage_id" doc:"A stage of the board; its first open one when left out."`
	AccountID        *tandem.ID        `json:"account_id" db:"account_id" doc:"The company."`
	ContactID        *tandem.ID        `json:"contact_id" db:"contact_id" doc:"Whom to speak with first."`
	ContactIDs       []tandem.ID       `json:"contact_ids" db:"-" nullable:"false" maxItems:"50" doc:"Who else has a say in it."`
	LeadID           *tandem.ID        `json:"lead_id" db:"lead_id" doc:"The lead it came from."`
	Assignee         *tandem.MemberRef `json:"assignee" db:"assignee"`
	Amount           *Money            `json:"amount" db:"amount" doc:"Only people set it."`
	Probability      *int              `json:"probability" db:"likely" minimum:"0" maximum:"100" doc:"In percent. What its stage says until it is set; a move, or null, gives it back to the stage."`
	ExpectedClose    *string           `json:"expected_close" db:"expected_close" format:"date" example:"2026-12-31"`
	ForecastCategory string            `json:"forecast_category" db:"forecast_category" enum:"pipeline,best_case,commit,closed,omitted" doc:"closed on a won or lost stage and on no other."`
	Tags             []string          `json:"tags" db:"tags" nullable:"false"`
	Custom           map[string]any    `json:"custom" db:"custom" nullable:"false"`
	WonReason        *string           `json:"won_reason" db:"won_reason"`
	LostReason       *string           `json:"lost_reason" db:"lost_reason"`
	Closed           bool              `json:"closed" db:"closed" doc:"Whether it is on a won or lost stage."`
	ClosedAt         *time.Time        `json:"closed_at" db:"closed_at"`
	StageChangedAt   time.Time         `json:"stage_changed_at" db:"stage_changed_at"`
	CreatedAt        time.Time         `json:"created_at" db:"created_at"`
	UpdatedAt        time.Time         `json:"updated_at" db:"updated_at"`
	Version          int64             `json:"version" db:"version"`

	// What the columns hold of Probability, Amount and Assignee, for writing.
	OwnOdds     *int       `json:"-" db:"probability"` // nil: what the stage says
	AmountMinor *int64     `json:"-" db:"amount_minor"`
	Currency    *string    `json:"-" db:"currency"`
	AssigneeID  *tandem.ID `json:"-" db:"assignee_id"`
}

type deals struct{ customized[Deal] }

// Deals is the set of deals.
var Deals = deals{customized[Deal]{parts: func(d *Deal) (*tandem.ID, *map[string]any) { return &d.ID, &d.Custom }, Set: record.Set[Deal]{
	Noun: "deal", Table: "deals", Alias: "d",
	Select: `SELECT d.id, d.name, d.board_id, d.stage_id, d.account_id, d.contact_id, d.lead_id, d.assignee_id, d.amount_minor, d.currency,
		d.probability, coalesce(d.probability, s.probability) AS likely, to_char(d.expected_close, 'YYYY-MM-DD') AS expected_close, d.forecast_category,
		d.tags, d.custom, d.won_reason, d.lost_reason, d.closed, d.closed_at, d.stage_changed_at, d.created_at, d.updated_at, d.version,
		jsonb_build_object('id', s.id, 'name', s.name, 'kind', s.kind) AS stage,
		CASE WHEN m.id IS NOT NULL THEN jsonb_build_object('id', m.id, 'kind', m.kind, 'name', m.name) END AS assignee,
		CASE WHEN d.amount_minor IS NOT NULL THEN jsonb_build_object('minor', d.amount_minor, 'currency', d.currency) END AS amount
	FROM deals d
	JOIN stages s ON s.org_id = @org AND s.id = d.stage_id
	LEFT JOIN members m ON m.org_id = @org AND m.id = d.assignee_id`,
	Fields: []record.Field{
		{Name: "name", Filter: true, Write: true, Needed: true, Sort: "lower(d.name)"},
		{Name: "board_id", Type: record.ID, Filter: true, Once: true},
		{Name: "stage_id", Type: record.ID, Filter: true, Once: true},
		{Name: "account_id", Type: record.ID, Filter: true, Write: true},
		{Name: "contact_id", Type: record.ID, Filter: true, Write: true},
		{Name: "lead_id", Type: record.ID, Filter: true, Once: true},
		{Name: "assignee_id", Type: record.ID, Filter: true},
		{Name: "amount", Column: "d.amount_minor", Type: record.Int, Filter: true, Sort: "coalesce(d.amount_minor, -1)"},
		{Name: "amount_minor"},
		{Name: "currency", Filter: true},
		{Name: "probability", Column: "coalesce(d.probability, (SELECT s.probability FROM stages s WHERE s.org_id = @org AND s.id = d.stage_id))", Type: record.Int, Filter: true, Write: true},
		{Name: "expected_close", Type: record.Date, Filter: true, Write: true, Sort: "coalesce(d.expected_close, '9999-12-31'::date)"},
		{Name: "forecast_category", Filter: true, Write: true},
		{Name: "tags", Type: record.Texts, Filter: true, Write: true},
		{Name: "custom", Write: true},
		{Name: "won_reason", Filter: true},
		{Name: "lost_reason", Filter: true},
		{Name: "closed", Type: record.Bool, Filter: true},
		{Name: "closed_at", Type: record.Time, Filter: true},
		{Name: "stage_changed_at", Type: record.Time, Filter: true, Sort: "d.stage_changed_at"},
		{Name: "created_at", Type: record.Time, Filter: true},
		{Name: "updated_at", Type: record.Time, Filter: true},
	},
	Search:     []string{"d.name"},
	Archivable: true, Label: "name", Lead: "lead_id", Category: "crm", Check: checkDeal,
}}}

const maxDealContacts = 50

var forecasts = []string{"pipeline", "best_case", "commit", "closed", "omitted"}

func checkDeal(d *Deal) error {
	var wrong []tandem.FieldError
	refuse := func(field, message string) {
		wrong = append(wrong, tandem.FieldError{Field: field, Message: message})
	}
	if d.Name = clean(d.Name, 301); d.Name == "" || len([]rune(d.Name)) > 300 {
		refuse("name", "A deal needs a name of at most 300 characters.")
	}
	switch sure := map[string]int{"won": 100}[d.Stage.Kind]; {
	case d.OwnOdds == nil:
	case *d.OwnOdds < 0 || *d.OwnOdds > 100:
		refuse("probability", "A probability is a percentage from 0 to 100.")
	case d.Closed && *d.OwnOdds != sure:
		refuse("probability", "A won deal has the probability 100, a lost one 0.")
	}
	if d.ExpectedClose != nil {
		if at, err := time.Parse(time.DateOnly, *d.ExpectedClose); err != nil || at.Year() < 2000 || at.Year() > 2200 {
			refuse("expected_close", "Write a date between the years 2000 and 2200 such as 2026-12-31, or null for none.")
		}
	}
	switch {
	case !slices.Contains(forecasts, d.ForecastCategory):
		refuse("forecast_category", "Choose pipeline, best_case, commit or omitted.")
	case d.Closed != (d.ForecastCategory == "closed"):
		refuse("forecast_category", "A deal is closed in the forecast when it is won or lost, and only then.")
	}
	if len(wrong) > 0 {
		return tandem.InvalidFields(wrong...)
	}
	if d.Tags != nil {
		d.Tags = cleanTags(d.Tags)
	}
	return nil
}

// Info describes the set, with what New and Patch take besides the columns.
func (s deals) Info() record.Info {
	i := s.Set.Info()
	i.Fields = append(slices.Clone(i.Fields), record.Field{Name: "contact_ids", Write: true})
	i.Fields[slices.IndexFunc(i.Fields, func(f record.Field) bool { return f.Name == "amount" })].Write = true
	return i
}

// dealParts is what is written of a deal besides its own columns.
type dealParts struct {
	rest     json.RawMessage
	amount   *Money
	sets     bool        // the amount, to be none where that is nil
	contacts []tandem.ID // nil: as they are
}

// apart takes a deal's amount and further contacts out of what was sent.
func (s deals) apart(raw json.RawMessage) (p dealParts, wrong []tandem.FieldError, err error) {
	rest, own, err := apart(raw, "amount", "contact_ids")
	if err != nil {
		return p, nil, err
	}
	p.rest = rest
	if part := own["amount"]; part != nil {
		p.sets = true
		if json.Unmarshal(part, &p.amount) != nil {
			wrong = append(wrong, tandem.FieldError{Field: "amount", Message: "Give an amount in the currency's smallest unit and the currency, such as {\"minor\":125000,\"currency\":\"EUR\"}, or null for none."})
		}
		wrong = p.amount.check("amount", wrong)
	}
	if part := own["contact_ids"]; part != nil {
		if json.Unmarshal(part, &p.contacts) != nil || len(p.contacts) > maxDealContacts {
			wrong = append(wrong, tandem.FieldError{Field: "contact_ids", Message: "Give a list of at most 50 ids."})
		}
		if p.contacts == nil {
			p.contacts = []tandem.ID{}
		}
	}
	return p, wrong, nil
}

// withAmount is the rest with the columns of the amount, which clients cannot set by themselves.
func (p dealParts) withAmount() (json.RawMessage, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(p.rest, &all); err != nil {
		return nil, fmt.Errorf("read a deal's amount: %w", err)
	}
	minor, currency := p.amount.columns()
	for name, v := range map[string]any{"amount_minor": minor, "currency": currency} {
		if all[name] != nil {
			return nil, tandem.InvalidFields(tandem.FieldError{Field: name, Message: "This field does not exist, or cannot be set."})
		}
		part, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("read a deal's amount: %w", err)
		}
		all[name] = part
	}
	return json.Marshal(all)
}

// New reads a deal to be made.
func (s deals) New(raw json.RawMessage) (Deal, error) {
	p, wrong, err := s.apart(raw)
	if err != nil {
		return Deal{}, err
	}
	d, err := s.Set.New(p.rest)
	fields := tandem.FieldErrors(err)
	if err != nil && len(fields) == 0 {
		return d, err
	}
	if wrong = append(fields, wrong...); len(wrong) > 0 {
		return d, tandem.InvalidFields(wrong...)
	}
	d.Amount, d.ContactIDs = p.amount, p.contacts
	return d, nil
}

// Create makes a deal on a stage of its board, or on the first open one. AI members may neither set an amount nor begin with a
// stage that is won or lost (Forbidden).
func (s deals) Create(ctx context.Context, tx pgx.Tx, d Deal) (Deal, error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return d, err
	}
	if wrong := d.Amount.check("amount", nil); len(wrong) > 0 {
		return d, tandem.InvalidFields(wrong...)
	}
	at, err := entry(ctx, tx, a.Org, "deal", d.BoardID, "")
	if tandem.KindOf(err) == tandem.NotFound {
		return d, tandem.InvalidFields(tandem.FieldError{Field: "board_id", Message: "There is no such board for deals with an open stage."})
	}
	if err == nil && d.StageID != "" {
		at, err = targetOn(ctx, tx, a.Org, at.Board, d.StageID, s.Noun)
	}
	if err != nil {
		return d, err
	}
	if byMachine(a) && (d.Amount != nil || at.closes()) {
		return d, tandem.Errorf(tandem.Forbidden, "Only a person may set the amount of a deal, or win or lose it.")
	}
	d.BoardID, d.StageID = at.Board, at.ID
	d.AmountMinor, d.Currency = d.Amount.columns()
	if d.Closed = at.closes(); d.Closed {
		now, err := clock(ctx, tx)
		if err != nil {
			return d, err
		}
		d.ClosedAt, d.OwnOdds = &now, nil
	}
	if d.ForecastCategory == "" {
		d.ForecastCategory = forecastOn(at, "")
	}
	made, err := s.writing("assignee_id", "amount_minor", "currency", "closed", "closed_at").Create(ctx, tx, d)
	if err != nil {
		return made, err
	}
	if err := enter(ctx, tx, a, s.Noun, made.ID, at.ID, nil); err != nil {
		return made, err
	}
	if len(d.ContactIDs) > 0 {
		if _, err := s.include(ctx, tx, a.Org, made, d.ContactIDs); err != nil {
			return made, err
		}
	}
	return s.whole(ctx, tx, made.ID)
}

// writing is the set for what clients cannot set by themselves.
func (s deals) writing(names ...string) customized[Deal] {
	set := s.customized
	set.Set = alsoWriting(set.Set, names...)
	return set
}

// forecastOn is the category of a deal that comes to a stage with this one.
func forecastOn(t target, was string) string {
	switch {
	case t.closes():
		return "closed"
	case was == "" || was == "closed":
		return "pipeline"
	}
	return was
}

// Patch changes a deal as record.Set does, its amount, which only people may (Forbidden), and its further contacts.
func (s deals) Patch(ctx context.Context, tx pgx.Tx, id tandem.ID, raw json.RawMessage, version *int64) (Deal, error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return Deal{}, err
	}
	p, wrong, err := s.apart(raw)
	if err != nil {
		return Deal{}, err
	}
	if len(wrong) > 0 {
		return Deal{}, tandem.InvalidFields(wrong...)
	}
	set := s.customized
	if p.sets {
		if byMachine(a) {
			return Deal{}, tandem.Errorf(tandem.Forbidden, "Only a person may set the amount of a deal.")
		}
		set = s.writing("amount_minor", "currency")
		if p.rest, err = p.withAmount(); err != nil {
			return Deal{}, err
		}
	}
	d, err := set.Patch(ctx, tx, id, p.rest, version)
	if err != nil {
		return d, err
	}
	if p.contacts == nil { // whom it is now to speak with first is no further contact any more
		one := []Deal{d}
		if err := withContacts(ctx, tx, one); err != nil {
			return d, err
		}
		if slices.Contains(one[0].ContactIDs, tandem.Deref(d.ContactID)) {
			p.contacts = one[0].ContactIDs
		}
	}
	if p.contacts != nil {
		was, err := s.include(ctx, tx, a.Org, d, p.contacts)
		if err != nil {
			return d, err
		}
		if err := s.told(ctx, tx, a, d, was); err != nil {
			return d, err
		}
	}
	return s.whole(ctx, tx, id)
}

// Restore brings an archived deal back. It is Conflict while its stage or its board is archived.
func (s deals) Restore(ctx context.Context, tx pgx.Tx, id tandem.ID) (Deal, error) {
	d, err := s.customized.Restore(ctx, tx, id)
	if err != nil {
		return d, err
	}
	if err := stillThere(ctx, tx, s.Noun, d.BoardID, d.StageID, d.Closed); err != nil {
		return d, err
	}
	return s.whole(ctx, tx, id)
}

// List returns one page of deals with their further contacts.
func (s deals) List(ctx context.Context, tx pgx.Tx, q tandem.Query) (tandem.Page[Deal], error) {
	p, err := s.customized.List(ctx, tx, q)
	if err != nil {
		return p, err
	}
	return p, withContacts(ctx, tx, p.Items)
}

// Get returns one deal with its further contacts.
func (s deals) Get(ctx context.Context, tx pgx.Tx, id tandem.ID) (Deal, error) {
	if _, err := s.May(ctx, "read"); err != nil {
		return Deal{}, err
	}
	return s.whole(ctx, tx, id)
}

// whole loads a deal with its further contacts.
func (s deals) whole(ctx context.Context, tx pgx.Tx, id tandem.ID) (Deal, error) {
	d, err := s.Load(ctx, tx, id, false)
	if err != nil {
		return d, err
	}
	one := []Deal{d}
	err = withContacts(ctx, tx, one)
	return one[0], err
}

// DealMove is where a deal goes and why.
type DealMove struct {
	Stage      tandem.ID
	WonReason  string // why it is won, at most 1,000 characters; only with a won stage
	LostReason string // why it is lost; only with a lost stage
	Version    *int64 // the deal's version that the caller saw; nil for any
}

// Move puts a deal on another stage of its board, with that stage's probability, and closes or reopens it as the stage says.
// AI members may not move a deal to or away from won or lost (Forbidden). A stage of another board or an archived one is
// Invalid, and so is a reason with a stage of another kind; a version that is not the deal's is Conflict. A move to the stage
// where the deal is does nothing, but for a reason that it brings.
func (s deals) Move(ctx context.Context, tx pgx.Tx, id tandem.ID, m DealMove) (Deal, error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return Deal{}, err
	}
	d, err := s.Load(ctx, tx, id, true)
	if err != nil {
		return d, err
	}
	if m.Version != nil && *m.Version != d.Version {
		return d, tandem.Errorf(tandem.Conflict, "Somebody else changed this deal in the meantime: it is at version %d. Load it again.", d.Version)
	}
	to, err := targetOn(ctx, tx, a.Org, d.BoardID, m.Stage, s.Noun)
	if err != nil {
		return d, err
	}
	var won, lost *string
	if text := clean(m.WonReason, 1000); text != "" {
		won = &text
	}
	if text := clean(m.LostReason, 1000); text != "" {
		lost = &text
	}
	if won != nil && to.Kind != "won" {
		return d, tandem.InvalidFields(tandem.FieldError{Field: "won_reason", Message: "Only a deal on a won stage has a won reason."})
	}
	if lost != nil && to.Kind != "lost" {
		return d, tandem.InvalidFields(tandem.FieldError{Field: "lost_reason", Message: "Only a deal on a lost stage has a lost reason."})
	}
	stays := to.ID == d.StageID
	if stays && (won == nil || d.WonReason != nil && *won == *d.WonReason) && (lost == nil || d.LostReason != nil && *lost == *d.LostReason) {
		return s.whole(ctx, tx, id)
	}
	if byMachine(a) && (to.closes() || d.Closed) {
		return d, tandem.Errorf(tandem.Forbidden, "Only a person may win, lose or reopen a deal.")
	}
	const sqlMoveDeal = `
UPDATE deals SET stage_id = @stage, closed = @closed, closed_at = CASE WHEN NOT @closed THEN NULL WHEN stage_id = @stage THEN closed_at ELSE now() END, forecast_category = @forecast,
	won_reason = @won, lost_reason = @lost, updated_at = now(), version = version + 1,
	probability = CASE WHEN stage_id = @stage THEN probability END,
	stage_changed_at = CASE WHEN stage_id = @stage THEN stage_changed_at ELSE now() END
WHERE org_id = @org AND id = @id`
	if _, err := tx.Exec(ctx, sqlMoveDeal, pgx.StrictNamedArgs{
		"org": a.Org, "id": id, "stage": to.ID, "closed": to.closes(), "forecast": forecastOn(to, d.ForecastCategory), "won": won, "lost": lost,
	}); err != nil {
		return d, fmt.Errorf("move deal: %w", err)
	}
	verb, said, changes := "updated", a.Name+" said why the deal is "+to.Kind, []tandem.Change(nil)
	if !stays {
		if err := pass(ctx, tx, a, s.Noun, id, d.StageID, d.StageChangedAt, to.ID); err != nil {
			return d, err
		}
		verb, said = "moved", a.Name+" moved the deal "+tandem.Clip(d.Name, 80)+" to "+to.Name
		changes = append(changes, tandem.Change{Field: "stage", Old: d.Stage.Name, New: to.Name}, tandem.Change{Field: "stage_id", Old: d.StageID, New: to.ID})
	}
	if won != nil || d.WonReason != nil {
		changes = append(changes, tandem.Change{Field: "won_reason", Old: d.WonReason, New: won})
	}
	if lost != nil || d.LostReason != nil {
		changes = append(changes, tandem.Change{Field: "lost_reason", Old: d.LostReason, New: lost})
	}
	if err := emitDeal(ctx, tx, d, verb, said, changes...); err != nil {
		return d, err
	}
	return s.whole(ctx, tx, id)
}

// Assign makes a member responsible for a deal; the empty id makes nobody. AI members may not assign (Forbidden); a disabled
// or unknown member is Invalid.
func (s deals) Assign(ctx context.Context, tx pgx.Tx, id, member tandem.ID) (Deal, error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return Deal{}, err
	}
	if byMachine(a) {
		return Deal{}, tandem.Errorf(tandem.Forbidden, "Only a person may assign a deal.")
	}
	d, err := s.Load(ctx, tx, id, true)
	if err != nil {
		return d, err
	}
	name, err := assigneeName(ctx, tx, a.Org, member)
	if err != nil {
		return d, err
	}
	if tandem.Deref(d.AssigneeID) == member {
		return s.whole(ctx, tx, id)
	}
	const sqlAssignDeal = `
UPDATE deals SET assignee_id = @member, updated_at = now(), version = version + 1 WHERE org_id = @org AND id = @id`
	if _, err := tx.Exec(ctx, sqlAssignDeal, pgx.StrictNamedArgs{"org": a.Org, "id": id, "member": member.Ptr()}); err != nil {
		return d, fmt.Errorf("assign deal: %w", err)
	}
	was := tandem.Change{Field: "assignee", New: name}
	if d.Assignee != nil {
		was.Old = d.Assignee.Name
	}
	if err := emitDeal(ctx, tx, d, "updated", a.Name+" assigned the deal "+tandem.Clip(d.Name, 80)+" to "+name, was); err != nil {
		return d, err
	}
	return s.whole(ctx, tx, id)
}
