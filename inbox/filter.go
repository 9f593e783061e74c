package inbox

import (
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

// ConversationQuery asks for one page of conversations. What is empty chooses nothing; everything else must hold.
type ConversationQuery struct {
	tandem.Query        // Sort: one of orders; Search: the beginning of a contact's name or address, a subject or a preview
	View         string // mine, needs_you (a handoff waits), ai, unowned or all; empty: all
	State        string // a work state; empty: any
	Channel      tandem.ID
	Kind         string // of the channel
	Contact      tandem.ID
	Account      tandem.ID // the contact's
	Lead         tandem.ID
	Owner        tandem.ID
	Team         tandem.ID // a handoff to that team waits
	Reason       string    // a handoff for that reason waits
	Tag          string
	Priority     string
	Unread       bool
	Unanswered   bool
	// The first moment that counts and the first that counts no more; nil: no bound.
	ActiveAfter, ActiveBefore   *time.Time // of the last message
	CreatedAfter, CreatedBefore *time.Time
}

// Each view is a condition that one index of the table serves.
var views = map[string]string{
	"":          "",
	"all":       "",
	"mine":      " AND owner_id = @me",
	"needs_you": " AND handoff_id IS NOT NULL",
	"ai":        " AND owner_kind = 'ai'",
	"unowned":   " AND owner_id IS NULL AND state = 'open'",
}

// order is how a list is sorted, and what it holds when it is sorted so.
type order struct{ column, dir, after, only string }

// Each order is one in which the indexes are.
var orders = map[string]order{
	"":            {"last_message_at", " DESC", "<", ""},
	"unanswered":  {"last_message_at", "", ">", " AND last_inbound_seq > answered_seq"},
	"-created_at": {"created_at", " DESC", "<", ""},
	"created_at":  {"created_at", "", ">", ""},
}

const (
	ofAccountSQL = ` AND id = ANY (ARRAY(
	    SELECT x.id FROM contacts k JOIN conversations x ON x.org_id = @org AND x.contact_id = k.id WHERE k.org_id = @org AND k.account_id = @account))`

	handedOverSQL = ` AND handoff_id = ANY (ARRAY(
	    SELECT x.id FROM handoffs x WHERE x.org_id = @org AND x.state = 'requested' AND (x.reason = @reason OR @reason IS NULL) AND (x.to_team_id = @team OR @team IS NULL)))`

	// Of contacts at most 1,000 whose name and 1,000 whose address begins so; of subjects and previews those of the 10,000
	// conversations with the latest messages.
	searchSQL = ` AND id = ANY (ARRAY(
	    SELECT x.id FROM (SELECT k.id FROM contacts k WHERE k.org_id = @org AND k.name_key LIKE @search LIMIT 1000) k
	    JOIN conversations x ON x.org_id = @org AND x.contact_id = k.id
	    UNION ALL
	    SELECT x.id FROM (SELECT k.id FROM contacts k WHERE k.org_id = @org AND k.email_key LIKE @search LIMIT 1000) k
	    JOIN conversations x ON x.org_id = @org AND x.contact_id = k.id
	    UNION ALL
	    SELECT x.id FROM (
	        SELECT r.id, r.subject, r.preview FROM conversations r WHERE r.org_id = @org AND r.merged_into IS NULL
	        ORDER BY r.last_message_at DESC, r.id DESC LIMIT 10000) x
	    WHERE lower(x.subject) LIKE @search OR lower(x.preview) LIKE @search))`
)

// filter is a condition being written, from words of this file only; every value is a parameter.
type filter struct {
	sql   strings.Builder
	args  pgx.StrictNamedArgs
	wrong []tandem.FieldError
}

func (f *filter) refuse(field, message string) {
	f.wrong = append(f.wrong, tandem.FieldError{Field: field, Message: message})
}

// with adds a condition on a parameter of the field's name.
func (f *filter) with(sql, name string, value any) {
	f.sql.WriteString(sql)
	f.args[name] = value
}

func (f *filter) id(field string, id tandem.ID, sql string) {
	if id == "" {
		return
	}
	parsed, err := tandem.ParseID(string(id))
	if err != nil {
		f.refuse(field, "This is not an id.")
		return
	}
	f.with(sql, strings.TrimSuffix(field, "_id"), parsed)
}

func (f *filter) one(field, value string, of []string, sql string) {
	switch {
	case value == "":
	case !slices.Contains(of, value):
		f.refuse(field, "This is not one of "+strings.Join(of, ", ")+".")
	default:
		f.with(sql, field, value)
	}
}

func (f *filter) text(field, value string, most int) bool {
	if value == "" {
		return false
	}
	if len(value) > most || strings.ContainsRune(value, 0) || strings.ToValidUTF8(value, "") != value {
		f.refuse(field, "This is too long, or has characters that are not text.")
		return false
	}
	return true
}

func (f *filter) span(name, column string, from, to *time.Time) {
	if from != nil {
		f.with(" AND "+column+" >= @"+name+"_after", name+"_after", *from)
	}
	if to != nil {
		f.with(" AND "+column+" < @"+name+"_before", name+"_before", *to)
	}
}

var (
	states     = []string{StateOpen, StateWaiting, StateSnoozed, StateResolved, StateSpam}
	priorities = []string{"low", "normal", "high", "urgent"}
)

// where makes the condition of the page.
func (q ConversationQuery) where(a tandem.Actor) (string, pgx.StrictNamedArgs, error) {
	f := &filter{args: pgx.StrictNamedArgs{"org": a.Org}}
	f.sql.WriteString("org_id = @org AND merged_into IS NULL")
	view, ok := views[q.View]
	if !ok {
		f.refuse("view", "This is not one of mine, needs_you, ai, unowned, all.")
	}
	f.sql.WriteString(view)
	if strings.Contains(view, "@me") {
		f.args["me"] = a.Member.Ptr()
	}
	o, ok := orders[q.Sort]
	if !ok {
		f.refuse("sort", "This is not one of unanswered, -created_at, created_at.")
	}
	f.sql.WriteString(o.only)
	f.one("state", q.State, states, " AND state = @state")
	f.id("channel_id", q.Channel, " AND channel_id = @channel")
	f.id("contact_id", q.Contact, " AND contact_id = @contact")
	f.id("lead_id", q.Lead, " AND lead_id = @lead")
	f.id("owner_id", q.Owner, " AND owner_id = @owner")
	f.id("account_id", q.Account, ofAccountSQL)
	if f.text("channel_kind", q.Kind, 40) {
		f.args["kind"] = q.Kind // page looks for the channels
	}
	if q.Reason != "" || q.Team != "" {
		f.args["reason"], f.args["team"] = nil, nil
		f.one("reason", q.Reason, Reasons, "")
		f.id("team_id", q.Team, "")
		f.sql.WriteString(handedOverSQL)
	}
	if q.Priority != "" {
		if slices.Contains(priorities, q.Priority) { // written out, so that the server knows the index for it
			f.sql.WriteString(" AND priority = '" + q.Priority + "'")
		} else {
			f.refuse("priority", "This is not one of "+strings.Join(priorities, ", ")+".")
		}
	}
	if q.Unread {
		f.sql.WriteString(" AND unread > 0")
	}
	if q.Unanswered && o.only == "" {
		f.sql.WriteString(" AND last_inbound_seq > answered_seq")
	}
	if f.text("tag", q.Tag, 4*maxTag) {
		f.with(" AND tags <> '{}' AND tags @> ARRAY[@tag::text]", "tag", strings.ToLower(strings.TrimSpace(q.Tag)))
	}
	if f.text("search", q.Search, 200) {
		f.with(searchSQL, "search", strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.ToLower(strings.TrimSpace(q.Search)))+"%")
	}
	f.span("active", "last_message_at", q.ActiveAfter, q.ActiveBefore)
	f.span("created", "created_at", q.CreatedAfter, q.CreatedBefore)
	if len(f.wrong) > 0 {
		return "", nil, tandem.InvalidFields(f.wrong...)
	}
	if q.Cursor != "" {
		at, id, err := q.behind()
		if err != nil {
			return "", nil, err
		}
		f.with(" AND ("+o.column+", id) "+o.after+" (@at, @after)", "at", at)
		f.args["after"] = id
	}
	return f.sql.String(), f.args, nil
}

