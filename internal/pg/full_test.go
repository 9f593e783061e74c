package pg_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
)

// A server whose disk is full answers every ping; only a refused write tells.
func TestAFullServerIsToldByARefusedWrite(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if err := db.Full(); err != nil {
		t.Fatalf("full before any write: %v", err)
	}
	refuse := func(code string) error {
		return db.Global(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "DO $$ BEGIN RAISE 'no room' USING ERRCODE = '"+code+"'; END $$")
			return err
		})
	}
	if err := refuse("23514"); err == nil || db.Full() != nil {
		t.Errorf("a failed check counts as a full disk: %v", db.Full())
	}
	if err := refuse("53100"); tandem.KindOf(err) != tandem.Unavailable {
		t.Errorf("a write without room: %v", err)
	}
	if tandem.KindOf(db.Full()) != tandem.Unavailable {
		t.Errorf("after a write without room: %v", db.Full())
	}
}
