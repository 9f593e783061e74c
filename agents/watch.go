package agents

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
)

const (
	heardMost  = 1024                  // facts that wait to be looked up
	heardEvery = 25 * time.Millisecond // between two looks at what was heard
)

// Watch makes running turns of this process look at their conversation as soon as a fact about it is
// heard, wherever it was written, instead of at their next heartbeat. It blocks until ctx ends.
// listen is Bus.Listen.
func (r *Runner) Watch(ctx context.Context, listen func(subject string, fn func(subject string, body []byte)) (stop func(), err error)) error {
	heard := make(chan events.Fact, heardMost)
	for _, subject := range []string{"ev.*.message.received", "ev.*.conversation.*", "ev.*.handoff.requested"} {
		stop, err := listen(subject, func(_ string, body []byte) {
			var f events.Fact
			switch {
			case json.Unmarshal(body, &f) != nil:
			case strings.HasPrefix(f.Topic, "conversation."):
				r.nudge(f)
			case r.works(f.Org):
				select {
				case heard <- f:
				default:
					r.nudge(f) // too many to look up
				}
			}
		})
		if err != nil {
			return fmt.Errorf("listen for facts: %w", err)
		}
		defer stop()
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case f := <-heard:
			r.place(ctx, heard, f)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(heardEvery):
		}
	}
}

// works says whether a turn of the organization runs in this process.
func (r *Runner) works(org tandem.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, turns := range r.live {
		for l := range turns {
			if l.org == org {
				return true
			}
		}
	}
	return false
}

const sqlConversationsOf = `
SELECT conversation_id FROM messages WHERE org_id = @org AND id = ANY (@ids)
UNION SELECT conversation_id FROM handoffs WHERE org_id = @org AND id = ANY (@ids)`

// place looks up which conversations the first fact and those that wait behind it are about, and
// makes their turns look. A look is a transaction that writes: were every turn of the organization to
// look at every message of any conversation, many turns would do little else.
func (r *Runner) place(ctx context.Context, heard <-chan events.Fact, first events.Fact) {
	records := map[tandem.ID][]tandem.ID{first.Org: {first.Record}}
	for range len(heard) {
		f := <-heard
		records[f.Org] = append(records[f.Org], f.Record)
	}
	for org, ids := range records {
		var convs []tandem.ID
		lctx, cancel := context.WithTimeout(tandem.AsSystem(ctx, org), stepTime)
		err := r.DB.Read(lctx, func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, sqlConversationsOf, pgx.StrictNamedArgs{"org": org, "ids": ids})
			if err != nil {
				return err
			}
			convs, err = pgx.CollectRows(rows, pgx.RowTo[tandem.ID])
			return err
		})
		cancel()
		if err != nil {
			r.log().DebugContext(ctx, "conversations of facts not found", "err", err)
			r.nudge(events.Fact{Org: org}) // all of them look
			continue
		}
		for _, conv := range convs {
			r.nudge(events.Fact{Record: conv, Topic: "conversation."})
		}
	}
}

// nudge makes the turns that a fact may concern look. When the fact names no conversation, all turns
// of its organization do.
func (r *Runner) nudge(f events.Fact) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if turns, ok := r.live[f.Record]; ok || strings.HasPrefix(f.Topic, "conversation.") {
		poke(turns, "")
		return
	}
	for _, turns := range r.live {
		poke(turns, f.Org)
	}
}
