package crm

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

const maxWanted = 20 // identities of one question

// Wanted is somebody who is to be found, or made when nobody is found.
type Wanted struct {
	Facts      ContactFacts
	Identities []Identity // with the e-mail address and the phone number of Facts, at least one
}

// FindOrCreate returns the contact that has one of the identities, or makes one that has all of them, and says which: of any
// number of callers at once, one makes it. What a found contact lacks is filled in, and it is known by all of the identities
// afterwards. Identities of several contacts are Conflict and name these: which of them are one is a person's decision.
func (s contacts) FindOrCreate(ctx context.Context, tx pgx.Tx, in Wanted) (Contact, bool, error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return Contact{}, false, err
	}
	ids, k, err := s.wanted(ctx, tx, a.Org, in)
	if err != nil {
		return Contact{}, false, err
	}
	account, err := employer(ctx, tx, a.Org, k.email)
	if err != nil {
		return Contact{}, false, err
	}
	first := ids[0]
	for range maxRaces {
		who, missing, err := haveThem(ctx, tx, a.Org, ids)
		switch {
		case err != nil:
			return Contact{}, false, err
		case len(who) > 1:
			return Contact{}, false, severalOwners(ctx, tx, a.Org, who)
		case len(who) == 0:
			c, made, err := create(ctx, tx, a, first, k, ids, account)
			if err != nil || made {
				return c, made, err
			}
			continue
		}
		c, err := fill(ctx, tx, a, who[0], first, k, missing)
		if err != nil || len(missing) == 0 {
			return c, false, err
		}
		// Whoever was faster with one of the missing ones may have given it to somebody else.
		if who, _, err = haveThem(ctx, tx, a.Org, ids); err != nil {
			return c, false, err
		}
		if len(who) > 1 {
			return c, false, severalOwners(ctx, tx, a.Org, who)
		}
		changes := make([]tandem.Change, len(missing))
		for i, m := range missing {
			changes[i] = tandem.Change{Field: m.Kind, New: m.Value}
		}
		return c, false, emitContact(ctx, tx, c.ID, "identity_added", a.Name+" added an address of "+c.Name, changes...)
	}
	return Contact{}, false, tooFast()
}

// wanted is what to look for, each once and in the order in which everybody inserts identities, and the facts in their one spelling.
func (s contacts) wanted(ctx context.Context, tx pgx.Tx, org tandem.ID, in Wanted) ([]Identity, known, error) {
	region, err := setting(ctx, tx, org, "region")
	if err != nil {
		return nil, known{}, err
	}
	k := in.Facts.clean(region)
	var wrong []tandem.FieldError
	if in.Facts.Email != "" && k.email == "" {
		wrong = append(wrong, tandem.FieldError{Field: "email", Message: identityKinds["email"]})
	}
	if k.rawPhone != "" {
		wrong = append(wrong, tandem.FieldError{Field: "phone", Message: identityKinds["phone"]})
	}
	if len(in.Identities) > maxWanted {
		wrong = append(wrong, tandem.FieldError{Field: "identities", Message: "There may be at most 20 identities."})
		in.Identities = nil
	}
	var ids []Identity
	for i, one := range in.Identities {
		if one.Kind == "visitor" { // a browser that anybody may use, and that says nothing outside of its chat
			wrong = append(wrong, tandem.FieldError{Field: fmt.Sprintf("identities.%d.kind", i), Message: "Choose email, phone, whatsapp or external."})
			continue
		}
		got, err := s.told(ctx, tx, org, one)
		if err != nil && len(tandem.FieldErrors(err)) == 0 {
			return nil, k, err
		}
		for _, f := range tandem.FieldErrors(err) {
			wrong = append(wrong, tandem.FieldError{Field: fmt.Sprintf("identities.%d.%s", i, f.Field), Message: f.Message})
		}
		ids = append(ids, got)
	}
	if len(wrong) > 0 {
		return nil, k, tandem.InvalidFields(wrong...)
	}
	for _, i := range ids { // an address is a fact, too
		switch {
		case i.Kind == "email" && k.email == "":
			k.email = i.Value
		case (i.Kind == "phone" || i.Kind == "whatsapp") && k.phone == "":
			k.phone = i.Value
		}
	}
	for _, more := range []Identity{{Kind: "email", Value: k.email}, {Kind: "phone", Value: k.phone}} {
		if more.Evidence = byMember; more.Value != "" {
			ids = append(ids, more)
		}
	}
	if len(ids) == 0 {
		return nil, k, tandem.InvalidFields(tandem.FieldError{Field: "identities", Message: "Name at least one address to look for."})
	}
	slices.SortStableFunc(ids, inOrder)
	ids = slices.CompactFunc(ids, func(x, y Identity) bool { return inOrder(x, y) == 0 })
	return ids, k, nil
}

// haveThem lists the contacts that have one of the identities, and the identities that nobody has.
func haveThem(ctx context.Context, tx pgx.Tx, org tandem.ID, ids []Identity) (who []tandem.ID, missing []Identity, err error) {
	of, err := owners(ctx, tx, org, ids)
	if err != nil {
		return nil, nil, err
	}
	for _, i := range ids {
		if owner := of[i.key()]; owner == "" {
			missing = append(missing, i)
		} else if !slices.Contains(who, owner) {
			who = append(who, owner)
		}
	}
	return who, missing, nil
}

func severalOwners(ctx context.Context, tx pgx.Tx, org tandem.ID, who []tandem.ID) error {
	names, err := namesOf(ctx, tx, org, who)
	if err != nil {
		return err
	}
	return tandem.Errorf(tandem.Conflict, "These addresses belong to different contacts: %s. Merge them if they are one.", names)
}
