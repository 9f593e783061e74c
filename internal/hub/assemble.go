package hub

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents"
	"github.com/tandemhq/tandem/agents/llm"
	"github.com/tandemhq/tandem/agents/rules"
	"github.com/tandemhq/tandem/agents/tools"
	"github.com/tandemhq/tandem/api"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/channels/webchat"
	"github.com/tandemhq/tandem/channels/webhook"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/crm/report"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/blob/loose"
	"github.com/tandemhq/tandem/internal/egress"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/timers"
	"github.com/tandemhq/tandem/team"
	"github.com/tandemhq/tandem/web"
)

// Kinds lists every kind of channel. A new adapter is one folder and one word here.
var Kinds = []channels.Kind{webchat.Kind, webhook.Kind}

const defaultSendTimeout = 10 * time.Second

// assemble makes the parts; nothing runs yet.
func (h *Hub) assemble() (err error) {
	c := h.Config
	if h.Fanout, err = events.NewFanout(h.Bus.Listen); err != nil {
		return err
	}
	if c.BlobURL == "" && len(c.Roles) < len(AllRoles) && (c.has(RoleAPI) || c.has(RoleJobs)) {
		h.log.Warn("files are kept in a directory of this process alone; name a place that all processes share with --blob-url", "files", h.Blobs)
	}
	h.facts = newFacts()
	h.Embedder = llm.HashedNgrams{}
	h.Batcher = inbox.NewBatcher(h.intake, inbox.BatchOptions{Logger: c.Logger, Fault: c.Fault})
	h.egress = egress.New(egress.Options{Allow: c.AllowPrivate})
	h.Inbox = inbox.New(inbox.Options{
		DB: h.DB, Sealer: h.Sealer, Fanout: h.Fanout, Signal: h.Bus.Signal, Kinds: Kinds, HTTP: h.egress.HTTP(),
		Deliver: h.Batcher.Deliver, Logger: c.Logger,
	})
	h.Switchboard = h.Inbox.Switchboard
	models := &agents.Models{Rules: rules.Model{}, AllowPrivate: c.AllowPrivate}
	h.Runner = &agents.Runner{
		DB: h.work, Sealer: h.Sealer, Models: models.Open, Tools: tools.All(), Embedder: h.Embedder, Signal: h.Bus.Signal,
		Logger: c.Logger, Lease: c.Lease, Heartbeat: c.Lease / 3,
	}
	courier := &inbox.Courier{DB: h.work, Channels: h.Switchboard.Get, SendTimeout: c.SendTimeout, Logger: c.Logger, Fault: c.Fault}
	indexer := &agents.Indexer{DB: h.work, Embedder: h.Embedder}
	h.courier = events.Subscription{Name: "courier", Topics: []string{events.TopicOut}, Workers: 8, MaxDeliver: 10, Handle: courier.Deliver}
	h.indexer = indexer.Subscription()
	h.rollups = &report.Rollups{DB: h.work, Logger: c.Logger}
	h.Drain = &events.Drain{
		DB: h.relay, Publish: h.Bus.Publish, State: h.Bus.State, Logger: c.Logger,
		Consumers: []events.Subscription{h.Runner.Subscription(), h.indexer, h.courier, team.Notifier(), h.rollups.Subscription()},
	}
	return nil
}

