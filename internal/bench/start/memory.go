package start

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/tandemhq/tandem/internal/bench"
)

const loaders = 16

// memory is what the process holds when nobody asks anything of it, before and after it had much to do. PostgreSQL is
// not in it.
func memory(ctx context.Context, e *bench.Env, w *bench.World) ([]bench.Row, error) {
	idle := bench.Size(e, 8*time.Second, 20*time.Second)
	t, err := e.Start(ctx, bench.Launch{Database: w.Database})
	if err != nil {
		return nil, err
	}
	before, err := rest(ctx, t, idle)
	if err != nil {
		return nil, errors.Join(err, t.Stop())
	}
	n, peak, err := load(ctx, e, w, t)
	if err != nil {
		return nil, errors.Join(err, t.Stop())
	}
	after, err := rest(ctx, t, idle)
	if err != nil {
		return nil, errors.Join(err, t.Stop())
	}
	row := func(name string, mb float64, note string) bench.Row {
		return bench.Row{Goal: "G15", Name: name, Want: fmt.Sprintf("≤ %d MB", wantMemory), Got: fmt.Sprintf("%.1f MB", mb), Note: note, Held: mb <= wantMemory}
	}
	return []bench.Row{
		row(fmt.Sprintf("memory at rest, %v after the start", idle), before, "resident, without PostgreSQL"),
		row(fmt.Sprintf("memory at rest, %v after load", idle), after, fmt.Sprintf("after %d leads and pages of %d clients; %.0f MB at the end of the load", n, loaders, peak)),
	}, t.Stop()
}

// rest waits and returns the resident memory in MB.
func rest(ctx context.Context, t *bench.Tandem, idle time.Duration) (float64, error) {
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(idle):
	}
	b, err := t.RSS()
	return float64(b) / 1e6, err
}

// load posts leads and reads pages and returns how many of both were answered, and the memory right after them in MB.
func load(ctx context.Context, e *bench.Env, w *bench.World, t *bench.Tandem) (n int, peak float64, err error) {
	during := bench.Size(e, 2*time.Second, 10*time.Second)
	senders := w.Senders(e, t.URL, loaders/2)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: loaders}}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	var leads, pages bench.Sample
	wg.Go(func() {
		leads = bench.Closed(ctx, loaders/2, during, func(ctx context.Context, i int) error {
			_, err := senders[i].Send(ctx, senders[i].Known(1+senders[i].R.IntN(2000)))
			return err
		})
	})
	wg.Go(func() {
		pages = bench.Closed(ctx, loaders/2, during, func(ctx context.Context, _ int) error {
			return page(ctx, client, t.URL+"/api/v1/conversations", w.Orgs[0].Key)
		})
	})
	wg.Wait()
	for _, s := range senders {
		s.Close()
	}
	if s := leads.Failed + pages.Failed; s > 0 {
		return 0, 0, fmt.Errorf("load before memory is measured: %d failed: %w", s, errors.Join(leads.Err, pages.Err))
	}
	peak, err = rest(ctx, t, 0)
	return leads.N + pages.N, peak, err
}

func page(ctx context.Context, client *http.Client, url, key string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("X-Api-Key", key)
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("page: %s", res.Status)
	}
	return nil
}
