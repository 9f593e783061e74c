// Package dashboard measures the numbers of a dashboard of an organization with half of a million messages and more.
package dashboard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/tandemhq/tandem/internal/bench"
	"github.com/tandemhq/tandem/internal/bench/list"
)

// wantWithin is how long a dashboard may take, at the 95th percentile.
const wantWithin = 300 * time.Millisecond

// questions are what is asked: the usual days, and as many as there may be. The rows lie between June 2024 and 2026.
var questions = []struct{ name, query string }{
	{"30 days", "?to=2026-04-15&tz=Europe/Berlin"},
	{"366 days", "?to=2026-04-15&days=366&tz=America/New_York"},
}

// Run measures G19 of docs/performance.md.
func Run(ctx context.Context, e *bench.Env) (rows []bench.Row, err error) {
	d, err := list.OpenDataset(ctx, e, bench.Size(e, 100_000, 1_000_000))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close(ctx)) }()
	if err := furnish(ctx, e, d); err != nil {
		return nil, err
	}
	process, err := e.Start(ctx, bench.Launch{Database: d.Database})
	if err != nil {
		return nil, err
	}
	client := &http.Client{Timeout: time.Minute}
	defer func() {
		client.CloseIdleConnections()
		err = errors.Join(err, process.Stop())
	}()
	took := make([][]time.Duration, len(questions))
	var p50 [2]time.Duration
	err = e.Cells(len(questions), func(_, i int) error {
		var list []time.Duration
		from := time.Now().Add(e.Cell / 10)
		for until := from.Add(e.Cell); time.Now().Before(until) || len(list) < 20; {
			began := time.Now()
			if err := ask(ctx, client, process.URL+"/api/v1/metrics/dashboard"+questions[i].query, d.Key); err != nil {
				return err
			}
			if began.After(from) {
				list = append(list, time.Since(began))
			}
		}
		took[i] = append(took[i], bench.Percentile(list, 0.95))
		p50[i] = bench.Percentile(list, 0.5)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, q := range questions {
		rows = append(rows, bench.Within("G19", "dashboard of "+q.name+", p95, c=1", wantWithin, took[i],
			fmt.Sprintf("%d k messages, p50 %.0f ms", 2*d.Conversations/1000, bench.Millis(p50[i]))))
	}
	return rows, nil
}

// ask reads one dashboard and looks that there is something on it.
func ask(ctx context.Context, client *http.Client, url, key string) error {
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
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || strings.Contains(string(body), `"first":{"all":{"count":0,`) || !strings.Contains(string(body), `"source":"source 1"`) {
		return fmt.Errorf("%s: %s: %.2000s", url, res.Status, body)
	}
	return nil
}
