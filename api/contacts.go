package api

import (
	"context"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/inbox"
)

// identityShape is an address by which somebody is to be known.
type identityShape struct {
	Kind     string `json:"kind" enum:"email,phone,whatsapp,visitor,external"`
	Scope    string `json:"scope,omitempty" maxLength:"64" doc:"The id of the channel that knows the value: needed for a visitor, possible for external."`
	Value    string `json:"value" minLength:"1" maxLength:"320"`
	Evidence string `json:"evidence,omitempty" maxLength:"200" doc:"What makes you believe it."`
}

func (i identityShape) identity() crm.Identity {
	return crm.Identity{Kind: i.Kind, Scope: i.Scope, Value: i.Value, Evidence: i.Evidence}
}

type identityInput struct {
	ByID
	Body identityShape
}

type oneIdentityInput struct {
	ByID
	Identity string `path:"identity" maxLength:"64" doc:"The identity's id."`
}

type findInput struct {
	Body struct {
		Name       string          `json:"name,omitempty" maxLength:"300"`
		FirstName  string          `json:"first_name,omitempty" maxLength:"150"`
		LastName   string          `json:"last_name,omitempty" maxLength:"150"`
		Email      string          `json:"email,omitempty" maxLength:"254"`
		Phone      string          `json:"phone,omitempty" maxLength:"60"`
		Company    string          `json:"company,omitempty" maxLength:"300"`
		Identities []identityShape `json:"identities,omitempty" maxItems:"20" doc:"Further addresses to look for; email and phone are looked for, too. At least one is needed."`
	}
}

func (in *findInput) wanted() crm.Wanted {
	b := in.Body
	w := crm.Wanted{Facts: crm.ContactFacts{Name: b.Name, FirstName: b.FirstName, LastName: b.LastName, Email: b.Email, Phone: b.Phone, Company: b.Company}}
	for _, i := range b.Identities {
		w.Identities = append(w.Identities, i.identity())
	}
	return w
}

type foundOutput struct {
	Status int
	Body   crm.Contact
}

type contactMergeInput struct {
	ByID
	Body struct {
		FromID  string   `json:"from_id,omitempty" maxLength:"64" doc:"The contact that becomes a part of this one."`
		FromIDs []string `json:"from_ids,omitempty" maxItems:"10" doc:"Or several of them."`
	}
}

func (in *contactMergeInput) from() []tandem.ID {
	var ids []tandem.ID
	if in.Body.FromID != "" {
		ids = append(ids, tandem.ID(in.Body.FromID))
	}
	for _, id := range in.Body.FromIDs {
		ids = append(ids, tandem.ID(id))
	}
	return ids
}

type mergedContact struct {
	Contact crm.Contact `json:"contact"`
	Merges  []crm.Merge `json:"merges" nullable:"false" doc:"One for each contact that became a part of it; splitting needs its id."`
}

type contactSplitInput struct {
	ByID
	Body struct {
		MergeID string `json:"merge_id" maxLength:"64"`
	}
}

type consentInput struct {
	ByID
	Kind string `path:"kind" maxLength:"40" doc:"A sort of channel such as email, whatsapp, webchat or webhook, or one without channels such as phone."`
	Body struct {
		State    string `json:"state" enum:"unknown,granted,denied"`
		Source   string `json:"source,omitempty" maxLength:"200" doc:"Where it was said."`
		Evidence string `json:"evidence,omitempty" maxLength:"2000" doc:"The words, or where they can be seen."`
		Note     string `json:"note,omitempty" maxLength:"2000"`
	}
}

