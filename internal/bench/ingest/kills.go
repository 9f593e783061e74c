package ingest

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tandemhq/tandem/internal/bench"
)

const (
	killClients = 64
	hotContacts = 20
	again       = 5 * time.Millisecond // before a lead that was not confirmed is sent again
)

// kills has clients write leads and send each again until it is confirmed, a tenth of them twice at the same time, while
// the process is killed again and again: half of the time with few contacts who write much. Then it counts (G18).
func kills(ctx context.Context, e *bench.Env, w *bench.World) ([]bench.Row, error) {
	n := bench.Size(e, 2, 20)
	t, err := e.Start(ctx, bench.Launch{Database: w.Database})
	if err != nil {
		return nil, err
	}
	defer func() { t.Kill() }()
	u, err := url.Parse(t.URL)
	if err != nil {
		return nil, err
	}
	launch := bench.Launch{Database: w.Database, Data: t.Data, Addr: u.Host}

	began := time.Now()
	var contacts atomic.Int64
	contacts.Store(bench.Contacts)
	loaded, stop := context.WithCancel(ctx)
	defer stop()
	d := &driver{contacts: &contacts}
	var wg sync.WaitGroup
	list := w.Senders(e, t.URL, killClients)
	for _, s := range list {
		wg.Go(func() { d.drive(ctx, loaded, s) })
	}
	r := e.Rand("kills")
	var slowest time.Duration
	for i := range n {
		if i == n/2 {
			contacts.Store(hotContacts)
		}
		time.Sleep(time.Duration(100+r.IntN(500)) * time.Millisecond)
		t.Kill()
		if t, err = e.Start(ctx, launch); err != nil {
			return nil, fmt.Errorf("start after kill %d: %w", i+1, err)
		}
		slowest = max(slowest, t.Ready)
	}
	time.Sleep(300 * time.Millisecond)
	stop()
	wg.Wait()
	for _, s := range list {
		s.Close()
	}
	if _, err := t.Quiet(ctx, w.Pool); err != nil {
		return nil, err
	}
	accepted, _ := bench.Journal(list)
	f, err := bench.Count(ctx, w.Pool, began, accepted)
	if err != nil {
		return nil, err
	}
	wrong := f.Check(0) // what ended without an answer was sent again until it was confirmed
	row := bench.Row{
		Goal: "G18", Name: fmt.Sprintf("kill -9 ×%d under %d clients, a tenth sent twice at once, half with %d hot contacts", n, killClients, hotContacts),
		Want: "0 lost, 0 doubled, 0 refused",
		Got:  fmt.Sprintf("%d lost, %d doubled, %d refused", f.Accepted-f.Stored, max(0, f.Messages-f.Accepted), d.refused.Load()),
		Note: fmt.Sprintf("%d leads confirmed, %d requests repeated, %d sent twice, %.0f s; slowest start %d ms", f.Accepted, d.repeated.Load(), d.twice.Load(), time.Since(began).Seconds(), slowest.Milliseconds()),
		Held: wrong == nil && d.refused.Load() == 0 && d.gaveUp.Load() == 0,
	}
	if wrong != nil {
		row.Note += ": " + wrong.Error()
	}
	if m := d.said.Load(); m != nil {
		row.Note += ": " + *m
	}
	return []bench.Row{row}, t.Stop()
}

type driver struct {
	contacts *atomic.Int64
	last     atomic.Pointer[bench.Lead] // what somebody is just sending
	repeated atomic.Int64
	twice    atomic.Int64
	refused  atomic.Int64 // 4xx, and 5xx that do not say "try again"
	gaveUp   atomic.Int64
	said     atomic.Pointer[string] // by the first refusal
}

// drive writes until loaded ends; what it began it finishes.
func (d *driver) drive(ctx, loaded context.Context, s *bench.Sender) {
	for loaded.Err() == nil {
		l := s.Known(1 + s.R.IntN(int(d.contacts.Load())))
		if other := d.last.Load(); other != nil && s.R.IntN(10) == 0 {
			l = *other
			d.twice.Add(1)
		} else {
			l.Body = append([]byte(nil), l.Body...) // somebody else may send it too
			d.last.Store(&l)
		}
		for try := 0; ; try++ {
			if try > 0 {
				d.repeated.Add(1)
				time.Sleep(again)
			}
			rctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			status, err := s.Send(rctx, l)
			cancel()
			if err == nil {
				break
			}
			if status != 0 && status != 503 {
				text := err.Error()
				d.said.CompareAndSwap(nil, &text)
				d.refused.Add(1)
			}
			if ctx.Err() != nil || try > 5000 {
				d.gaveUp.Add(1)
				return
			}
		}
	}
}
