package crm_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/migrations"
)

func (h *hub) sources() (all []string) {
	h.t.Helper()
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error {
		p, err := crm.LeadSources.List(ctx, tx, tandem.Query{Sort: "name"})
		for _, s := range p.Items {
			all = append(all, s.Name+" "+s.Kind)
			if s.Active == nil || !*s.Active || s.CostMinor != nil || s.ChannelID != nil {
				h.t.Errorf("a first source %+v", s)
			}
		}
		return err
	})
	return all
}

// A new organization and one that was there before the table begin with the same sources.
func TestFirstLeadSources(t *testing.T) {
	t.Parallel()
	old := newHub(t)
	text, err := migrations.FS.ReadFile("00018_lead_sources.sql")
	if err != nil {
		t.Fatal(err)
	}
	_, up, _ := strings.Cut(string(text), "-- +goose Up")
	if _, err := pgtest.Connect(t, old.db, pgtest.Owner).Exec(t.Context(), "DROP TABLE lead_sources;"+up); err != nil {
		t.Fatal(err)
	}
	fresh := addOrg(t, old.db, "fresh")
	fresh.tx(fresh.sys, func(ctx context.Context, tx pgx.Tx) error { return crm.SeedLeadSources(ctx, tx) })
	if seeded, migrated := fresh.sources(), old.sources(); len(seeded) != 9 || !slices.Equal(seeded, migrated) {
		t.Errorf("a new organization has %q, an old one %q", seeded, migrated)
	}
	if n := fresh.count("SELECT count(*) FROM events WHERE noun = 'lead_source' AND verb = 'created'"); n != 9 {
		t.Errorf("%d facts of lead sources, want 9", n)
	}
}

func TestLeadSourcesAreCheckedAndNamedOnce(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	add := func(raw string) (s crm.LeadSource, err error) {
		err = h.try(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
			if s, err = crm.LeadSources.New([]byte(raw)); err == nil {
				s, err = crm.LeadSources.Create(ctx, tx, s)
			}
			return err
		})
		return s, err
	}
	fair, err := add(`{"name":" Trade fair ","kind":"other","cost_minor":1250,"currency":"EUR"}`)
	if err != nil || fair.Name != "Trade fair" || *fair.CostMinor != 1250 || !*fair.Active {
		t.Fatalf("%+v, %v", fair, err)
	}
	if s, err := add(`{"name":"Radio","kind":"ad","active":false}`); err != nil || *s.Active {
		t.Errorf("a source that is not active: %+v, %v", s, err)
	}
	_, err = add(`{"name":"TRADE FAIR","kind":"ad"}`)
	want(t, err, tandem.Conflict, "a name in another case")
	for _, raw := range []string{
		`{"name":"x"}`, `{"name":" ","kind":"ad"}`, `{"name":"x","kind":"rumor"}`, `{"name":"x","kind":"ad","cost_minor":1}`, `{"name":"x","kind":"ad","currency":"EUR"}`,
		`{"name":"x","kind":"ad","cost_minor":-1,"currency":"EUR"}`, `{"name":"x","kind":"ad","cost_minor":1,"currency":"euro"}`, `{"name":"x","kind":"ad","channel_id":"` + string(tandem.NewID()) + `"}`,
	} {
		_, err = add(raw)
		want(t, err, tandem.Invalid, raw)
	}
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error { return crm.LeadSources.Archive(ctx, tx, fair.ID, nil) })
	if _, err = add(`{"name":"trade fair","kind":"other"}`); err != nil {
		t.Errorf("the name of an archived source: %v", err)
	}
	err = h.try(h.human, func(ctx context.Context, tx pgx.Tx) error {
		_, err := crm.LeadSources.Restore(ctx, tx, fair.ID)
		return err
	})
	want(t, err, tandem.Conflict, "restoring a name that is taken again")
}
