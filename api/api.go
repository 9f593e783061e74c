// Package api is Tandem's HTTP surface: typed routes under /api/v1 with their OpenAPI
// description, the live stream, the doors of channels, and health.
//
// No business rule lives here. A handler reads its input, opens one transaction and
// calls one function of the domain; errors become problems in one place.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents/llm"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/blob"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
)

const basePath = "/api/v1"

// Version is the API's version as OpenAPI shows it.
const Version = "1.0.0"

// Options is what the API stands on. Every field is required unless it says otherwise.
type Options struct {
	DB          *pg.DB
	Inbox       *inbox.Inbox
	Switchboard *inbox.Switchboard
	Embedder    llm.Embedder
	Fanout      *events.Fanout
	Blobs       blob.Store // the contents of files

	// Deliver takes an inbound message durably: the batcher.
	Deliver func(ctx context.Context, in channels.Inbound) (channels.Accepted, error)
	// Room returns why Deliver would refuse a message of the organization right now, or nil.
	Room func(org tandem.ID) error
	// Signal sends what is not kept, such as "is typing", to every process.
	Signal func(ctx context.Context, subject string, body []byte) error
	// Checks are what /readyz asks, by name; each has two seconds.
	Checks map[string]func(context.Context) error
	// Backlog counts facts not yet on the bus, for /metrics; nil leaves it out.
	Backlog func(context.Context) (int64, time.Duration, error)
	// Waiting counts inbound messages that are not stored yet, for /metrics; nil leaves it out.
	Waiting func() (int, time.Duration)
	// Collectors are shown by /metrics besides; nil for none.
	Collectors []prometheus.Collector

	Web    http.Handler // the app, at /; nil answers 404
	Widget http.Handler // the chat widget's script, at /chat/widget.js; nil answers 404
	Demo   http.Handler // the demo shop, at /demo; nil answers 404

	// TrustedProxies are the networks of your own reverse proxies. Only from a peer in one of
	// them is X-Forwarded-For believed; nobody else can choose the address that limits count.
	TrustedProxies []netip.Prefix

	InboundPerMinute int   // inbound leads an API key may post, a sixth of them at once; 0 means 6,000
	MaxUpload        int64 // bytes of a file; 0 means 25 MB
	// UploadGrace is how long an upload may take besides what its size needs; 0 means 30 s.
	UploadGrace time.Duration
	Logger      *slog.Logger
}

type server struct {
	Options
	log     *slog.Logger
	root    chi.Router
	huma    huma.API
	metrics *metrics
	inbound *limiter
	facts   *facts
	uploads *slots
}

// New builds the handler. It only reads o; starting and stopping what o holds is the caller's work.
func New(o Options) (http.Handler, error) {
	installProblems()
	s := &server{Options: o, log: o.Logger, metrics: newMetrics(o), uploads: &slots{of: map[tandem.ID]int{}}}
	if s.log == nil {
		s.log = slog.Default()
	}
	if o.InboundPerMinute <= 0 {
		o.InboundPerMinute = 6000
	}
	s.inbound = newLimiter(float64(o.InboundPerMinute)/60, max(o.InboundPerMinute/6, min(o.InboundPerMinute, 60)), 10_000)
	if s.MaxUpload <= 0 {
		s.MaxUpload = defaultMaxUpload
	}
	if s.UploadGrace <= 0 {
		s.UploadGrace = uploadGrace
	}

	s.facts = newFacts(s)

	root := chi.NewRouter()
	s.root = root
	root.Use(named, forwarded(o.TrustedProxies), s.watched)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		root.MethodFunc(method, "/healthz", s.healthz)
		root.MethodFunc(method, "/readyz", s.readyz)
	}
	root.Method(http.MethodGet, "/metrics", s.metrics.handler())

	root.Group(func(r chi.Router) {
		r.Use(secured, crossOrigin(s))
		r.Get(basePath+"/live", s.live) // asks who it is itself
	})
	root.Group(func(r chi.Router) {
		r.Use(secured, crossOrigin(s), s.authenticated, s.spared)
		s.huma = humachi.New(r, humaConfig())
		s.huma.UseMiddleware(s.permitted, keyed)
		s.routes()
	})
	root.HandleFunc("/api", s.notFound)
	root.HandleFunc("/api/*", s.notFound)
	s.mountChannels(root)
	if o.Demo != nil {
		root.Handle("/demo", o.Demo)
		root.Handle("/demo/*", o.Demo)
	}
	if o.Web != nil {
		root.Method(http.MethodGet, "/*", o.Web)
		root.Method(http.MethodHead, "/*", o.Web)
	}
	root.NotFound(s.notFound)
	root.MethodNotAllowed(s.notFound)
	return root, nil
}

