package crm_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/team"
)

// hub is one organization with a board, a person and an AI member.
type hub struct {
	t     *testing.T
	db    *pg.DB
	org   team.Org
	board crm.Board
	sys   context.Context // Tandem itself
	human context.Context
	ai    context.Context
	ava   team.Member
	sam   team.Member
}

func newHub(t *testing.T) *hub {
	t.Helper()
	return addOrg(t, pgtest.New(t), "acme")
}

func addOrg(t *testing.T, db *pg.DB, name string) *hub {
	t.Helper()
	h := &hub{t: t, db: db}
	var err error
	h.org, h.sam, err = team.CreateOrg(t.Context(), db, team.NewOrg{
		Name: name, Region: "DE", OwnerName: "Sam", OwnerEmail: name + "@example.com", OwnerPassword: "correct horse battery",
	})
	if err != nil {
		t.Fatal(err)
	}
	h.sys = tandem.AsSystem(t.Context(), h.org.ID)
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) error {
		if h.ava, err = team.AddAI(ctx, tx, nil, team.NewAI{Name: "Ava"}); err != nil {
			return err
		}
		h.board, err = crm.SeedBoard(ctx, tx, "Sales", []crm.BoardStage{{Name: "New"}, {Name: "Qualified"}, {Name: "Won", Kind: "won"}, {Name: "Lost", Kind: "lost"}})
		return err
	})
	h.human, h.ai = h.as(h.sam.ID), h.as(h.ava.ID)
	return h
}

// as returns a context in which the member acts.
func (h *hub) as(member tandem.ID) context.Context {
	h.t.Helper()
	var a tandem.Actor
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) (err error) {
		a, err = team.MemberActor(ctx, tx, member)
		return err
	})
	return tandem.WithActor(h.t.Context(), a)
}

// try runs fn in a transaction and returns its error.
func (h *hub) try(ctx context.Context, fn pg.TxFunc) error { return h.db.Tx(ctx, fn) }

// tx is try for what must succeed.
func (h *hub) tx(ctx context.Context, fn pg.TxFunc) {
	h.t.Helper()
	if err := h.db.Tx(ctx, fn); err != nil {
		h.t.Fatal(err)
	}
}

func (h *hub) contact(email, name string) (c crm.Contact) {
	h.t.Helper()
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) (err error) {
		c, _, err = crm.Resolve(ctx, tx, crm.Identity{Kind: "email", Value: email, Evidence: "test"}, crm.ContactFacts{Name: name})
		return err
	})
	return c
}

func (h *hub) lead(in crm.NewLead) (l crm.Lead, created bool) {
	h.t.Helper()
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) (err error) {
		l, created, err = crm.Leads.OpenOrFind(ctx, tx, in)
		return err
	})
	return l, created
}

// count returns the number that the query finds in the organization.
func (h *hub) count(sql string, args ...any) (n int) {
	h.t.Helper()
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) error { return tx.QueryRow(ctx, sql, args...).Scan(&n) })
	return n
}

// says returns the descriptions of a lead's events, in order.
func (h *hub) says(lead tandem.ID) (all []string) {
	h.t.Helper()
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT noun || '.' || verb || ': ' || description FROM events WHERE lead_id = $1 ORDER BY seq", lead)
		if err != nil {
			return err
		}
		all, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return all
}

func want(t *testing.T, err error, k tandem.Kind, what string) {
	t.Helper()
	if err == nil || tandem.KindOf(err) != k {
		t.Errorf("%s: got %v, want %s", what, err, k)
	}
}

// Every variable that this package declares around a record.Set is in All: the lists that
// routes, imports and reports go by.
func TestAllListsEverySet(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	embeds, declared, listed := map[string]bool{}, map[string]string{}, []string{}
	var parsed []*ast.File
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, file)
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if st, ok := spec.Type.(*ast.StructType); ok {
				for _, field := range st.Fields.List {
					if len(field.Names) == 0 && isSet(field.Type) {
						embeds[spec.Name.Name] = true
					}
				}
			}
			return true
		})
	}
	for _, file := range parsed {
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			for i, name := range spec.Names {
				if i >= len(spec.Values) {
					continue
				}
				lit, ok := spec.Values[i].(*ast.CompositeLit)
				if !ok {
					continue
				}
				if name.Name == "All" {
					for _, e := range lit.Elts {
						if call, ok := e.(*ast.CallExpr); ok && len(call.Args) == 1 {
							if id, ok := call.Args[0].(*ast.Ident); ok {
								listed = append(listed, id.Name)
							}
						}
					}
				}
				if id, ok := lit.Type.(*ast.Ident); isSet(lit.Type) || (ok && embeds[id.Name]) {
					declared[name.Name] = file.Name.Name
				}
			}
			return true
		})
	}
	if len(declared) < 2 {
		t.Fatalf("found only the sets %v: this test looks in the wrong place", declared)
	}
	for name := range declared {
		if !slices.Contains(listed, name) {
			t.Errorf("%s is a record.Set but not in All", name)
		}
	}
	for _, s := range crm.All {
		if s.Noun == "" || s.Table == "" {
			t.Errorf("a set without noun or table: %+v", s.Info)
		}
	}
}

func isSet(e ast.Expr) bool {
	ix, ok := e.(*ast.IndexExpr)
	if !ok {
		return false
	}
	if id, ok := ix.X.(*ast.Ident); ok {
		return id.Name == "customized"
	}
	sel, ok := ix.X.(*ast.SelectorExpr)
	return ok && sel.Sel.Name == "Set"
}
