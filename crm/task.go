package crm

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/record"
	"github.com/tandemhq/tandem/internal/timers"
)

// Task is something that somebody has to do.
type Task struct {
	ID          tandem.ID  `json:"id" db:"id"`
	Title       string     `json:"title" db:"title" example:"Call her back"`
	Description string     `json:"description" db:"description"`
	LeadID      *tandem.ID `json:"lead_id" db:"lead_id" doc:"What it is about: at most one of lead_id, contact_id, account_id and deal_id."`
	ContactID   *tandem.ID `json:"contact_id" db:"contact_id"`
	AccountID   *tandem.ID `json:"account_id" db:"account_id"`
	DealID      *tandem.ID `json:"deal_id" db:"deal_id"`
	AssigneeID  *tandem.ID `json:"assignee_id" db:"assignee_id" doc:"The member who does it, a person or an AI member."`
	ParentID    *tandem.ID `json:"parent_id" db:"parent_id" doc:"The task that this is a part of. Parts have no parts of their own."`
	FollowsID   *tandem.ID `json:"follows_id" db:"follows_id" doc:"The recurring task whose completion made this one."`
	Status      string     `json:"status" db:"status" enum:"todo,in_progress,waiting,completed,cancelled"`
	Priority    string     `json:"priority" db:"priority" enum:"low,normal,high,urgent"`
	Recurrence  string     `json:"recurrence" db:"recurrence" enum:"none,daily,weekly,monthly" doc:"Completing a recurring task makes the next one, due at the next of its times that is still to come, in UTC."`
	DueAt       *time.Time `json:"due_at" db:"due_at"`
	RemindAt    *time.Time `json:"remind_at" db:"remind_at" doc:"When the fact task.reminded is told, unless the task is done by then."`
	CompletedAt *time.Time `json:"completed_at" db:"completed_at"`
	CreatedAt   time.Time  `json:"created_at" db:"created_at"`
	UpdatedAt   time.Time  `json:"updated_at" db:"updated_at"`
	Version     int64      `json:"version" db:"version"`
}

type tasks struct{ record.Set[Task] }

// Tasks is the set of tasks. Overdue are those whose due_at is past and whose status is none of completed and cancelled.
var Tasks = tasks{record.Set[Task]{
	Noun: "task", Table: "tasks",
	Fields: []record.Field{
		{Name: "title", Filter: true, Write: true, Needed: true},
		{Name: "description", Write: true, Hidden: true},
		{Name: "lead_id", Type: record.ID, Filter: true, Write: true},
		{Name: "contact_id", Type: record.ID, Filter: true, Write: true},
		{Name: "account_id", Type: record.ID, Filter: true, Write: true},
		{Name: "deal_id", Type: record.ID, Filter: true, Write: true},
		{Name: "assignee_id", Type: record.ID, Filter: true, Write: true},
		{Name: "parent_id", Type: record.ID, Filter: true, Write: true},
		{Name: "follows_id", Type: record.ID, Filter: true},
		{Name: "status", Filter: true, Write: true},
		{Name: "priority", Filter: true, Write: true},
		{Name: "recurrence", Filter: true, Write: true},
		{Name: "due_at", Type: record.Time, Filter: true, Write: true, Sort: "coalesce(tasks.due_at, 'infinity')"},
		{Name: "remind_at", Type: record.Time, Filter: true, Write: true},
		{Name: "completed_at", Type: record.Time, Filter: true},
		{Name: "created_at", Type: record.Time, Filter: true},
		{Name: "updated_at", Type: record.Time, Filter: true},
	},
	Search:     []string{"tasks.title"},
	Archivable: true, Label: "title", Lead: "lead_id", Category: "crm", Check: checkTask,
}}

var (
	taskStatuses = []string{"todo", "in_progress", "waiting", "completed", "cancelled"}
	recurrences  = []string{"none", "daily", "weekly", "monthly"}
)

