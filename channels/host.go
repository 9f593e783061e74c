package channels

import (
	"context"
	"time"

	"github.com/tandemhq/tandem"
)

// Host is all that an adapter may ask of Tandem. Every method may block until ctx
// ends and may be called at the same time from several goroutines. Errors are
// *tandem.Error: Unavailable means that the same call may succeed later, so the
// provider must keep the message; Invalid means that it never will.
type Host interface {
	// Deliver takes one inbound message. When it returns nil the message is durable
	// and only then may the adapter acknowledge it to the provider. The same
	// (channel, ID) again is a success with Duplicate set and the first answer's ids.
	// The order of messages of one sender is the order of the calls' returns.
	Deliver(ctx context.Context, in Inbound) (Accepted, error)

	// Quarantine keeps, durably, what came in but could not be understood, so that
	// nothing is dropped. Afterwards the provider is acknowledged as after Deliver.
	// raw is at most MaxRaw bytes; reason is one sentence for the team.
	Quarantine(ctx context.Context, channel tandem.ID, id ExternalID, raw []byte, reason string) error

	// Status reports what became of a sent message: "delivered", "read" or "failed"
	// (with detail, a sentence). id is the ProviderID or the Receipt's ID. Reports may
	// come late, twice and out of order: a status never falls. An unknown id is NotFound.
	Status(ctx context.Context, channel tandem.ID, id ExternalID, status, detail string) error

	// Thread returns what the person behind from may see, in seq order, lines with
	// seq > after only, at most limit of them (0 means 200). Notes, drafts and
	// messages that are not decided to be sent are never among them; and a message
	// still on its way out holds back every line behind it, so that a reader who
	// asks for "after the last seq I saw" never skips one. Somebody who has not
	// written yet gets a Thread without Conversation and Lines, not an error.
	Thread(ctx context.Context, channel tandem.ID, from Address, after int64, limit int) (Thread, error)

	// Watch tells when the thread of from changes. It is subscribed when it returns,
	// so a Thread read afterwards misses nothing. Changes are hints and may be merged;
	// a reader that is slow gets Lines set at least once after the last change. The
	// channel is closed when ctx ends, or earlier when the Host stops: watch again then.
	Watch(ctx context.Context, channel tandem.ID, from Address) (<-chan Change, error)

	// Typing tells the team that the person behind from is writing. It is not kept
	// and may be lost.
	Typing(ctx context.Context, channel tandem.ID, from Address) error
}

// Accepted names what a delivered message became.
type Accepted struct {
	Contact      tandem.ID
	Lead         tandem.ID // empty when the message opened or found none
	Conversation tandem.ID
	Message      tandem.ID
	Seq          int64 // the message's place in its conversation, from 1
	Duplicate    bool  // it had been delivered before
}

// The voices in a Line, a Typing and a Thread.
const (
	Visitor = "visitor" // the person who writes to us
	AI      = "ai"      // an AI member
	Human   = "human"   // a person of the team
	System  = "system"  // Tandem itself
	Team    = "team"    // nobody in particular: whoever of the team is free
)

// Thread is one person's conversation as that person may see it.
type Thread struct {
	Conversation tandem.ID // empty before the first message
	Lines        []Line
	Answering    string // AI, Human or Team: who answers now, or who would answer a first message
	Name         string // the name of the one who answers; for Team the team's or organization's
}

// Line is one message as the contact may see it.
type Line struct {
	Seq      int64      `json:"seq"`
	ID       tandem.ID  `json:"id"`
	From     string     `json:"from"` // Visitor, AI, Human or System
	Name     string     `json:"name"`
	Text     string     `json:"text"`
	At       time.Time  `json:"at"`
	ClientID ExternalID `json:"client_id,omitempty"` // Visitor's lines: the Inbound.ID it was delivered under
	Sources  []Source   `json:"sources,omitempty"`   // AI's lines: what the answer rests on
}

// Source is a document that an answer rests on.
type Source struct {
	Title string `json:"title"`
	URL   string `json:"url,omitempty"` // empty when the document has no public address
}

// Change says what may be new in a watched thread.
type Change struct {
	Lines  bool    // lines, or who answers, may have changed: read the Thread again
	Typing *Typing // somebody of the team is writing
}

// Typing says that somebody is writing, until the given time unless renewed.
// A time that has passed means that they stopped.
type Typing struct {
	From  string    `json:"from"` // AI or Human
	Name  string    `json:"name"`
	Until time.Time `json:"until"`
}
