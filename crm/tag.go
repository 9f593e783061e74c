package crm

import (
	"regexp"
	"strings"
	"time"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/record"
)

// Tag is a word that people choose when they tag records of one type. Records may carry other words as well.
type Tag struct {
	ID         tandem.ID `json:"id" db:"id"`
	Name       string    `json:"name" db:"name" example:"VIP" doc:"Each name once per type of record, whatever its case; at most 60 characters."`
	RecordType string    `json:"record_type" db:"record_type" enum:"lead,contact,account,deal"`
	Color      *string   `json:"color" db:"color" example:"#2f6fed" doc:"As #rrggbb; null for none."`
	CreatedAt  time.Time `json:"created_at" db:"created_at"`
	UpdatedAt  time.Time `json:"updated_at" db:"updated_at"`
	Version    int64     `json:"version" db:"version"`
}

// Tags is the set of tags.
var Tags = record.Set[Tag]{
	Noun: "tag", Table: "tags",
	Fields: []record.Field{
		{Name: "name", Filter: true, Write: true, Needed: true, Sort: "lower(tags.name)"},
		{Name: "record_type", Filter: true, Once: true, Needed: true},
		{Name: "color", Write: true},
		{Name: "created_at", Type: record.Time, Filter: true},
		{Name: "updated_at", Type: record.Time, Filter: true},
	},
	Search:     []string{"tags.name"},
	Archivable: true, Label: "name", Category: "crm", Check: checkTag,
}

var colorForm = regexp.MustCompile(`^#[0-9a-f]{6}$`)

func checkTag(t *Tag) error {
	var wrong []tandem.FieldError
	if t.Name = clean(t.Name, maxTag+1); t.Name == "" || len([]rune(t.Name)) > maxTag {
		wrong = append(wrong, tandem.FieldError{Field: "name", Message: "A tag needs a name of at most 60 characters."})
	}
	switch t.RecordType {
	case "lead", "contact", "account", "deal":
	default:
		wrong = append(wrong, tandem.FieldError{Field: "record_type", Message: "Choose lead, contact, account or deal."})
	}
	if t.Color != nil {
		c := strings.ToLower(strings.TrimSpace(*t.Color))
		if t.Color = &c; !colorForm.MatchString(c) {
			wrong = append(wrong, tandem.FieldError{Field: "color", Message: "Write a color such as #2f6fed, or null for none."})
		}
	}
	if len(wrong) > 0 {
		return tandem.InvalidFields(wrong...)
	}
	return nil
}
