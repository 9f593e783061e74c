package crm_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
)

// A tag's name is taken once per type of record, whatever its case, and pickers find it by its beginning.
func TestTagsAreNamedOncePerType(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	add := func(raw string) (v crm.Tag, err error) {
		err = h.try(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
			if v, err = crm.Tags.New([]byte(raw)); err == nil {
				v, err = crm.Tags.Create(ctx, tx, v)
			}
			return err
		})
		return v, err
	}
	vip, err := add(`{"name":" VIP ","record_type":"lead","color":"#2F6FED"}`)
	if err != nil || vip.Name != "VIP" || *vip.Color != "#2f6fed" {
		t.Fatalf("%+v, %v", vip, err)
	}
	for _, raw := range []string{`{"name":"VIP","record_type":"contact"}`, `{"name":"Agency","record_type":"lead"}`} {
		if _, err := add(raw); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
	_, err = add(`{"name":"vip","record_type":"lead"}`)
	want(t, err, tandem.Conflict, "a name in another case")
	for _, raw := range []string{`{"name":"x"}`, `{"record_type":"lead"}`, `{"name":"x","record_type":"task"}`, `{"name":"x","record_type":"lead","color":"red"}`, `{"name":"` + strings.Repeat("x", 61) + `","record_type":"lead"}`} {
		_, err = add(raw)
		want(t, err, tandem.Invalid, raw)
	}
	err = h.try(h.human, func(ctx context.Context, tx pgx.Tx) error {
		_, err := crm.Tags.Patch(ctx, tx, vip.ID, []byte(`{"record_type":"contact"}`), nil)
		return err
	})
	want(t, err, tandem.Invalid, "another type")
	for search, w := range map[string]string{"": "Agency VIP", "vi": "VIP"} {
		var names []string
		h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error {
			p, err := crm.Tags.List(ctx, tx, tandem.Query{Filter: map[string]string{"record_type": "lead"}, Search: search, Sort: "name"})
			for _, v := range p.Items {
				names = append(names, v.Name)
			}
			return err
		})
		if got := strings.Join(names, " "); got != w {
			t.Errorf("tags for %q: %q, want %q", search, got, w)
		}
	}
}