// nowhere lists the patterns behind which notFound itself is.
var nowhere = []string{"/api", "/api/*", "/chat", "/chat/*"}

// methods are those that a route here may have.
var methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions}

// notFound answers 404, or 405 with Allow where another method would have been answered.
func (s *server) notFound(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, m := range methods {
		rctx := chi.NewRouteContext()
		if m != r.Method && s.root.Match(rctx, m, r.URL.Path) && !slices.Contains(nowhere, rctx.RoutePattern()) {
			allowed = append(allowed, m)
		}
	}
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		p := newProblem(http.StatusMethodNotAllowed, "method_not_allowed", "This address does not answer "+r.Method+"; it answers "+strings.Join(allowed, ", ")+".")
		writeProblem(w, r, s.log, p)
		return
	}
	writeProblem(w, r, s.log, tandem.Errorf(tandem.NotFound, "There is nothing at this address."))
}

func humaConfig() huma.Config {
	c := huma.DefaultConfig("Tandem", Version)
	c.CreateHooks = nil // no $schema links in answers
	c.OpenAPIPath = basePath + "/openapi"
	c.DocsPath, c.SchemasPath = "", ""
	c.RejectUnknownQueryParameters = true
	c.Info.Description = "One hub where people and AI agents work the same conversations and the same leads as one team."
	c.Info.License = &huma.License{Name: "AGPL-3.0-or-later", Identifier: "AGPL-3.0-or-later"}
	c.Servers = []*huma.Server{{URL: "/"}}
	c.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"session": {Type: "apiKey", In: "cookie", Name: cookieName, Description: "Set by POST /api/v1/auth/login."},
		"key":     {Type: "apiKey", In: "header", Name: "X-API-Key"},
		"bearer":  {Type: "http", Scheme: "bearer", Description: "An API key."},
	}
	return c
}

// schemaName is the type's name; two packages have documents, and those of knowledge say so.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	if strings.Contains(t.PkgPath()+"."+t.Name(), "/agents.Document") {
		return strings.Replace(name, "Document", "KnowledgeDocument", 1)
	}
	return name
}

// routes lists every typed endpoint, a file of this package each.
func (s *server) routes() {
	s.authRoutes()
	s.conversationRoutes()
	s.handoffRoutes()
	s.letterRoutes()
	s.recordRoutes()
	s.accountRoutes()
	s.contactRoutes()
	s.documentRoutes()
	s.leadRoutes()
	s.dealRoutes()
	s.activityRoutes()
	s.dashboardRoutes()
	s.memberRoutes()
	s.notificationRoutes()
	s.runRoutes()
	s.knowledgeRoutes()
	s.channelRoutes()
	s.inboundRoutes()
	s.describe()
}

// crossOrigin refuses unsafe requests that a foreign page makes a browser send (Fetch
// metadata and Origin). Requests with an API key are no browser's, yet pass the same check.
func crossOrigin(s *server) func(http.Handler) http.Handler {
	p := http.NewCrossOriginProtection()
	p.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, r, s.log, tandem.Errorf(tandem.Forbidden, "This request came from another site."))
	}))
	return p.Handler
}
