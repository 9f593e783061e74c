package record_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/proof"
)

// many makes widgets of every sort and returns them as the database holds them.
func many(t *testing.T, db *pg.DB, ctx context.Context, n int) (all []widget) {
	t.Helper()
	r := proof.Rand(t)
	err := db.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		for i := range n {
			w := widget{Name: fmt.Sprintf("%c%c %d", 'a'+rune(r.IntN(26)), 'A'+rune(r.IntN(26)), i), Rank: int64(r.IntN(5)) - 2, Kind: []string{"plain", "odd"}[r.IntN(2)]}
			if r.IntN(3) > 0 {
				at := time.Date(2026, 1, 1+r.IntN(9), 0, 0, 0, r.IntN(3)*1000, time.UTC)
				w.DueAt = &at
			}
			if w.Tags = []string{}; r.IntN(2) == 0 {
				w.Tags = []string{"red", fmt.Sprint("t", r.IntN(3))}
			}
			made, err := widgets.Create(ctx, tx, w)
			if err != nil {
				return err
			}
			all = append(all, made)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// ask reads all pages of a query.
func ask(t *testing.T, db *pg.DB, ctx context.Context, q tandem.Query) (ids []tandem.ID, err error) {
	t.Helper()
	for {
		var p tandem.Page[widget]
		err := db.Read(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
			p, err = widgets.List(ctx, tx, q)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, w := range p.Items {
			ids = append(ids, w.ID)
		}
		if q.Cursor = p.Next; p.Next == "" {
			return ids, nil
		}
	}
}

// Sorted lists are whole and in order, page after page, whatever they are sorted by.
func TestSortedPages(t *testing.T) {
	t.Parallel()
	db, writer, reader := shop(t)
	all := many(t, db, writer, 120)
	due := func(w widget) int64 {
		if w.DueAt == nil {
			return 1 << 62
		}
		return w.DueAt.UnixMicro()
	}
	for field, order := range map[string]func(a, b widget) int{
		"created_at": func(a, b widget) int { return a.CreatedAt.Compare(b.CreatedAt) },
		"name":       func(a, b widget) int { return cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) },
		"rank":       func(a, b widget) int { return cmp.Compare(a.Rank, b.Rank) },
		"due_at":     func(a, b widget) int { return cmp.Compare(due(a), due(b)) },
	} {
		want := slices.Clone(all)
		slices.SortFunc(want, func(a, b widget) int { return cmp.Or(order(a, b), cmp.Compare(a.ID, b.ID)) })
		for _, sort := range []string{field, "-" + field} {
			got, err := ask(t, db, reader, tandem.Query{Sort: sort, Limit: 7})
			if err != nil {
				t.Fatalf("%s: %v", sort, err)
			}
			for i := range want {
				if len(got) != len(want) || got[i] != want[i].ID {
					t.Fatalf("%s: place %d of %d is wrong", sort, i, len(got))
				}
			}
			slices.Reverse(want)
		}
	}
	for _, sort := range []string{"secret", "tags", "nonsense", "-", "rank; --"} {
		if _, err := ask(t, db, reader, tandem.Query{Sort: sort}); tandem.KindOf(err) != tandem.Invalid {
			t.Errorf("sort %q: %v", sort, err)
		}
	}
	for _, cursor := range []string{
		tandem.EncodeCursor("rank", "1", string(all[0].ID)), tandem.EncodeCursor("name", "1"), tandem.EncodeCursor("rank", "x", string(all[0].ID)),
		tandem.EncodeCursor("due_at", "yesterday", string(all[0].ID)), "x",
	} {
		if _, err := ask(t, db, reader, tandem.Query{Sort: "name", Cursor: cursor}); tandem.KindOf(err) != tandem.Invalid {
			t.Errorf("cursor %s: %v", cursor, err)
		}
	}
}

// Conditions select what a plain loop over all records selects, alone and in groups.
func TestConditions(t *testing.T) {
	t.Parallel()
	db, writer, reader := shop(t)
	all := many(t, db, writer, 120)
	day := time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)
	one := func(field, op, value string) tandem.Where { return tandem.Where{Field: field, Op: op, Value: value} }
	for _, c := range []struct {
		where tandem.Where
		keep  func(widget) bool
	}{
		{one("rank", "", "1"), func(w widget) bool { return w.Rank == 1 }},
		{one("rank", "ne", "1"), func(w widget) bool { return w.Rank != 1 }},
		{one("rank", "lt", "0"), func(w widget) bool { return w.Rank < 0 }},
		{one("rank", "gte", "1"), func(w widget) bool { return w.Rank >= 1 }},
		{one("rank", "in", "-2,2"), func(w widget) bool { return w.Rank == -2 || w.Rank == 2 }},
		{one("kind", "in", "odd"), func(w widget) bool { return w.Kind == "odd" }},
		{one("name", "has", "A 1"), func(w widget) bool { return strings.Contains(strings.ToLower(w.Name), "a 1") }},
		{one("name", "has", "%"), func(w widget) bool { return false }},
		{one("tags", "", "red"), func(w widget) bool { return slices.Contains(w.Tags, "red") }},
		{one("tags", "has", "t1"), func(w widget) bool { return slices.Contains(w.Tags, "t1") }},
		{one("due_at", "null", "true"), func(w widget) bool { return w.DueAt == nil }},
		{one("due_at", "lte", "2026-01-05T00:00:00Z"), func(w widget) bool { return w.DueAt != nil && !w.DueAt.After(day) }},
		{one("id", "", "x"), nil},
		{one("id", "in", string(all[3].ID)+","+string(all[70].ID)), func(w widget) bool { return w.ID == all[3].ID || w.ID == all[70].ID }},
		{
			tandem.Where{Or: []tandem.Where{one("rank", "gt", "1"), {And: []tandem.Where{one("kind", "", "odd"), one("due_at", "gt", "2026-01-05T00:00:00Z")}}}},
			func(w widget) bool { return w.Rank > 1 || w.Kind == "odd" && w.DueAt != nil && w.DueAt.After(day) },
		},
	} {
		name, _ := json.Marshal(c.where)
		got, err := ask(t, db, reader, tandem.Query{Where: &c.where, Sort: "rank", Limit: 11})
		if c.keep == nil {
			if tandem.KindOf(err) != tandem.Invalid {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		n := 0
		for _, w := range all {
			if c.keep(w) {
				n++
				if !slices.Contains(got, w.ID) {
					t.Errorf("%s: %+v is missing", name, w)
				}
			}
		}
		if len(got) != n {
			t.Errorf("%s: %d records, want %d", name, len(got), n)
		}
		err = db.Read(reader, func(ctx context.Context, tx pgx.Tx) error {
			p, err := widgets.List(ctx, tx, tandem.Query{Where: &c.where, Total: true, Limit: 1})
			if err == nil && (p.Total == nil || *p.Total != n) {
				t.Errorf("%s: the total is %v, want %d", name, p.Total, n)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	deep := one("rank", "", "1")
	for range 6 {
		deep = tandem.Where{And: []tandem.Where{deep}}
	}
	for name, w := range map[string]tandem.Where{
		"unknown field": one("secret", "", "x"), "unknown op": one("rank", "like", "1"), "wrong op": one("kind", "lt", "x"), "no number": one("rank", "", "1.5"),
		"no time": one("due_at", "gt", "monday"), "nul": one("name", "has", "\x00"), "no flag": one("due_at", "null", "maybe"), "empty": {},
		"two at once": {Field: "rank", Value: "1", Or: []tandem.Where{one("rank", "", "1")}}, "too deep": deep, "too many": one("kind", "in", strings.Repeat("x,", 300)),
		"injection": one("rank) OR (1=1", "", "1"),
	} {
		if _, err := ask(t, db, reader, tandem.Query{Where: &w}); tandem.KindOf(err) != tandem.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
