// Package hub puts Tandem's parts together: it opens the database, the bus and the keys,
// starts the roles that this process has, and stops everything in the order in which
// nothing is lost.
package hub

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents"
	"github.com/tandemhq/tandem/agents/llm"
	"github.com/tandemhq/tandem/bus"
	"github.com/tandemhq/tandem/crm/report"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/blob"
	"github.com/tandemhq/tandem/internal/egress"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/local"
	"github.com/tandemhq/tandem/internal/seal"
)

// Hub is a running Tandem. Its parts are open for those who start it: the demo and tests.
type Hub struct {
	Config      Config
	DB          *pg.DB
	Bus         *bus.Bus
	Sealer      *seal.Sealer
	Fanout      *events.Fanout
	Inbox       *inbox.Inbox
	Batcher     *inbox.Batcher
	Switchboard *inbox.Switchboard
	Embedder    llm.Embedder
	Runner      *agents.Runner
	Drain       *events.Drain
	Blobs       blob.Store

	intake   *pg.DB // of the batcher alone
	relay    *pg.DB // of the drain: screens, sends and turns wait for what it tells
	work     *pg.DB // of whatever nobody waits for: turns, sends, timers, counts
	log      *slog.Logger
	egress   *egress.Client
	courier  events.Subscription
	indexer  events.Subscription
	rollups  *report.Rollups
	facts    *prometheus.CounterVec
	lock     *os.File
	cluster  *cluster
	listener net.Listener
	server   *http.Server
	hangUp   context.CancelFunc // ends the context of every request
	crew     []*crew            // in stopping order
	failed   chan error
	stopOnce sync.Once
	stopErr  error
}

const database = "tandem"

// Start opens everything and returns once the hub answers. What it opened is closed
// again when it fails. The error is one sentence that says what to mend.
func Start(ctx context.Context, c Config) (_ *Hub, err error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	h := &Hub{Config: c, log: c.Logger, failed: make(chan error, 1)}
	defer func() {
		if err != nil {
			sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
			defer cancel()
			err = errors.Join(err, h.Stop(sctx))
		}
	}()
	if err := h.takeData(); err != nil {
		return nil, err
	}
	if c.has(RoleAPI) {
		if h.listener, err = c.listen(); err != nil {
			return nil, err
		}
	}
	if h.listener != nil && c.OnListen != nil {
		c.OnListen(h.listener.Addr(), &h.Config)
	}
	if h.Sealer, err = h.openKeys(); err != nil {
		return nil, err
	}
	if h.Blobs, err = h.Config.Blobs(); err != nil {
		return nil, err
	}
	if err := h.openDatabase(ctx); err != nil {
		return nil, err
	}
	if err := h.openBus(ctx); err != nil {
		return nil, err
	}
	if err := h.assemble(); err != nil {
		return nil, err
	}
	if err := h.startRoles(ctx); err != nil {
		return nil, err
	}
	return h, nil
}

// takeData makes the data directory ours for as long as we live.
func (h *Hub) takeData() error {
	dir := h.Config.Data
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return tandem.Wrap(tandem.Invalid, err, "The data directory %s cannot be made (%s).", dir, reason(err))
	}
	f, err := os.OpenFile(filepath.Join(dir, "tandem.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return tandem.Wrap(tandem.Invalid, err, "The data directory %s cannot be written (%s).", dir, reason(err))
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return tandem.Wrap(tandem.Conflict, err, "Another Tandem is running on the data directory %s; stop it, or choose another with --data.", dir)
	}
	h.lock = f
	return nil
}

func (h *Hub) openKeys() (*seal.Sealer, error) {
	if h.Config.MasterKey == "" {
		return seal.LoadOrCreate(filepath.Join(h.Config.Data, "master.key"))
	}
	master, err := hex.DecodeString(h.Config.MasterKey)
	if err != nil {
		return nil, tandem.Errorf(tandem.Invalid, badMasterKey)
	}
	return seal.Open(master)
}

// Connections of each kind of work, so that none can take all: a flood of turns keeps no message from being stored, and
// requests that wait for each other's locks keep neither from going on.
const (
	apiConns    = 8
	intakeConns = 3 // the batcher's two writers and whatever is stored alone
	relayConns  = 2 // what is told next, and what is sealed
	workConns   = 8
)

