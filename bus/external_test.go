package bus

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/tandemhq/tandem"
)

// external runs a NATS server of its own, reached over TCP.
func external(t *testing.T, dir string, port int) *server.Server {
	t.Helper()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true, JetStream: true, StoreDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	if !srv.ReadyForConnections(patience) {
		t.Fatal("the external server does not start")
	}
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	return srv
}

// TestExternalServer runs the same code against a server elsewhere, which loses its store while it is away.
func TestExternalServer(t *testing.T) {
	t.Parallel()
	srv := external(t, t.TempDir(), server.RANDOM_PORT)
	url := srv.ClientURL()
	b, err := Open(t.Context(), Options{URL: url, ProbeEvery: 100 * time.Millisecond, Logger: quiet, MaxStore: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeBus(t, b) })
	background(t, b.Run)
	y := newTally()
	background(t, func(ctx context.Context) error {
		return b.Consume(ctx, Consumer{Name: "c", Subjects: []string{"ev.>"}, Dead: y.bury, Handle: func(_ context.Context, m Msg) error { y.note(m); return nil }})
	})
	_, before := publish(t, b, "ev.o.x", "one")
	eventually(t, "one", func() bool { n, _ := y.count("one"); return n == 1 })

	port := srv.Addr().String()[strings.LastIndex(srv.Addr().String(), ":")+1:]
	srv.Shutdown()
	srv.WaitForShutdown()
	eventually(t, "unhealthy", func() bool { return b.Healthy() != nil })
	n := 0
	for _, c := range port {
		n = 10*n + int(c-'0')
	}
	external(t, t.TempDir(), n)
	eventually(t, "healthy", func() bool { return b.Healthy() == nil })
	_, after := publish(t, b, "ev.o.x", "two")
	if after.Epoch.Equal(before.Epoch) {
		t.Error("a new stream has the epoch of the old one")
	}
	eventually(t, "two", func() bool { n, _ := y.count("two"); return n == 1 })
}

// TestFullStream shows that a stream at its limit refuses, is reported, and is not restarted for it.
func TestFullStream(t *testing.T) {
	t.Parallel()
	b, err := Open(t.Context(), Options{Dir: t.TempDir(), ProbeEvery: 20 * time.Millisecond, Logger: quiet, MaxStore: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeBus(t, b) })
	background(t, b.Run)
	n := 0
	for {
		_, err := b.Publish(t.Context(), "ev.o.x", tandem.NewID(), make([]byte, 10_000))
		if err != nil {
			if tandem.KindOf(err) != tandem.Unavailable {
				t.Fatal(err)
			}
			break
		}
		if n++; n > 200 {
			t.Fatal("the stream takes more than its limit")
		}
	}
	// Probes are small: the rest of the room fills up with them.
	eventually(t, "the full stream shows", func() bool { return b.Healthy() != nil })
	for range 5 {
		b.mu.Lock()
		last := b.probed
		b.mu.Unlock()
		eventually(t, "another probe", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.probed.After(last) })
	}
	if b.Restarts() != 0 {
		t.Errorf("%d restarts", b.Restarts())
	}
	st, err := b.State(t.Context())
	if err != nil || st.First != 1 {
		t.Errorf("something was dropped: %+v, %v", st, err)
	}
}