// startRoles puts this process's share to work. The crews stop in the order of h.crew:
// whoever makes work for others stops before them.
func (h *Hub) startRoles(context.Context) error {
	c := h.Config
	intake, turns, sends, relay := newCrew("intake", h.log), newCrew("turns", h.log), newCrew("sends", h.log), newCrew("relay", h.log)
	h.crew = []*crew{intake, turns, sends, relay}

	here := timers.NewPresence(h.work, c.Logger)
	relay.run("presence", here.Run)
	relay.run("bus", h.Bus.Run)
	relay.run("batcher", h.Batcher.Run)
	relay.run("memory", giveBack)
	consume := func(cr *crew, s events.Subscription) {
		switch {
		case s.ApplyAll != nil:
			s.ApplyAll = h.countedAll(s.Name, s.ApplyAll)
		case s.Apply != nil:
			s.Apply = h.countedApply(s.Name, s.Apply)
		default:
			handle := h.counted(s.Name, s.Handle)
			s.Handle = func(ctx context.Context, f events.Fact) error { return handle(here.In(ctx), f) }
		}
		cr.run(s.Name, func(ctx context.Context) error { return events.Consume(ctx, h.work, h.Bus, s) })
		cr.run(s.Name+" again", func(ctx context.Context) error { return h.redeliver(ctx, s) })
	}
	if c.has(RoleJobs) {
		relay.run("drain", h.Drain.Run)
		handlers := inbox.Timers()
		maps.Copy(handlers, crm.Timers())
		runner := &timers.Runner{DB: h.work, Handlers: handlers, Logger: c.Logger}
		turns.run("timers", runner.Run)
		sweeper := &loose.Sweeper{DB: h.work, Store: h.Blobs, Logger: c.Logger}
		turns.run("file sweeper", sweeper.Run)
		consume(turns, h.indexer)
		consume(turns, team.Notifier())
		turns.run("rollups of old events", h.rollups.Run)
		consume(turns, h.rollups.Subscription())
	}
	if c.has(RoleAgents) {
		turns.run("turn watch", func(ctx context.Context) error { return h.Runner.Watch(ctx, h.Bus.Listen) })
		consume(turns, h.Runner.Subscription())
	}
	if c.has(RoleChannels) {
		intake.run("switchboard", h.Switchboard.Run)
		consume(sends, h.courier)
	}
	if c.has(RoleAPI) {
		return h.serve()
	}
	return nil
}

const headerTimeout = 10 * time.Second

// serve answers HTTP. The server has no write timeout, because live streams are endless;
// each of their frames has a deadline of its own.
func (h *Hub) serve() error {
	handler, err := api.New(api.Options{
		DB: h.DB, Inbox: h.Inbox, Switchboard: h.Switchboard, Embedder: h.Embedder, Fanout: h.Fanout, Blobs: h.Blobs, Deliver: h.Batcher.Deliver, Room: h.Batcher.Room,
		Signal: h.Bus.Signal, Backlog: h.Drain.Backlog, Waiting: h.Batcher.Backlog, Checks: h.checks(), Web: web.Handler(), Widget: widget(web.Handler()), Demo: h.Config.Demo,
		TrustedProxies: h.Config.TrustedProxies, InboundPerMinute: h.Config.InboundPerMinute, MaxUpload: h.Config.MaxUpload, UploadGrace: h.Config.UploadGrace, Collectors: []prometheus.Collector{h.facts}, Logger: h.log,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.hangUp = cancel
	h.server = &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTimeout, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	// Live streams end with their source, so that Shutdown need not wait for them; other requests keep their context and
	// are answered.
	h.server.RegisterOnShutdown(func() { _ = h.Fanout.Close() })
	go func() {
		if err := h.server.Serve(h.listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			select {
			case h.failed <- tandem.Wrap(tandem.Unavailable, err, "The web server ended."):
			default:
			}
		}
	}()
	return nil
}

// widget serves the chat widget's script under the address that other sites' pages name.
func widget(app http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
		r2 := r.Clone(r.Context())
		r2.URL.Path = "/widget.js"
		app.ServeHTTP(w, r2)
	})
}

const leastFree = 32 << 20

// checks are what readiness means: the database answers, the bus takes a message, the disk has room.
func (h *Hub) checks() map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"postgres": func(ctx context.Context) error {
			if err := h.DB.Full(); err != nil {
				return err
			}
			return h.DB.Pool().Ping(ctx)
		},
		"nats": func(context.Context) error { return h.Bus.Healthy() },
		"disk": func(context.Context) error {
			if h.cluster == nil {
				return room(h.Config.Data)
			}
			return room(h.Config.Data, h.cluster.opt.Dir) // which may be a disk of its own
		},
	}
}

// room wants each directory's disk to have some space left.
func room(dirs ...string) error {
	for _, dir := range dirs {
		var st syscall.Statfs_t
		if err := syscall.Statfs(dir, &st); err != nil {
			return fmt.Errorf("look at the disk of %s: %w", dir, err)
		}
		if free := int64(st.Bavail) * int64(st.Bsize); free < leastFree { //nolint:unconvert // the types differ between systems
			return tandem.Errorf(tandem.Unavailable, "Only %d MB are free in %s.", free>>20, dir)
		}
	}
	return nil
}
