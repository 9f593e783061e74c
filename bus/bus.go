// Package bus carries wake-ups: small messages that name rows by id and tell consumers to
// look at the database. It is NATS JetStream, either embedded in this process without any
// listening socket or an external server, with the same code for both.
//
// Nothing lives only here. The whole store may be deleted at any time: what matters is in
// PostgreSQL, and internal/events publishes again whatever the stream no longer has.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tandemhq/tandem"
)

// Options say where the bus keeps its messages and how it watches itself.
type Options struct {
	// URL of an external NATS server with JetStream; empty runs one inside this process.
	URL string
	// Dir is where the embedded server keeps its store. It is created with mode 0700 and
	// held by one process at a time. Not used with URL.
	Dir string
	// MaxStore bounds the stream in bytes; 0 means 1 GiB. A full stream refuses new messages
	// (they wait in the outbox) rather than dropping old ones.
	MaxStore int64
	// Replicas of the stream on an external cluster; 0 means 1.
	Replicas int
	// ProbeEvery is how often Run proves with a real publish that the bus works; 0 means 10 s.
	ProbeEvery time.Duration
	// Unheard, when set, is asked after each handled message whether the server is not to hear of it, as when an
	// acknowledgement is lost; the message then comes again soon. nil in production.
	Unheard func(m Msg) bool
	// Logger receives warnings of the server and of the watchdog; nil means slog.Default.
	Logger *slog.Logger
}

const (
	streamName   = "TANDEM"
	probeSubject = "probe.tandem" // in the same stream, because a full disk wedges one stream and spares others

	maxAge       = 72 * time.Hour
	dedupeWindow = time.Minute // the server keeps 200 bytes of memory for each id in it; a publish is repeated within seconds, and what is told twice later, consumers skip
	syncInterval = time.Second
	maxPayload   = 1 << 20
	defaultStore = 1 << 30

	openTimeout     = time.Minute // a large store takes a while to read
	readyTimeout    = 5 * time.Second
	connectTimeout  = 5 * time.Second
	requestTimeout  = 2 * time.Second
	publishTimeout  = 5 * time.Second
	shutdownTimeout = 10 * time.Second
)

// Ack says where the stream keeps a published message.
type Ack struct {
	Seq       uint64    // position in the stream
	Epoch     time.Time // when the stream was created, to the microsecond: positions of another epoch mean nothing
	Duplicate bool      // the stream already had a message with this id; Seq is that one's
}

// State says what the stream holds.
type State struct {
	Epoch    time.Time // when the stream was created, to the microsecond
	First    uint64    // position of the oldest message; Last+1 when there is none
	Last     uint64    // position of the newest message ever taken
	Messages uint64    // less than Last+1-First when messages inside were lost
}

// Bus is a connection to the stream. Its methods may be called from any goroutine, and all
// of them outlive a restart of the server.
type Bus struct {
	o    Options
	log  *slog.Logger
	lock *os.File // held for the life of an embedded server

	nc   *nats.Conn
	js   jetstream.JetStream
	kick chan error // a failed publish asks the watchdog to look at once

	mu        sync.Mutex
	srv       *server.Server // the embedded server that runs now; nil while it restarts
	epoch     time.Time
	lost      context.Context // done when the connection of now is gone
	lose      context.CancelFunc
	sick      error // why the last probe failed; nil while healthy
	probed    time.Time
	watched   bool // Run is running, so that probed has to stay fresh
	restarts  int
	listeners map[*listener]struct{}
	closed    bool
}

