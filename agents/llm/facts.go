package llm

import "time"

// Facts is the structured view of a turn: what a language model gets as prose in System and
// Messages, the built-in rules model reads here. Language-model adapters never send it anywhere.
// A zero field means "not known".
type Facts struct {
	Now         time.Time // the turn's clock in the organization's time zone, for words such as "next month"
	OrgName     string
	AgentName   string
	ContactName string // the contact's full name as far as known
	LeadTitle   string
	Currency    string // ISO 4217 code that an amount without a sign is taken to be in; empty means USD

	StageID       string               // where the lead stands now
	Stages        []Stage              // the lead's board, in order
	Qualification map[string]QualField // by Budget, Authority, Need, Timeline; only what is known
	Playbook      []Question           // the organization's own questions, asked in place of the built-in ones

	Greeted     bool  // somebody of ours has already written to this contact in this conversation
	OpenHandoff bool  // a handoff of this conversation waits for an answer
	Unanswered  int   // questions of this contact that we could not answer, before this turn
	OutOfHours  bool  // nobody of the team is on duty now
	HighValue   int64 // lead value in minor units from which a person should take over; 0 means never
	LeadValue   int64 // the lead's value in minor units, 0 when unknown
}

// Stage is one column of the lead's board.
type Stage struct {
	ID   string
	Name string
	Kind string // "open", "won" or "lost"
}

// The four qualification fields, as tools and records name them.
const (
	Budget    = "budget"
	Authority = "authority"
	Need      = "need"
	Timeline  = "timeline"
)

// BANTFields lists the qualification fields in the order in which they are asked for.
var BANTFields = []string{Need, Authority, Timeline, Budget}

// QualField is what is known of one qualification field.
type QualField struct {
	Value      string
	Confidence float64 // 0 to 1
	Locked     bool    // a person fixed it; no model may change it
}

// Question is a sentence with which an organization wants a qualification field asked for.
type Question struct {
	Field string // Budget, Authority, Need or Timeline
	Text  string
}

// Missing returns the qualification fields of which nothing is known, in asking order.
func (f Facts) Missing() []string {
	var out []string
	for _, field := range BANTFields {
		if f.Qualification[field].Value == "" {
			out = append(out, field)
		}
	}
	return out
}
