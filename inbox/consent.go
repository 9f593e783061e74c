package inbox

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
)

// ErrOptedOut: the contact does not want to hear from us on this sort of channel. Test for it with errors.Is.
var ErrOptedOut = tandem.Errorf(tandem.Conflict, "The contact has opted out of messages on this channel.")

// canSendSQL is the one gate for whatever leaves: whether @contact has not denied to be written to on channels of
// @channel_kind. It stands in the statement that stores a message to a contact and in the one that lets it out, and each is
// asked with the conversation locked, which is also what storing a denial waits for: nothing begins to go out behind one.
const canSendSQL = `NOT EXISTS (SELECT FROM contact_consents k
	WHERE k.org_id = @org AND k.contact_id = @contact AND k.kind = @channel_kind AND k.state = 'denied')`

// CanSend reports whether the conversation's contact may be written to on its channel: nil, or ErrOptedOut. Who writes need
// not ask; Reply and the courier do. It needs conversation:read.
func CanSend(ctx context.Context, tx pgx.Tx, conv tandem.ID) error {
	c, err := GetConversation(ctx, tx, conv)
	if err != nil {
		return err
	}
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	h := &held{ContactID: c.Contact.ID, ContactName: c.Contact.Name, ChannelKind: c.Channel.Kind, org: a.Org}
	return h.canSend(ctx, tx)
}

func (h *held) canSend(ctx context.Context, tx pgx.Tx) error {
	var may bool
	err := tx.QueryRow(ctx, `SELECT `+canSendSQL, pgx.StrictNamedArgs{"org": h.org, "contact": h.ContactID, "channel_kind": h.ChannelKind}).Scan(&may)
	if err != nil {
		return fmt.Errorf("look for an opt-out: %w", err)
	}
	if !may {
		return h.optedOut()
	}
	return nil
}

func (h *held) optedOut() error {
	return tandem.Wrap(tandem.Conflict, ErrOptedOut, "%s has opted out of messages on %s: nothing can be sent there.", h.ContactName, h.ChannelKind)
}

// cancelUnwanted holds a queued message back when its contact has opted out meanwhile. What it answered counts as answered:
// there is nothing more to say.
func (h *held) cancelUnwanted(ctx context.Context, tx pgx.Tx, m *Message) error {
	switch err := h.canSend(ctx, tx); {
	case err == nil:
		return nil // it is not its turn
	case !errors.Is(err, ErrOptedOut):
		return err
	}
	return h.holdBack(ctx, tx, m)
}

// holdBack cancels a message that has not begun to go out, because of an opt-out. One that may have arrived at an earlier
// try becomes unknown.
func (h *held) holdBack(ctx context.Context, tx pgx.Tx, m *Message) error {
	if m.Unclear {
		return h.setStatus(ctx, tx, m, Unknown, "The contact had opted out before it was known whether the message arrived.")
	}
	return h.setStatus(ctx, tx, m, Cancelled, "The contact has opted out.")
}

// stopsOn are the sorts of channel on which a stop word alone is an opt-out, as those who carry such messages want it.
var stopsOn = map[string]bool{"whatsapp": true, "whatsappcloud": true, "sms": true}

var stopWords = map[string]bool{
	"STOP": true, "STOPALL": true, "STOP ALL": true, "UNSUBSCRIBE": true, "CANCEL": true, "END": true, "QUIT": true, "OPTOUT": true, "OPT OUT": true,
	"REVOKE": true, "STOPP": true, "ABMELDEN": true, "ABBESTELLEN": true, "ARRET": true, "ARRÊT": true, "DESABONNER": true, "DÉSABONNER": true,
	"BAJA": true, "PARAR": true, "CANCELAR": true, "ANNULLA": true, "DISISCRIVI": true, "AFMELDEN": true, "SAIR": true,
}

// StopWord reports whether a message is nothing but a word by which people opt out, in one of several languages. A word
// within a sentence is none: only who sends the word alone means it so.
func StopWord(text string) bool {
	if len(text) > 100 {
		return false
	}
	return stopWords[strings.ToUpper(strings.Join(strings.Fields(strings.Trim(strings.TrimSpace(text), ".!\"'")), " "))]
}

const (
	reachableSQL = `
	SELECT c.id FROM conversations c JOIN channels ch ON ch.org_id = c.org_id AND ch.id = c.channel_id
	WHERE c.org_id = @org AND c.contact_id = @contact AND c.merged_into IS NULL AND ch.kind = @kind ORDER BY c.id`

	notBegunSQL = `SELECT ` + messageColumns + ` FROM messages m
	WHERE m.org_id = @org AND m.conversation_id = @id AND m.status IN ('draft', 'queued', 'retry_wait') AND m.direction = 'outbound'
	ORDER BY m.seq FOR NO KEY UPDATE`
)

// SetConsent writes down what a contact has said about hearing from us on one sort of channel. When it is a denial, nothing
// that has not begun to go out there will: it is cancelled in this transaction, and none is stored or let out after it. It
// stays so until the contact has written again and a person grants it: before that it is Conflict. It needs contact:write.
func SetConsent(ctx context.Context, tx pgx.Tx, contact tandem.ID, c crm.Consent) (crm.Consent, error) {
	c, changed, err := crm.Contacts.SetConsent(ctx, tx, contact, c)
	if err != nil || !changed || c.State != crm.ConsentDenied {
		return c, err
	}
	return c, silence(ctx, tx, contact, c.Kind)
}

// silence holds back whatever has not begun to go out to the contact on channels of the kind. The contact is locked.
func silence(ctx context.Context, tx pgx.Tx, contact tandem.ID, kind string) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	rows, _ := tx.Query(ctx, reachableSQL, pgx.StrictNamedArgs{"org": a.Org, "contact": contact, "kind": kind}) // CollectRows tells its error
	convs, err := pgx.CollectRows(rows, pgx.RowTo[tandem.ID])
	if err != nil {
		return fmt.Errorf("find conversations of contact: %w", err)
	}
	for _, id := range convs {
		h, err := hold(ctx, tx, a.Org, id)
		if err != nil {
			return err
		}
		rows, _ := tx.Query(ctx, notBegunSQL, pgx.StrictNamedArgs{"org": a.Org, "id": id}) // CollectRows tells its error
		waiting, err := pgx.CollectRows(rows, pgx.RowToStructByName[messageRow])
		if err != nil {
			return fmt.Errorf("find messages that wait: %w", err)
		}
		for _, r := range waiting {
			m, err := r.message()
			if err != nil {
				return err
			}
			if err := h.holdBack(ctx, tx, &m); err != nil {
				return err
			}
		}
	}
	return nil
}

// MergeContacts is crm.Contacts.Merge; what the contact that stays may no longer be sent is held back in this transaction.
func MergeContacts(ctx context.Context, tx pgx.Tx, into tandem.ID, from []tandem.ID) (crm.Contact, []crm.Merge, error) {
	c, merges, err := crm.Contacts.Merge(ctx, tx, into, from)
	if err != nil {
		return c, merges, err
	}
	for _, consent := range c.Consents {
		if consent.State != crm.ConsentDenied {
			continue
		}
		if err := silence(ctx, tx, into, consent.Kind); err != nil {
			return c, merges, err
		}
	}
	return c, merges, nil
}
