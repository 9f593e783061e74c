package crm

import (
	"encoding/json"
	"slices"

	"github.com/tandemhq/tandem"
)

// claims is what a message says of its sender and of a lead, as far as it decides whether
// there is anything to learn from it.
type claims struct {
	Named   bool        `json:"named,omitempty"`
	Company bool        `json:"company,omitempty"`
	Email   string      `json:"email,omitempty"`
	Phone   string      `json:"phone,omitempty"`
	Trusted bool        `json:"trusted,omitempty"` // email and phone identify the sender, too
	Lead    *leadClaims `json:"lead,omitempty"`
}

type leadClaims struct {
	Board     string   `json:"board,omitempty"` // an id
	BoardName string   `json:"board_name,omitempty"`
	Source    bool     `json:"source,omitempty"`
	Value     bool     `json:"value,omitempty"`
	Tags      []string `json:"tags,omitempty"`
	Fields    []string `json:"fields,omitempty"` // names of custom
}

// Claims returns the identity in its one spelling and, as a JSON object, what tandem_intake
// (in migrations) asks about a message: whether Resolve and OpenOrFind would change or find
// anything but the contact and the lead of a conversation that is there. lead is nil for a message that says nothing of one; its Board and
// BoardName are empty when the channel decides. False means that only Resolve and OpenOrFind
// can tell: something is not valid, or a number is to be read as the organization's region says.
func Claims(in Identity, facts ContactFacts, lead *NewLead) (id Identity, said string, ok bool) {
	id, err := in.normal("")
	if err != nil {
		return in, "", false
	}
	k := facts.clean("")
	if k.rawPhone != "" {
		return in, "", false
	}
	switch id.Kind {
	case "email":
		k.email = id.Value
	case "phone", "whatsapp":
		k.phone = id.Value
	}
	c := claims{Named: k.name != "", Company: k.company != "", Email: k.email, Phone: k.phone, Trusted: id.trusted()}
	if lead != nil {
		l := *lead
		if l.check() != nil {
			return in, "", false
		}
		c.Lead = &leadClaims{Board: string(l.Board), BoardName: l.BoardName, Source: l.Source != "", Value: l.Value != nil, Tags: l.Tags}
		for name := range l.Custom {
			c.Lead.Fields = append(c.Lead.Fields, name)
		}
		slices.Sort(c.Lead.Fields)
	}
	b, err := json.Marshal(c)
	if err != nil {
		return in, "", false
	}
	return id, string(b), true
}

// Newcomer is what Resolve and OpenOrFind make of a sender whom nobody knows, as
// tandem_intake takes it: with the ids that all of it will have.
type Newcomer struct {
	Contact      tandem.ID     `json:"contact"`
	ContactEvent tandem.ID     `json:"contact_event"`
	LeadEvent    tandem.ID     `json:"lead_event"`
	Conversation tandem.ID     `json:"conversation"`
	Name         string        `json:"name"`
	First        string        `json:"first"`
	Last         string        `json:"last"`
	Email        string        `json:"email"`
	Phone        string        `json:"phone"`
	Company      string        `json:"company"`
	Evidence     string        `json:"evidence"`
	Identities   []newIdentity `json:"identities"`
	Lead         *newcomerLead `json:"lead"`
}

type newIdentity struct {
	Kind  string `json:"kind"`
	Scope string `json:"scope"`
	Value string `json:"value"`
}

type newcomerLead struct {
	ID        tandem.ID      `json:"id"`
	Board     string         `json:"board,omitempty"` // an id; neither Board nor BoardName: the channel decides
	BoardName string         `json:"board_name,omitempty"`
	Title     string         `json:"title"`
	Source    string         `json:"source"`
	Minor     *int64         `json:"minor"`
	Currency  *string        `json:"currency"`
	Priority  string         `json:"priority"`
	Tags      []string       `json:"tags"`
	Custom    map[string]any `json:"custom"`
}

// NewNewcomer is for an identity and facts that Claims has accepted.
func NewNewcomer(in Identity, facts ContactFacts) Newcomer {
	k := facts.clean("")
	switch in.Kind {
	case "email":
		k.email = in.Value
	case "phone", "whatsapp":
		k.phone = in.Value
	}
	n := Newcomer{
		Contact: tandem.NewID(), ContactEvent: tandem.NewID(), LeadEvent: tandem.NewID(), Conversation: tandem.NewID(),
		First: k.first, Last: k.last, Email: k.email, Phone: k.phone, Company: k.company, Evidence: clean(in.Evidence, 200),
	}
	n.Name = k.called(in, n.Contact)
	for _, i := range identities(in, k) {
		n.Identities = append(n.Identities, newIdentity{i.Kind, i.Scope, i.Value})
	}
	return n
}

// With adds the newcomer's lead; its contact is not looked at, and an empty board leaves the
// choice to the channel. False means that its values are not valid.
func (n Newcomer) With(lead NewLead) (Newcomer, bool) {
	if lead.check() != nil {
		return n, false
	}
	minor, currency := lead.Value.columns()
	n.Lead = &newcomerLead{
		ID: tandem.NewID(), Board: string(lead.Board), BoardName: lead.BoardName, Title: lead.Title, Source: lead.Source,
		Minor: minor, Currency: currency, Priority: lead.Priority, Tags: lead.Tags, Custom: lead.Custom,
	}
	return n, true
}
