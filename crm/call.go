package crm

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/record"
)

// Call is a telephone call about one lead, contact, account or deal.
type Call struct {
	ID              tandem.ID  `json:"id" db:"id"`
	LeadID          *tandem.ID `json:"lead_id" db:"lead_id" doc:"What it was about: exactly one of lead_id, contact_id, account_id and deal_id."`
	ContactID       *tandem.ID `json:"contact_id" db:"contact_id"`
	AccountID       *tandem.ID `json:"account_id" db:"account_id"`
	DealID          *tandem.ID `json:"deal_id" db:"deal_id"`
	MemberID        *tandem.ID `json:"member_id" db:"member_id" doc:"Who called or was called; whoever adds the call when it is left out."`
	Direction       string     `json:"direction" db:"direction" enum:"inbound,outbound"`
	Outcome         string     `json:"outcome" db:"outcome" enum:"connected,no_answer,busy,voicemail,failed"`
	StartedAt       time.Time  `json:"started_at" db:"started_at"`
	DurationSeconds int64      `json:"duration_seconds" db:"duration_seconds" minimum:"0" maximum:"604800"`
	RecordingURL    *string    `json:"recording_url" db:"recording_url" example:"https://recordings.example.com/4711" doc:"Where the recording is, as https."`
	Notes           string     `json:"notes" db:"notes"`
	CreatedAt       time.Time  `json:"created_at" db:"created_at"`
	UpdatedAt       time.Time  `json:"updated_at" db:"updated_at"`
	Version         int64      `json:"version" db:"version"`
}

type calls struct{ record.Set[Call] }

// Calls is the set of calls.
var Calls = calls{record.Set[Call]{
	Noun: "call", Table: "calls",
	Fields: []record.Field{
		{Name: "lead_id", Type: record.ID, Filter: true, Once: true},
		{Name: "contact_id", Type: record.ID, Filter: true, Once: true},
		{Name: "account_id", Type: record.ID, Filter: true, Once: true},
		{Name: "deal_id", Type: record.ID, Filter: true, Once: true},
		{Name: "member_id", Type: record.ID, Filter: true, Once: true},
		{Name: "direction", Filter: true, Once: true, Needed: true},
		{Name: "outcome", Filter: true, Write: true, Needed: true},
		{Name: "started_at", Type: record.Time, Filter: true, Write: true, Needed: true, Sort: "calls.started_at"},
		{Name: "duration_seconds", Type: record.Int, Filter: true, Write: true},
		{Name: "recording_url", Write: true, Hidden: true},
		{Name: "notes", Write: true, Hidden: true},
		{Name: "created_at", Type: record.Time, Filter: true},
		{Name: "updated_at", Type: record.Time, Filter: true},
	},
	Archivable: true, Lead: "lead_id", Category: "crm", Check: checkCall,
}}

var callOutcomes = []string{"connected", "no_answer", "busy", "voicemail", "failed"}

func checkCall(c *Call) error {
	wrong := oneRelated(nil, c.LeadID, c.ContactID, c.AccountID, c.DealID)
	refuse := func(field, message string) {
		wrong = append(wrong, tandem.FieldError{Field: field, Message: message})
	}
	if c.Direction != "inbound" && c.Direction != "outbound" {
		refuse("direction", "Choose inbound or outbound.")
	}
	if !slices.Contains(callOutcomes, c.Outcome) {
		refuse("outcome", "Choose connected, no_answer, busy, voicemail or failed.")
	}
	if c.StartedAt.Year() < 1970 || c.StartedAt.Year() > 2200 {
		refuse("started_at", "Choose a time between the years 1970 and 2200.")
	}
	if c.DurationSeconds < 0 || c.DurationSeconds > 7*24*60*60 {
		refuse("duration_seconds", "A call lasts from 0 seconds to a week.")
	}
	if c.RecordingURL != nil {
		u, err := url.Parse(*c.RecordingURL)
		if err != nil || !strings.HasPrefix(*c.RecordingURL, "https://") || u.Hostname() == "" || u.User != nil || len(*c.RecordingURL) > 2000 {
			refuse("recording_url", "Write an address that begins with https://, of at most 2,000 characters, or null for none.")
		}
	}
	if len([]rune(c.Notes)) > 20_000 {
		refuse("notes", "Notes have at most 20,000 characters.")
	}
	if len(wrong) > 0 {
		return tandem.InvalidFields(wrong...)
	}
	return nil
}

// Create adds a call, the actor's own where it names no member.
func (s calls) Create(ctx context.Context, tx pgx.Tx, c Call) (Call, error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return c, err
	}
	if c.MemberID == nil {
		c.MemberID = a.Member.Ptr()
	}
	return s.Set.Create(ctx, tx, c)
}