// page reads the rows of one page. Of channels of one kind each gives its share in the list's order, by its own index.
func (q ConversationQuery) page(where string) string {
	o := orders[q.Sort]
	tail := " ORDER BY " + o.column + o.dir + ", id" + o.dir + " LIMIT " + limitOf(q.Size())
	if q.Kind == "" {
		return "SELECT * FROM conversations WHERE " + where + tail
	}
	return "SELECT v.* FROM channels k CROSS JOIN LATERAL (SELECT * FROM conversations WHERE " + where + " AND channel_id = k.id" + tail + ") v" +
		" WHERE k.org_id = @org AND k.kind = @kind" + strings.NewReplacer("BY ", "BY v.", ", id", ", v.id").Replace(tail)
}

// mixed reports whether no one index has all that the query asks for. Then the server must see the values to choose the
// index with less to read: a channel may have half of the conversations, or few.
func (q ConversationQuery) mixed() bool {
	parts := 0
	for _, is := range []bool{
		views[q.View] != "" || q.State != "" || q.Owner != "", views[q.View] != "" && q.Owner != "", q.Channel != "", q.Kind != "",
		q.Unread, q.Unanswered || q.Sort == "unanswered", q.Priority != "", orders[q.Sort].column == "created_at" || q.CreatedAfter != nil || q.CreatedBefore != nil,
	} {
		if is {
			parts++
		}
	}
	return parts > 1 || q.Tag != "" || q.Search != ""
}

// key is what a page ends with, for the cursor.
func (q ConversationQuery) key(c Conversation) []string {
	at := c.LastMessageAt
	if orders[q.Sort].column == "created_at" {
		at = c.CreatedAt
	}
	key := []string{at.UTC().Format(time.RFC3339Nano), string(c.ID)}
	if q.Sort != "" {
		key = append(key, q.Sort)
	}
	return key
}

// behind reads the cursor. One of another order is refused.
func (q ConversationQuery) behind() (time.Time, tandem.ID, error) {
	if q.Sort == "" {
		return cursor(q.Cursor)
	}
	key, err := tandem.DecodeCursor(q.Cursor, 3)
	if err != nil {
		return time.Time{}, "", err
	}
	if key[2] != q.Sort {
		_, err := tandem.DecodeCursor("", 3)
		return time.Time{}, "", err
	}
	return cursor(tandem.EncodeCursor(key[:2]...))
}
