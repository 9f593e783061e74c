package inbox

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/internal/mutant"
	"github.com/tandemhq/tandem/internal/pg"
)

// rank orders what may be known about an outbound message. What is known only grows: a
// later word of lower rank changes nothing. failed stands between sent and delivered,
// because a provider may fail what it had taken, but not what it has delivered.
var rank = map[string]int{
	Drafted: 0, Queued: 1, RetryWait: 1, Dispatching: 2, Unknown: 3, Sent: 4, Failed: 5, Delivered: 6, Read: 7, Cancelled: 8,
}

// raises reports whether the word "to" adds to what is known about a message that is "from".
func raises(from, to string) bool {
	return (rank[to] > rank[from] || mutant.Is("status-may-fall")) && from != Cancelled
}

// undone reports whether a message of this status holds back those behind it.
func undone(status string) bool {
	return status == Queued || status == RetryWait || status == Dispatching
}

const (
	lockMessageSQL = `SELECT ` + messageColumns + ` FROM messages m WHERE m.org_id = @org AND m.id = @id FOR NO KEY UPDATE`
	convOfSQL      = `SELECT conversation_id FROM messages WHERE org_id = @org AND id = @id`
)

// holdMessage locks the message's conversation, then the message. It is NotFound when
// there is no such message.
func holdMessage(ctx context.Context, tx pgx.Tx, org, id tandem.ID) (*held, Message, error) {
	for tries := 3; ; tries-- {
		h, m, err := holdMessageNow(ctx, tx, org, id)
		switch {
		case err == nil && m.ConversationID != h.ID: // it moved while we waited for where it was
			err = errMerged
		case !errors.Is(err, errMerged):
			return h, m, err
		}
		if tries == 0 {
			return nil, m, err
		}
	}
}

func holdMessageNow(ctx context.Context, tx pgx.Tx, org, id tandem.ID) (*held, Message, error) {
	var conv tandem.ID
	err := tx.QueryRow(ctx, convOfSQL, pgx.StrictNamedArgs{"org": org, "id": id}).Scan(&conv)
	if pg.NoRows(err) {
		return nil, Message{}, tandem.Errorf(tandem.NotFound, "There is no such message.")
	}
	if err != nil {
		return nil, Message{}, fmt.Errorf("find message: %w", err)
	}
	h, err := hold(ctx, tx, org, conv)
	if err != nil {
		return nil, Message{}, err
	}
	m, err := collectMessage(tx.Query(ctx, lockMessageSQL, pgx.StrictNamedArgs{"org": org, "id": id}))
	if err != nil {
		return nil, Message{}, fmt.Errorf("lock message: %w", err)
	}
	return h, m, nil
}

const setStatusSQL = `
	UPDATE messages SET status = @status, error = @error, unclear = @unclear,
	       sent_at = CASE WHEN @status IN ('sent', 'delivered', 'read') THEN coalesce(sent_at, now()) ELSE sent_at END
	WHERE org_id = @org AND id = @id AND status = @from`

var statusWords = map[string]string{
	Sent: "was sent", Delivered: "was delivered", Read: "was read", Failed: "could not be delivered",
	Unknown: "may or may not have arrived", Cancelled: "was held back",
}

// setStatus moves the message of the held conversation, says so unless the step is silent,
// and lets the next message go when this one no longer holds it back.
func (h *held) setStatus(ctx context.Context, tx pgx.Tx, m *Message, status, detail string) error {
	tag, err := tx.Exec(ctx, setStatusSQL, pgx.StrictNamedArgs{"org": h.org, "id": m.ID, "from": m.Status, "status": status, "error": clip(detail, 1000), "unclear": m.Unclear})
	if err != nil {
		return fmt.Errorf("set message %s: %w", status, err)
	}
	if tag.RowsAffected() != 1 {
		return fmt.Errorf("set message %s: it is no longer %s although it was locked", status, m.Status)
	}
	before := m.Status
	m.Status, m.Error = status, detail
	if word, loud := statusWords[status]; loud {
		severity := "info"
		if status == Failed || status == Unknown {
			severity = "warning"
		}
		text := "The message to " + h.ContactName + " " + word + "."
		if err := h.emitMessage(ctx, tx, m.ID, status, text, severity, tandem.Change{Field: "status", Old: before, New: status}); err != nil {
			return err
		}
	}
	if undone(before) && !undone(status) {
		return h.commandNext(ctx, tx)
	}
	return nil
}

// Status applies what a provider reports about a sent message: "delivered", "read" or
// "failed", with a sentence of detail. id is the message's ProviderID. Reports may come
// late, twice, in any order and before the send itself has been recorded; a status only
// rises. An id that is not a message of the channel is NotFound, another status Invalid.
func Status(ctx context.Context, tx pgx.Tx, channel tandem.ID, id channels.ExternalID, status, detail string) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	switch status {
	case Sent, Delivered, Read, Failed:
	default:
		return tandem.InvalidFields(tandem.FieldError{Field: "status", Message: "This is not one of sent, delivered, read, failed."})
	}
	message, err := tandem.ParseID(string(id)) // provider ids are our message ids
	if err != nil {
		return err
	}
	h, m, err := holdMessage(ctx, tx, a.Org, message)
	if err != nil {
		return err
	}
	if h.ChannelID != channel || m.Direction != "outbound" || m.Kind != "message" {
		return tandem.Errorf(tandem.NotFound, "There is no such message.")
	}
	// What was never handed to the channel cannot have been delivered. What was held back
	// after an attempt of unknown end and arrived all the same is shown as what it is.
	arrived := m.Status == Cancelled && status != Failed
	if m.Attempt == 0 || !(raises(m.Status, status) || arrived) {
		return nil
	}
	if status != Failed {
		detail = ""
	}
	return h.setStatus(ctx, tx, &m, status, detail)
}

const maxBackoff = 10 * time.Minute

// backoff is how long to wait before the attempt after the given one: 5 s, 15 s, 45 s, ...
func backoff(attempt int, atLeast time.Duration) time.Duration {
	wait := 5 * time.Second
	for range attempt - 1 {
		wait = min(3*wait, maxBackoff)
	}
	return max(wait, min(atLeast, 6*time.Hour))
}

func clip(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}
