package loose_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/blob"
	"github.com/tandemhq/tandem/internal/blob/loose"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
)

// What has been loose for a day is removed, whatever became of it, and nothing else; what is being removed cannot be
// named any more.
func TestSweep(t *testing.T) {
	t.Parallel()
	db, dir := pgtest.New(t), t.TempDir()
	store, err := blob.New(blob.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	orgs := []context.Context{tandem.AsSystem(t.Context(), tandem.NewID()), tandem.AsSystem(t.Context(), tandem.NewID())}
	put := func(ctx context.Context, write bool, age string) blob.Key {
		t.Helper()
		a, err := tandem.ActorFrom(ctx)
		if err != nil {
			t.Fatal(err)
		}
		key := blob.Key{Org: a.Org, ID: tandem.NewID()}
		err = db.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			if err := loose.Add(ctx, tx, key.ID); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `UPDATE loose_blobs SET since = now() - @age::interval WHERE id = @id`, pgx.StrictNamedArgs{"age": age, "id": key.ID})
			return err
		})
		if err == nil && write {
			_, err = store.Put(ctx, key, strings.NewReader("words"), 5)
		}
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	take := func(ctx context.Context, key blob.Key) error {
		return db.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error { return loose.Take(ctx, tx, key.ID) })
	}
	there := func(key blob.Key) bool {
		r, err := store.Open(t.Context(), key)
		if err == nil {
			r.Close()
		}
		return err == nil
	}
	var old, fresh, taken []blob.Key
	for _, ctx := range orgs {
		for range 60 {
			old = append(old, put(ctx, true, "25 hours"))
		}
		put(ctx, false, "25 hours") // an upload that never began
		fresh = append(fresh, put(ctx, true, "23 hours"))
		k := put(ctx, true, "25 hours")
		if err := take(ctx, k); err != nil {
			t.Fatal(err)
		}
		taken = append(taken, k)
		if err := take(ctx, k); tandem.KindOf(err) != tandem.Unavailable {
			t.Errorf("taken twice: %v", err)
		}
	}
	if err := take(orgs[1], fresh[0]); tandem.KindOf(err) != tandem.Unavailable {
		t.Errorf("another organization's was taken: %v", err)
	}
	cut := put(orgs[0], false, "25 hours") // a process died while it wrote
	if err := os.WriteFile(filepath.Join(dir, string(cut.Org), string(cut.ID)+".part"), []byte("wo"), 0o600); err != nil {
		t.Fatal(err)
	}

	// A store that cannot remove: nothing is forgotten, and nobody may name what was to go.
	away, err := blob.New(blob.Options{URL: "s3://files?endpoint=http://127.0.0.1:1", AccessKey: "a", SecretKey: "b"})
	if err != nil {
		t.Fatal(err)
	}
	failing := &loose.Sweeper{DB: db, Store: away}
	if n, err := failing.Sweep(t.Context()); n != 0 || err == nil {
		t.Errorf("a store that is away: %d removed, %v", n, err)
	}
	swept := 0
	for _, k := range old {
		switch err := take(orgs[0], k); {
		case err == nil:
			taken = append(taken, k)
		case k.Org == old[0].Org:
			swept++
		}
	}
	if swept == 0 {
		t.Error("what a sweeper has begun with can still be named")
	}
	err = db.Global(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE loose_blobs SET swept_at = swept_at - interval '2 hours'`) // that sweeper is dead
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	s := &loose.Sweeper{DB: db, Store: store}
	first, err := s.Sweep(t.Context())
	if err != nil || first != 100 {
		t.Errorf("first sweep: %d, %v", first, err)
	}
	for n := first; n > 0; {
		if n, err = s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	kept := map[blob.Key]bool{}
	for _, k := range append(taken, fresh...) {
		kept[k] = true
		if !there(k) {
			t.Errorf("%v is gone", k)
		}
	}
	for _, k := range append(old, cut) {
		if !kept[k] && there(k) {
			t.Errorf("%v is still there", k)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil || len(left) != len(kept) {
		t.Errorf("%d files are left, want %d", len(left), len(kept))
	}
}
