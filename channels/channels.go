// Package channels is the contract between Tandem and the ways by which people
// write to a team: chat widgets, web forms, mail, messengers. An adapter lives in
// channels/<kind>, imports only this package and the root package, and must pass
// the conformance suite channels/channeltest.
//
// Two rules carry the whole contract. Inward: a provider is told "taken" only after
// [Host.Deliver] returned nil, because only then is the message durable. Outward: an
// adapter says honestly what is known about a send ([SendError]), because Tandem
// repeats only what is certain not to have been taken.
package channels

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"

	"github.com/tandemhq/tandem"
)

// ExternalID is a message's name in the provider's world. Only its own adapter may
// look inside it; everyone else compares it for equality. 1 to 500 characters.
type ExternalID string

// Address is where somebody is reached on one channel: a visitor id, a mail address,
// a phone number. Only its own adapter may look inside it. 1 to 320 characters.
type Address string

// Channel is one configured way in and out, such as "the chat on our shop".
// All methods may be called at the same time from several goroutines.
type Channel interface {
	// Run receives until ctx ends and then returns nil promptly, after everything
	// taken from the provider was either delivered or left for the provider to repeat.
	// Run may block and wait on the network for as long as ctx lives. It returns an error only when it
	// cannot go on; the caller then waits and runs it again, so Run must be able to
	// start anew. An adapter that only answers HTTP calls waits for ctx to end.
	// One Run per Channel is active at a time.
	Run(ctx context.Context, h Host) error

	// Send gives one message to the provider. It may block until ctx ends, never
	// longer: ctx carries the deadline of this attempt. No database transaction is
	// open meanwhile. A nil error means that the provider took the message; every
	// other outcome is a *[SendError]. Send may be called while Run is not running.
	// Calls for one conversation come one after the other, in order; calls for
	// different conversations come at the same time.
	Send(ctx context.Context, m Outbound) (Receipt, error)

	// Close frees what Open made. Run has returned or is returning by then; a Send
	// that is under way may fail with NotSent. A second Close does nothing and returns nil.
	Close() error
}

// Webhooker is a Channel that also answers HTTP calls: the api mounts the handler
// under the channel's public key with that prefix stripped, so paths here begin
// behind it. The handler authenticates its callers itself, bounds bodies and rates
// itself, and answers success only for what [Host.Deliver] took.
type Webhooker interface {
	Webhook(h Host) http.Handler
}

// Deduper is a Channel whose receiver removes duplicates by [Outbound.ProviderID].
// When it reports true, a send with an ambiguous outcome is repeated under the same
// id; otherwise such a message becomes "unknown" and a person decides.
type Deduper interface {
	DedupesByID() bool
}

// ThreadReader is a Channel whose contacts read the thread at our own door: nothing leaves by
// Send, so a send whose end was not recorded has not happened.
type ThreadReader interface {
	ReadsThread() bool
}

// Kind is one sort of channel. cmd/tandem lists every Kind that the program offers.
type Kind struct {
	Name  string // lower-case letters, as stored in channels.kind: "webchat"
	Title string // for people: "Web chat"

	// Open checks settings and secret and makes the Channel. It does not touch the
	// network and does not block, so it also serves to validate settings before they
	// are saved. Wrong settings are an Invalid error that names each field as
	// "settings.<name>".
	Open func(ctx context.Context, c Config) (Channel, error)
}

// Config is what a Channel is opened with. Everything is read-only.
type Config struct {
	Org       tandem.ID
	ID        tandem.ID       // the channel's id; every call of the Host names it
	Name      string          // as the team named it
	PublicKey string          // stands in public addresses; names the channel, proves nothing
	Settings  json.RawMessage // the adapter's own settings object; empty means all defaults
	Secret    []byte          // the adapter's own secret, unsealed; nil when none is set. Never logged

	// Sign returns a MAC of payload under a key that belongs to channels and never
	// changes; Verify checks one in constant time. The key is shared by all channels,
	// so the payload must name Org and ID where a token must not work elsewhere.
	Sign   func(payload []byte) []byte
	Verify func(payload, mac []byte) bool

	// HTTP is the client for every address that a user of Tandem may choose: it
	// refuses private networks. Send sets the deadline by its ctx. Required by adapters that dial.
	HTTP *http.Client

	Logger *slog.Logger // nil discards; never given message texts, tokens or secrets
}

// Log returns the configured logger, or one that discards.
func (c Config) Log() *slog.Logger {
	if c.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Logger
}
