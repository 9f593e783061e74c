package crm

import (
	"regexp"
	"strings"
	"time"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/record"
)

// Account is a company that contacts work for.
type Account struct {
	ID        tandem.ID      `json:"id" db:"id"`
	Name      string         `json:"name" db:"name" example:"Example Ltd"`
	Domain    *string        `json:"domain" db:"domain" example:"example.com" doc:"Whoever writes from an address of this domain works here."`
	ParentID  *tandem.ID     `json:"parent_id" db:"parent_id" doc:"The company that it belongs to."`
	Website   string         `json:"website" db:"website"`
	Phone     *string        `json:"phone" db:"phone" example:"+49401234567" doc:"With its country code."`
	Industry  string         `json:"industry" db:"industry"`
	OwnerID   *tandem.ID     `json:"owner_id" db:"owner_id" doc:"The member who looks after it."`
	Tags      []string       `json:"tags" db:"tags" nullable:"false"`
	Custom    map[string]any `json:"custom" db:"custom" nullable:"false" doc:"Values of custom fields, by key. A change names those to set; null removes one."`
	Glance    *AccountGlance `json:"glance,omitempty" db:"-" doc:"What belongs to it; only from Get."`
	CreatedAt time.Time      `json:"created_at" db:"created_at"`
	UpdatedAt time.Time      `json:"updated_at" db:"updated_at"`
	Version   int64          `json:"version" db:"version"`
}

// AccountGlance is what a person wants to know of a company before anything else.
type AccountGlance struct {
	Contacts          int            `json:"contacts" db:"contacts" doc:"1000 means that many or more, here and below."`
	OpenLeads         int            `json:"open_leads" db:"open_leads"`
	OpenDeals         int            `json:"open_deals" db:"open_deals"`
	OpenConversations int            `json:"open_conversations" db:"open_conversations" doc:"Neither resolved nor spam."`
	Children          []AccountChild `json:"children" db:"-" nullable:"false" doc:"The companies that belong to it, by name, at most 100."`
}

// AccountChild is a company as its parent shows it.
type AccountChild struct {
	ID   tandem.ID `json:"id" db:"id"`
	Name string    `json:"name" db:"name"`
}

type accounts struct{ customized[Account] }

// Accounts is the set of accounts.
var Accounts = accounts{customized[Account]{parts: func(a *Account) (*tandem.ID, *map[string]any) { return &a.ID, &a.Custom }, Set: record.Set[Account]{
	Noun: "account", Table: "accounts",
	Fields: []record.Field{
		{Name: "name", Filter: true, Write: true, Needed: true, Sort: "lower(accounts.name)"},
		{Name: "domain", Filter: true, Write: true},
		{Name: "parent_id", Type: record.ID, Filter: true, Write: true},
		{Name: "website", Write: true},
		{Name: "phone", Filter: true, Write: true},
		{Name: "industry", Filter: true, Write: true},
		{Name: "owner_id", Type: record.ID, Filter: true, Write: true},
		{Name: "tags", Type: record.Texts, Filter: true, Write: true},
		{Name: "custom", Write: true},
		{Name: "created_at", Type: record.Time, Filter: true},
		{Name: "updated_at", Type: record.Time, Filter: true},
	},
	Search:     []string{"accounts.name", "accounts.domain"},
	Archivable: true, Label: "name", Category: "crm", Check: checkAccount,
}}}

var domainForm = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}$`)

func checkAccount(a *Account) error {
	var wrong []tandem.FieldError
	a.Name = clean(a.Name, 300)
	if a.Name == "" {
		wrong = append(wrong, tandem.FieldError{Field: "name", Message: "An account needs a name."})
	}
	if a.Domain != nil {
		d := strings.ToLower(strings.TrimSpace(*a.Domain))
		if a.Domain = &d; !domainForm.MatchString(d) {
			wrong = append(wrong, tandem.FieldError{Field: "domain", Message: "Write a domain such as example.com, or null for none."})
		}
	}
	if a.Phone != nil {
		p, ok := NormalizePhone(*a.Phone, "")
		if a.Phone = &p; !ok {
			wrong = append(wrong, tandem.FieldError{Field: "phone", Message: "Write the number with its country code, such as +49 40 123456."})
		}
	}
	if len(wrong) > 0 {
		return tandem.InvalidFields(wrong...)
	}
	if a.Tags != nil {
		a.Tags = cleanTags(a.Tags)
	}
	return nil
}
