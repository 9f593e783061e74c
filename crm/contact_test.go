package crm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
)

func TestOneContactForOneAddressHoweverManyAsk(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	var created atomic.Int32
	ids := make([]tandem.ID, 32)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			<-start
			err := h.try(h.sys, func(ctx context.Context, tx pgx.Tx) error {
				spelling := []string{"sara@example.com", "Sara@Example.com", " SARA@EXAMPLE.COM "}[i%3]
				c, made, err := crm.Resolve(ctx, tx, crm.Identity{Kind: "email", Value: spelling}, crm.ContactFacts{
					Name: "Sara Weber", Phone: fmt.Sprintf("+49 40 1234%02d", i%4),
				})
				ids[i] = c.ID
				if made {
					created.Add(1)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("two contacts: %s and %s", ids[0], id)
		}
	}
	if n := h.count("SELECT count(*) FROM contacts"); n != 1 || created.Load() != 1 {
		t.Errorf("%d contacts, %d callers were told that they made one; want 1 and 1", n, created.Load())
	}
	if n := h.count("SELECT count(*) FROM events WHERE noun = 'contact' AND verb = 'created'"); n != 1 {
		t.Errorf("%d contact.created events, want 1", n)
	}
	t.Logf("32 callers at once: %d contact, %d identities", h.count("SELECT count(*) FROM contacts"), h.count("SELECT count(*) FROM contact_identities"))
}

func TestResolveFillsBlanksAndStealsNothing(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	resolve := func(in crm.Identity, f crm.ContactFacts) (c crm.Contact, made bool) {
		t.Helper()
		h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) (err error) {
			c, made, err = crm.Resolve(ctx, tx, in, f)
			return err
		})
		return c, made
	}
	a, made := resolve(crm.Identity{Kind: "email", Value: "a@example.com"}, crm.ContactFacts{})
	if !made || a.Name != "a@example.com" || a.FirstName != "" {
		t.Fatalf("a contact without a name: %+v", a)
	}
	a2, made := resolve(crm.Identity{Kind: "email", Value: "A@example.com"}, crm.ContactFacts{Name: "Dr. Anna von Berg", Phone: "040 123456", Company: "Berg GmbH"})
	if made || a2.ID != a.ID || a2.Name != "Dr. Anna von Berg" || a2.FirstName != "Anna" || a2.LastName != "von Berg" || a2.Company != "Berg GmbH" {
		t.Errorf("blanks not filled: %+v", a2)
	}
	if a2.Phone == nil || *a2.Phone != "+4940123456" {
		t.Errorf("phone %v, want +4940123456 by the organization's region", a2.Phone)
	}
	a3, _ := resolve(crm.Identity{Kind: "email", Value: "a@example.com"}, crm.ContactFacts{Name: "Somebody Else", Company: "Other"})
	if a3.Name != a2.Name || a3.Company != a2.Company || a3.Version != a2.Version {
		t.Errorf("filled fields changed: %+v", a3)
	}
	// The phone number is an identity now: it leads to the same contact.
	if p, made := resolve(crm.Identity{Kind: "phone", Value: "+49 40 123456"}, crm.ContactFacts{}); made || p.ID != a.ID {
		t.Errorf("by phone: %s, made %v; want %s", p.ID, made, a.ID)
	}
	// Another contact that claims a's phone number stays another contact and does not get it.
	b, _ := resolve(crm.Identity{Kind: "email", Value: "b@example.com"}, crm.ContactFacts{Name: "Bo"})
	if b2, _ := resolve(crm.Identity{Kind: "email", Value: "b@example.com"}, crm.ContactFacts{Phone: "+4940123456"}); b2.ID != b.ID {
		t.Errorf("b became %s", b2.ID)
	}
	if p, _ := resolve(crm.Identity{Kind: "phone", Value: "+4940123456"}, crm.ContactFacts{}); p.ID != a.ID {
		t.Error("the phone number was stolen")
	}
	// A web visitor may claim anything: the claim identifies nobody.
	v, made := resolve(crm.Identity{Kind: "visitor", Scope: "ch", Value: "v1"}, crm.ContactFacts{Name: "Anna", Email: "a@example.com"})
	if !made || v.ID == a.ID {
		t.Error("a visitor who typed a known address got that contact")
	}
	if w, made := resolve(crm.Identity{Kind: "visitor", Scope: "other", Value: "v1"}, crm.ContactFacts{}); !made || w.ID == v.ID {
		t.Error("a visitor of another channel is the same contact")
	}
	// A number that is none is kept for people and never an identity.
	n, _ := resolve(crm.Identity{Kind: "email", Value: "n@example.com"}, crm.ContactFacts{Name: "Ned\x00 Nul", Phone: "call me"})
	if n.Phone != nil || n.Custom["phone_as_given"] != "call me" || n.Name != "Ned Nul" {
		t.Errorf("unreadable phone: %+v", n)
	}
	for _, bad := range []crm.Identity{{Kind: "email", Value: "no address"}, {Kind: "phone", Value: "12"}, {Kind: "visitor"}, {Kind: "email", Value: "A <a@example.com>"}} {
		err := h.try(h.sys, func(ctx context.Context, tx pgx.Tx) error {
			_, _, err := crm.Resolve(ctx, tx, bad, crm.ContactFacts{})
			return err
		})
		want(t, err, tandem.Invalid, fmt.Sprintf("%+v", bad))
	}
	var whole crm.Contact
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
		whole, err = crm.Contacts.Get(ctx, tx, a.ID)
		return err
	})
	if len(whole.Identities) != 2 {
		t.Errorf("identities %v, want e-mail and phone", whole.Identities)
	}
}

