package crm

import (
	"encoding/json"
	"slices"
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

// Claims returns the identity in its one spelling and, as a JSON object, what SQLNothingNew
// asks about a message. lead is nil for a message that says nothing of one; its Board and
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

// SQLNothingNew is the condition that Resolve and OpenOrFind would neither change nor find
// anything but the contact and the lead of a conversation "c", were they called with what
// "k" says: k.said is what Claims returned, k.channel_id the channel. It errs on the safe
// side only. Its rows are looked up by scalar subqueries, which keeps the plan on primary keys.
const SQLNothingNew = `(
	SELECT ct.archived_at IS NULL
	   AND (ct.first_name <> '' OR ct.last_name <> '' OR NOT k.said ? 'named')
	   AND (ct.email IS NOT NULL OR NOT k.said ? 'email')
	   AND (ct.phone IS NOT NULL OR NOT k.said ? 'phone')
	   AND (ct.company <> '' OR NOT k.said ? 'company')
	FROM contacts ct WHERE ct.org_id = @org AND ct.id = c.contact_id
) AND (
	NOT k.said ? 'trusted' OR NOT k.said ? 'email' OR k.kind = 'email'
	OR (SELECT true FROM contact_identities i WHERE i.org_id = @org AND i.kind = 'email' AND i.scope = '' AND i.value = k.said->>'email')
) AND (
	NOT k.said ? 'trusted' OR NOT k.said ? 'phone' OR k.kind = 'phone'
	OR (SELECT true FROM contact_identities i WHERE i.org_id = @org AND i.kind = 'phone' AND i.scope = '' AND i.value = k.said->>'phone')
) AND (
	NOT k.said ? 'lead' OR (
	SELECT l.contact_id = c.contact_id AND NOT l.closed AND l.archived_at IS NULL
	   AND (l.source <> '' OR NOT k.said->'lead' ? 'source')
	   AND (l.value_minor IS NOT NULL OR NOT k.said->'lead' ? 'value')
	   AND (NOT k.said->'lead' ? 'tags' OR to_jsonb(l.tags) @> (k.said->'lead'->'tags'))
	   AND (NOT k.said->'lead' ? 'fields' OR l.custom ?& ARRAY (SELECT jsonb_array_elements_text(k.said->'lead'->'fields')))
	   AND l.board_id = CASE
	       WHEN k.said->'lead' ? 'board' THEN (k.said->'lead'->>'board')::uuid
	       WHEN k.said->'lead' ? 'board_name' THEN (
	           SELECT b.id FROM boards b WHERE b.org_id = @org AND lower(b.name) = lower(k.said->'lead'->>'board_name') ORDER BY b.id LIMIT 1)
	       ELSE coalesce(
	           (SELECT ch.board_id FROM channels ch WHERE ch.org_id = @org AND ch.id = k.channel_id),
	           (SELECT b.id FROM boards b WHERE b.org_id = @org AND b.kind = 'lead' AND b.is_default)) END
	FROM leads l WHERE l.org_id = @org AND l.id = c.lead_id)
)`
