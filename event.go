package tandem

import "time"

// Event is one past fact. Its subject on the bus is ev.<org>.<noun>.<verb>.
// The events table is the only record of what happened: audit log, timeline,
// outbox, live updates and triggers all read it.
type Event struct {
	ID          ID         `json:"id"`
	Org         ID         `json:"-"`
	Noun        string     `json:"noun"` // "message", "conversation", "lead", ...
	Verb        string     `json:"verb"` // past tense: "received", "claimed", "moved", ...
	Record      ID         `json:"record_id"`
	Actor       ActorStamp `json:"actor"`
	Changes     []Change   `json:"changes,omitempty"`
	Description string     `json:"description"`               // one sentence for a person
	Category    string     `json:"category"`                  // "conversation", "crm", "team", "security", "agent"
	Severity    string     `json:"severity"`                  // "info", "notice", "warning"
	Conv        ID         `json:"conversation_id,omitempty"` // the conversation it belongs to, if any
	Lead        ID         `json:"lead_id,omitempty"`         // the lead it belongs to, if any
	Chain       ID         `json:"chain_id"`
	At          time.Time  `json:"at"`
}

// ActorStamp is how an event remembers who acted.
type ActorStamp struct {
	ID       ID        `json:"id,omitempty"`
	Kind     ActorKind `json:"kind"`
	Name     string    `json:"name"`
	OnBehalf ID        `json:"on_behalf_of,omitempty"`
}

// Change is one field's move from Old to New; values are JSON-encodable.
type Change struct {
	Field string `json:"field"`
	Old   any    `json:"old,omitempty"`
	New   any    `json:"new,omitempty"`
}

// Topic is "noun.verb".
func (e Event) Topic() string { return e.Noun + "." + e.Verb }

// Subject is the event's subject on the bus: ev.<org>.<noun>.<verb>.
func (e Event) Subject() string { return "ev." + string(e.Org) + "." + e.Noun + "." + e.Verb }
