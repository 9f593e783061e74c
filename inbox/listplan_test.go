package inbox

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
)

// planned is how the server runs a page: by the plan that it keeps for all values when the page is asked for again and
// again, or by one for these values.
func (w *world) planned(q ConversationQuery) string {
	w.Helper()
	where, args, err := q.where(w.owner)
	if err != nil {
		w.Fatal(err)
	}
	sql, values, err := args.RewriteQuery(w.Context(), nil, "SELECT * FROM conversations WHERE "+where+" ORDER BY last_message_at DESC, id DESC LIMIT "+limitOf(q.Size()), nil)
	if err != nil {
		w.Fatal(err)
	}
	mode := "force_generic_plan"
	if q.mixed() {
		mode = "force_custom_plan"
	}
	texts := make([]string, len(values))
	for i, v := range values {
		switch v := v.(type) {
		case time.Time:
			texts[i] = "'" + v.Format(time.RFC3339Nano) + "'"
		case *tandem.ID:
			texts[i] = "'" + string(tandem.Deref(v)) + "'"
		default:
			texts[i] = fmt.Sprintf("'%v'", v)
		}
	}
	var plan []string
	w.do(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) error {
		for _, s := range []string{"SET LOCAL plan_cache_mode = " + mode, "PREPARE page AS " + sql} {
			if _, err := tx.Exec(ctx, s); err != nil {
				return err
			}
		}
		rows, err := tx.Query(ctx, "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE page("+strings.Join(texts, ", ")+")", pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			return err
		}
		if plan, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "DEALLOCATE page")
		return err
	})
	return strings.Join(plan, "\n")
}

var removed = regexp.MustCompile(`Rows Removed by Filter: (\d+)`)

// Every view with every state, in all channels and in one, on the first page and deep, walks an index in the list's order
// under row-level security. Where one index has all that is asked for, nothing that it passes is thrown away.
func TestEveryFilterWalksItsIndex(t *testing.T) {
	w := newWorld(t)
	seedConversations(w, 20_000)
	super := pgtest.Connect(t, w.db, pgtest.Super)
	for _, q := range []string{
		`UPDATE conversations SET owner_id = '` + string(w.owner.Member) + `', owner_kind = 'human' WHERE owner_id IS NULL AND hashtext(id::text) % 3 = 0`,
		`UPDATE conversations SET state = CASE abs(hashtext(id::text)) % 7 WHEN 0 THEN 'waiting' WHEN 1 THEN 'spam' WHEN 2 THEN 'open' ELSE 'resolved' END`,
		`UPDATE conversations SET channel_id = '` + string(w.form) + `' WHERE abs(hashtext(id::text)) % 11 = 0`,
		`VACUUM ANALYZE conversations`,
	} {
		if _, err := super.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	deep := tandem.Query{Cursor: tandem.EncodeCursor(time.Now().Add(-100*time.Hour).UTC().Format(time.RFC3339Nano), string(tandem.NewID()))}
	asked, most := 0, 0
	for view := range views {
		for _, state := range []string{"", StateOpen, StateWaiting, StateSnoozed, StateResolved, StateSpam} {
			for _, channel := range []tandem.ID{"", w.chat, w.form} {
				for _, page := range []tandem.Query{{}, deep} {
					q := ConversationQuery{Query: page, View: view, State: state, Channel: channel}
					plan := w.planned(q)
					asked++
					if !strings.Contains(plan, "Index Scan using conversations_") || strings.Contains(plan, "Seq Scan") || strings.Contains(plan, "Sort") {
						t.Errorf("%+v:\n%s", q, plan)
					}
					// Handoffs that wait and conversations without an owner are few, and have no state in their index.
					exact := !q.mixed() && (state == "" || view != "needs_you" && view != "unowned")
					for _, m := range removed.FindAllStringSubmatch(plan, -1) {
						var n int
						if _, err := fmt.Sscan(m[1], &n); err != nil {
							t.Fatal(err)
						}
						most = max(most, n)
						if exact {
							t.Errorf("%+v throws away %d rows:\n%s", q, n, plan)
						}
					}
				}
			}
		}
	}
	proof.Figure(t, "G6", "%d lists of 20,000 conversations walk an index in order; where filters meet at most %d rows are passed over", asked, most)
}