// contactRoutes are what a contact can do besides what every record can.
func (s *server) contactRoutes() {
	const root, one = "/contacts", "/contacts/{id}"

	read(s, route{method: http.MethodGet, path: one + "/identities", permission: "contact:read", summary: "List the ways in which a contact is recognized"},
		func(ctx context.Context, tx pgx.Tx, in *ByID) (tandem.Page[crm.Recognized], error) {
			return pageOf(*in, func(id tandem.ID) ([]crm.Recognized, error) { return crm.Contacts.Identities(ctx, tx, id) })
		})
	write(s, route{method: http.MethodPost, path: one + "/identities", permission: "contact:write", summary: "Make a contact known by one more address", status: http.StatusCreated},
		func(ctx context.Context, tx pgx.Tx, in *identityInput) (crm.Recognized, error) {
			return onID(in.ByID, func(id tandem.ID) (crm.Recognized, error) {
				return crm.Contacts.AddIdentity(ctx, tx, id, in.Body.identity())
			})
		})
	act(s, route{method: http.MethodDelete, path: one + "/identities/{identity}", permission: "contact:write", summary: "Make a contact no longer known by an address"},
		func(ctx context.Context, tx pgx.Tx, in *oneIdentityInput) error {
			_, err := onID(in.ByID, func(id tandem.ID) (struct{}, error) {
				return struct{}{}, crm.Contacts.RemoveIdentity(ctx, tx, id, tandem.ID(in.Identity))
			})
			return err
		})

	op := s.operation(route{method: http.MethodPost, path: root + "/find-or-create", permission: "contact:write", summary: "Find a contact by its addresses, or add it", status: http.StatusCreated})
	op.Responses = map[string]*huma.Response{"200": {
		Description: "It was there; what it lacked is filled in.",
		Content:     map[string]*huma.MediaType{"application/json": {Schema: s.schema(reflect.TypeFor[crm.Contact]())}},
	}}
	huma.Register(s.huma, op, func(ctx context.Context, in *findInput) (*foundOutput, error) {
		out, err := s.findOrCreate(ctx, in)
		if err != nil {
			p := problemOf(ctx, err)
			logFailure(ctx, s.log, p, err)
			return nil, p
		}
		return out, nil
	})

	write(s, route{method: http.MethodPost, path: one + "/merge", permission: "contact:write", summary: "Make contacts a part of this one"},
		func(ctx context.Context, tx pgx.Tx, in *contactMergeInput) (mergedContact, error) {
			return onID(in.ByID, func(id tandem.ID) (out mergedContact, err error) {
				out.Contact, out.Merges, err = inbox.MergeContacts(ctx, tx, id, in.from())
				return out, err
			})
		})
	read(s, route{method: http.MethodGet, path: one + "/merges", permission: "contact:read", summary: "List what became a part of a contact, the latest first"},
		func(ctx context.Context, tx pgx.Tx, in *ByID) (tandem.Page[crm.Merge], error) {
			return pageOf(*in, func(id tandem.ID) ([]crm.Merge, error) { return crm.Contacts.Merges(ctx, tx, id) })
		})
	write(s, route{method: http.MethodPost, path: one + "/split", permission: "contact:write", summary: "Undo a merge"},
		func(ctx context.Context, tx pgx.Tx, in *contactSplitInput) (crm.Split, error) {
			return onID(in.ByID, func(id tandem.ID) (crm.Split, error) {
				return crm.Contacts.Split(ctx, tx, id, tandem.ID(in.Body.MergeID))
			})
		})

	read(s, route{method: http.MethodGet, path: one + "/consents", permission: "contact:read", summary: "List what a contact has said about hearing from us"},
		func(ctx context.Context, tx pgx.Tx, in *ByID) (tandem.Page[crm.Consent], error) {
			return pageOf(*in, func(id tandem.ID) ([]crm.Consent, error) { return crm.Contacts.Consents(ctx, tx, id) })
		})
	write(s, route{method: http.MethodPut, path: one + "/consents/{kind}", permission: "contact:write", summary: "Write down what a contact has said about one sort of channel; denied holds back all that waits to be sent there"},
		func(ctx context.Context, tx pgx.Tx, in *consentInput) (crm.Consent, error) {
			return onID(in.ByID, func(id tandem.ID) (crm.Consent, error) {
				b := in.Body
				return inbox.SetConsent(ctx, tx, id, crm.Consent{Kind: in.Kind, State: b.State, Source: b.Source, Evidence: b.Evidence, Note: b.Note})
			})
		})
}

// findOrCreate answers 200 for a contact that was there and 201 for one that was not.
func (s *server) findOrCreate(ctx context.Context, in *findInput) (*foundOutput, error) {
	var out foundOutput
	err := s.DB.Tx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		out, err = once(ctx, tx, in, func() (foundOutput, error) {
			c, made, err := crm.Contacts.FindOrCreate(ctx, tx, in.wanted())
			if made {
				return foundOutput{http.StatusCreated, c}, err
			}
			return foundOutput{http.StatusOK, c}, err
		})
		return err
	})
	return &out, err
}

// pageOf is a list that is whole on its first page.
func pageOf[T any](in ByID, list func(id tandem.ID) ([]T, error)) (tandem.Page[T], error) {
	items, err := onID(in, list)
	if items == nil {
		items = []T{}
	}
	return tandem.Page[T]{Items: items}, err
}
