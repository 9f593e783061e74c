package inbox

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
)

// which are some messages of a conversation: a condition on m, with its arguments.
type which struct {
	sql  string
	args pgx.StrictNamedArgs
}

var all = which{sql: "true"}

func chosen(ids []tandem.ID) which {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = string(id)
	}
	return which{sql: "m.id = ANY (@chosen::text[]::uuid[])", args: pgx.StrictNamedArgs{"chosen": texts}}
}

func unique(ids []tandem.ID) int {
	return len(slices.Compact(slices.Sorted(slices.Values(ids))))
}

// with adds the arguments of the condition.
func (w which) with(args pgx.StrictNamedArgs) pgx.StrictNamedArgs {
	maps.Copy(args, w.args)
	return args
}

// step is a message's number before and after it moved.
type step struct{ Old, New int64 }

type moves []step

// upTo is the highest new number of what was numbered up to seq.
func (s moves) upTo(seq int64) (top int64) {
	for _, m := range s {
		if m.Old <= seq {
			top = max(top, m.New)
		}
	}
	return top
}

// A number that a message had in a conversation is never given to another one there.
const moveSQL = `
	WITH old AS (
	    SELECT m.id, m.seq, m.client_key, @base::bigint + row_number() OVER (ORDER BY m.seq) AS next
	    FROM messages m WHERE m.org_id = @org AND m.conversation_id = @from AND `

const moveEndSQL = `
	), kept AS (
	    INSERT INTO message_moves (org_id, id, message_id, conversation_id, seq, client_key, merge_id)
	    SELECT @org, gen_random_uuid(), o.id, @from, o.seq, o.client_key, @merge FROM old o
	)
	UPDATE messages m SET conversation_id = @to, seq = o.next, client_key = NULL FROM old o
	WHERE m.org_id = @org AND m.id = o.id
	RETURNING o.seq AS old, m.seq AS new`

// move moves messages of the held conversation behind those of another held one, in their order. The caller recounts both.
func (h *held) move(ctx context.Context, tx pgx.Tx, to *held, merge *tandem.ID, w which) (moves, error) {
	rows, err := tx.Query(ctx, moveSQL+w.sql+moveEndSQL, w.with(pgx.StrictNamedArgs{
		"org": h.org, "from": h.ID, "to": to.ID, "base": to.NextSeq - 1, "merge": merge,
	}))
	if err != nil {
		return nil, fmt.Errorf("move messages: %w", err)
	}
	moved, err := pgx.CollectRows(rows, pgx.RowToStructByName[step])
	if err != nil {
		return nil, fmt.Errorf("move messages: %w", err)
	}
	return moved, nil
}

// The last ones that the contact wrote are those that nobody has read.
const partsSQL = `
	WITH own AS (
	    SELECT m.id, m.direction, m.created_at, m.seq, `

const partsEndSQL = ` AS leaves FROM messages m WHERE m.org_id = @org AND m.conversation_id = @id
	)
	SELECT count(*) FILTER (WHERE leaves) AS leave, count(*) FILTER (WHERE NOT leaves) AS stay,
	       count(*) FILTER (WHERE leaves AND direction = 'inbound') AS came_leave, count(*) FILTER (WHERE NOT leaves AND direction = 'inbound') AS came_stay,
	       (SELECT count(*) FILTER (WHERE leaves) FROM (
	            SELECT leaves FROM own WHERE direction = 'inbound' ORDER BY created_at DESC, seq DESC LIMIT @unread) u) AS unread
	FROM own`

// parts are how much leaves a conversation and how much stays.
type parts struct {
	Leave, Stay         int
	CameLeave, CameStay int // what the contact wrote
	Unread              int // of what leaves, as far as nobody has read it
}

func (h *held) parts(ctx context.Context, tx pgx.Tx, w which) (parts, error) {
	rows, err := tx.Query(ctx, partsSQL+w.sql+partsEndSQL, w.with(pgx.StrictNamedArgs{"org": h.org, "id": h.ID, "unread": h.Unread}))
	if err != nil {
		return parts{}, fmt.Errorf("count messages: %w", err)
	}
	p, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[parts])
	if err != nil {
		return parts{}, fmt.Errorf("count messages: %w", err)
	}
	return p, nil
}

const (
	latestSQL = `
	SELECT sender_kind, sender_name, text, created_at FROM messages
	WHERE org_id = @org AND conversation_id = @id AND kind = 'message' ORDER BY created_at DESC, seq DESC LIMIT 1`

	recountSQL = `
	UPDATE conversations c SET message_count = s.n, last_inbound_seq = s.inbound, next_seq = greatest(c.next_seq, s.top + 1),
	       answered_seq = @answered, unread = @unread, last_message_at = coalesce(@at, c.last_message_at),
	       preview = coalesce(@preview, c.preview), preview_kind = coalesce(@kind, c.preview_kind), preview_name = coalesce(@name, c.preview_name),
	       updated_at = now()
	FROM (SELECT count(*) AS n, coalesce(max(seq) FILTER (WHERE direction = 'inbound'), 0) AS inbound, coalesce(max(seq), 0) AS top
	      FROM messages WHERE org_id = @org AND conversation_id = @id) s
	WHERE c.org_id = @org AND c.id = @id
	RETURNING c.next_seq, c.last_inbound_seq`
)

// recount makes the held conversation's row say what its messages are now. A conversation that has none keeps its last words.
func (h *held) recount(ctx context.Context, tx pgx.Tx, answered int64, unread int) error {
	var kind, name, text, preview *string
	var at *time.Time
	err := tx.QueryRow(ctx, latestSQL, pgx.StrictNamedArgs{"org": h.org, "id": h.ID}).Scan(&kind, &name, &text, &at)
	if err != nil && !pg.NoRows(err) {
		return fmt.Errorf("find latest message: %w", err)
	}
	if text != nil {
		preview = ptr(previewOf(*text))
	}
	err = tx.QueryRow(ctx, recountSQL, pgx.StrictNamedArgs{
		"org": h.org, "id": h.ID, "answered": answered, "unread": unread, "at": at, "preview": preview, "kind": kind, "name": name,
	}).Scan(&h.NextSeq, &h.LastInboundSeq)
	if err != nil {
		return fmt.Errorf("recount conversation: %w", err)
	}
	h.AnsweredSeq, h.Unread = answered, unread
	return nil
}