func checkTask(t *Task) error {
	t.Status, t.Priority, t.Recurrence = cmp.Or(t.Status, "todo"), cmp.Or(t.Priority, "normal"), cmp.Or(t.Recurrence, "none")
	var wrong []tandem.FieldError
	refuse := func(field, message string) {
		wrong = append(wrong, tandem.FieldError{Field: field, Message: message})
	}
	if t.Title = clean(t.Title, 300); t.Title == "" {
		refuse("title", "A task needs a title.")
	}
	if len([]rune(t.Description)) > 20_000 {
		refuse("description", "A description has at most 20,000 characters.")
	}
	if related(t.LeadID, t.ContactID, t.AccountID, t.DealID) > 1 {
		refuse("lead_id", "Name at most one of lead_id, contact_id, account_id and deal_id.")
	}
	if !slices.Contains(taskStatuses, t.Status) {
		refuse("status", "Choose todo, in_progress, waiting, completed or cancelled.")
	}
	if !priorities[t.Priority] {
		refuse("priority", "Choose low, normal, high or urgent.")
	}
	if !slices.Contains(recurrences, t.Recurrence) {
		refuse("recurrence", "Choose none, daily, weekly or monthly.")
	} else if t.Recurrence != "none" && t.DueAt == nil {
		refuse("due_at", "A task that recurs needs a time when it is due.")
	}
	for i, at := range []*time.Time{t.DueAt, t.RemindAt} {
		if at != nil && (at.Year() < 2000 || at.Year() > 2200) {
			refuse([]string{"due_at", "remind_at"}[i], "Choose a time between the years 2000 and 2200.")
		}
	}
	if len(wrong) > 0 {
		return tandem.InvalidFields(wrong...)
	}
	return nil
}

func (t *Task) done() bool { return t.Status == "completed" || t.Status == "cancelled" }

// Create adds a task and sets its reminder.
func (s tasks) Create(ctx context.Context, tx pgx.Tx, t Task) (Task, error) {
	if _, err := s.May(ctx, "write"); err != nil {
		return t, err
	}
	now, err := clock(ctx, tx)
	if err != nil {
		return t, err
	}
	if t.CompletedAt = nil; t.Status == "completed" {
		t.CompletedAt = &now
	}
	if err := s.fits(ctx, tx, &t); err != nil {
		return t, err
	}
	made, err := alsoWriting(s.Set, "completed_at", "follows_id").Create(ctx, tx, t)
	if err != nil {
		return made, err
	}
	return made, s.remind(ctx, tx, &Task{Status: "todo"}, &made, now)
}

// Patch changes a task as record.Set does, and with it what its status says: completed_at, the next of a recurring task,
// and the reminder.
func (s tasks) Patch(ctx context.Context, tx pgx.Tx, id tandem.ID, raw json.RawMessage, version *int64) (Task, error) {
	if _, err := s.May(ctx, "write"); err != nil {
		return Task{}, err
	}
	old, err := s.Load(ctx, tx, id, true)
	if err != nil {
		return old, err
	}
	now, err := clock(ctx, tx)
	if err != nil {
		return old, err
	}
	set := s.Set
	var asked map[string]json.RawMessage
	if json.Unmarshal(raw, &asked) == nil && asked["completed_at"] == nil {
		if status := asked["status"]; status != nil && (string(status) == `"completed"`) != (old.Status == "completed") {
			set = alsoWriting(s.Set, "completed_at")
			asked["completed_at"] = json.RawMessage("null")
			if old.Status != "completed" {
				asked["completed_at"] = json.RawMessage(now.UTC().Format(`"` + time.RFC3339Nano + `"`))
			}
			if raw, err = json.Marshal(asked); err != nil {
				return old, fmt.Errorf("change task: %w", err)
			}
		}
	}
	t, err := set.Patch(ctx, tx, id, raw, version)
	if err != nil {
		return t, err
	}
	if err := s.moved(ctx, tx, &old, &t); err != nil {
		return t, err
	}
	if tandem.Deref(t.ParentID) != tandem.Deref(old.ParentID) {
		if err := s.fits(ctx, tx, &t); err != nil {
			return t, err
		}
	}
	if t.Status == "completed" && old.Status != "completed" {
		if err := s.follow(ctx, tx, t, now); err != nil {
			return t, err
		}
	}
	return t, s.remind(ctx, tx, &old, &t, now)
}