func TestSplitName(t *testing.T) {
	t.Parallel()
	for name, w := range map[string][2]string{
		"Sara Weber": {"Sara", "Weber"}, "  Sara   Weber ": {"Sara", "Weber"}, "Sara": {"Sara", ""}, "": {"", ""},
		"Weber, Sara": {"Sara", "Weber"}, "Ludwig van Beethoven": {"Ludwig", "van Beethoven"},
		"Dr. Anna Maria de la Cruz": {"Anna Maria", "de la Cruz"}, "Mary Ann Smith": {"Mary Ann", "Smith"},
		"Prof. Dr. Müller": {"Müller", ""}, "Dr.": {"Dr.", ""}, "李 小龙": {"李", "小龙"}, "Acme, Inc., Berlin": {"Acme, Inc.,", "Berlin"},
	} {
		if f, l := crm.SplitName(name); f != w[0] || l != w[1] {
			t.Errorf("SplitName(%q) = %q, %q; want %q, %q", name, f, l, w[0], w[1])
		}
	}
}

func TestContactsArePatchedWithVersionAndPermission(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	c := h.contact("sara@example.com", "Sara Weber")
	other := h.contact("bo@example.com", "Bo")
	h.define(`{"record_type":"contact","key":"seats","label":"Seats","type":"number"}`)
	patch := func(ctx context.Context, id tandem.ID, body string, version *int64) (got crm.Contact, err error) {
		err = h.try(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
			got, err = crm.Contacts.Patch(ctx, tx, id, json.RawMessage(body), version)
			return err
		})
		return got, err
	}
	got, err := patch(h.human, c.ID, `{"company":"Weber AG","tags":["vip","VIP",""],"custom":{"seats":12}}`, &c.Version)
	if err != nil || got.Company != "Weber AG" || got.Version != c.Version+1 || len(got.Tags) != 1 || got.Custom["seats"] != float64(12) {
		t.Fatalf("%+v, %v", got, err)
	}
	_, err = patch(h.human, c.ID, `{"company":"X"}`, &c.Version)
	want(t, err, tandem.Conflict, "an old version")
	if same, err := patch(h.human, c.ID, `{"company":"Weber AG"}`, nil); err != nil || same.Version != got.Version {
		t.Errorf("a patch that changes nothing: version %d, %v", same.Version, err)
	}
	_, err = patch(h.ai, c.ID, `{"company":"X"}`, nil)
	want(t, err, tandem.Forbidden, "an AI member without contact:write")
	for _, body := range []string{`{"org_id":"x"}`, `{"id":"x"}`, `{"version":9}`, `{"created_at":"2020-01-01T00:00:00Z"}`, `{"nope":1}`, `{"name":""}`, `{"name":5}`, `{"email":"no"}`, `{"phone":"12"}`, `[]`, `null`, `{`, `{"company":"a\u0000b"}`, `{"custom":{"a":"\u0000"}}`} {
		_, err = patch(h.human, c.ID, body, nil)
		want(t, err, tandem.Invalid, body)
	}
	_, err = patch(h.human, c.ID, `{"email":"bo@example.com"}`, nil)
	want(t, err, tandem.Conflict, "another contact's e-mail address")
	if e, err := patch(h.human, c.ID, `{"email":"S.Weber@Example.com"}`, nil); err != nil || *e.Email != "s.weber@example.com" {
		t.Errorf("%+v, %v", e, err)
	}
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error { return crm.Contacts.Archive(ctx, tx, other.ID, nil) })
	_, err = patch(h.human, other.ID, `{"company":"X"}`, nil)
	want(t, err, tandem.NotFound, "an archived contact")
	for _, id := range []tandem.ID{"", "x", "'; DROP TABLE contacts; --", tandem.NewID()} {
		_, err = patch(h.human, id, `{"company":"X"}`, nil)
		want(t, err, tandem.NotFound, "id "+string(id))
	}
	var changes []tandem.Change
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, "SELECT changes FROM events WHERE verb = 'updated' AND record_id = $1 ORDER BY seq LIMIT 1", c.ID).Scan(&changes)
	})
	if len(changes) != 3 || changes[0].Field != "company" || changes[0].Old != "" || changes[0].New != "Weber AG" {
		t.Errorf("changes %+v", changes)
	}
}

