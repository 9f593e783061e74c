package crm_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/team"
)

// stored is a file as the API has stored it, expected by the actor of ctx.
func (h *hub) stored(ctx context.Context, name string) (f crm.File) {
	h.t.Helper()
	h.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, blob, err := crm.Documents.Expect(ctx, tx, "")
		f = crm.File{Blob: blob, Name: name, Type: "text/plain", Size: 5, SHA256: strings.Repeat("0a", 32)}
		return err
	})
	return f
}

// person adds a member with a role.
func (h *hub) person(name, role string) context.Context {
	h.t.Helper()
	var m team.Member
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) (err error) {
		m, err = team.AddHuman(ctx, tx, team.NewHuman{Name: name, Email: name + "@example.com", Password: "another long password", Role: role})
		return err
	})
	return h.as(m.ID)
}

// said is all that the facts of a record say.
func (h *hub) said(id tandem.ID) (all string) {
	h.t.Helper()
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT string_agg(description || ' ' || changes::text, E'\n') FROM events WHERE org_id = @org AND record_id = @id`,
			pgx.StrictNamedArgs{"org": h.org.ID, "id": id}).Scan(&all)
	})
	return all
}

func TestPrivateDocuments(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	kim, lee, ann := h.person("kim", team.Agent), h.person("lee", team.Agent), h.person("ann", team.Admin)
	var account crm.Account
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
		account, err = crm.Accounts.Create(ctx, tx, crm.Account{Name: "Engines"})
		return err
	})
	f := h.stored(kim, "salary.txt")
	var d crm.Document
	h.tx(kim, func(ctx context.Context, tx pgx.Tx) (err error) {
		d, err = crm.Documents.Add(ctx, tx, crm.Document{Name: "Salaries", AccountID: &account.ID, Access: "private"}, f)
		return err
	})
	sees := func(who context.Context) bool {
		var p tandem.Page[crm.Document]
		h.tx(who, func(ctx context.Context, tx pgx.Tx) (err error) {
			p, err = crm.Documents.List(ctx, tx, tandem.Query{})
			return err
		})
		return len(p.Items) == 1
	}
	try := func(who context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error { return h.try(who, fn) }
	patch := func(who context.Context, raw string) error {
		return try(who, func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Documents.Patch(ctx, tx, d.ID, json.RawMessage(raw), nil)
			return err
		})
	}
	if !sees(kim) || !sees(ann) || !sees(h.human) || sees(lee) {
		t.Errorf("seen by its owner %v, an admin %v, the owner %v, a colleague %v", sees(kim), sees(ann), sees(h.human), sees(lee))
	}
	for what, fn := range map[string]func(ctx context.Context, tx pgx.Tx) error{
		"content": func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Documents.Content(ctx, tx, d.ID, 1)
			return err
		},
		"versions": func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Documents.Versions(ctx, tx, d.ID, tandem.Query{})
			return err
		},
		"expect": func(ctx context.Context, tx pgx.Tx) error {
			_, _, err := crm.Documents.Expect(ctx, tx, d.ID)
			return err
		},
		"archive": func(ctx context.Context, tx pgx.Tx) error { return crm.Documents.Archive(ctx, tx, d.ID, nil) },
		"restore": func(ctx context.Context, tx pgx.Tx) error { _, err := crm.Documents.Restore(ctx, tx, d.ID); return err },
	} {
		want(t, try(lee, fn), tandem.NotFound, what+" by a colleague")
	}
	want(t, patch(lee, `{"access":"team"}`), tandem.NotFound, "shared by a colleague")
	if err := patch(kim, `{"name":"All salaries","category":"contract"}`); err != nil {
		t.Error(err)
	}
	said := h.said(d.ID)
	if strings.Contains(said, "alar") || !strings.Contains(said, "contract") {
		t.Errorf("the facts of a private document say %s", said)
	}
	if err := patch(ann, `{"access":"team"}`); err != nil || !sees(lee) {
		t.Errorf("shared by an admin: %v, seen %v", err, sees(lee))
	}
	want(t, patch(lee, `{"access":"private"}`), tandem.Forbidden, "hidden by a colleague")
	if err := patch(lee, `{"name":"Everybody's salaries"}`); err != nil {
		t.Error(err)
	}
	if said = h.said(d.ID); !strings.Contains(said, "of the document Everybody's salaries") {
		t.Errorf("the facts of a shared document say %s", said)
	}
}

// Versions that are added at the same time have numbers of their own; a content is named once.
func TestDocumentVersions(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	var account crm.Account
	var d crm.Document
	first := h.stored(h.human, "offer.txt")
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
		if account, err = crm.Accounts.Create(ctx, tx, crm.Account{Name: "Engines"}); err != nil {
			return err
		}
		d, err = crm.Documents.Add(ctx, tx, crm.Document{AccountID: &account.ID}, first)
		return err
	})
	if d.Name != "offer.txt" || d.CurrentVersion != 1 || d.Category != "other" || d.Access != "team" || tandem.Deref(d.OwnerID) != h.sam.ID {
		t.Errorf("%+v", d)
	}
	want(t, h.try(h.human, func(ctx context.Context, tx pgx.Tx) error {
		_, err := crm.Documents.AddVersion(ctx, tx, d.ID, first)
		return err
	}), tandem.Unavailable, "a content that has a document")
	const n = 8
	var wg sync.WaitGroup
	for i := range n {
		f := h.stored(h.human, fmt.Sprintf("offer-%d.txt", i))
		wg.Go(func() {
			err := h.try(h.human, func(ctx context.Context, tx pgx.Tx) error {
				_, err := crm.Documents.AddVersion(ctx, tx, d.ID, f)
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var got []int32
	q := tandem.Query{Limit: 2}
	for {
		var p tandem.Page[crm.DocumentVersion]
		h.tx(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
			p, err = crm.Documents.Versions(ctx, tx, d.ID, q)
			return err
		})
		for _, v := range p.Items {
			got = append(got, v.N)
		}
		if q.Cursor = p.Next; q.Cursor == "" {
			break
		}
	}
	if fmt.Sprint(got) != "[9 8 7 6 5 4 3 2 1]" {
		t.Errorf("versions %v", got)
	}
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
		newest, err := crm.Documents.Content(ctx, tx, d.ID, 0)
		if err != nil {
			return err
		}
		old, err := crm.Documents.Content(ctx, tx, d.ID, 1)
		if newest.N != n+1 || old.Blob != first.Blob {
			t.Errorf("newest %+v, first %+v", newest, old)
		}
		_, none := crm.Documents.Content(ctx, tx, d.ID, 77)
		want(t, none, tandem.NotFound, "a version that is not")
		return err
	})
	// A row and what it names are both or neither.
	lost := h.stored(h.human, "lost.txt")
	nobody := tandem.NewID()
	want(t, h.try(h.human, func(ctx context.Context, tx pgx.Tx) error {
		_, err := crm.Documents.Add(ctx, tx, crm.Document{AccountID: &nobody}, lost)
		return err
	}), tandem.Invalid, "of nobody")
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error {
		_, err := crm.Documents.AddVersion(ctx, tx, d.ID, lost) // it is still loose
		return err
	})
}

// A list of one account's documents walks its index, whoever asks.
func TestDocumentsOfAnAccountAreFound(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	account, other := tandem.NewID(), tandem.NewID()
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO accounts (org_id, id, name) VALUES (@org, @a, 'One'), (@org, @b, 'Other')`, pgx.StrictNamedArgs{"org": h.org.ID, "a": account, "b": other})
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO documents (org_id, id, name, account_id, owner_id, access, current_version, file_name, content_type, size, sha256, created_at)
			SELECT @org, gen_random_uuid(), 'd' || i, CASE WHEN i % 500 = 0 THEN @a::uuid ELSE @b::uuid END, @me, CASE WHEN i % 3 = 0 THEN 'private' ELSE 'team' END, 1, 'f', 'text/plain', 1, repeat('0', 64), now() - i * interval '1 second'
			FROM generate_series(1, 5000) i`, pgx.StrictNamedArgs{"org": h.org.ID, "a": account, "b": other, "me": h.sam.ID})
		return err
	})
	h.analyze("documents", "members")
	for _, c := range []struct {
		q     tandem.Query
		index string
	}{
		{tandem.Query{Filter: map[string]string{"account_id": string(account)}}, "documents_account"},
		{tandem.Query{}, "documents_recent"},
		{tandem.Query{Sort: "name"}, "documents_name"},
	} {
		plan := h.explain(func(ctx context.Context, tx pgx.Tx) error { _, err := crm.Documents.List(ctx, tx, c.q); return err })
		if !strings.Contains(plan, c.index) || strings.Contains(plan, "Seq Scan on documents") || strings.Contains(plan, "Sort") {
			t.Errorf("%+v:\n%s", c.q, plan)
		}
	}
}
