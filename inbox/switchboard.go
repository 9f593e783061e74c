package inbox

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/internal/pg"
)

const (
	recheckEvery  = 3 * time.Second  // how old an open channel's settings may be
	refreshEvery  = 10 * time.Second // how often Run looks for channels that nobody told it of
	stopTimeout   = 10 * time.Second // for an adapter's Run to return
	firstPause    = time.Second      // before a failed adapter runs again
	longestPause  = time.Minute
	steadyAfter   = 5 * time.Minute // an adapter that ran this long starts from firstPause again
	maxKnownDoors = 10_000
)

// Switchboard keeps the active channels of all organizations open. Where it runs, it also
// receives: it runs each adapter, and again after a pause when one fails. Settings that
// change are noticed within seconds, in every process.
type Switchboard struct {
	in *Inbox

	opening sync.Mutex // one opening or closing at a time
	mu      sync.Mutex
	open    map[tandem.ID]*line
	keys    map[string]doorway // by public key
	run     context.Context    // set while Run runs
	crew    sync.WaitGroup     // adapters that run
}

// line is an open channel.
type line struct {
	org     tandem.ID
	id      tandem.ID
	version int64
	checked time.Time // guarded by Switchboard.mu
	channel channels.Channel
	host    *Host
	webhook http.Handler // nil: it answers no HTTP calls

	stop context.CancelFunc // nil: its adapter does not run; guarded by Switchboard.opening
	done chan struct{}
}

// doorway is the channel behind a public key.
type doorway struct{ org, channel tandem.ID }

// Get returns the open channel; NotFound when there is none, Unavailable while it is paused.
func (s *Switchboard) Get(ctx context.Context, org, channel tandem.ID) (channels.Channel, error) {
	l, err := s.get(ctx, org, channel)
	if err != nil {
		return nil, err
	}
	return l.channel, nil
}

// ByKey returns the channel behind a public key, as Get does, and its Host.
func (s *Switchboard) ByKey(ctx context.Context, key string) (channels.Channel, channels.Host, error) {
	l, err := s.byKey(ctx, key)
	if err != nil {
		return nil, nil, err
	}
	return l.channel, l.host, nil
}

// Webhook returns the handler of the channel behind a public key. A channel that answers
// no HTTP calls is NotFound, like one that does not exist.
func (s *Switchboard) Webhook(ctx context.Context, key string) (http.Handler, error) {
	l, err := s.byKey(ctx, key)
	if err != nil {
		return nil, err
	}
	if l.webhook == nil {
		return nil, noSuchChannel()
	}
	return l.webhook, nil
}

func noSuchChannel() error { return tandem.Errorf(tandem.NotFound, "There is no such channel.") }

const doorSQL = `SELECT org_id, record_id FROM doors WHERE kind = 'channel' AND key = @key`