func TestForeignRecordsAreNotFound(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	mine := h.contact("sara@example.com", "Sara")
	lead, _ := h.lead(crm.NewLead{Contact: mine.ID})
	o := addOrg(t, h.db, "other")
	for name, fn := range map[string]func(ctx context.Context, tx pgx.Tx) error{
		"get contact": func(ctx context.Context, tx pgx.Tx) error { _, err := crm.Contacts.Get(ctx, tx, mine.ID); return err },
		"patch contact": func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Contacts.Patch(ctx, tx, mine.ID, json.RawMessage(`{"name":"x"}`), nil)
			return err
		},
		"archive contact": func(ctx context.Context, tx pgx.Tx) error { return crm.Contacts.Archive(ctx, tx, mine.ID, nil) },
		"get lead":        func(ctx context.Context, tx pgx.Tx) error { _, err := crm.Leads.Get(ctx, tx, lead.ID); return err },
		"move lead": func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Leads.Move(ctx, tx, lead.ID, crm.LeadMove{Stage: o.board.Stages[1].ID})
			return err
		},
		"qualify lead": func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Leads.SetQualification(ctx, tx, lead.ID, crm.Qualification{Field: "need", Value: "x", Confidence: 1})
			return err
		},
		"get board": func(ctx context.Context, tx pgx.Tx) error { _, err := crm.Boards.Get(ctx, tx, h.board.ID); return err },
		"get stage": func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Stages.Get(ctx, tx, h.board.Stages[0].ID)
			return err
		},
		"open lead for a foreign contact": func(ctx context.Context, tx pgx.Tx) error {
			_, _, err := crm.Leads.OpenOrFind(ctx, tx, crm.NewLead{Contact: mine.ID})
			return err
		},
	} {
		want(t, o.try(o.human, fn), tandem.NotFound, name)
	}
	err := o.try(o.human, func(ctx context.Context, tx pgx.Tx) error {
		c, _, err := crm.Resolve(ctx, tx, crm.Identity{Kind: "email", Value: "sara@example.com"}, crm.ContactFacts{})
		if err == nil && c.ID == mine.ID {
			return errors.New("resolved to another organization's contact")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	var page tandem.Page[crm.Lead]
	o.tx(o.human, func(ctx context.Context, tx pgx.Tx) (err error) {
		page, err = crm.Leads.List(ctx, tx, tandem.Query{})
		return err
	})
	if len(page.Items) != 0 {
		t.Errorf("the list shows %d foreign leads", len(page.Items))
	}
	err = h.db.Tx(t.Context(), func(ctx context.Context, tx pgx.Tx) error { _, err := crm.Contacts.Get(ctx, tx, mine.ID); return err })
	want(t, err, tandem.Unauthenticated, "no actor")
}