// openDatabase connects to the operator's database, or starts the private one.
func (h *Hub) openDatabase(ctx context.Context) (err error) {
	c := h.Config
	url, owner := c.DatabaseURL, c.MigrateURL
	if url == "" {
		h.cluster, err = startCluster(ctx, local.Options{Dir: filepath.Join(c.Data, "postgres"), Fast: c.Unsafe}, h.log)
		if err != nil {
			return err
		}
		url, owner = h.cluster.dsn(local.App), h.cluster.dsn(local.Owner)
	}
	// Opened before the migrations: a wrong role or a missing extension would fail them in words that say less.
	if h.DB, err = pg.Open(ctx, pg.Config{URL: url, MaxConns: apiConns, AllowUnsafe: c.Unsafe, Logger: c.Logger}); err != nil {
		return err
	}
	for _, p := range []struct {
		db    **pg.DB
		conns int32
	}{{&h.intake, intakeConns}, {&h.relay, relayConns}, {&h.work, workConns}} {
		if *p.db, err = h.DB.Beside(ctx, p.conns); err != nil {
			return err
		}
	}
	if owner != "" {
		if err := pg.Migrate(ctx, owner); err != nil {
			return err
		}
	}
	applied, known, err := pg.SchemaVersion(ctx, url)
	if err != nil {
		return err
	}
	switch {
	case applied < known:
		return tandem.Errorf(tandem.Invalid, "The database schema is at version %d and this Tandem needs %d; run: tandem migrate --migrate-url URL", applied, known)
	case applied > known:
		return tandem.Errorf(tandem.Conflict, "The database schema is at version %d, newer than this Tandem knows (%d); run the newer Tandem.", applied, known)
	}
	return nil
}

func (h *Hub) openBus(ctx context.Context) (err error) {
	c := h.Config
	h.Bus, err = bus.Open(ctx, bus.Options{URL: c.NATSURL, Dir: filepath.Join(c.Data, "nats"), Replicas: c.Replicas, Unheard: c.Unheard, Logger: c.Logger})
	if err != nil && c.NATSURL != "" {
		return tandem.Wrap(tandem.Unavailable, err, "The NATS server at %s cannot be used; check --nats-url, and that the server runs with JetStream.", withoutPassword(c.NATSURL))
	}
	return err
}

// withoutPassword shows where an address leads and not what opens it.
func withoutPassword(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "--nats-url"
	}
	return u.Host
}

// URL is where the hub answers, such as http://localhost:8080; empty without the api role.
func (h *Hub) URL() string {
	if h.listener == nil {
		return ""
	}
	host, port, err := net.SplitHostPort(h.listener.Addr().String())
	if err != nil {
		return "http://" + h.listener.Addr().String()
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsLoopback() || ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// Failed delivers the error of a part that cannot go on; the hub should be stopped then.
func (h *Hub) Failed() <-chan error { return h.failed }

const stopTimeout = 15 * time.Second

// Stop ends the hub: intake first, then turns, then sends, then the drain, the bus and at
// last the database. ctx bounds the wait; what has not ended by then is cut off, and the
// next start finds it in the database. A second call returns the first one's result.
func (h *Hub) Stop(ctx context.Context) error {
	h.stopOnce.Do(func() { h.stopErr = h.stop(ctx) })
	return h.stopErr
}

// graceful is how long requests under way may take to end by themselves. Ours answer within milliseconds; a browser's
// spare connection, on which nothing was ever asked, counts as under way too.
const graceful = 3 * time.Second

// stopServer takes no more requests and lets those under way end. Live streams end at once, for Shutdown tells the
// fanout that feeds them.
func (h *Hub) stopServer(ctx context.Context) error {
	defer h.hangUp()
	ctx, cancel := context.WithTimeout(ctx, graceful)
	defer cancel()
	if err := h.server.Shutdown(ctx); err != nil {
		h.hangUp()
		return h.server.Close()
	}
	return nil
}

func (h *Hub) stop(ctx context.Context) error {
	var errs []error
	if h.server != nil {
		errs = append(errs, h.stopServer(ctx))
	} else if h.listener != nil {
		h.listener.Close()
	}
	for _, c := range h.crew {
		c.stop(ctx)
	}
	if h.Fanout != nil {
		errs = append(errs, h.Fanout.Close())
	}
	if h.egress != nil {
		h.egress.Close()
	}
	if h.Bus != nil {
		errs = append(errs, h.Bus.Close(ctx))
	}
	for _, db := range []*pg.DB{h.work, h.relay, h.intake, h.DB} {
		if db != nil {
			db.Close()
		}
	}
	if h.cluster != nil {
		errs = append(errs, h.cluster.stop(ctx))
	}
	if h.Blobs != nil {
		errs = append(errs, h.Blobs.Close())
	}
	if h.lock != nil {
		// Closing alone would not be enough: a child that is just being forked shares the lock until its exec.
		errs = append(errs, syscall.Flock(int(h.lock.Fd()), syscall.LOCK_UN), h.lock.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}
