package events

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
)

func TestFanout(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx, elsewhere := newOrg(t, db), newOrg(t, db)
	org := orgOf(t, ctx)
	b := openBus(t, t.TempDir())
	f, err := NewFanout(b.Listen)
	if err != nil {
		t.Fatal(err)
	}
	background(t, drainOf(db, b).Run)
	notes, stop := f.Subscribe(org, 8)
	foreign, _ := f.Subscribe(orgOf(t, elsewhere), 8)

	emit(t, ctx, db, 1)
	if n := <-notes; n.Fact.Topic != "message.received" || n.Fact.Org != org || n.Signal != "" || n.Lost {
		t.Errorf("note %+v", n)
	}
	if err := b.Signal(t.Context(), "sig."+string(org)+".typing.x", []byte("body")); err != nil {
		t.Fatal(err)
	}
	if n := <-notes; n.Signal != "typing.x" || string(n.Body) != "body" || n.Lost {
		t.Errorf("note %+v", n)
	}

	// A burst waits, in order.
	const burst = 8 * spillFactor
	for i := range burst {
		f.hear("sig."+string(org)+".n", fmt.Append(nil, i))
	}
	for i := range burst {
		if n := <-notes; n.Lost || string(n.Body) != fmt.Sprint(i) {
			t.Fatalf("note %d of a burst is %+v", i, n)
		}
	}

	// Nobody reads while more comes than fits, however much more.
	const flood = 50 * burst
	for i := range flood {
		f.hear("sig."+string(org)+".n", fmt.Append(nil, i))
	}
	told, last := 0, -1
	for last != flood-1 {
		n := <-notes
		if n.Lost {
			told++
			continue
		}
		at, err := strconv.Atoi(string(n.Body))
		if err != nil || at <= last {
			t.Fatalf("note %q after %d", n.Body, last)
		}
		if at > last+1 && told == 0 {
			t.Fatalf("note %d after %d, and nothing said that some are lost", at, last)
		}
		last = at
	}
	if told == 0 {
		t.Error("nothing was lost in a flood: this proves nothing")
	}
	f.hear("", nil) // the connection was away
	if n := <-notes; !n.Lost {
		t.Errorf("after a reconnect: %+v", n)
	}
	if n := <-foreign; !n.Lost || len(foreign) != 0 {
		t.Errorf("another organization reads %+v and %d more", n, len(foreign))
	}
	f.hear("ev."+string(org)+".a.b", []byte(`{"org":"`+string(tandem.NewID())+`"}`)) // an envelope that lies
	f.hear("ev", nil)
	if len(notes) != 0 {
		t.Error("nonsense was passed on")
	}
	for i := range burst { // a reader leaves in the middle of a burst
		f.hear("sig."+string(org)+".n", fmt.Append(nil, i))
	}
	stop()
	stop()
	for range notes { // what waits in the channel; then it is closed
	}
	if _, open := <-notes; open {
		t.Error("not closed")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, open := <-foreign; open {
		t.Error("not closed")
	}
	if ch, _ := f.Subscribe(org, 2); len(ch) != 0 {
		t.Error("a note after the end")
	} else if _, open := <-ch; open {
		t.Error("open after the end")
	}
}
