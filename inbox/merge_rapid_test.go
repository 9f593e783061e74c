package inbox

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
)

const whereSQL = `
SELECT m.id, m.conversation_id, c.merged_into FROM messages m JOIN conversations c ON c.org_id = m.org_id AND c.id = m.conversation_id
WHERE m.org_id = $1`

// Whatever people do, in any order: every message is in exactly one conversation that stands, what is unread stays so many,
// the rows say what the messages are, and when all merges are undone each message that was not split off is back where it
// came in.
func TestNothingIsLostBetweenConversations(t *testing.T) {
	w := newWorld(t)
	super := pgtest.Connect(t, w.db, pgtest.Super)
	kim := w.people(1, "agent")[0]
	n, done, refused := 0, 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		who := fmt.Sprintf("contact %d", n)
		threads := []string{"a", "b", "c"}
		var convs, splits []tandem.ID
		home := map[tandem.ID]tandem.ID{} // message -> where it came in
		loose := map[tandem.ID]bool{}     // those that were split off, or wrote while their thread went on elsewhere
		var byThread []tandem.ID
		for _, th := range threads {
			got := w.ingest(w.letter(who, th, "first"))
			convs, byThread, home[got.Message] = append(convs, got.Conversation), append(byThread, got.Conversation), got.Conversation
		}
		for range rapid.IntRange(20, 40).Draw(rt, "steps") {
			pick := func() tandem.ID { return convs[rapid.IntRange(0, len(convs)-1).Draw(rt, "conversation")] }
			var err error
			switch what := rapid.IntRange(0, 9).Draw(rt, "what"); what {
			case 0, 1, 2:
				k := rapid.IntRange(0, 2).Draw(rt, "thread")
				got := w.ingest(w.letter(who, threads[k], "more"))
				home[got.Message] = byThread[k]
				loose[got.Message] = got.Conversation != byThread[k]
			case 3:
				var m Message
				conv := pick()
				if m, err = w.reply(kim, conv, Draft{Text: "answer", ClientKey: "k"}); err == nil && home[m.ID] == "" {
					home[m.ID] = conv
				}
				w.deliver(w.courier())
			case 4, 5:
				_, err = w.merge(kim, pick(), pick())
			case 6:
				var list []Merged
				w.do(w.as(kim), func(ctx context.Context, tx pgx.Tx) (err error) { list, err = Merges(ctx, tx, pick()); return err })
				if len(list) > 0 {
					_, err = w.split(kim, list[0].IntoID, Split{Merge: list[0].ID})
				}
			case 7:
				conv := pick()
				if items := w.messages(conv); len(items) > 1 {
					k := rapid.IntRange(1, len(items)-1).Draw(rt, "from")
					s := Split{From: items[k].Seq}
					leaving := items[k:]
					if rapid.Bool().Draw(rt, "chosen") {
						s, leaving = Split{Messages: []tandem.ID{items[k].ID}}, items[k:k+1]
					}
					var c Conversation
					if c, err = w.split(kim, conv, s); err == nil {
						convs, splits = append(convs, c.ID), append(splits, c.ID)
						for _, m := range leaving {
							loose[m.ID] = true
						}
					}
				}
			case 8:
				_, err = w.claim(kim, pick())
			case 9:
				w.do(w.as(kim), func(ctx context.Context, tx pgx.Tx) error { return MarkRead(ctx, tx, pick()) })
			}
			switch k := tandem.KindOf(err); {
			case err == nil:
				done++
			case k != tandem.Conflict && k != tandem.Invalid:
				rt.Fatalf("%v", err)
			default:
				refused++
			}
		}
		w.noLies()
		for range len(convs) { // the latest first, until none is left
			for _, c := range convs {
				var list []Merged
				w.do(w.as(kim), func(ctx context.Context, tx pgx.Tx) (err error) { list, err = Merges(ctx, tx, c); return err })
				for _, m := range slices.Backward(list) {
					if _, err := w.split(kim, m.IntoID, Split{Merge: m.ID}); err != nil && tandem.KindOf(err) != tandem.Conflict {
						rt.Fatalf("undo: %v", err)
					}
				}
			}
		}
		w.noLies()
		rows, err := super.Query(t.Context(), whereSQL, w.org)
		if err != nil {
			rt.Fatal(err)
		}
		at := map[tandem.ID]tandem.ID{}
		var id, conv tandem.ID
		var merged *tandem.ID
		_, err = pgx.ForEachRow(rows, []any{&id, &conv, &merged}, func() error {
			if merged != nil {
				rt.Errorf("%s is in a conversation that is still merged", id)
			}
			at[id] = conv
			return nil
		})
		if err != nil {
			rt.Fatal(err)
		}
		for m, came := range home {
			switch {
			case at[m] == "":
				rt.Errorf("message %s is gone", m)
			case !loose[m] && at[m] != came:
				rt.Errorf("message %s is in %s, not in %s; splits %v", m, at[m], came, splits)
			}
			delete(at, m)
		}
		maps.DeleteFunc(at, func(_, c tandem.ID) bool { return !slices.Contains(convs, c) })
		if len(at) > 0 {
			rt.Errorf("%d messages that nobody wrote", len(at))
		}
	})
	t.Logf("figure: merges: %d contacts, %d steps done, %d refused: no message lost, doubled or out of its place", n, done, refused)
}
