package events

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
)

// A fact that a subscription does not want is remembered without its handler; a wanted one
// reaches the handler once, on its event's chain, and is remembered after it.
func TestWants(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := newOrg(t, db)
	b := openBus(t, t.TempDir())
	asked, handled := 0, 0
	s := Subscription{
		Name: "choosy", Topics: []string{"message.received"},
		Wants: func(_ context.Context, _ pgx.Tx, facts []Fact) ([]bool, error) {
			wanted := make([]bool, len(facts))
			for i := range facts {
				asked++
				wanted[i] = asked%2 == 0
			}
			return wanted, nil
		},
		Handle: func(c context.Context, f Fact) error {
			handled++
			if tandem.ChainFrom(c) != tandem.ChainFrom(ctx) {
				t.Errorf("chain %s, want %s", tandem.ChainFrom(c), tandem.ChainFrom(ctx))
			}
			if n := count(t, db, "SELECT count(*) FROM processed WHERE consumer = 'choosy' AND msg_id = $1", f.ID); n != 0 {
				t.Error("a wanted fact was remembered before it was handled")
			}
			return nil
		},
	}
	background(t, drainOf(db, b, s).Run)
	stop := background(t, func(ctx context.Context) error { return Consume(ctx, db, b, s) })
	emit(t, ctx, db, 10)
	eventually(t, "all facts are remembered", func() bool {
		return count(t, db, "SELECT count(*) FROM processed WHERE consumer = 'choosy'") == 10
	})
	stop()
	if asked != 10 || handled != 5 {
		t.Errorf("asked %d times, handled %d", asked, handled)
	}
	wrong := Subscription{Name: "x", Topics: []string{"*"}, Apply: apply("x"), Wants: s.Wants}
	if err := Consume(t.Context(), db, b, wrong); tandem.KindOf(err) != tandem.Invalid {
		t.Errorf("Apply with Wants: %v", err)
	}
}
