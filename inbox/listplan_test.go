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
	sql, values, err := args.RewriteQuery(w.Context(), nil, q.page(where), nil)
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
		case nil:
			texts[i] = "NULL"
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
	// The other filters: which index, and whether nothing that it passes may be thrown away.
	for _, q := range []string{
		`UPDATE conversations SET unread = 0, answered_seq = last_inbound_seq`,
		`UPDATE conversations SET unread = 1 WHERE abs(hashtext(id::text)) % 97 = 0`,
		`UPDATE conversations SET last_inbound_seq = answered_seq + 1 WHERE abs(hashtext(id::text)) % 89 = 0`,
		`UPDATE conversations SET priority = 'urgent' WHERE abs(hashtext(id::text)) % 83 = 0`,
		`UPDATE conversations SET tags = '{rare}' WHERE abs(hashtext(id::text)) % 2003 = 0`,
		`UPDATE conversations SET tags = '{common}' WHERE abs(hashtext(id::text)) % 2 = 0 AND tags = '{}'`,
		`UPDATE conversations SET created_at = last_message_at - interval '1 hour'`,
		`VACUUM ANALYZE conversations`, `ANALYZE contacts`, `ANALYZE channels`,
	} {
		if _, err := super.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	others := 0
	long := time.Now().Add(-200 * time.Hour)
	for _, tt := range []struct {
		q     ConversationQuery
		index string
		exact bool
	}{
		{ConversationQuery{Owner: w.owner.Member}, "conversations_owner", true},
		{ConversationQuery{Owner: w.owner.Member, State: StateWaiting}, "conversations_owner_state", true},
		{ConversationQuery{Unread: true}, "conversations_unread", true},
		{ConversationQuery{Unanswered: true}, "conversations_unanswered", true},
		{ConversationQuery{Query: tandem.Query{Sort: "unanswered"}}, "conversations_unanswered", true},
		{ConversationQuery{Unanswered: true, ActiveBefore: &long}, "conversations_unanswered", true},
		{ConversationQuery{Unanswered: true, State: StateOpen}, "conversations_state_unanswered", true},
		{ConversationQuery{Query: tandem.Query{Sort: "unanswered"}, State: StateWaiting}, "conversations_state_unanswered", true},
		{ConversationQuery{ActiveAfter: &long}, "conversations_recent", true},
		{ConversationQuery{Priority: "urgent"}, "conversations_priority", true},
		{ConversationQuery{Query: tandem.Query{Sort: "created_at"}}, "conversations_created", true},
		{ConversationQuery{Query: tandem.Query{Sort: "-created_at"}, CreatedBefore: &long}, "conversations_created", true},
		{ConversationQuery{Kind: "fake"}, "conversations_channel", true},
		{ConversationQuery{Tag: "rare"}, "conversations_tags", false},
		{ConversationQuery{Tag: "common"}, "conversations_recent", false},
		{ConversationQuery{Query: tandem.Query{Search: "v77"}}, "contacts_name_begins", false},
		{ConversationQuery{Account: w.owner.Member}, "contacts_account", false},
		{ConversationQuery{Reason: "policy"}, "conversations_handoff", false},
		{ConversationQuery{Team: w.sales, State: StateOpen}, "conversations_handoff", false},
		{ConversationQuery{Unread: true, Priority: "urgent", Unanswered: true}, "conversations_", false},
	} {
		plan := w.planned(tt.q)
		others++
		thrown := 0
		for _, m := range removed.FindAllStringSubmatch(plan, -1) {
			var n int
			if _, err := fmt.Sscan(m[1], &n); err != nil {
				t.Fatal(err)
			}
			thrown = max(thrown, n)
		}
		if !strings.Contains(plan, tt.index) || strings.Contains(plan, "Seq Scan on conversations") || tt.exact && thrown > 0 {
			t.Errorf("%+v, %d thrown away:\n%s", tt.q, thrown, plan)
		}
	}
	t.Logf("figure: %d further filters of 20,000 conversations go by an index", others)
	proof.Figure(t, "G6", "%d lists of 20,000 conversations walk an index in order; where filters meet at most %d rows are passed over", asked, most)
}