// Open starts the embedded server or connects to the external one, creates the stream when
// it is missing, and proves with one publish that it works. A directory that another process
// holds is Conflict; a server that cannot be used is Unavailable. A store that cannot be read
// is set aside and replaced by an empty one, because nothing lives only there.
func Open(ctx context.Context, o Options) (*Bus, error) {
	if o.MaxStore <= 0 {
		o.MaxStore = defaultStore
	}
	if o.Replicas <= 0 {
		o.Replicas = 1
	}
	if o.ProbeEvery <= 0 {
		o.ProbeEvery = 10 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	b := &Bus{o: o, log: o.Logger.With("part", "bus"), kick: make(chan error, 1), listeners: map[*listener]struct{}{}}
	b.lost, b.lose = context.WithCancel(context.Background())
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := b.open(ctx); err != nil {
		cctx, stop := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer stop()
		return nil, errors.Join(err, b.Close(cctx))
	}
	return b, nil
}

func (b *Bus) open(ctx context.Context) error {
	if b.o.URL == "" {
		if err := b.takeDir(); err != nil {
			return err
		}
		if err := b.startServer(); err != nil {
			b.log.WarnContext(ctx, "the message store cannot be opened; starting with an empty one", "err", err)
			if err := b.startEmpty(); err != nil {
				return err
			}
		}
	}
	if err := b.connect(); err != nil {
		return unavailable(err)
	}
	err := b.ready(ctx)
	if err == nil || b.o.URL != "" || ctx.Err() != nil {
		return err
	}
	b.log.WarnContext(ctx, "the message store does not work; starting with an empty one", "err", err)
	if err := b.startEmpty(); err != nil {
		return err
	}
	return b.ready(ctx)
}

func (b *Bus) connect() error {
	opts := []nats.Option{
		nats.Name("tandem"), nats.Timeout(connectTimeout), nats.MaxReconnects(-1),
		nats.ReconnectBufSize(-1), // a publish during an outage fails at once instead of waiting unseen
		nats.DisconnectErrHandler(func(*nats.Conn, error) { b.disconnected() }),
		nats.ReconnectHandler(func(*nats.Conn) { b.missed() }),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			subject := ""
			if s != nil {
				subject = s.Subject
			}
			b.log.Warn("bus connection", "subject", subject, "err", err)
		}),
	}
	url := b.o.URL
	if url == "" {
		opts = append(opts, nats.InProcessServer(b), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectJitter(0, 0), nats.IgnoreDiscoveredServers())
	} else {
		opts = append(opts, nats.ReconnectWait(time.Second), nats.PingInterval(20*time.Second), nats.MaxPingsOutstanding(2))
	}
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return fmt.Errorf("make the JetStream client: %w", err)
	}
	b.nc, b.js = nc, js
	return nil
}

// InProcessConn hands the NATS client a connection to whichever embedded server runs now, so
// that one client outlives any number of servers.
func (b *Bus) InProcessConn() (net.Conn, error) {
	b.mu.Lock()
	srv := b.srv
	b.mu.Unlock()
	if srv == nil {
		return nil, errors.New("the embedded server is not running")
	}
	return srv.InProcessConn()
}

// ready waits for the connection, makes sure of the stream and publishes once.
func (b *Bus) ready(ctx context.Context) error {
	for !b.nc.IsConnected() {
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return unavailable(fmt.Errorf("wait for the connection: %w", err))
		}
	}
	if err := b.ensureStream(ctx); err != nil {
		return unavailable(err)
	}
	err := b.probe(ctx)
	b.noteProbe(err)
	return err
}

func (b *Bus) ensureStream(ctx context.Context) error {
	s, err := b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: streamName, Description: "Wake-ups by id; PostgreSQL holds the truth.",
		Subjects: []string{"ev.>", "out.>", probeSubject}, Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy,
		MaxAge: maxAge, MaxBytes: b.o.MaxStore, Discard: jetstream.DiscardNew, Duplicates: dedupeWindow, Replicas: b.o.Replicas,
	})
	if err != nil {
		return fmt.Errorf("create the stream: %w", err)
	}
	b.setEpoch(s.CachedInfo().Created)
	return nil
}

// State asks the server what the stream holds.
func (b *Bus) State(ctx context.Context) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := b.js.Stream(ctx, streamName)
	if err != nil {
		return State{}, unavailable(fmt.Errorf("look at the stream: %w", err))
	}
	in := s.CachedInfo()
	b.setEpoch(in.Created)
	st := State{Epoch: micro(in.Created), First: in.State.FirstSeq, Last: in.State.LastSeq, Messages: in.State.Msgs}
	if st.Messages == 0 {
		st.First = st.Last + 1
	}
	return st, nil
}

func (b *Bus) setEpoch(t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.epoch = micro(t)
}

// micro is what a timestamptz column can hold of t, so that an epoch read back compares equal.
func micro(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// Close ends the connection, stops an embedded server and lets go of its directory. Stop
// consumers first. Calling it again does nothing.
func (b *Bus) Close(ctx context.Context) error {
	b.mu.Lock()
	done := b.closed
	b.closed = true
	b.mu.Unlock()
	if done {
		return nil
	}
	if b.nc != nil {
		if b.nc.IsConnected() {
			if err := b.nc.FlushWithContext(ctx); err != nil {
				b.log.WarnContext(ctx, "last messages to the bus not confirmed", "err", err)
			}
		}
		b.nc.Close()
	}
	b.mu.Lock()
	lose := b.lose // the client may just be reporting the end of its connection, which replaces it
	b.mu.Unlock()
	lose()
	err := b.stopServer(ctx)
	if b.lock != nil {
		// Closing alone would not be enough: a child that is just being forked shares the lock until its exec.
		err = errors.Join(err, syscall.Flock(int(b.lock.Fd()), syscall.LOCK_UN), b.lock.Close())
	}
	return err
}

func unavailable(err error) error {
	return &tandem.Error{Kind: tandem.Unavailable, Msg: "The message bus is away for a moment.", RetryAfter: time.Second, Err: err}
}

// pause waits for d or until ctx ends, whichever is first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
