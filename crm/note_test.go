package crm_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/team"
)

// colleague adds another person to the organization.
func (h *hub) colleague(name string) (m team.Member) {
	h.t.Helper()
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) (err error) {
		m, err = team.AddHuman(ctx, tx, team.NewHuman{Name: name, Email: strings.ToLower(name) + "@example.com", Password: "correct horse battery", Role: team.Agent})
		return err
	})
	return m
}

type maker[T any] interface {
	New(raw json.RawMessage) (T, error)
	Create(ctx context.Context, tx pgx.Tx, v T) (T, error)
}

// add makes a record of r as the person.
func add[T any](h *hub, r maker[T], body string) (v T, err error) {
	h.t.Helper()
	err = h.try(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
		if v, err = r.New([]byte(body)); err == nil {
			v, err = r.Create(ctx, tx, v)
		}
		return err
	})
	return v, err
}

func TestNotesBelongToTheirAuthor(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	lead, _ := h.lead(crm.NewLead{Contact: h.contact("ada@example.com", "Ada").ID})
	grace, other := h.colleague("Grace"), addOrg(t, h.db, "other")
	about := `{"lead_id":"` + string(lead.ID) + `",`
	n, err := add(h, crm.Notes, about+`"body":" She **knows** engines. ","mentions":["`+string(grace.ID)+`","`+string(grace.ID)+`"]}`)
	if err != nil {
		t.Fatal(err)
	}
	if n.Body != "She **knows** engines." || tandem.Deref(n.AuthorID) != h.sam.ID || len(n.Mentions) != 1 || n.Mentions[0] != grace.ID || n.Pinned {
		t.Errorf("note %+v", n)
	}
	// The event belongs to the lead, names who is mentioned and repeats no words.
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) error {
		var changes string
		err := tx.QueryRow(ctx, `SELECT changes::text FROM events WHERE noun = 'note' AND verb = 'created' AND record_id = $1 AND lead_id = $2`, n.ID, lead.ID).Scan(&changes)
		if !strings.Contains(changes, string(grace.ID)) || strings.Contains(changes, "engines") {
			t.Errorf("changes %s", changes)
		}
		return err
	})
	patch := func(ctx context.Context, body string) error {
		return h.try(ctx, func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Notes.Patch(ctx, tx, n.ID, []byte(body), nil)
			return err
		})
	}
	if err := patch(h.human, `{"body":"She builds engines."}`); err != nil {
		t.Error(err)
	}
	want(t, patch(h.as(grace.ID), `{"body":"Mine now"}`), tandem.Forbidden, "another's words")
	want(t, patch(h.as(grace.ID), `{"pinned":true,"mentions":[]}`), tandem.Forbidden, "another's mentions")
	if err := patch(h.as(grace.ID), `{"pinned":true}`); err != nil {
		t.Errorf("pin another's note: %v", err)
	}
	want(t, patch(h.human, `{"author_id":"`+string(grace.ID)+`"}`), tandem.Invalid, "another author")
	want(t, patch(h.human, `{"mentions":"all"}`), tandem.Invalid, "mentions that are no list")
	for name, body := range map[string]string{
		"two records": about + `"contact_id":"` + string(lead.ContactID) + `","body":"x"}`, "no record": `{"body":"x"}`, "no words": about + `"body":" "}`,
		"too many words": about + `"body":"` + strings.Repeat("x", 50_001) + `"}`, "an author": about + `"body":"x","author_id":"` + string(grace.ID) + `"}`,
		"a stranger": about + `"body":"x","mentions":["` + string(other.sam.ID) + `"]}`, "nobody": about + `"body":"x","mentions":["me"]}`,
		"no lead": `{"lead_id":"` + string(tandem.NewID()) + `","body":"x"}`, "another's lead": `{"account_id":"` + string(other.org.ID) + `","body":"x"}`, "no id": `{"contact_id":"x","body":"x"}`,
	} {
		_, err := add(h, crm.Notes, body)
		want(t, err, tandem.Invalid, name)
	}
	if n, err := add(h, crm.Notes, `{"contact_id":"`+string(lead.ContactID)+`","body":"Of the contact"}`); err != nil || n.LeadID != nil {
		t.Errorf("a contact's note: %+v, %v", n, err)
	}
	for filter, want := range map[string]int{"lead_id=" + string(lead.ID): 1, "pinned=true": 1, "author_id=" + string(h.sam.ID): 2, "author_id=" + string(grace.ID): 0} {
		field, value, _ := strings.Cut(filter, "=")
		h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error {
			p, err := crm.Notes.List(ctx, tx, tandem.Query{Filter: map[string]string{field: value}})
			if len(p.Items) != want {
				t.Errorf("%s: %d notes, want %d", filter, len(p.Items), want)
			}
			return err
		})
	}
}

// A note is shown as safe HTML, and whoever is newly mentioned is told of once.
func TestNotesAreShownAndMention(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	contact := h.contact("ada@example.com", "Ada")
	grace, joan := h.colleague("Grace"), h.colleague("Joan")
	n, err := add(h, crm.Notes, `{"contact_id":"`+string(contact.ID)+`","body":"**Yes** <script>alert(1)</script>","mentions":["`+string(grace.ID)+`"]}`)
	if err != nil {
		t.Fatal(err)
	}
	if n.Body != "**Yes** <script>alert(1)</script>" || n.HTML != "<p><strong>Yes</strong> alert(1)</p>\n" {
		t.Errorf("a note %q as HTML: %q", n.Body, n.HTML)
	}
	for _, c := range []struct{ body, html string }{
		{`{"body":"# Plan"}`, "<h1>Plan</h1>\n"},
		{`{"pinned":true}`, "<h1>Plan</h1>\n"},
		{`{"mentions":["` + string(grace.ID) + `","` + string(joan.ID) + `"]}`, "<h1>Plan</h1>\n"},
		{`{"mentions":["` + string(joan.ID) + `"]}`, "<h1>Plan</h1>\n"},
	} {
		h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error {
			got, err := crm.Notes.Patch(ctx, tx, n.ID, []byte(c.body), nil)
			if got.HTML != c.html {
				t.Errorf("after %s the HTML is %q", c.body, got.HTML)
			}
			return err
		})
	}
	// One that is older than the HTML is shown as well.
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE notes SET html = NULL WHERE id = $1", n.ID)
		return err
	})
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error {
		one, err := crm.Notes.Get(ctx, tx, n.ID)
		if err != nil {
			return err
		}
		p, err := crm.Notes.List(ctx, tx, tandem.Query{})
		if one.HTML != "<h1>Plan</h1>\n" || len(p.Items) != 1 || p.Items[0].HTML != one.HTML {
			t.Errorf("an old note as HTML: %q, %+v", one.HTML, p.Items)
		}
		return err
	})
	for _, m := range []struct {
		id   tandem.ID
		want int
	}{{grace.ID, 1}, {joan.ID, 1}, {h.sam.ID, 0}} {
		if got := h.count("SELECT count(*) FROM events WHERE noun = 'note' AND verb = 'mentioned' AND record_id = $1 AND changes->0->>'new' = $2", n.ID, m.id); got != m.want {
			t.Errorf("%s was mentioned %d times, want %d", m.id, got, m.want)
		}
	}
}
