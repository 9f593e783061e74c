package inbox

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
)

const (
	watchBuffer = 64
	typingLasts = 6 * time.Second
)

// typingSignal is the body of the signal "typing".
type typingSignal struct {
	Conversation tandem.ID       `json:"conversation_id"`
	Member       json.RawMessage `json:"member"` // a member, or the text "contact"
	Until        time.Time       `json:"until"`
}

// SignalTyping says, to whoever looks at the conversation now, that the member, or the
// contact when member is nil, is writing until the given time.
func SignalTyping(ctx context.Context, signal func(ctx context.Context, subject string, body []byte) error, org, conv tandem.ID, member *tandem.MemberRef, until time.Time) error {
	who := any("contact")
	if member != nil {
		who = member
	}
	raw, err := json.Marshal(who)
	if err != nil {
		return fmt.Errorf("signal typing: %w", err)
	}
	body, err := json.Marshal(typingSignal{conv, raw, until.UTC()})
	if err != nil {
		return fmt.Errorf("signal typing: %w", err)
	}
	return signal(ctx, "sig."+string(org)+".typing", body)
}

// Typing tells the team that the person behind from is writing; see [channels.Host].
func (h *Host) Typing(ctx context.Context, channel tandem.ID, from channels.Address) error {
	if err := h.own(channel); err != nil {
		return err
	}
	conv, err := h.conversation(ctx, from)
	if err != nil || conv == "" {
		return err
	}
	return SignalTyping(ctx, h.in.o.Signal, h.org, conv, nil, time.Now().Add(typingLasts))
}

// Watch tells when the thread of from changes; see [channels.Host].
func (h *Host) Watch(ctx context.Context, channel tandem.ID, from channels.Address) (<-chan channels.Change, error) {
	if err := h.own(channel); err != nil {
		return nil, err
	}
	if h.in.o.Fanout == nil {
		return nil, tandem.Errorf(tandem.Unavailable, "Live changes are not available here.")
	}
	notes, stop := h.in.o.Fanout.Subscribe(h.org, watchBuffer)
	conv, err := h.conversation(ctx, from)
	if err != nil {
		stop()
		return nil, err
	}
	out := make(chan channels.Change)
	go func() {
		defer close(out)
		defer stop()
		w := watching{h: h, from: from, conv: conv}
		for {
			send, change := out, w.pending
			if !change.Lines && change.Typing == nil {
				send = nil // nothing to say
			}
			select {
			case <-ctx.Done():
				return
			case n, ok := <-notes:
				if !ok {
					return
				}
				w.note(ctx, n)
			case send <- change:
				w.pending = channels.Change{}
			}
		}
	}()
	return out, nil
}

// watching is one Watch under way. Changes that nobody has read yet are merged.
type watching struct {
	h       *Host
	from    channels.Address
	conv    tandem.ID
	pending channels.Change
}

func (w *watching) note(ctx context.Context, n *events.Note) {
	switch {
	case n.Lost:
		w.pending.Lines = true
	case n.Signal == "typing":
		if t := w.typing(n.Body); t != nil {
			w.pending.Typing = t
		}
	case n.Signal == "":
		home, err := w.h.in.home(ctx, n.Fact)
		if err != nil || home == "" {
			// Whether it is ours is unknown: one look too many does no harm.
			w.pending.Lines = w.pending.Lines || err != nil
			return
		}
		moved := n.Fact.Topic == "conversation.merged" || n.Fact.Topic == "conversation.split"
		if w.conv == "" && n.Fact.Topic == "message.received" || moved && home == w.conv {
			w.pending.Lines = w.pending.Lines || moved
			if w.conv, err = w.h.conversation(ctx, w.from); err != nil {
				w.pending.Lines = true
				return
			}
		}
		if home == w.conv {
			w.pending.Lines = true
		}
	}
}

func (w *watching) typing(body []byte) *channels.Typing {
	var s typingSignal
	if json.Unmarshal(body, &s) != nil || s.Conversation == "" || s.Conversation != w.conv {
		return nil
	}
	var m tandem.MemberRef
	if json.Unmarshal(s.Member, &m) != nil || m.ID == "" {
		return nil // the contact's own
	}
	kind := string(m.Kind)
	return &channels.Typing{From: voice(&kind), Name: m.Name, Until: s.Until}
}

const maxHomes = 10_000

const (
	homeOfMessageSQL = `SELECT conversation_id FROM messages WHERE org_id = @org AND id = @id`
	homeOfHandoffSQL = `SELECT conversation_id FROM handoffs WHERE org_id = @org AND id = @id`
)

// home returns the conversation that a fact belongs to, or empty for facts that a contact
// cannot see. Many watchers hear of one fact at once; one of them looks it up.
func (in *Inbox) home(ctx context.Context, f events.Fact) (tandem.ID, error) {
	noun, verb, _ := strings.Cut(f.Topic, ".")
	sql := homeOfMessageSQL
	switch {
	case noun == "conversation" && (verb == "merged" || verb == "split"):
		in.mu.Lock()
		clear(in.homes) // messages have moved
		in.mu.Unlock()
		return f.Record, nil
	case noun == "conversation" && verb != "read":
		return f.Record, nil
	case noun == "handoff":
		sql = homeOfHandoffSQL
	case noun == "message" && verb != "noted" && verb != "queued":
	default:
		return "", nil
	}
	in.mu.Lock()
	conv, known := in.homes[f.Record]
	in.mu.Unlock()
	if known {
		return conv, nil
	}
	v, err, _ := in.lookup.Do(string(f.Record), func() (any, error) {
		ctx, cancel := context.WithTimeout(tandem.AsSystem(context.WithoutCancel(ctx), f.Org), hostTimeout)
		defer cancel()
		var conv tandem.ID
		err := in.o.DB.Read(ctx, func(ctx context.Context, tx pgx.Tx) error {
			err := tx.QueryRow(ctx, sql, pgx.StrictNamedArgs{"org": f.Org, "id": f.Record}).Scan(&conv)
			if err != nil && !pg.NoRows(err) {
				return fmt.Errorf("find conversation of %s: %w", f.Topic, err)
			}
			return nil
		})
		if err != nil {
			return conv, err
		}
		in.mu.Lock()
		defer in.mu.Unlock()
		if len(in.homes) >= maxHomes {
			clear(in.homes)
		}
		in.homes[f.Record] = conv
		return conv, nil
	})
	if err != nil {
		return "", err
	}
	return v.(tandem.ID), nil
}
