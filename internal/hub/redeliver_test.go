package hub_test

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/tandemtest"
)

// A fact that failed for good is worked off when a person has it tried again; one that fails again says so and stays.
func TestDeadLettersAreTriedAgain(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	org := h.NewOrg("Letters")
	var doc struct{ ID tandem.ID }
	h.Want(http.StatusCreated, http.MethodPost, "/api/v1/knowledge", org.Key, `{"title":"Opening hours","body":"We are open from nine to five."}`).Into(t, &doc)
	chunks := func() (n int) {
		h.In(org.ID, func(ctx context.Context, tx pgx.Tx) error {
			return tx.QueryRow(ctx, `SELECT count(*) FROM chunks WHERE org_id = $1`, org.ID).Scan(&n)
		})
		return n
	}
	h.Eventually(atMost, "the document is indexed", func() bool { return chunks() > 0 })

	good, bad := tandem.NewID(), tandem.NewID()
	h.In(org.ID, func(ctx context.Context, tx pgx.Tx) error {
		var event tandem.ID
		if err := tx.QueryRow(ctx, `SELECT id FROM events WHERE org_id = $1 AND noun = 'knowledge' AND record_id = $2`, org.ID, doc.ID).Scan(&event); err != nil {
			return err
		}
		fact, err := json.Marshal(events.Fact{ID: event, Org: org.ID, Topic: "knowledge.created", Record: doc.ID})
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM chunks WHERE org_id = $1`, org.ID); err != nil {
			return err
		}
		const q = `INSERT INTO dead_letters (org_id, id, consumer, msg_id, subject, body, error, tries) VALUES ($1, $2, 'knowledge', $2, 'ev.x', $3, 'the disk was full', 5)`
		if _, err := tx.Exec(ctx, q, org.ID, good, fact); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, q, org.ID, bad, []byte("no fact"))
		return err
	})

	const root = "/api/v1/dead-letters/"
	for _, id := range []tandem.ID{good, bad} {
		h.Want(http.StatusAccepted, http.MethodPost, root+string(id)+"/requeue", org.Key, `{}`)
	}
	var left struct{ Items []events.Letter }
	h.Eventually(atMost, "one letter is left, with one try more", func() bool {
		h.Want(http.StatusOK, http.MethodGet, "/api/v1/dead-letters", org.Key, nil).Into(t, &left)
		return len(left.Items) == 1 && left.Items[0].Tries == 6
	})
	if chunks() == 0 {
		t.Error("the requeued fact had no effect")
	}
	if l := left.Items[0]; l.ID != bad || l.Error == "the disk was full" {
		t.Errorf("left is %+v, want the one that fails, with its new reason", l)
	}
	timer := func() (n int) {
		h.In(org.ID, func(ctx context.Context, tx pgx.Tx) error {
			return tx.QueryRow(ctx, `SELECT count(*) FROM timers WHERE kind LIKE 'redeliver.%' AND org_id = $1`, org.ID).Scan(&n)
		})
		return n
	}
	h.Eventually(10*time.Second, "no try is left over", func() bool { return timer() == 0 })
}
