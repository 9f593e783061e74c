package crm_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
)

// Whatever a list of records can be sorted by, an index has it in that order, under row-level security: the server sorts
// nothing even where it would rather, and so reads no more than the page.
func TestSortsHaveTheirIndexes(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	plans := 0
	for _, r := range crm.All {
		sorts := []string{"created_at"}
		for _, f := range r.Fields {
			if f.Sort != "" {
				sorts = append(sorts, f.Name)
			}
		}
		for _, sort := range sorts {
			for _, q := range []tandem.Query{{Sort: sort}, {Sort: "-" + sort}} {
				plans++
				plan := h.explain(func(ctx context.Context, tx pgx.Tx) error {
					if _, err := tx.Exec(ctx, "SET LOCAL enable_sort = off"); err != nil {
						return err
					}
					_, err := r.List(ctx, tx, q)
					return err
				})
				// What joins other tables sorts its page of rows once more, behind the limit that cuts it.
				cut := plan[max(strings.LastIndex(plan, "Limit"), 0):]
				if join := strings.Index(plan, "Nested Loop"); join > strings.LastIndex(plan, "Limit") {
					t.Errorf("%s sorted by %s is joined before it is cut:\n%s", r.Path, q.Sort, plan)
				}
				if strings.Contains(cut, "Sort") || !strings.Contains(cut, "Index") {
					t.Errorf("%s sorted by %s has no index for it:\n%s", r.Path, q.Sort, plan)
				}
			}
		}
	}
	t.Logf("%d sorted lists", plans)
}