// Archive hides a task, and nobody is reminded of it.
func (s tasks) Archive(ctx context.Context, tx pgx.Tx, id tandem.ID, version *int64) error {
	if err := s.Set.Archive(ctx, tx, id, version); err != nil {
		return err
	}
	return timers.Clear(ctx, tx, taskTimer, id)
}

// Restore brings an archived task back, with its reminder when that is still to come.
func (s tasks) Restore(ctx context.Context, tx pgx.Tx, id tandem.ID) (Task, error) {
	t, err := s.Set.Restore(ctx, tx, id)
	if err != nil {
		return t, err
	}
	now, err := clock(ctx, tx)
	if err != nil {
		return t, err
	}
	return t, s.remind(ctx, tx, &Task{Status: "cancelled", RemindAt: t.RemindAt}, &t, now)
}

// The parent is locked, so that of two that become each other's part one waits and sees the other.
const sqlParent = `
SELECT parent_id IS NULL AND NOT EXISTS (SELECT FROM tasks WHERE org_id = @org AND parent_id = @id)
FROM tasks WHERE org_id = @org AND id = @parent AND archived_at IS NULL FOR NO KEY UPDATE`

// fits refuses a parent that is none: parts of a task have no parts.
func (s tasks) fits(ctx context.Context, tx pgx.Tx, t *Task) error {
	if t.ParentID == nil {
		return nil
	}
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	none := tandem.InvalidFields(tandem.FieldError{Field: "parent_id", Message: "This is not a task that can have this one as a part: parts have no parts."})
	if _, err := tandem.ParseID(string(*t.ParentID)); err != nil {
		return none
	}
	rows, err := tx.Query(ctx, sqlParent, pgx.StrictNamedArgs{"org": a.Org, "parent": *t.ParentID, "id": t.ID.Ptr()})
	if err != nil {
		return fmt.Errorf("look for the task's parent: %w", err)
	}
	ok, err := pgx.CollectRows(rows, pgx.RowTo[bool])
	if err != nil {
		return fmt.Errorf("look for the task's parent: %w", err)
	}
	if len(ok) == 0 || !ok[0] {
		return none
	}
	return nil
}

// follow makes the next of a recurring task, unless an earlier completion has.
func (s tasks) follow(ctx context.Context, tx pgx.Tx, t Task, now time.Time) error {
	if t.Recurrence == "none" {
		return nil
	}
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	const sqlFollowed = `SELECT EXISTS (SELECT FROM tasks WHERE org_id = @org AND follows_id = @id)`
	var followed bool
	if err := tx.QueryRow(ctx, sqlFollowed, pgx.StrictNamedArgs{"org": a.Org, "id": t.ID}).Scan(&followed); err != nil || followed {
		return err
	}
	day, err := s.anchor(ctx, tx, a.Org, t)
	if err != nil {
		return err
	}
	due := nextDue(t.Recurrence, *t.DueAt, now, day)
	next := Task{
		Title: t.Title, Description: t.Description, LeadID: t.LeadID, ContactID: t.ContactID, AccountID: t.AccountID, DealID: t.DealID, AssigneeID: t.AssigneeID,
		ParentID: t.ParentID, FollowsID: &t.ID, Priority: t.Priority, Recurrence: t.Recurrence, DueAt: &due,
	}
	if t.RemindAt != nil {
		at := t.RemindAt.Add(due.Sub(*t.DueAt))
		next.RemindAt = &at
	}
	made, err := s.Create(ctx, tx, next)
	if err != nil {
		return fmt.Errorf("make the next of a recurring task: %w", err)
	}
	if day == due.Day() {
		return nil
	}
	const sqlAnchor = `UPDATE tasks SET anchor_day = @day WHERE org_id = @org AND id = @id`
	if _, err := tx.Exec(ctx, sqlAnchor, pgx.StrictNamedArgs{"org": a.Org, "id": made.ID, "day": day}); err != nil {
		return fmt.Errorf("keep the day of a recurring task: %w", err)
	}
	return nil
}

