// Package live measures live streams: how long after a message its frame arrives at each of many readers, and what an
// idle reader costs in memory.
package live

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httputil"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// audience is many readers of live streams. Each is one connection; it parses no more than it must, because reader and
// server share the processors.
type audience struct {
	conns []net.Conn
	wg    sync.WaitGroup

	mu      sync.Mutex
	took    []time.Duration // from the fact's time to its frame, of all readers
	resyncs int             // readers that were told to start over
	ended   int             // streams that ended before leave
	leaving bool
}

// dialing is how many readers connect at the same time.
const dialing = 50

// join connects n readers and returns when each has got its first frame. key picks the API key of the nth.
func join(ctx context.Context, url string, n int, key func(n int) string) (*audience, error) {
	addr, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	a := &audience{conns: make([]net.Conn, n)}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(dialing)
	for i := range n {
		g.Go(func() error {
			var d net.Dialer
			c, err := d.DialContext(gctx, "tcp", addr)
			if err != nil {
				return fmt.Errorf("connect reader %d: %w", i, err)
			}
			a.conns[i] = c
			_ = c.SetReadDeadline(time.Now().Add(20 * time.Second)) // a connection that was just made takes one
			fmt.Fprintf(c, "GET /%s HTTP/1.1\r\nHost: %s\r\nX-API-Key: %s\r\nAccept: text/event-stream\r\n\r\n", path, addr, key(i))
			r, err := hello(bufio.NewReaderSize(c, 4<<10))
			if err != nil {
				return fmt.Errorf("reader %d: %w", i, err)
			}
			_ = c.SetReadDeadline(time.Time{})
			a.wg.Go(func() { a.read(r) })
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		a.leave()
		return nil, err
	}
	return a, nil
}

// hello reads up to the end of the first frame and returns a reader of those that follow.
func hello(r *bufio.Reader) (*bufio.Reader, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("read the status: %w", err)
	}
	if !strings.Contains(line, " 200 ") {
		return nil, fmt.Errorf("the stream was answered with %s", strings.TrimSpace(line))
	}
	for strings.TrimSpace(line) != "" {
		if line, err = r.ReadString('\n'); err != nil {
			return nil, fmt.Errorf("read the headers: %w", err)
		}
	}
	// A chunk may end in the middle of a frame.
	r = bufio.NewReaderSize(httputil.NewChunkedReader(r), 4<<10)
	for {
		if line, err = r.ReadString('\n'); err != nil {
			return nil, fmt.Errorf("read the first frame: %w", err)
		}
		if strings.HasPrefix(line, "data: ") {
			return r, nil
		}
	}
}

var (
	dataField   = []byte("data: ")
	resyncEvent = []byte("event: resync")
	received    = []byte(`"noun":"message","verb":"received"`)
	atField     = []byte(`"at":"`)
)

func (a *audience) read(r *bufio.Reader) {
	for {
		line, err := r.ReadSlice('\n')
		now := time.Now()
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			a.mu.Lock()
			if !a.leaving {
				a.ended++
			}
			a.mu.Unlock()
			return
		}
		switch {
		case bytes.HasPrefix(line, resyncEvent):
			a.mu.Lock()
			a.resyncs++
			a.mu.Unlock()
		case bytes.HasPrefix(line, dataField) && bytes.Contains(line, received):
			at, ok := timeOf(line)
			if !ok {
				continue
			}
			a.mu.Lock()
			a.took = append(a.took, now.Sub(at))
			a.mu.Unlock()
		}
	}
}

// timeOf is when the fact in a frame was written: the beginning of its transaction, so that what is measured from it is
// a little more than from its commit.
func timeOf(frame []byte) (time.Time, bool) {
	_, rest, ok := bytes.Cut(frame, atField)
	if !ok {
		return time.Time{}, false
	}
	text, _, ok := bytes.Cut(rest, []byte{'"'})
	if !ok {
		return time.Time{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, string(text))
	return at, err == nil
}

// take returns and forgets what was measured.
func (a *audience) take() (took []time.Duration, resyncs, ended int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	took, resyncs, ended = a.took, a.resyncs, a.ended
	a.took, a.resyncs, a.ended = nil, 0, 0
	return took, resyncs, ended
}

func (a *audience) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.took)
}

// leave ends all streams.
func (a *audience) leave() {
	a.mu.Lock()
	a.leaving = true
	a.mu.Unlock()
	for _, c := range a.conns {
		if c != nil {
			c.Close()
		}
	}
	a.wg.Wait()
}
