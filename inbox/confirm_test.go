package inbox

import (
	"sync"
	"testing"
	"time"

	"github.com/tandemhq/tandem/channels"
)

// What a sender is told stands: no answer is given while the commit is still to come.
func TestNobodyIsAnsweredBeforeTheCommit(t *testing.T) {
	w := newWorld(t)
	w.ingest(w.inbound("known", "hello"))
	applied, commit := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b := w.batcher(BatchOptions{Fault: func(point string) {
		if point == "ingest.applied" {
			once.Do(func() { close(applied); <-commit })
		}
	}})
	type answer struct {
		got channels.Accepted
		err error
	}
	answered := make(chan answer, 1)
	in := w.inbound("known", "are you there?")
	go func() {
		got, err := b.Deliver(t.Context(), in)
		answered <- answer{got, err}
	}()
	<-applied
	select {
	case a := <-answered:
		t.Errorf("answered before the commit: %+v, %v", a.got, a.err)
		close(commit)
		return
	case <-time.After(200 * time.Millisecond): // long enough for an answer that does not wait
	}
	close(commit)
	a := <-answered
	if a.err != nil {
		t.Fatal(a.err)
	}
	if m := w.message(a.got.Conversation, a.got.Message); m.Text != in.Text {
		t.Errorf("stored: %+v", m)
	}
}

// Providers number their messages each for itself: the same id on two channels is two messages.
func TestTheSameIdOnTwoChannels(t *testing.T) {
	w := newWorld(t)
	b := w.batcher(BatchOptions{})
	one := w.inbound("somebody", "on the first")
	two := one
	two.Channel, two.Text = w.form, "on the second"
	seen := map[string]bool{}
	for _, in := range []channels.Inbound{one, two} {
		for range 2 { // from somebody new, and again as a repeat
			got, err := b.Deliver(t.Context(), in)
			if err != nil {
				t.Fatalf("%s: %v", in.Text, err)
			}
			if m := w.message(got.Conversation, got.Message); m.Text != in.Text {
				t.Errorf("%s: the message says %q", in.Text, m.Text)
			}
			seen[string(got.Message)] = true
		}
	}
	if len(seen) != 2 {
		t.Errorf("%d messages, want 2", len(seen))
	}
}
