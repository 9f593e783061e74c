package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/mutant"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/timers"
)

const (
	defaultSendTimeout = 30 * time.Second
	dispatchGrace      = 10 * time.Second // how much longer than a send its record may take
	maxAttempts        = 6
	recordFor          = 8 * time.Second // how long the courier tries to record an outcome
)

// Courier hands queued messages to their channels, one after the other per conversation.
// It is one of the edges that open transactions: a short one before the send, which says
// "dispatching", and a short one after it, which says what is known. None is open while
// the network is awaited.
type Courier struct {
	DB *pg.DB
	// Channels returns the open channel of an organization. An error means that nothing
	// was sent: the message waits and is tried again.
	Channels    func(ctx context.Context, org, channel tandem.ID) (channels.Channel, error)
	SendTimeout time.Duration // deadline of one attempt; 0 means 30 s
	Logger      *slog.Logger  // nil means slog.Default
	Fault       Fault         // nil in production
}

// Deliver acts on one command of topic "out": its record is the message. It returns nil
// when nothing is left to do here, whatever became of the message; an error means that the
// database could not be asked, and the command must come again.
func (c *Courier) Deliver(ctx context.Context, f events.Fact) error {
	ctx = WithFault(ctx, c.Fault)
	fault(ctx, "courier.before")
	addr, err := c.address(ctx, f.Record)
	if tandem.KindOf(err) == tandem.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	ch, openErr := c.Channels(ctx, f.Org, addr.ChannelID)
	again := dedupes(ch)
	m, ok, err := c.dispatch(ctx, f.Record, deathOf(ch, again))
	if err != nil || !ok {
		return err
	}
	fault(ctx, "courier.dispatching")
	if openErr != nil {
		openErr = &channels.SendError{Outcome: channels.NotSent, Err: openErr}
	} else {
		openErr = c.send(ctx, ch, channels.Outbound{
			Message: m.ID, Conversation: m.ConversationID, ProviderID: providerID(m), To: channels.Address(addr.To),
			Thread: addr.Thread, Text: m.Text, HTML: m.HTML, Attempt: m.Attempt,
		})
	}
	fault(ctx, "courier.sent")
	return c.record(ctx, m, channels.AsSendError(openErr), again)
}

// providerID is the message's id at the provider, the same at every attempt.
func providerID(m Message) channels.ExternalID {
	if mutant.Is("provider-id-changes") {
		return channels.ExternalID(fmt.Sprintf("%s-%d", m.ProviderID, m.Attempt))
	}
	return m.ProviderID
}

func dedupes(ch channels.Channel) bool {
	d, ok := ch.(channels.Deduper)
	return ok && d.DedupesByID()
}

// deathOf is the timer that decides what a send comes to whose process dies.
func deathOf(ch channels.Channel, again bool) (timer string) {
	r, ok := ch.(channels.ThreadReader)
	switch {
	case ok && r.ReadsThread():
		return "reshow"
	case again:
		return "redispatch"
	}
	return "dispatch"
}

func (c *Courier) timeout() time.Duration {
	if c.SendTimeout > 0 {
		return c.SendTimeout
	}
	return defaultSendTimeout
}

// destination is where a message goes.
type destination struct {
	ChannelID tandem.ID
	To        string
	Thread    string
}

// The address is the identity under which the contact wrote on this channel: one that writes in
// this thread, the channel's own one, else the one of the channel's sort. A name in another
// system is no address here.
const destinationSQL = `
	SELECT c.channel_id, coalesce(c.reply_thread, substr(c.thread, length(c.thread_prefix) + 1)) AS thread, coalesce((
	    SELECT i.value FROM contact_identities i
	    WHERE i.org_id = c.org_id AND i.contact_id = c.contact_id
	      AND (i.scope = c.channel_id::text OR i.scope = '' AND i.kind <> 'external')
	    ORDER BY i.thread_prefix = c.thread_prefix DESC, i.scope <> '' DESC, i.kind = ch.kind DESC, i.kind = 'email' DESC, i.created_at LIMIT 1), '') AS "to"
	FROM messages m
	JOIN conversations c ON c.org_id = m.org_id AND c.id = m.conversation_id
	JOIN channels ch ON ch.org_id = c.org_id AND ch.id = c.channel_id
	WHERE m.org_id = @org AND m.id = @id`

func (c *Courier) address(ctx context.Context, message tandem.ID) (d destination, err error) {
	err = c.DB.Read(ctx, func(ctx context.Context, tx pgx.Tx) error {
		a, err := tandem.ActorFrom(ctx)
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, destinationSQL, pgx.StrictNamedArgs{"org": a.Org, "id": message})
		if err != nil {
			return fmt.Errorf("find destination: %w", err)
		}
		d, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[destination])
		if pg.NoRows(err) {
			return tandem.Errorf(tandem.NotFound, "There is no such message.")
		}
		if err != nil {
			return fmt.Errorf("find destination: %w", err)
		}
		return nil
	})
	return d, err
}

