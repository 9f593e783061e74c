package events

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"

	"github.com/tandemhq/tandem"
)

// Note is something that just happened, for a live view. It is a hint: the reader looks at the
// database for what is true now.
type Note struct {
	Fact   Fact   // of an event; empty for a signal
	Signal string // what follows sig.<org>. in a signal's subject; empty for an event
	Body   []byte // of a signal
	Lost   bool   // notes were lost, so read everything anew
}

// Fanout hands every event and signal on the bus to the live views of its organization. One per
// process is enough.
type Fanout struct {
	stops []func()

	mu   sync.Mutex
	orgs map[tandem.ID]map[*watcher]struct{}
	shut bool
}

// watcher is one reader. Its notes are shared with the others: an idle reader keeps room for pointers only, and few.
// What a burst brings beyond that waits in spill, from where pump hands it on.
type watcher struct {
	ch      chan *Note
	spill   []*Note
	pumping bool          // pump runs, and alone sends and closes
	gone    chan struct{} // closed when the reader has left
}

// spillFactor is by how much a burst may exceed a reader's buffer.
const spillFactor = 16

// NewFanout starts to listen, with the bus's Listen, to ev.> and sig.>.
func NewFanout(listen func(subject string, fn func(subject string, body []byte)) (stop func(), err error)) (*Fanout, error) {
	f := &Fanout{orgs: map[tandem.ID]map[*watcher]struct{}{}}
	for _, subject := range []string{"ev.>", "sig.>"} {
		stop, err := listen(subject, f.hear)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		f.stops = append(f.stops, stop)
	}
	return f, nil
}

// Subscribe returns a channel of org's notes that holds at most buffer of them (at least 2), and
// a function that ends it and closes the channel. Behind it a burst of sixteen times as many may
// wait. A reader that is too slow for that loses what it has not read and gets one note with Lost
// set in its place; so does everybody after the connection to the bus was away. Nobody ever waits for a reader. A note is shared by its readers: do not change it.
func (f *Fanout) Subscribe(org tandem.ID, buffer int) (<-chan *Note, func()) {
	w := &watcher{ch: make(chan *Note, max(buffer, 2)), gone: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shut {
		close(w.ch)
		return w.ch, func() {}
	}
	if f.orgs[org] == nil {
		f.orgs[org] = map[*watcher]struct{}{}
	}
	f.orgs[org][w] = struct{}{}
	return w.ch, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if _, ok := f.orgs[org][w]; !ok {
			return
		}
		delete(f.orgs[org], w)
		if len(f.orgs[org]) == 0 {
			delete(f.orgs, org)
		}
		w.leave()
	}
}

// leave ends the reader's notes. f.mu is held.
func (w *watcher) leave() {
	close(w.gone)
	if !w.pumping {
		close(w.ch)
	}
}

func (w *watcher) left() bool {
	select {
	case <-w.gone:
		return true
	default:
		return false
	}
}

// pass gives the reader a note, now or by pump, in order. f.mu is held.
func (f *Fanout) pass(w *watcher, n *Note) {
	switch {
	case w.pumping && len(w.spill) >= spillFactor*cap(w.ch):
		w.overflow()
		w.spill = append(w.spill, n)
	case w.pumping:
		w.spill = append(w.spill, n)
	default:
		select {
		case w.ch <- n:
		default:
			w.spill, w.pumping = append(w.spill, n), true
			go f.pump(w)
		}
	}
}

// pump hands on what spilled until nothing is left of it.
func (f *Fanout) pump(w *watcher) {
	for {
		f.mu.Lock()
		batch := w.spill
		w.spill = nil
		w.pumping = len(batch) > 0
		if w.left() && !w.pumping {
			close(w.ch) // leave has left it to us
		}
		f.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		for _, n := range batch {
			select {
			case w.ch <- n: // nobody else sends while pumping is set
			case <-w.gone:
			}
		}
	}
}

// hear takes one message of the bus. An empty subject says that messages were missed.
func (f *Fanout) hear(subject string, body []byte) {
	if subject == "" {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, ws := range f.orgs {
			for w := range ws {
				w.overflow()
			}
		}
		return
	}
	token := strings.SplitN(subject, ".", 3)
	if len(token) < 3 {
		return
	}
	org := tandem.ID(token[1])
	f.mu.Lock()
	defer f.mu.Unlock()
	ws := f.orgs[org]
	if len(ws) == 0 {
		return
	}
	n := &Note{Signal: token[2], Body: body}
	if token[0] == "ev" {
		n = &Note{}
		if json.Unmarshal(body, &n.Fact) != nil || n.Fact.Org != org {
			return
		}
	}
	for w := range ws {
		f.pass(w, n)
	}
}

var lost = Note{Lost: true}

// overflow throws away what the reader has not read, but for what pump has handed on or is about to, and says so behind
// that. f.mu is held.
func (w *watcher) overflow() {
	if w.pumping {
		w.spill = []*Note{&lost}
		return
	}
	for drained := false; !drained; {
		select {
		case <-w.ch:
		default:
			drained = true
		}
	}
	w.ch <- &lost
}

// Close stops listening and closes the channels of all readers.
func (f *Fanout) Close() error {
	for _, stop := range f.stops {
		stop()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shut = true
	for org, ws := range f.orgs {
		for w := range ws {
			w.leave()
		}
		delete(f.orgs, org)
	}
	return nil
}