// anchor is the day of the month on which a monthly task is due where the month has it: that of the first of its tasks, as
// long as nobody has chosen another time since.
func (s tasks) anchor(ctx context.Context, tx pgx.Tx, org tandem.ID, t Task) (day int, err error) {
	if day = t.DueAt.UTC().Day(); t.Recurrence != "monthly" {
		return day, nil
	}
	const sqlAnchor = `SELECT coalesce(anchor_day, @day) FROM tasks WHERE org_id = @org AND id = @id`
	if err := tx.QueryRow(ctx, sqlAnchor, pgx.StrictNamedArgs{"org": org, "id": t.ID, "day": day}).Scan(&day); err != nil {
		return day, fmt.Errorf("look for the day of a recurring task: %w", err)
	}
	return day, nil
}

// moved forgets the day of the month that a recurring task keeps: somebody chose another time.
func (s tasks) moved(ctx context.Context, tx pgx.Tx, old, t *Task) error {
	if old.Recurrence == t.Recurrence && sameTime(old.DueAt, t.DueAt) {
		return nil
	}
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	const sqlForget = `UPDATE tasks SET anchor_day = NULL WHERE org_id = @org AND id = @id AND anchor_day IS NOT NULL`
	if _, err := tx.Exec(ctx, sqlForget, pgx.StrictNamedArgs{"org": a.Org, "id": t.ID}); err != nil {
		return fmt.Errorf("forget the day of a recurring task: %w", err)
	}
	return nil
}

func sameTime(a, b *time.Time) bool { return a == b || a != nil && b != nil && a.Equal(*b) }

// nextDue is the first time after due and after now. Of months it is the given day, or the last one of a month that lacks it.
func nextDue(recurrence string, due, now time.Time, day int) time.Time {
	due = due.UTC()
	for n := 1; ; n++ {
		var at time.Time
		switch recurrence {
		case "daily":
			at = due.AddDate(0, 0, n)
		case "weekly":
			at = due.AddDate(0, 0, 7*n)
		default:
			first := due.AddDate(0, 0, 1-due.Day()).AddDate(0, n, 0)
			at = first.AddDate(0, 0, min(day, first.AddDate(0, 1, -1).Day())-1)
		}
		if at.After(now) {
			return at
		}
	}
}

// taskTimer is the kind of a task's reminder.
const taskTimer = "task"

// Timers are the handlers of what must happen here later, by the kind of timer:
//
//	task    record = task: its assignee is to be reminded
func Timers() map[string]timers.Handler {
	return map[string]timers.Handler{taskTimer: Tasks.reminded}
}

// remind moves the reminder along with a change of a task. One whose time is past fires at once when somebody has just set
// it so, and not again when the task is opened again.
func (s tasks) remind(ctx context.Context, tx pgx.Tx, old, t *Task, now time.Time) error {
	same := sameTime(old.RemindAt, t.RemindAt)
	switch {
	case same && old.done() == t.done():
		return nil
	case t.RemindAt == nil || t.done() || same && !t.RemindAt.After(now):
		if old.RemindAt == nil {
			return nil
		}
		return timers.Clear(ctx, tx, taskTimer, t.ID)
	}
	return timers.Set(ctx, tx, taskTimer, t.ID, t.RemindAt.Sub(now))
}

// reminded tells of a task whose reminder is due.
func (s tasks) reminded(ctx context.Context, tx pgx.Tx, id tandem.ID) error {
	t, err := s.Load(ctx, tx, id, true)
	if tandem.KindOf(err) == tandem.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if t.RemindAt == nil || t.done() {
		return nil
	}
	_, err = events.Emit(ctx, tx, tandem.Event{
		Noun: s.Noun, Verb: "reminded", Record: t.ID, Lead: tandem.Deref(t.LeadID), Category: s.Category, Severity: "notice",
		Description: "Tandem reminds of the task " + t.Title,
		Changes:     []tandem.Change{{Field: "assignee_id", New: t.AssigneeID}},
	})
	if err != nil {
		return fmt.Errorf("task reminded: %w", err)
	}
	return nil
}

// clock is the time of tx on the database's clock.
func clock(ctx context.Context, tx pgx.Tx) (now time.Time, err error) {
	if err := tx.QueryRow(ctx, "SELECT now()").Scan(&now); err != nil {
		return now, fmt.Errorf("read the clock: %w", err)
	}
	return now, nil
}
