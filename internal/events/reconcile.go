package events

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/bus"
	"github.com/tandemhq/tandem/internal/mutant"
)

const (
	releaseBatch  = 500
	keepProcessed = 7 * 24 * time.Hour // longer than any message lives on the bus
	forgetBatch   = 5000
)

// reconcile makes the outbox agree with the stream and lets go of what is done. It is what makes
// the loss of the bus's whole store harmless.
func (d *Drain) reconcile(ctx context.Context) error {
	st, err := d.State(ctx)
	if err != nil {
		return fmt.Errorf("ask the bus: %w", err)
	}
	if d.unsealed {
		err := d.sealAll(ctx)
		if err != nil && ctx.Err() == nil { // no reason to keep facts from travelling: their rows wait for the seal
			d.Logger.WarnContext(ctx, "events not sealed yet", "err", err)
		}
		d.unsealed = err != nil
	}
	// A stream that is as we know it needs nothing again, so what is done may go between two passes, some at a time:
	// nobody waits for it. Otherwise all of it goes first, so that nothing that is done is published again.
	d.releasing, d.released = true, 0
	if !st.Epoch.Equal(d.highest.Epoch) || st.Last < d.highest.Seq {
		for d.releasing {
			if err := d.release(ctx); err != nil {
				return err
			}
		}
	}
	lost, err := d.unpublish(ctx, st.Epoch, st.Last+1, st.First)
	if err != nil {
		return err
	}
	d.highest = bus.Ack{Seq: st.Last, Epoch: st.Epoch}
	// A store that lost blocks in the middle cannot say which messages; all that is outstanding
	// goes out again, once per loss, and consumers skip what they have processed.
	if span := st.Last + 1 - st.First; st.Messages < span && span-st.Messages > d.holes {
		n, err := d.unpublish(ctx, time.Time{}, 0, 0)
		if err != nil {
			return err
		}
		d.holes, lost = span-st.Messages, lost+n
	}
	if lost > 0 {
		d.Logger.WarnContext(ctx, "the bus has lost messages; publishing them again", "rows", lost)
	}
	return d.forget(ctx)
}

const unpublishSQL = `
	UPDATE outbox SET published_at = NULL, epoch = NULL, stream_seq = NULL
	WHERE published_at IS NOT NULL AND (epoch IS DISTINCT FROM @epoch OR stream_seq >= @from OR stream_seq < @first)`

// unpublish makes rows wait again whose message is not in the stream of this epoch: of another
// epoch, at or after from, or before first.
func (d *Drain) unpublish(ctx context.Context, epoch time.Time, from, first uint64) (n int64, err error) {
	if mutant.Is("outbox-not-reconciled") {
		return 0, nil
	}
	err = d.DB.Global(ctx, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, unpublishSQL, pgx.StrictNamedArgs{"epoch": epoch, "from": int64(from), "first": int64(first)})
		n = tag.RowsAffected()
		return err
	})
	return n, wrap(err, "publish lost rows again")
}

// sealAll seals whatever a crash or a failure left published but unsealed.
func (d *Drain) sealAll(ctx context.Context) error {
	var orgs []tandem.ID
	err := d.DB.Global(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT DISTINCT org_id::text FROM outbox WHERE published_at IS NOT NULL AND topic <> 'out'")
		if err != nil {
			return err
		}
		orgs, err = pgx.CollectRows(rows, pgx.RowTo[tandem.ID])
		return err
	})
	if err != nil {
		return fmt.Errorf("find organizations to seal: %w", err)
	}
	for _, org := range orgs {
		for n := sealBatch; n == sealBatch; {
			err := d.DB.Tx(systemOf(ctx, org), func(ctx context.Context, tx pgx.Tx) (err error) {
				n, err = seal(ctx, tx, org, nil)
				return err
			})
			if err != nil {
				return fmt.Errorf("seal events of %s: %w", org, err)
			}
		}
	}
	return nil
}

// A row is done when every subscription that wants its topic has processed it.
const doneSQL = `
	SELECT o.id, o.org_id::text, o.msg_id::text, o.topic, o.subject, o.record_id::text FROM outbox o
	WHERE o.published_at IS NOT NULL AND o.id > @after
	  AND NOT EXISTS (SELECT FROM unnest(@consumers::text[], @patterns::text[]) s(consumer, pattern)
	                  WHERE o.topic LIKE s.pattern AND NOT EXISTS (SELECT FROM processed p WHERE p.consumer = s.consumer AND p.msg_id = o.msg_id))
	ORDER BY o.id LIMIT @limit`

// An event's row also waits for its seal: the outbox is how unsealed events are found.
const releaseSQL = `
	DELETE FROM outbox o WHERE o.id = ANY(@ids)
	  AND (o.topic = 'out' OR EXISTS (SELECT FROM event_seals s WHERE s.org_id = o.org_id AND s.event_id = o.msg_id))`

// release deletes some of the rows that are done, behind where the last call stopped, and ends releasing when it has seen
// all of them.
func (d *Drain) release(ctx context.Context) error {
	consumers, patterns := []string{}, []string{}
	for _, s := range d.Consumers {
		for _, t := range s.Topics {
			consumers, patterns = append(consumers, s.Name), append(patterns, likePattern(t))
		}
	}
	rows, err := readOutbox(ctx, d.DB, doneSQL, pgx.StrictNamedArgs{"after": d.released, "consumers": consumers, "patterns": patterns, "limit": releaseBatch})
	if err != nil {
		return fmt.Errorf("find done outbox rows: %w", err)
	}
	perOrg := map[tandem.ID][]int64{}
	for _, r := range rows {
		perOrg[r.OrgID] = append(perOrg[r.OrgID], r.ID)
		d.released = r.ID
	}
	for org, ids := range perOrg {
		err := d.DB.Tx(systemOf(ctx, org), func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, releaseSQL, pgx.StrictNamedArgs{"ids": ids})
			return err
		})
		if err != nil {
			return fmt.Errorf("delete done outbox rows: %w", err)
		}
	}
	d.releasing = len(rows) == releaseBatch
	return nil
}

// The memory of a message is kept for as long as the message may come again.
const forgetSQL = `
	DELETE FROM processed WHERE (consumer, msg_id) IN (
		SELECT p.consumer, p.msg_id FROM processed p
		WHERE p.at < now() - make_interval(secs => @keep) AND NOT EXISTS (SELECT FROM outbox o WHERE o.msg_id = p.msg_id)
		LIMIT @limit)`

// forget deletes old memories of processed messages, a bounded number each time.
func (d *Drain) forget(ctx context.Context) error {
	err := d.DB.Global(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, forgetSQL, pgx.StrictNamedArgs{"keep": keepProcessed.Seconds(), "limit": forgetBatch})
		return err
	})
	return wrap(err, "forget processed messages")
}

// likePattern turns a topic with an optional "*" word into a LIKE pattern.
func likePattern(topic string) string {
	return strings.ReplaceAll(strings.ReplaceAll(topic, "_", `\_`), "*", "%")
}