// The one statement that lets a message out. It runs with the conversation locked, which
// is the point where a takeover and a dispatch are put in order: an AI member's message
// leaves only at the fence at which it was written, and nothing overtakes. One step further
// with no owner means that its worker died and nobody has taken its place: what was on its
// way may still arrive, because nobody is talked over.
const dispatchSQL = `
	UPDATE messages m SET status = 'dispatching', attempt = m.attempt + 1, error = ''
	FROM conversations c
	WHERE m.org_id = @org AND m.id = @id AND m.status = 'queued' AND c.org_id = m.org_id AND c.id = m.conversation_id
	  AND (m.sender_kind IN ('human', 'system') OR c.fence = m.fence OR m.handoff_id IS NOT NULL
	       OR (c.owner_id IS NULL AND c.fence = m.fence + 1))
	  AND NOT EXISTS (SELECT FROM messages p
	                  WHERE p.org_id = m.org_id AND p.conversation_id = m.conversation_id AND p.seq < m.seq
	                    AND p.status IN ('queued', 'retry_wait', 'dispatching'))
	  AND ` + canSendSQL + `
	RETURNING ` + messageColumns

// dispatch takes the message for sending; ok is false when it is not its turn or it is no
// longer to be sent.
func (c *Courier) dispatch(ctx context.Context, id tandem.ID, timer string) (m Message, ok bool, err error) {
	err = c.DB.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		ok = false
		a, err := tandem.ActorFrom(ctx)
		if err != nil {
			return err
		}
		if err := timers.StartGuard(ctx, tx, timer, id, c.timeout()+dispatchGrace); err != nil {
			return fmt.Errorf("set dispatch timer: %w", err)
		}
		h, seen, err := holdMessage(ctx, tx, a.Org, id)
		if err != nil {
			return err
		}
		sql := dispatchSQL
		if mutant.Is("no-fence-check-in-courier") {
			sql = strings.Replace(sql, "c.fence = m.fence OR", "true OR", 1)
		}
		if mutant.Is("no-order-in-courier") {
			sql = strings.Replace(sql, "NOT EXISTS", "true OR NOT EXISTS", 1)
		}
		m, err = collectMessage(tx.Query(ctx, sql, pgx.StrictNamedArgs{"org": a.Org, "id": id, "contact": h.ContactID, "channel_kind": h.ChannelKind}))
		if err == nil {
			ok = true
			return nil
		}
		if !pg.NoRows(err) {
			return fmt.Errorf("dispatch message: %w", err)
		}
		if seen.Status != Dispatching { // the timer of a send that is under way stays
			if err := timers.Clear(ctx, tx, timer, id); err != nil {
				return fmt.Errorf("clear dispatch timer: %w", err)
			}
		}
		if seen.Status == Queued && h.stale(seen) {
			return h.cancelStale(ctx, tx, &seen)
		}
		if seen.Status == Queued {
			return h.cancelUnwanted(ctx, tx, &seen)
		}
		return nil // not its turn, or already taken; whoever holds it back commands it again
	})
	return m, ok, err
}

// send gives the message to the channel. A shutdown does not cut it short: what has begun
// ends or reaches its deadline. A panic of an adapter leaves the outcome open.
func (c *Courier) send(ctx context.Context, ch channels.Channel, m channels.Outbound) (err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout())
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			c.log().ErrorContext(ctx, "channel panicked while sending", "message", m.Message, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("channel panicked: %v", p)
		}
	}()
	_, err = ch.Send(ctx, m)
	return err
}

func (c *Courier) log() *slog.Logger {
	if c.Logger != nil {
		return c.Logger
	}
	return slog.Default()
}

// record writes what became of the send. It keeps trying for a while when the database is
// away; after that the dispatch timer finds the message.
func (c *Courier) record(ctx context.Context, m Message, sendErr *channels.SendError, again bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordFor)
	defer cancel()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := c.DB.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error { return outcome(ctx, tx, m.ID, m.Attempt, sendErr, again) })
		if err == nil || tandem.KindOf(err) != tandem.Unavailable {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// outcome applies the end of one attempt to the message, unless it is another attempt's by now.
func outcome(ctx context.Context, tx pgx.Tx, id tandem.ID, attempt int, sendErr *channels.SendError, again bool) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	for _, kind := range []string{"dispatch", "redispatch", "reshow"} {
		if err := timers.Clear(ctx, tx, kind, id); err != nil {
			return fmt.Errorf("clear dispatch timer: %w", err)
		}
	}
	wait := time.Duration(0)
	if sendErr != nil && attempt < maxAttempts && (sendErr.Outcome == channels.NotSent || (sendErr.Outcome == channels.Ambiguous && (again || mutant.Is("ambiguous-is-retried")))) {
		wait = backoff(attempt, sendErr.RetryAfter)
		if err := timers.Set(ctx, tx, "retry", id, wait); err != nil {
			return fmt.Errorf("set retry timer: %w", err)
		}
	}
	h, m, err := holdMessage(ctx, tx, a.Org, id)
	if err != nil {
		return err
	}
	if m.Attempt != attempt {
		return nil
	}
	m.Unclear = m.Unclear || sendErr != nil && sendErr.Outcome == channels.Ambiguous
	next, detail := Sent, ""
	switch {
	case sendErr == nil:
	case wait > 0:
		next, detail = RetryWait, why(sendErr)
	case sendErr.Outcome == channels.Ambiguous, sendErr.Outcome == channels.NotSent && m.Unclear:
		next, detail = Unknown, "It is not known whether the message arrived: "+why(sendErr)
	default:
		next, detail = Failed, why(sendErr)
	}
	if next == RetryWait {
		// Only the attempt itself may step back, and only from its own state.
		if m.Status != Dispatching {
			return nil
		}
		if h.stale(m) {
			return h.cancelStale(ctx, tx, &m)
		}
	} else if !raises(m.Status, next) {
		return nil // a receipt was faster
	}
	return h.setStatus(ctx, tx, &m, next, detail)
}

