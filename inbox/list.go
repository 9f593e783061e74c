package inbox

import (
	"context"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

// ListConversations returns a page of conversations, the latest message first unless the query sorts otherwise, without
// those that were merged into others. It needs conversation:read.
func ListConversations(ctx context.Context, tx pgx.Tx, q ConversationQuery) (tandem.Page[Conversation], error) {
	var page tandem.Page[Conversation]
	a, err := allowed(ctx, "conversation:read")
	if err != nil {
		return page, err
	}
	where, args, err := q.where(a)
	if err != nil {
		return page, err
	}
	o := orders[q.Sort]
	sql := "SELECT" + conversationColumns + " FROM (" + q.page(where) + ") c" + conversationJoins + " ORDER BY c." + o.column + o.dir + ", c.id" + o.dir
	options := []any{args}
	if q.mixed() {
		options = []any{pgx.QueryExecModeCacheDescribe, args} // planned with the values, each time
	}
	rows, err := tx.Query(ctx, sql, options...)
	if err != nil {
		return page, fmt.Errorf("list conversations: %w", err)
	}
	all, err := conversationsOf(rows)
	if err != nil {
		return page, fmt.Errorf("list conversations: %w", err)
	}
	return tandem.PageOf(all, q.Size(), q.key), nil
}

// conversationsOf reads rows of conversationColumns. The fields are found by name as elsewhere, but once and not again for
// each row: a page has more than 2,000 values.
func conversationsOf(rows pgx.Rows) ([]Conversation, error) {
	defer rows.Close()
	var r conversationRow
	fields := map[string]any{}
	v := reflect.ValueOf(&r).Elem()
	for i := range v.NumField() {
		name, ok := v.Type().Field(i).Tag.Lookup("db")
		if !ok {
			name = v.Type().Field(i).Name
		}
		fields[plain(name)] = v.Field(i).Addr().Interface()
	}
	columns := rows.FieldDescriptions()
	if len(columns) != len(fields) {
		return nil, fmt.Errorf("a conversation has %d columns, not %d", len(fields), len(columns))
	}
	into := make([]any, len(columns))
	for i, c := range columns {
		if into[i] = fields[plain(c.Name)]; into[i] == nil {
			return nil, fmt.Errorf("a conversation has no field for the column %s", c.Name)
		}
	}
	var all []Conversation
	_, err := pgx.ForEachRow(rows, into, func() error {
		all = append(all, r.conversation())
		return nil
	})
	return all, err
}

// plain is a name as columns and fields share it.
func plain(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", "")) }

// limitOf writes how many rows a page reads. As a number in the text and not as a parameter, so that the server knows that
// few are wanted and keeps one plan: planning anew costs more than the page itself.
func limitOf(size int) string { return strconv.Itoa(size + 1) }

// cursor reads the time and id that a page ended with.
func cursor(s string) (time.Time, tandem.ID, error) {
	key, err := tandem.DecodeCursor(s, 2)
	if err != nil {
		return time.Time{}, "", err
	}
	at, err := time.Parse(time.RFC3339Nano, key[0])
	id, idErr := tandem.ParseID(key[1])
	if err != nil || idErr != nil {
		_, err := tandem.DecodeCursor("", 2) // the same words as for any other foreign cursor
		return time.Time{}, "", err
	}
	return at, id, nil
}

// Counts are the numbers on the tabs of the list, each at most 1,000.
type Counts struct {
	Mine     int `json:"mine"`
	NeedsYou int `json:"needs_you"`
	AI       int `json:"ai"`
	Unowned  int `json:"unowned"`
	All      int `json:"all"`
}

const countsSQL = `
	SELECT (SELECT count(*) FROM (SELECT FROM conversations WHERE org_id = @org AND owner_id = @me LIMIT 1000) t) AS mine,
	       (SELECT count(*) FROM (SELECT FROM conversations WHERE org_id = @org AND handoff_id IS NOT NULL LIMIT 1000) t) AS needs_you,
	       (SELECT count(*) FROM (SELECT FROM conversations WHERE org_id = @org AND owner_kind = 'ai' LIMIT 1000) t) AS ai,
	       (SELECT count(*) FROM (SELECT FROM conversations WHERE org_id = @org AND owner_id IS NULL AND state = 'open' LIMIT 1000) t) AS unowned,
	       (SELECT count(*) FROM (SELECT FROM conversations WHERE org_id = @org AND merged_into IS NULL LIMIT 1000) t) AS "all"`

// CountConversations counts each view up to 1,000. It needs conversation:read.
func CountConversations(ctx context.Context, tx pgx.Tx) (Counts, error) {
	a, err := allowed(ctx, "conversation:read")
	if err != nil {
		return Counts{}, err
	}
	rows, err := tx.Query(ctx, countsSQL, pgx.StrictNamedArgs{"org": a.Org, "me": a.Member.Ptr()})
	if err != nil {
		return Counts{}, fmt.Errorf("count conversations: %w", err)
	}
	c, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Counts])
	if err != nil {
		return Counts{}, fmt.Errorf("count conversations: %w", err)
	}
	return c, nil
}

// ListHandoffs returns a page of handoffs in one state, the newest first; an empty state
// means requested. It needs conversation:read.
func ListHandoffs(ctx context.Context, tx pgx.Tx, state string, q tandem.Query) (tandem.Page[Handoff], error) {
	var page tandem.Page[Handoff]
	a, err := allowed(ctx, "conversation:read")
	if err != nil {
		return page, err
	}
	switch state {
	case "":
		state = HandoffRequested
	case HandoffRequested, HandoffAccepted, HandoffRejected, HandoffCancelled, HandoffExpired:
	default:
		return page, tandem.InvalidFields(tandem.FieldError{Field: "state", Message: "This is not one of requested, accepted, rejected, cancelled, expired."})
	}
	where := "org_id = @org AND state = @state"
	args := pgx.StrictNamedArgs{"org": a.Org, "state": state}
	if q.Cursor != "" {
		at, id, err := cursor(q.Cursor)
		if err != nil {
			return page, err
		}
		where += " AND (created_at, id) < (@at, @after)"
		args["at"], args["after"] = at, id
	}
	sql := "SELECT" + handoffColumns + " FROM (SELECT * FROM handoffs WHERE " + where + " ORDER BY created_at DESC, id DESC LIMIT " + limitOf(q.Size()) + ") h" +
		handoffJoins + " ORDER BY h.created_at DESC, h.id DESC"
	rows, err := tx.Query(ctx, sql, args)
	if err != nil {
		return page, fmt.Errorf("list handoffs: %w", err)
	}
	all, err := handoffsOf(rows)
	if err != nil {
		return page, fmt.Errorf("list handoffs: %w", err)
	}
	return tandem.PageOf(all, q.Size(), func(h Handoff) []string {
		return []string{h.CreatedAt.UTC().Format(time.RFC3339Nano), string(h.ID)}
	}), nil
}
