package inbox

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
)

// ThreadQuery asks for one page of a conversation's messages: the newest ones, or those
// older than Before, or the oldest ones newer than After.
type ThreadQuery struct {
	Before int64 // 0: no bound
	After  int64 // 0: no bound
	Limit  int   // 1 to 1,000; 0 means 50
}

const (
	newestSQL = `SELECT ` + messageColumns + ` FROM messages m
	WHERE m.org_id = @org AND m.conversation_id = @conv AND m.seq < @before AND m.seq > @after ORDER BY m.seq DESC LIMIT `
	oldestSQL = `SELECT ` + messageColumns + ` FROM messages m
	WHERE m.org_id = @org AND m.conversation_id = @conv AND m.seq < @before AND m.seq > @after ORDER BY m.seq LIMIT `
	noBound = int64(1) << 62
)

// Messages returns a page of messages and notes in the order of seq, and whether there are
// more in the direction asked for. It needs conversation:read.
func Messages(ctx context.Context, tx pgx.Tx, conv tandem.ID, before, after int64, limit int) (items []Message, more bool, err error) {
	a, err := allowed(ctx, "conversation:read")
	if err != nil {
		return nil, false, err
	}
	limit = tandem.Query{Limit: limit}.Size()
	sql := newestSQL
	if after > 0 && before <= 0 {
		sql = oldestSQL
	}
	if before <= 0 {
		before = noBound
	}
	rows, err := tx.Query(ctx, sql+limitOf(limit), pgx.StrictNamedArgs{"org": a.Org, "conv": conv, "before": before, "after": after})
	if err != nil {
		return nil, false, fmt.Errorf("read messages: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[messageRow])
	if err != nil {
		return nil, false, fmt.Errorf("read messages: %w", err)
	}
	if more = len(found) > limit; more {
		found = found[:limit]
	}
	items = make([]Message, len(found))
	for i, r := range found {
		if items[i], err = r.message(); err != nil {
			return nil, false, err
		}
	}
	slices.SortFunc(items, func(x, y Message) int { return int(x.Seq - y.Seq) })
	return items, more, nil
}

const maxEventLines = 200

// Thread returns a page of the conversation as the team reads it: messages, notes, and
// between them what happened (kind "event", with the seq of the message before it). Next is
// the seq to pass as Before for the page before this one. It needs conversation:read.
func Thread(ctx context.Context, tx pgx.Tx, conv tandem.ID, q ThreadQuery) (tandem.Page[Message], error) {
	page := tandem.Page[Message]{Items: []Message{}}
	c, err := GetConversation(ctx, tx, conv)
	if err != nil {
		return page, err
	}
	items, more, err := Messages(ctx, tx, conv, q.Before, q.After, q.Limit)
	if err != nil {
		return page, err
	}
	// The page's share of the events: from its first message on, up to the page behind it.
	from, to := c.CreatedAt, time.Time{}
	forward := q.After > 0 && q.Before <= 0
	older := more && !forward || q.After > 0
	if older && len(items) > 0 {
		from = items[0].CreatedAt
	}
	if (q.Before > 0 || more && forward) && len(items) > 0 {
		to = items[len(items)-1].CreatedAt
		if q.Before > 0 {
			if to, err = messageTime(ctx, tx, conv, q.Before, to); err != nil {
				return page, err
			}
		}
	}
	if len(items) > 0 || (q.Before <= 0 && q.After <= 0) {
		var lead tandem.ID
		if c.Lead != nil {
			lead = c.Lead.ID
		}
		log, err := events.ForConversation(ctx, tx, conv, lead, from, to, maxEventLines)
		if err != nil {
			return page, err
		}
		items = interleave(items, log, conv, to)
	}
	page.Items = items
	if more && !forward {
		for _, m := range items {
			if m.Kind != "event" {
				page.Next = strconv.FormatInt(m.Seq, 10)
				break
			}
		}
	}
	return page, nil
}

// messageTime is when the message with that number was stored, or the given time.
func messageTime(ctx context.Context, tx pgx.Tx, conv tandem.ID, seq int64, otherwise time.Time) (time.Time, error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return otherwise, err
	}
	rows, err := tx.Query(ctx, `SELECT created_at FROM messages WHERE org_id = @org AND conversation_id = @conv AND seq = @seq`,
		pgx.StrictNamedArgs{"org": a.Org, "conv": conv, "seq": seq})
	if err != nil {
		return otherwise, fmt.Errorf("read message time: %w", err)
	}
	times, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err != nil {
		return otherwise, fmt.Errorf("read message time: %w", err)
	}
	if len(times) == 0 {
		return otherwise, nil
	}
	return times[0], nil
}

// interleave puts the events that people care about between the messages. What happened at
// or after "to" belongs to the page behind this one.
func interleave(items []Message, log []events.Row, conv tandem.ID, to time.Time) []Message {
	out := make([]Message, 0, len(items)+len(log))
	next, seq := 0, int64(0)
	if len(items) > 0 {
		seq = items[0].Seq - 1
	}
	for _, e := range log {
		if !worthALine(e.Event) || (!to.IsZero() && !e.At.Before(to)) {
			continue
		}
		for next < len(items) && !items[next].CreatedAt.After(e.At) {
			out, seq = append(out, items[next]), items[next].Seq
			next++
		}
		out = append(out, Message{
			ID: e.ID, ConversationID: conv, Seq: seq, Direction: "outbound", Kind: "event",
			Sender: Sender{e.Actor.Kind, e.Actor.ID, e.Actor.Name}, Text: e.Description, Status: Noted,
			Attachments: []json.RawMessage{}, CreatedAt: e.At,
		})
	}
	return append(out, items[next:]...)
}

func worthALine(e tandem.Event) bool {
	switch e.Noun {
	case "conversation":
		return e.Verb != "read"
	case "handoff", "lead":
		return true
	}
	return false
}
