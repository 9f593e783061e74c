package crm

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/record"
)

// LeadSource is where leads come from, and what one of them costs.
type LeadSource struct {
	ID        tandem.ID  `json:"id" db:"id"`
	Name      string     `json:"name" db:"name" example:"Trade fair" doc:"Each name once, whatever its case."`
	Kind      string     `json:"kind" db:"kind" enum:"webchat,webhook,email,whatsapp,import,manual,referral,ad,other"`
	ChannelID *tandem.ID `json:"channel_id" db:"channel_id" doc:"The channel that brings them."`
	CostMinor *int64     `json:"cost_minor" db:"cost_minor" minimum:"0" doc:"What a lead costs, in the currency's smallest unit; together with currency."`
	Currency  *string    `json:"currency" db:"currency" example:"EUR"`
	Active    *bool      `json:"active" db:"active" nullable:"false" doc:"Whether it is offered for new leads; true when left out."`
	CreatedAt time.Time  `json:"created_at" db:"created_at"`
	UpdatedAt time.Time  `json:"updated_at" db:"updated_at"`
	Version   int64      `json:"version" db:"version"`
}

// LeadSources is the set of lead sources.
var LeadSources = record.Set[LeadSource]{
	Noun: "lead_source", Table: "lead_sources", Word: "lead source",
	Fields: []record.Field{
		{Name: "name", Filter: true, Write: true, Needed: true, Sort: "lower(lead_sources.name)"},
		{Name: "kind", Filter: true, Write: true, Needed: true},
		{Name: "channel_id", Type: record.ID, Filter: true, Write: true},
		{Name: "cost_minor", Type: record.Int, Filter: true, Write: true},
		{Name: "currency", Filter: true, Write: true},
		{Name: "active", Type: record.Bool, Filter: true, Write: true},
		{Name: "created_at", Type: record.Time, Filter: true},
		{Name: "updated_at", Type: record.Time, Filter: true},
	},
	Search:     []string{"lead_sources.name"},
	Archivable: true, Label: "name", Category: "crm", Check: checkLeadSource,
}

var sourceKinds = []string{"webchat", "webhook", "email", "whatsapp", "import", "manual", "referral", "ad", "other"}

func checkLeadSource(s *LeadSource) error {
	var wrong []tandem.FieldError
	if s.Name = clean(s.Name, 120); s.Name == "" {
		wrong = append(wrong, tandem.FieldError{Field: "name", Message: "A lead source needs a name."})
	}
	if !slices.Contains(sourceKinds, s.Kind) {
		wrong = append(wrong, tandem.FieldError{Field: "kind", Message: "Choose " + strings.Join(sourceKinds[:len(sourceKinds)-1], ", ") + " or other."})
	}
	switch {
	case (s.CostMinor == nil) != (s.Currency == nil):
		wrong = append(wrong, tandem.FieldError{Field: "cost_minor", Message: "Give the cost and its currency, or neither."})
	case s.CostMinor != nil && *s.CostMinor < 0:
		wrong = append(wrong, tandem.FieldError{Field: "cost_minor", Message: "A cost cannot be below zero."})
	case s.Currency != nil && !currencyForm.MatchString(*s.Currency):
		wrong = append(wrong, tandem.FieldError{Field: "currency", Message: "Give the currency as three capital letters, such as EUR."})
	}
	if len(wrong) > 0 {
		return tandem.InvalidFields(wrong...)
	}
	return nil
}

// firstSources is what a new organization begins with; the migration that made the table gave the same to those before.
var firstSources = []LeadSource{
	{Name: "Website chat", Kind: "webchat"},
	{Name: "Web form", Kind: "webhook"},
	{Name: "Email", Kind: "email"},
	{Name: "WhatsApp", Kind: "whatsapp"},
	{Name: "Import", Kind: "import"},
	{Name: "Entered by hand", Kind: "manual"},
	{Name: "Referral", Kind: "referral"},
	{Name: "Advertisement", Kind: "ad"},
	{Name: "Other", Kind: "other"},
}

// SeedLeadSources makes the lead sources that an organization begins with, one of each kind.
func SeedLeadSources(ctx context.Context, tx pgx.Tx) error {
	for _, s := range firstSources {
		if _, err := LeadSources.Create(ctx, tx, s); err != nil {
			return err
		}
	}
	return nil
}