// stale reports whether an AI member wrote the message at a fence that has passed; see
// dispatchSQL for the one step that does not count.
func (h *held) stale(m Message) bool {
	machine := m.Sender.Kind == tandem.AI || m.Sender.Kind == tandem.External
	orphan := h.OwnerID == nil && h.Fence == m.Fence+1
	return machine && m.Fence != h.Fence && !orphan && m.HandoffID == ""
}

// cancelStale holds a stale message back. One that may have arrived at an earlier try becomes unknown instead. What it answered has no answer then; the event
// wakes the AI members, and one of them answers unless a person owns the conversation.
func (h *held) cancelStale(ctx context.Context, tx pgx.Tx, m *Message) error {
	if m.Unclear {
		return h.setStatus(ctx, tx, m, Unknown, "The conversation had changed hands before it was known whether the message arrived.")
	}
	if err := h.setStatus(ctx, tx, m, Cancelled, "The conversation had changed hands."); err != nil {
		return err
	}
	if h.HandoffID != nil || h.ownedByPerson() {
		return nil
	}
	return h.unanswered(ctx, tx)
}

// why is what the team may read about a failed send.
func why(e *channels.SendError) string {
	var te *tandem.Error
	if errors.As(e.Err, &te) && te.Kind != tandem.Internal {
		return te.Msg
	}
	switch {
	case errors.Is(e.Err, context.DeadlineExceeded):
		return "The channel did not answer in time."
	case e.Outcome == channels.Refused:
		return "The channel refused the message."
	}
	return "The channel could not be reached."
}

// retryNow is the timer "retry": the message is queued again.
func retryNow(ctx context.Context, tx pgx.Tx, id tandem.ID) error {
	return requeue(ctx, tx, id, RetryWait, false)
}

// redispatch is the timer "redispatch": the process died while sending, but the receiver
// removes duplicates by our id, so the same message goes out again under the same id.
func redispatch(ctx context.Context, tx pgx.Tx, id tandem.ID) error {
	return requeue(ctx, tx, id, Dispatching, true)
}

// reshow is the timer "reshow": the process died while sending to contacts who read the thread, so nothing has left.
func reshow(ctx context.Context, tx pgx.Tx, id tandem.ID) error {
	return requeue(ctx, tx, id, Dispatching, false)
}

// requeue lets a message try again; unclear says that nobody knows what the try before came to.
func requeue(ctx context.Context, tx pgx.Tx, id tandem.ID, from string, unclear bool) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	h, m, err := holdMessage(ctx, tx, a.Org, id)
	if tandem.KindOf(err) == tandem.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	m.Unclear = m.Unclear || unclear
	switch {
	case m.Status != from:
		return nil
	case h.stale(m):
		return h.cancelStale(ctx, tx, &m)
	case m.Attempt >= maxAttempts && from == Dispatching:
		return h.setStatus(ctx, tx, &m, Unknown, "It is not known whether the message arrived.")
	}
	if err := h.setStatus(ctx, tx, &m, Queued, ""); err != nil {
		return err
	}
	return h.commandNext(ctx, tx)
}

// dispatchLost is the timer "dispatch": the process died while sending. Whether the
// provider took the message nobody knows, so it is never sent again by itself.
func dispatchLost(ctx context.Context, tx pgx.Tx, id tandem.ID) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	h, m, err := holdMessage(ctx, tx, a.Org, id)
	if tandem.KindOf(err) == tandem.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if m.Status != Dispatching {
		return nil
	}
	if mutant.Is("unknown-is-resent") {
		return requeue(ctx, tx, id, Dispatching, true)
	}
	return h.setStatus(ctx, tx, &m, Unknown, "Tandem stopped while it was sending; it is not known whether the message arrived.")
}
