package team

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
)

// Notification tells a member of a fact that is meant for this member; nobody else sees it.
type Notification struct {
	ID        tandem.ID  `json:"id" db:"id"`
	Kind      string     `json:"kind" db:"kind" enum:"mention,task_reminder,task_assigned,lead_assigned"`
	Noun      string     `json:"noun" db:"noun" doc:"What it is about: note, task or lead."`
	RecordID  tandem.ID  `json:"record_id" db:"record_id"`
	EventID   tandem.ID  `json:"event_id" db:"event_id" doc:"The fact that it tells of."`
	Text      string     `json:"text" db:"text"`
	CreatedAt time.Time  `json:"created_at" db:"created_at"`
	ReadAt    *time.Time `json:"read_at" db:"read_at"`
}

// notifier says what of a topic a member is told, and whom: the value that a field of the fact takes.
type notifier struct{ kind, field, text, about string }

// notified are the facts that somebody is told of. about is the SQL of the record's name.
var notified = map[string]notifier{
	"note.mentioned": {"mention", "member_id", "%s mentioned you in a note", ""},
	"task.reminded":  {"task_reminder", "assignee_id", "%s reminds you of the task ", "SELECT title FROM tasks WHERE org_id = @org AND id = @id"},
	"task.created":   {"task_assigned", "assignee_id", "%s gave you the task ", "SELECT title FROM tasks WHERE org_id = @org AND id = @id"},
	"task.updated":   {"task_assigned", "assignee_id", "%s gave you the task ", "SELECT title FROM tasks WHERE org_id = @org AND id = @id"},
	"lead.updated":   {"lead_assigned", "assignee_id", "%s made you responsible for the lead ", "SELECT title FROM leads WHERE org_id = @org AND id = @id"},
}

// Notifier is the consumer that writes notifications: exactly once, whatever is delivered how often.
func Notifier() events.Subscription {
	return events.Subscription{Name: "notifier", Topics: slices.Sorted(maps.Keys(notified)), Workers: 2, Apply: notify}
}

const sqlNotify = `
INSERT INTO notifications (org_id, id, member_id, event_id, kind, noun, record_id, text)
SELECT m.org_id, @id, m.id, @event, @kind, @noun, @record, @text FROM members m
WHERE m.org_id = @org AND m.id = @member AND m.kind = 'human' AND m.status = 'active'
ON CONFLICT (org_id, member_id, event_id) DO NOTHING`

// notify tells the person whom a fact names, unless it was this person's own doing.
func notify(ctx context.Context, tx pgx.Tx, f events.Fact) error {
	rows, err := events.Some(ctx, tx, []tandem.ID{f.ID})
	if err != nil || len(rows) == 0 {
		return err
	}
	e := rows[0].Event
	n, member := notified[e.Topic()], tandem.ID("")
	for _, c := range e.Changes {
		if c.Field == n.field {
			s, _ := c.New.(string)
			member = tandem.ID(s)
		}
	}
	if member == "" || member == e.Actor.ID || member == e.Actor.OnBehalf {
		return nil
	}
	text := fmt.Sprintf(n.text, e.Actor.Name)
	if n.about != "" {
		var name string
		if err := tx.QueryRow(ctx, n.about, pgx.StrictNamedArgs{"org": f.Org, "id": e.Record}).Scan(&name); err != nil {
			return fmt.Errorf("name what a notification is about: %w", err)
		}
		text += tandem.Clip(name, 200)
	}
	id := tandem.NewID()
	tag, err := tx.Exec(ctx, sqlNotify, pgx.StrictNamedArgs{
		"org": f.Org, "id": id, "member": member, "event": e.ID, "kind": n.kind, "noun": e.Noun, "record": e.Record, "text": text,
	})
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return nil
	}
	return emitNotification(ctx, tx, id, member, "created", "Tandem told a member of something")
}

// emitNotification writes a fact of a notification. It names the member, by whom alone the live stream shows it, and says
// nothing of what the notification is about.
func emitNotification(ctx context.Context, tx pgx.Tx, record, member tandem.ID, verb, said string) error {
	_, err := events.Emit(ctx, tx, tandem.Event{
		Noun: "notification", Verb: verb, Record: record, Category: "team", Severity: "info", Description: said,
		Changes: []tandem.Change{{Field: "member_id", New: member}},
	})
	if err != nil {
		return fmt.Errorf("notification %s: %w", verb, err)
	}
	return nil
}

// NotifiedBy is the member whom a fact of a notification is for, by whom alone it is to be seen.
func NotifiedBy(e *tandem.Event) tandem.ID {
	for _, c := range e.Changes {
		if c.Field == "member_id" {
			s, _ := c.New.(string)
			return tandem.ID(s)
		}
	}
	return ""
}

