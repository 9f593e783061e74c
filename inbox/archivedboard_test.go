package inbox

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/crm"
)

// atOnce reports whether the statement stores this message of somebody new. It stores nothing.
func (w *world) atOnce(in channels.Inbound) bool {
	w.Helper()
	i, err := newIncoming(w.system(), in)
	if err != nil {
		w.Fatal(err)
	}
	tx, err := w.db.Pool().Begin(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	_, rest, err := intake(w.Context(), tx, []incoming{i}, true)
	_ = tx.Rollback(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	return rest[0] == stored
}

// A lead of somebody new opens on no board and on no stage that is archived, and on no board for deals, by the statement as by
// the slow path.
func TestNewLeadsMissWhatIsArchived(t *testing.T) {
	w := newWorld(t)
	var gone, deals crm.Board
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) (err error) {
		if gone, err = crm.SeedBoard(ctx, tx, "Partners", []crm.BoardStage{{Name: "Old"}}); err != nil {
			return err
		}
		if deals, err = crm.SeedDealBoard(ctx, tx); err != nil {
			return err
		}
		return crm.Boards.Archive(ctx, tx, gone.ID, nil)
	})
	for name, board := range map[string]string{"by name": "Partners", "by id": string(gone.ID), "for deals": string(deals.ID)} {
		in := w.enquiry(w.name("new")+"@example.com", "Hello")
		in.Lead.Board = board
		if w.atOnce(in) {
			t.Errorf("%s: the statement opens a lead", name)
		}
	}
	// One of the same name that is not archived is found behind it.
	var live crm.Board
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) (err error) {
		live, err = crm.SeedBoard(ctx, tx, "Partners", []crm.BoardStage{{Name: "First"}, {Name: "Second"}})
		if err != nil {
			return err
		}
		return crm.Stages.Archive(ctx, tx, live.Stages[0].ID, nil)
	})
	for _, slow := range []bool{false, true} {
		in := w.enquiry(w.name("new")+"@example.com", "Hello")
		in.Lead.Board = "partners"
		if !slow && !w.atOnce(in) {
			t.Error("the statement does not take the lead")
		}
		var lead tandem.ID
		w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
			if !slow {
				got, err := Ingest(ctx, tx, in)
				lead = got.Lead
				return err
			}
			one, err := newIncoming(ctx, in)
			if err != nil {
				return err
			}
			got, err := one.slow(ctx, tx)
			lead = got.Lead
			return err
		})
		w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
			l, err := crm.Leads.Get(ctx, tx, lead)
			if l.BoardID != live.ID || l.Stage.Name != "Second" {
				t.Errorf("slow %v: the lead is on %s of %s", slow, l.Stage.Name, l.BoardID)
			}
			return err
		})
	}
}
