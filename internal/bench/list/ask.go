package list

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/bench"
)

// target is a Tandem that answers for a dataset.
type target struct {
	*dataset
	process *bench.Tandem
	client  *http.Client
	depths  []string  // cursors all over the list of open conversations
	rare    tandem.ID // a channel with one conversation in 1,000
	common  tandem.ID // a channel with half of them
	contact tandem.ID
	lead    tandem.ID

	stage        tandem.ID           // where most leads are
	recordDepths map[string][]string // cursors all over the list of a path
}

func start(ctx context.Context, e *bench.Env, d *dataset) (*target, error) {
	t := &target{dataset: d, client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	pool, err := d.Cluster.Pool(ctx, d.Name, 1)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	err = pool.QueryRow(ctx, `
		SELECT (SELECT id FROM channels WHERE org_id = $1 AND name = 'Fair'), (SELECT id FROM channels WHERE org_id = $1 AND name = 'Shop'), contact_id, lead_id
		FROM conversations WHERE org_id = $1 AND lead_id IS NOT NULL LIMIT 1`, d.org).Scan(&t.rare, &t.common, &t.contact, &t.lead)
	if err != nil {
		return nil, fmt.Errorf("find a channel: %w", err)
	}
	rows, err := pool.Query(ctx, `SELECT last_message_at AS at, id FROM conversations WHERE org_id = $1 AND state = 'open' ORDER BY 1, 2`, d.org)
	if err != nil {
		return nil, fmt.Errorf("read depths: %w", err)
	}
	open, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
		At time.Time
		ID tandem.ID
	}])
	if err != nil {
		return nil, fmt.Errorf("read depths: %w", err)
	}
	r := e.Rand("depths")
	for range 1000 { // none of the last 100, so that every page is full
		at := open[100+r.IntN(len(open)-100)]
		t.depths = append(t.depths, tandem.EncodeCursor(at.At.UTC().Format(time.RFC3339Nano), string(at.ID)))
	}
	t.process, err = e.Start(ctx, bench.Launch{Database: d.Database})
	return t, err
}

// get asks once and returns the body.
func (t *target) get(ctx context.Context, path string, body *bytes.Buffer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.process.URL+"/api/v1"+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("X-Api-Key", t.key)
	res, err := t.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body.Reset()
	if _, err := io.Copy(body, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", path, res.Status, body)
	}
	return nil
}

// items is how many conversations a page has; nothing else in it has such a field.
func items(body *bytes.Buffer) int { return bytes.Count(body.Bytes(), []byte(`"last_inbound_seq":`)) }

const pageSize = 50

// lane is what one worker has for itself.
type lane struct {
	r    *rand.Rand
	body bytes.Buffer
}

const mostWorkers = 16

// op asks for what, as up to mostWorkers workers, and fails when the answer is not the expected one.
func (t *target) op(e *bench.Env, what int) bench.Op {
	r := e.Rand(names[what])
	lanes := make([]lane, mostWorkers)
	for i := range lanes {
		lanes[i].r = rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
	}
	return func(ctx context.Context, w int) error {
		l := &lanes[w]
		switch what {
		case first:
			return t.page(ctx, url.Values{"state": {"open"}}, &l.body)
		case depth:
			return t.page(ctx, url.Values{"state": {"open"}, "cursor": {t.depths[l.r.IntN(len(t.depths))]}}, &l.body)
		}
		return t.get(ctx, "/conversations/counts", &l.body)
	}
}

func (t *target) page(ctx context.Context, query url.Values, body *bytes.Buffer) error {
	path := "/conversations?" + query.Encode()
	if err := t.get(ctx, path, body); err != nil {
		return err
	}
	if n := items(body); n != pageSize {
		return fmt.Errorf("%s: %d conversations on the page, not %d", path, n, pageSize)
	}
	return nil
}

// end stops the process and closes the connections.
func (t *target) end() error {
	t.client.CloseIdleConnections()
	err := t.process.Stop()
	t.Close()
	return err
}