// self is the member who acts: notifications are for members only.
func self(ctx context.Context) (tandem.Actor, error) {
	a, err := tandem.ActorFrom(ctx)
	if err == nil && a.Member == "" {
		err = tandem.Errorf(tandem.Forbidden, "Only a member has notifications.")
	}
	return a, err
}

const sqlNotifications = `
SELECT id, kind, noun, record_id, event_id, text, created_at, read_at FROM notifications WHERE org_id = @org AND member_id = @me`

// Notifications returns a page of the actor's own, the newest first; with unread those not read yet.
func Notifications(ctx context.Context, tx pgx.Tx, q tandem.Query, unread bool) (p tandem.Page[Notification], err error) {
	a, err := self(ctx)
	if err != nil {
		return p, err
	}
	sql, args := sqlNotifications, pgx.StrictNamedArgs{"org": a.Org, "me": a.Member}
	if unread {
		sql += " AND read_at IS NULL"
	}
	if q.Cursor != "" {
		part, err := tandem.DecodeCursor(q.Cursor, 2)
		if err != nil {
			return p, err
		}
		at, err1 := time.Parse(time.RFC3339Nano, part[0])
		id, err2 := tandem.ParseID(part[1])
		if err1 != nil || err2 != nil || at.Year() > 9999 {
			return p, tandem.InvalidFields(tandem.FieldError{Field: "cursor", Message: "This is not a cursor of this list. Leave it out to start at the beginning."})
		}
		sql += " AND (created_at, id) < (@at, @after)"
		args["at"], args["after"] = at, id
	}
	rows, err := tx.Query(ctx, sql+" ORDER BY created_at DESC, id DESC LIMIT "+strconv.Itoa(q.Size()+1), args)
	if err != nil {
		return p, fmt.Errorf("list notifications: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByName[Notification])
	if err != nil {
		return p, fmt.Errorf("list notifications: %w", err)
	}
	return tandem.PageOf(all, q.Size(), func(n Notification) []string {
		return []string{n.CreatedAt.UTC().Format(time.RFC3339Nano), string(n.ID)}
	}), nil
}

// Unread counts the actor's notifications that are not read yet, up to 1,000.
func Unread(ctx context.Context, tx pgx.Tx) (n int, err error) {
	a, err := self(ctx)
	if err != nil {
		return 0, err
	}
	const sql = `SELECT count(*) FROM (SELECT FROM notifications WHERE org_id = @org AND member_id = @me AND read_at IS NULL LIMIT 1000) few`
	if err := tx.QueryRow(ctx, sql, pgx.StrictNamedArgs{"org": a.Org, "me": a.Member}).Scan(&n); err != nil {
		return 0, fmt.Errorf("count notifications: %w", err)
	}
	return n, nil
}

// ReadNotification marks one of the actor's own as read. One that is read already stays as it is.
func ReadNotification(ctx context.Context, tx pgx.Tx, id tandem.ID) (n Notification, err error) {
	a, err := self(ctx)
	if err != nil {
		return n, err
	}
	const sqlRead = `UPDATE notifications SET read_at = now() WHERE org_id = @org AND member_id = @me AND id = @id AND read_at IS NULL`
	args := pgx.StrictNamedArgs{"org": a.Org, "me": a.Member, "id": id}
	tag, err := tx.Exec(ctx, sqlRead, args)
	if err != nil {
		return n, fmt.Errorf("read a notification: %w", err)
	}
	rows, err := tx.Query(ctx, sqlNotifications+" AND id = @id", args)
	if err != nil {
		return n, fmt.Errorf("read a notification: %w", err)
	}
	n, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Notification])
	switch {
	case pg.NoRows(err):
		return n, tandem.Errorf(tandem.NotFound, "There is no such notification.")
	case err != nil:
		return n, fmt.Errorf("read a notification: %w", err)
	case tag.RowsAffected() == 0:
		return n, nil
	}
	return n, emitNotification(ctx, tx, id, a.Member, "read", a.Name+" read a notification")
}

// ReadNotifications marks all of the actor's own as read.
func ReadNotifications(ctx context.Context, tx pgx.Tx) error {
	a, err := self(ctx)
	if err != nil {
		return err
	}
	const sqlReadAll = `UPDATE notifications SET read_at = now() WHERE org_id = @org AND member_id = @me AND read_at IS NULL`
	tag, err := tx.Exec(ctx, sqlReadAll, pgx.StrictNamedArgs{"org": a.Org, "me": a.Member})
	if err != nil {
		return fmt.Errorf("read notifications: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return nil
	}
	return emitNotification(ctx, tx, a.Member, a.Member, "read_all", a.Name+" read all notifications")
}
