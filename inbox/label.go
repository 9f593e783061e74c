package inbox

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

// Labels are what people write on a conversation; nil leaves one as it is.
type Labels struct {
	Subject  *string
	Priority *string
	Tags     []string // nil leaves them; empty clears them
	Version  *int64   // the conversation's version that the caller saw; nil for any
}

const (
	maxSubject = 300 // characters
	maxTags    = 20
	maxTag     = 60 // characters
)

func (l *Labels) check() error {
	var wrong []tandem.FieldError
	bad := func(field, message string) { wrong = append(wrong, tandem.FieldError{Field: field, Message: message}) }
	if l.Subject != nil {
		s := strings.Join(strings.Fields(clean(*l.Subject)), " ")
		if l.Subject = &s; len([]rune(s)) > maxSubject {
			bad("subject", "A subject has at most 300 characters.")
		}
	}
	if l.Priority != nil && !slices.Contains(priorities, *l.Priority) {
		bad("priority", "Choose low, normal, high or urgent.")
	}
	if l.Tags != nil {
		tags := []string{}
		for _, t := range l.Tags {
			t = strings.ToLower(strings.Join(strings.Fields(clean(t)), " "))
			if len([]rune(t)) > maxTag {
				bad("tags", "A tag has at most 60 characters.")
			}
			if t != "" && !slices.Contains(tags, t) {
				tags = append(tags, t)
			}
		}
		if l.Tags = tags; len(tags) > maxTags {
			bad("tags", "There may be at most 20 tags.")
		}
	}
	if len(wrong) > 0 {
		return tandem.InvalidFields(wrong...)
	}
	return nil
}

const (
	labelsSQL = `SELECT subject, priority, tags, version FROM conversations WHERE org_id = @org AND id = @id`

	labelSQL = `
	UPDATE conversations SET subject = @subject, priority = @priority, tags = @tags, version = version + 1, updated_at = now()
	WHERE org_id = @org AND id = @id`
)

// Label writes a subject, a priority or tags on a conversation, whoever owns it, and does nothing when nothing differs. Tags
// are kept in small letters. A version that is not the conversation's is Conflict. An AI member does so only where it is the
// owner. It needs conversation:claim.
func Label(ctx context.Context, tx pgx.Tx, conv tandem.ID, l Labels) (Conversation, error) {
	a, err := allowed(ctx, "conversation:claim")
	if err != nil {
		return Conversation{}, err
	}
	if err := l.check(); err != nil {
		return Conversation{}, err
	}
	h, err := hold(ctx, tx, a.Org, conv)
	if err != nil {
		return Conversation{}, err
	}
	if (a.Kind == tandem.AI || a.Kind == tandem.External) && !h.ownedBy(a.Member) {
		if h.OwnerID != nil {
			return Conversation{}, h.taken(ctx, tx)
		}
		return Conversation{}, tandem.Errorf(tandem.Conflict, "Claim the conversation first.")
	}
	var subject, priority string
	var tags []string
	var version int64
	if err := tx.QueryRow(ctx, labelsSQL, pgx.StrictNamedArgs{"org": a.Org, "id": conv}).Scan(&subject, &priority, &tags, &version); err != nil {
		return Conversation{}, fmt.Errorf("read labels: %w", err)
	}
	if l.Version != nil && *l.Version != version {
		return Conversation{}, tandem.Errorf(tandem.Conflict, "Somebody else changed this conversation in the meantime: it is at version %d. Load it again.", version)
	}
	var changes []tandem.Change
	if l.Subject != nil && *l.Subject != subject {
		changes = append(changes, tandem.Change{Field: "subject", Old: subject, New: *l.Subject})
		subject = *l.Subject
	}
	if l.Priority != nil && *l.Priority != priority {
		changes = append(changes, tandem.Change{Field: "priority", Old: priority, New: *l.Priority})
		priority = *l.Priority
	}
	if l.Tags != nil && !slices.Equal(l.Tags, tags) {
		changes = append(changes, tandem.Change{Field: "tags", Old: tags, New: l.Tags})
		tags = l.Tags
	}
	if len(changes) == 0 {
		return getConversation(ctx, tx, a.Org, conv)
	}
	_, err = tx.Exec(ctx, labelSQL, pgx.StrictNamedArgs{"org": a.Org, "id": conv, "subject": subject, "priority": priority, "tags": tags})
	if err != nil {
		return Conversation{}, fmt.Errorf("label conversation: %w", err)
	}
	fields := make([]string, len(changes))
	for i, c := range changes {
		fields[i] = "the " + c.Field
	}
	text := a.Name + " set " + strings.Join(fields, " and ") + " of the conversation with " + h.ContactName + "."
	if err := h.emit(ctx, tx, "updated", text, changes...); err != nil {
		return Conversation{}, err
	}
	return getConversation(ctx, tx, a.Org, conv)
}
