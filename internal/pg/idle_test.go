package pg_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
)

// A process that stands still in the middle of a transaction holds what it has locked. The server ends the transaction,
// so that the others go on; the process itself, when it goes on, has written nothing, and begins once more.
func TestAFrozenTransactionIsEnded(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	frozen, err := pg.Open(t.Context(), pg.Config{URL: pgtest.URL(t, pgtest.Name(db), pgtest.App), IdleLimit: 200 * time.Millisecond, AllowUnsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(frozen.Close)
	set := func(db *pg.DB, to string, then func()) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return db.Global(ctx, func(ctx context.Context, tx pgx.Tx) error {
			const q = `INSERT INTO processed (consumer, msg_id) VALUES ($1, '00000000-0000-7000-8000-000000000001') ON CONFLICT DO NOTHING`
			if _, err := tx.Exec(ctx, q, to); err != nil {
				return err
			}
			then()
			_, err := tx.Exec(ctx, q, to+" again")
			return err
		})
	}
	locked, thawed := make(chan struct{}), make(chan struct{})
	thaw := sync.OnceFunc(func() { close(thawed) })
	defer thaw()
	ended := make(chan error, 1)
	tries := 0
	go func() {
		ended <- set(frozen, "one", func() {
			if tries++; tries == 1 {
				close(locked)
				<-thawed
			}
		})
	}()
	<-locked
	began := time.Now()
	if err := set(db, "one", func() {}); err != nil { // waits for the frozen transaction's row
		t.Fatalf("the others wait for a process that stands still: %v", err)
	}
	t.Logf("free after %s", time.Since(began))
	thaw()
	switch err := <-ended; {
	case err == nil && tries < 2:
		t.Error("the transaction was committed although the server had ended it")
	case err != nil && tandem.KindOf(err) != tandem.Unavailable: // the line may be gone before the server's word is read
		t.Errorf("the one that was frozen gets %v, want another try or Unavailable", err)
	}
	if err := set(frozen, "two", func() {}); err != nil {
		t.Errorf("the next transaction: %v", err)
	}
}

// The limit holds for what the program uses, and an operator may choose another.
func TestIdleLimit(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	url := pgtest.URL(t, pgtest.Name(db), pgtest.App)
	for _, c := range []struct{ url, want string }{{url, "5s"}, {url + " idle_in_transaction_session_timeout=7s", "7s"}} {
		db, err := pg.Open(t.Context(), pg.Config{URL: c.url, AllowUnsafe: true})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		var got string
		if err := db.Pool().QueryRow(t.Context(), "SHOW idle_in_transaction_session_timeout").Scan(&got); err != nil || got != c.want {
			t.Errorf("the limit is %s, want %s (%v)", got, c.want, err)
		}
	}
}
