package bus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tandemhq/tandem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// quiet drops routine log lines; failures of a test show in what it asserts.
var quiet = slog.New(slog.DiscardHandler)

func open(t *testing.T, dir string) *Bus {
	t.Helper()
	b, err := Open(t.Context(), Options{Dir: dir, ProbeEvery: 100 * time.Millisecond, Logger: quiet, MaxStore: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeBus(t, b) })
	return b
}

func closeBus(t *testing.T, b *Bus) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

// background runs fn until the test ends and fails the test when it returns an error.
func background(t *testing.T, fn func(ctx context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- fn(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("background: %v", err)
			}
		case <-time.After(patience):
			t.Error("background work does not stop")
		}
	})
	t.Cleanup(stop)
	return stop
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func publish(t *testing.T, b *Bus, subject string, body string) (tandem.ID, Ack) {
	t.Helper()
	id := tandem.NewID()
	ack, err := b.Publish(t.Context(), subject, id, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return id, ack
}

func TestDirectoryIsPrivateAndHeld(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "bus")
	b := open(t, dir)
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if addr := b.srv.Addr(); addr != nil {
		t.Errorf("the embedded server listens on %v", addr)
	}
	_, err = Open(t.Context(), Options{Dir: dir, Logger: quiet})
	if tandem.KindOf(err) != tandem.Conflict {
		t.Fatalf("a second bus on the same directory: %v", err)
	}
	t.Logf("the second one reads: %s", tandem.Message(err))
	closeBus(t, b)
	open(t, dir)
}

func TestPublishAndDedupe(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	id := tandem.NewID()
	first, err := b.Publish(t.Context(), "ev.o.message.received", id, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.Publish(t.Context(), "ev.o.message.received", id, []byte("x"))
	if err != nil || !second.Duplicate || second.Seq != first.Seq || first.Duplicate {
		t.Errorf("first %+v, second %+v, %v", first, second, err)
	}
	st, err := b.State(t.Context())
	if err != nil || st.Messages != 2 || st.First != 1 || st.Last != 2 || !st.Epoch.Equal(first.Epoch) || st.Epoch.IsZero() {
		t.Errorf("state %+v, %v", st, err)
	}
	for _, subject := range []string{"", "ev.", "ev.a b", "ev.>", "sig.o.x", "probe.tandem", "ev.o..x"} {
		if _, err := b.Publish(t.Context(), subject, id, nil); tandem.KindOf(err) != tandem.Invalid {
			t.Errorf("subject %q: %v", subject, err)
		}
	}
	if _, err := b.Publish(t.Context(), "ev.o.x", id, make([]byte, 2<<20)); tandem.KindOf(err) != tandem.Invalid {
		t.Errorf("2 MiB: %v", err)
	}
	const n = 2000
	began := time.Now()
	for i := range n {
		if _, err := b.Publish(t.Context(), "ev.o.x", tandem.ID(fmt.Sprint("n", i)), []byte("body")); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("figure: %v per synchronous publish", time.Since(began)/n)
}

func TestSignalAndListen(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	got := make(chan string, 10)
	stop, err := b.Listen("sig.>", func(subject string, body []byte) { got <- subject + " " + string(body) })
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Signal(t.Context(), "sig.o.typing", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != "sig.o.typing x" {
		t.Errorf("got %q", s)
	}
	stop()
	if err := b.Signal(t.Context(), "ev.o.x", nil); tandem.KindOf(err) != tandem.Invalid {
		t.Errorf("a signal on a stored subject: %v", err)
	}
	if st, err := b.State(t.Context()); err != nil || st.Messages != 1 { // the probe of Open
		t.Errorf("signals are stored: %+v, %v", st, err)
	}
}

// ruin overwrites every file below dir.
func ruin(t *testing.T, dir string) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		return os.WriteFile(path, []byte("this is not what the server wrote"), 0o600)
	})
	if err != nil || n == 0 {
		t.Fatalf("ruined %d files, %v", n, err)
	}
}

func TestStoreLostWhileStopped(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(t *testing.T, dir string){
		"deleted": func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		},
		"every file overwritten": func(t *testing.T, dir string) { ruin(t, filepath.Join(dir, "jetstream")) },
		"a file in its place": func(t *testing.T, dir string) {
			store := filepath.Join(dir, "jetstream")
			if err := errors.Join(os.RemoveAll(store), os.WriteFile(store, []byte("x"), 0o600)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "bus")
			b := open(t, dir)
			for range 100 {
				publish(t, b, "ev.o.x", "body")
			}
			before, err := b.State(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			closeBus(t, b)
			harm(t, dir)
			b = open(t, dir)
			after, err := b.State(t.Context())
			if err != nil || after.Messages != 1 || after.Epoch.Equal(before.Epoch) {
				t.Errorf("before %+v, after %+v, %v", before, after, err)
			}
			if _, ack := publish(t, b, "ev.o.x", "body"); ack.Seq != 2 || !ack.Epoch.Equal(after.Epoch) {
				t.Errorf("ack %+v", ack)
			}
		})
	}
}

func TestStateSurvivesAnOrderlyRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := open(t, dir)
	for range 10 {
		publish(t, b, "ev.o.x", "body")
	}
	before, err := b.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	closeBus(t, b)
	after, err := open(t, dir).State(t.Context())
	before.Last, before.Messages = before.Last+1, before.Messages+1 // the probe of Open
	if err != nil || after != before {
		t.Errorf("before %+v, after %+v, %v", before, after, err)
	}
}
