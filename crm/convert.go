package crm

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
)

// Conversion is what shall come of a lead.
type Conversion struct {
	Account     tandem.ID // empty: AccountName and Domain say, or else what is known of the contact
	AccountName string
	Domain      string
	NoDeal      bool
	Deal        Deal // Name, Amount, BoardID, StageID and ExpectedClose; what is empty is as the lead has it
}

// Converted is what came of a lead.
type Converted struct {
	LeadID      tandem.ID  `json:"lead_id"`
	ContactID   tandem.ID  `json:"contact_id"`
	AccountID   *tandem.ID `json:"account_id" doc:"Null when no company is known."`
	AccountMade bool       `json:"account_made" doc:"Whether the account is new; else it was there already."`
	DealID      *tandem.ID `json:"deal_id" doc:"Null when none was wanted."`
	ConvertedAt time.Time  `json:"converted_at"`
}

// Convert makes of a lead what it has become: its contact works for an account, which is found or made; a deal begins, unless
// none is wanted; the lead is won, unless it is closed already. It emits lead.converted. Only a person may (Forbidden), with
// the permissions for all that changes. A lead is converted once: of any number of callers one does it, and the others get
// Conflict, which names the deal.
func (s leads) Convert(ctx context.Context, tx pgx.Tx, id tandem.ID, c Conversion) (out Converted, err error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return out, err
	}
	if byMachine(a) {
		return out, tandem.Errorf(tandem.Forbidden, "Only a person may convert a lead.")
	}
	l, contact, err := s.holdWithContact(ctx, tx, id) // the others wait here
	if err != nil {
		return out, err
	}
	if l.ConvertedAt != nil {
		return out, s.wasConverted(ctx, tx, l)
	}
	out.LeadID, out.ContactID = l.ID, contact.ID
	if out.AccountID, out.AccountMade, err = accountFor(ctx, tx, a, contact, c); err != nil {
		return out, err
	}
	if contact.AccountID == nil && out.AccountID != nil {
		raw, err := json.Marshal(map[string]any{"account_id": out.AccountID})
		if err != nil {
			return out, fmt.Errorf("convert lead: %w", err)
		}
		if _, err := Contacts.Set.Patch(ctx, tx, contact.ID, raw, nil); err != nil {
			return out, err
		}
	}
	if !c.NoDeal {
		d := c.Deal
		d.Name, d.LeadID, d.ContactID, d.AccountID = cmp.Or(clean(d.Name, 300), l.Title), &l.ID, &contact.ID, out.AccountID
		if d.Amount == nil {
			d.Amount = l.Value
		}
		if l.Assignee != nil {
			d.AssigneeID = &l.Assignee.ID
		}
		if d, err = Deals.Create(ctx, tx, d); err != nil {
			wrong := tandem.FieldErrors(err)
			if len(wrong) == 0 {
				return out, err
			}
			for i := range wrong {
				wrong[i].Field = "deal." + wrong[i].Field
			}
			return out, tandem.InvalidFields(wrong...)
		}
		out.DealID = &d.ID
	}
	if err := s.win(ctx, tx, a, l); err != nil {
		return out, err
	}
	const sqlConvert = `
UPDATE leads SET converted_at = now(), account_id = @account, deal_id = @deal, updated_at = now(), version = version + 1
WHERE org_id = @org AND id = @id AND converted_at IS NULL RETURNING converted_at`
	err = tx.QueryRow(ctx, sqlConvert, pgx.StrictNamedArgs{"org": a.Org, "id": id, "account": out.AccountID, "deal": out.DealID}).Scan(&out.ConvertedAt)
	if err != nil {
		return out, fmt.Errorf("convert lead: %w", err)
	}
	return out, emitLead(ctx, tx, id, "converted", a.Name+" converted the lead "+tandem.Clip(l.Title, 80),
		tandem.Change{Field: "account_id", New: out.AccountID}, tandem.Change{Field: "deal_id", New: out.DealID})
}

// holdWithContact locks a lead and its contact, the contact first, as whoever brings in a further message of it does.
func (s leads) holdWithContact(ctx context.Context, tx pgx.Tx, id tandem.ID) (l Lead, c Contact, err error) {
	if l, err = s.Load(ctx, tx, id, false); err != nil {
		return l, c, err
	}
	c, err = Contacts.Load(ctx, tx, l.ContactID, true)
	if tandem.KindOf(err) == tandem.NotFound {
		return l, c, tandem.Errorf(tandem.Conflict, "The contact of this lead is archived. Restore it first.")
	}
	if err != nil {
		return l, c, err
	}
	if l, err = s.Load(ctx, tx, id, true); err == nil && l.ContactID != c.ID {
		err = tandem.Errorf(tandem.Unavailable, "The lead changes too fast at this moment. Try again.")
	}
	return l, c, err
}