func (s *Switchboard) byKey(ctx context.Context, key string) (*line, error) {
	s.mu.Lock()
	d, known := s.keys[key]
	s.mu.Unlock()
	if !known {
		sum := sha256.Sum256([]byte(key))
		err := s.in.o.DB.Global(ctx, func(ctx context.Context, tx pgx.Tx) error {
			err := tx.QueryRow(ctx, doorSQL, pgx.StrictNamedArgs{"key": sum[:]}).Scan(&d.org, &d.channel)
			if pg.NoRows(err) {
				return noSuchChannel()
			}
			if err != nil {
				return fmt.Errorf("find channel by key: %w", err)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		if len(s.keys) >= maxKnownDoors {
			clear(s.keys)
		}
		s.keys[key] = d
		s.mu.Unlock()
	}
	return s.get(ctx, d.org, d.channel)
}

func (s *Switchboard) get(ctx context.Context, org, channel tandem.ID) (*line, error) {
	if l, fresh := s.known(channel); fresh && l.org == org {
		return l, nil
	}
	return s.ensure(ctx, org, channel)
}

// known returns the open line, if any, and whether it was compared with the database lately.
func (s *Switchboard) known(channel tandem.ID) (l *line, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l = s.open[channel]
	return l, l != nil && time.Since(l.checked) < recheckEvery
}

// ensure compares the open channel with the database and opens, reopens or closes it.
func (s *Switchboard) ensure(ctx context.Context, org, channel tandem.ID) (*line, error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	old, fresh := s.known(channel)
	if old != nil && old.org != org {
		return nil, noSuchChannel()
	}
	if fresh {
		return old, nil
	}
	var v Channel
	err := s.in.o.DB.Read(tandem.AsSystem(ctx, org), func(ctx context.Context, tx pgx.Tx) (err error) {
		v, err = channelSet.Load(ctx, tx, channel, false)
		return err
	})
	switch {
	case tandem.KindOf(err) == tandem.Unavailable && old != nil:
		return old, nil // better yesterday's settings than none
	case tandem.KindOf(err) == tandem.NotFound:
		s.close(old)
		return nil, noSuchChannel()
	case err != nil:
		return nil, err
	case v.Status != "active":
		s.close(old)
		return nil, &tandem.Error{Kind: tandem.Unavailable, Msg: "This channel is paused.", RetryAfter: time.Minute}
	case old != nil && old.version == v.Version:
		s.mu.Lock()
		old.checked = time.Now()
		s.mu.Unlock()
		return old, nil
	}
	ch, err := s.in.Channels.openOne(ctx, org, v)
	if err != nil {
		s.remember(ctx, org, channel, tandem.Message(err))
		return nil, err
	}
	s.close(old)
	l := &line{org: org, id: channel, version: v.Version, checked: time.Now(), channel: ch, host: &Host{in: s.in, org: org, channel: channel, kind: v.Kind}}
	if w, ok := ch.(channels.Webhooker); ok {
		l.webhook = w.Webhook(l.host)
	}
	s.mu.Lock()
	run := s.run
	s.mu.Unlock()
	if run != nil {
		s.start(run, l)
	}
	s.mu.Lock()
	s.open[l.id] = l
	s.mu.Unlock()
	s.remember(ctx, org, channel, "")
	return l, nil
}

// start runs the line's adapter until it is closed.
func (s *Switchboard) start(run context.Context, l *line) {
	ctx, cancel := context.WithCancel(run)
	l.stop, l.done = cancel, make(chan struct{})
	s.crew.Go(func() {
		defer close(l.done)
		s.supervise(ctx, l)
	})
}

// close stops and closes a line; nil is none.
func (s *Switchboard) close(l *line) {
	if l == nil {
		return
	}
	s.mu.Lock()
	delete(s.open, l.id)
	s.mu.Unlock()
	if l.stop != nil {
		l.stop()
		select {
		case <-l.done:
		case <-time.After(stopTimeout):
			s.in.o.Logger.Error("a channel does not stop", "channel", l.id)
		}
	}
	if err := l.channel.Close(); err != nil {
		s.in.o.Logger.Warn("close channel", "channel", l.id, "err", err)
	}
}

// supervise runs an adapter, and again when it fails or panics.
func (s *Switchboard) supervise(ctx context.Context, l *line) {
	pause := firstPause
	for {
		began := time.Now()
		err := runOnce(ctx, l)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > steadyAfter {
			pause = firstPause
		}
		if err == nil {
			err = tandem.Errorf(tandem.Unavailable, "The channel stopped by itself.")
		}
		s.in.o.Logger.WarnContext(ctx, "a channel stopped and runs again soon", "channel", l.id, "pause", pause, "err", err)
		s.remember(ctx, l.org, l.id, tandem.Message(err))
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

func runOnce(ctx context.Context, l *line) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("channel panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return l.channel.Run(ctx, l.host)
}

// remember shows the team what is wrong with a channel. It is no change of the channel, so
// its version stays.
func (s *Switchboard) remember(ctx context.Context, org, channel tandem.ID, text string) {
	err := s.in.o.DB.Tx(tandem.AsSystem(ctx, org), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE channels SET last_error = @text WHERE org_id = @org AND id = @id AND last_error <> @text`,
			pgx.StrictNamedArgs{"org": org, "id": channel, "text": clip(clean(text), 500)})
		return err
	})
	if err != nil && ctx.Err() == nil {
		s.in.o.Logger.WarnContext(ctx, "remember a channel's error", "channel", channel, "err", err)
	}
}

// Run opens all active channels and receives until ctx ends; then every adapter has stopped
// and every channel is closed.
func (s *Switchboard) Run(ctx context.Context) error {
	s.mu.Lock()
	s.run = ctx
	s.mu.Unlock()
	kick := make(chan struct{}, 1)
	subscribed := map[tandem.ID]func(){}
	defer func() {
		for _, stop := range subscribed {
			stop()
		}
		s.opening.Lock()
		defer s.opening.Unlock()
		s.mu.Lock()
		s.run = nil
		lines := slices.Collect(maps.Values(s.open))
		s.mu.Unlock()
		for _, l := range lines {
			s.close(l)
		}
		s.crew.Wait()
	}()
	for {
		if err := s.refresh(ctx, subscribed, kick); err != nil && ctx.Err() == nil {
			s.in.o.Logger.WarnContext(ctx, "look for channels", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-kick:
		case <-time.After(refreshEvery):
		}
	}
}

const doorsSQL = `SELECT org_id, record_id FROM doors WHERE kind = 'channel' ORDER BY org_id, record_id`

// refresh looks at every channel there is. One that cannot be opened does not keep the
// others from it.
func (s *Switchboard) refresh(ctx context.Context, subscribed map[tandem.ID]func(), kick chan struct{}) error {
	type door struct{ OrgID, RecordID tandem.ID }
	var doors []door
	err := s.in.o.DB.Global(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, doorsSQL)
		if err != nil {
			return fmt.Errorf("list channels: %w", err)
		}
		doors, err = pgx.CollectRows(rows, pgx.RowToStructByName[door])
		if err != nil {
			return fmt.Errorf("list channels: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, d := range doors {
		if subscribed[d.OrgID] == nil && s.in.o.Fanout != nil {
			subscribed[d.OrgID] = s.listen(d.OrgID, kick)
		}
		s.stale(d.RecordID)
		l, err := s.ensure(ctx, d.OrgID, d.RecordID)
		switch tandem.KindOf(err) {
		case tandem.NotFound, tandem.Unavailable:
			continue // paused, or gone; a database that is away shows itself elsewhere
		}
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			s.in.o.Logger.WarnContext(ctx, "open channel", "channel", d.RecordID, "err", err)
			continue
		}
		s.opening.Lock()
		if l.stop == nil && ctx.Err() == nil { // opened by a call that came before Run
			s.start(ctx, l)
		}
		s.opening.Unlock()
	}
	return nil
}

// stale makes the next look at a channel go to the database.
func (s *Switchboard) stale(channel tandem.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.open[channel]; l != nil {
		l.checked = time.Time{}
	}
}

// listen kicks the refresh when a channel of the organization has changed.
func (s *Switchboard) listen(org tandem.ID, kick chan struct{}) func() {
	notes, stop := s.in.o.Fanout.Subscribe(org, watchBuffer)
	go func() {
		for n := range notes {
			if n.Lost || strings.HasPrefix(n.Fact.Topic, "channel.") {
				select {
				case kick <- struct{}{}:
				default:
				}
			}
		}
	}()
	return stop
}
