package inbox

import (
	"context"
	"log/slog"
	"net/http"
	"sync"

	"golang.org/x/sync/singleflight"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/seal"
)

// Options are what an Inbox is made of.
type Options struct {
	DB     *pg.DB
	Sealer *seal.Sealer
	Fanout *events.Fanout // nil: nobody hears of changes at once, only by asking again
	// Signal sends what is not kept, such as "is typing", to every process; nil: nowhere.
	Signal func(ctx context.Context, subject string, body []byte) error
	Kinds  []channels.Kind // the sorts of channel that exist
	HTTP   *http.Client    // for channels that dial addresses a user chose
	// Deliver takes inbound messages, as (*Batcher).Deliver does.
	Deliver func(ctx context.Context, in channels.Inbound) (channels.Accepted, error)
	Logger  *slog.Logger // nil means slog.Default
}

// Inbox is the living part of the package: the channels that are open and what they may
// ask of Tandem. Everything that decides is a function on a transaction.
type Inbox struct {
	Channels    *Channels
	Switchboard *Switchboard

	o      Options
	lookup singleflight.Group
	mu     sync.Mutex
	homes  map[tandem.ID]tandem.ID // the conversation of a message or handoff
}

// New makes an Inbox. Run its Switchboard to receive.
func New(o Options) *Inbox {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Signal == nil {
		o.Signal = func(context.Context, string, []byte) error { return nil }
	}
	in := &Inbox{o: o, homes: map[tandem.ID]tandem.ID{}}
	in.Channels = &Channels{in: in}
	in.Switchboard = &Switchboard{in: in, open: map[tandem.ID]*line{}, keys: map[string]doorway{}}
	return in
}