// wasConverted says what a lead has become.
func (s leads) wasConverted(ctx context.Context, tx pgx.Tx, l Lead) error {
	if l.DealID == nil {
		return tandem.Errorf(tandem.Conflict, "This lead was converted already, without a deal.")
	}
	const sqlDealName = `SELECT name FROM deals WHERE org_id = @org AND id = @id`
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	var name string
	if err := tx.QueryRow(ctx, sqlDealName, pgx.StrictNamedArgs{"org": a.Org, "id": *l.DealID}).Scan(&name); err != nil {
		return fmt.Errorf("find the lead's deal: %w", err)
	}
	return tandem.Errorf(tandem.Conflict, "This lead was converted already: it became the deal %s (%s).", name, *l.DealID)
}

// win moves an open lead to the first won stage of its board.
func (s leads) win(ctx context.Context, tx pgx.Tx, a tandem.Actor, l Lead) error {
	if l.Closed {
		return nil
	}
	const sqlWon = `
SELECT id FROM stages WHERE org_id = @org AND board_id = @board AND kind = 'won' AND archived_at IS NULL ORDER BY position LIMIT 1`
	var won tandem.ID
	err := tx.QueryRow(ctx, sqlWon, pgx.StrictNamedArgs{"org": a.Org, "board": l.BoardID}).Scan(&won)
	if pg.NoRows(err) {
		return tandem.Errorf(tandem.Conflict, "The board of this lead has no stage that is won. Add one, or close the lead first.")
	}
	if err != nil {
		return fmt.Errorf("find the won stage: %w", err)
	}
	_, err = s.Move(ctx, tx, l.ID, LeadMove{Stage: won})
	return err
}

// accountFor finds the account that a contact works for: the one that is named, or the contact's own, or the one of the domain,
// or the one of that name; else it makes one when a company is known.
func accountFor(ctx context.Context, tx pgx.Tx, a tandem.Actor, contact Contact, c Conversion) (id *tandem.ID, made bool, err error) {
	name, domain := clean(c.AccountName, 300), strings.ToLower(strings.TrimSpace(c.Domain))
	switch {
	case c.Account != "":
		account, err := Accounts.Load(ctx, tx, c.Account, false)
		if tandem.KindOf(err) == tandem.NotFound {
			return nil, false, tandem.InvalidFields(tandem.FieldError{Field: "account_id", Message: "There is no such account."})
		}
		return account.ID.Ptr(), false, err
	case domain != "" && !domainForm.MatchString(domain):
		return nil, false, tandem.InvalidFields(tandem.FieldError{Field: "domain", Message: "Write a domain such as example.com."})
	case name == "" && domain == "" && contact.AccountID != nil:
		return contact.AccountID, false, nil
	case name == "" && domain == "":
		name = clean(contact.Company, 300)
	}
	if domain == "" {
		domain = companyDomain(deref(contact.Email))
	}
	if id, err = knownAccount(ctx, tx, a, domain, name); err != nil || id != nil {
		return id, false, err
	}
	if name == "" && c.Domain != "" {
		name = domain
	}
	if name == "" {
		return nil, false, nil
	}
	account := Account{Name: name}
	if domain != "" {
		account.Domain = &domain
	}
	err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) (err error) {
		account, err = Accounts.Create(ctx, tx, account)
		return err
	})
	if tandem.KindOf(err) == tandem.Conflict { // somebody has just made the domain's account
		if id, err = knownAccount(ctx, tx, a, domain, name); err == nil && id == nil {
			err = tandem.Errorf(tandem.Unavailable, "The account changes too fast at this moment. Try again.")
		}
		return id, false, err
	}
	return account.ID.Ptr(), true, err
}

// knownAccount returns the account of a domain, or else the one of that name, whatever its case; nil when there is none.
func knownAccount(ctx context.Context, tx pgx.Tx, a tandem.Actor, domain, name string) (*tandem.ID, error) {
	const (
		sqlOfDomain = `SELECT id FROM accounts WHERE org_id = @org AND domain = @domain AND archived_at IS NULL`
		sqlOfName   = `SELECT id FROM accounts WHERE org_id = @org AND lower(name) = lower(@name) AND archived_at IS NULL ORDER BY id LIMIT 1`
	)
	var id tandem.ID
	if domain != "" {
		err := tx.QueryRow(ctx, sqlOfDomain, pgx.StrictNamedArgs{"org": a.Org, "domain": domain}).Scan(&id)
		if err == nil || !pg.NoRows(err) {
			return id.Ptr(), err
		}
	}
	if name == "" {
		return nil, nil
	}
	err := tx.QueryRow(ctx, sqlOfName, pgx.StrictNamedArgs{"org": a.Org, "name": name}).Scan(&id)
	if pg.NoRows(err) {
		return nil, nil
	}
	return id.Ptr(), err
}
