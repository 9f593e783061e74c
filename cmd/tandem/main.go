// Command tandem runs Tandem: one hub where people and AI agents work the same
// conversations and the same leads as one team.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/egress"
	"github.com/tandemhq/tandem/internal/hub"
)

// version is set by the build: -ldflags "-X main.version=1.2.3".
var version = ""

type cli struct {
	Serve   serveCmd   `cmd:"" help:"Run Tandem."`
	Demo    demoCmd    `cmd:"" help:"Run Tandem with a demo organization and simulated customers."`
	Init    initCmd    `cmd:"" help:"Make an organization with its owner, a board, a chat and a lead form."`
	Migrate migrateCmd `cmd:"" help:"Bring the schema of your own database up to date."`
	Rollups rollupsCmd `cmd:"" help:"Have the numbers of dashboards counted anew."`
	Doctor  doctorCmd  `cmd:"" help:"Check everything Tandem needs and say how to mend what is not right."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// place is where the data is and how to reach what is outside: shared by all commands that start something.
type place struct {
	Data        string        `help:"Directory for the private database, the embedded bus and the keys." default:"data" env:"TANDEM_DATA" type:"path"`
	HTTP        string        `help:"Address to listen on." default:"127.0.0.1:8080" env:"TANDEM_HTTP"`
	DatabaseURL string        `name:"database-url" help:"Your own PostgreSQL, as the application role; empty runs a private one." env:"TANDEM_DATABASE_URL"`
	MigrateURL  string        `name:"migrate-url" help:"The same database as the role that owns the schema: migrations are applied at start." env:"TANDEM_MIGRATE_URL"`
	NATSURL     string        `name:"nats-url" help:"Your own NATS with JetStream; empty embeds one." env:"TANDEM_NATS_URL"`
	Replicas    int           `name:"nats-replicas" help:"Copies that your JetStream cluster keeps." default:"1" env:"TANDEM_NATS_REPLICAS"`
	Roles       []string      `help:"This process's share of the work: api, channels, agents, jobs." default:"api,channels,agents,jobs" env:"TANDEM_ROLES"`
	MasterKey   string        `name:"master-key" help:"64 hex digits that seal secrets; several processes share one. Empty keeps a generated one in the data directory." env:"TANDEM_MASTER_KEY"`
	Allow       []string      `name:"allow-private" help:"Private networks that models and webhooks may be on, such as 10.0.0.5:11434." env:"TANDEM_ALLOW_PRIVATE"`
	Proxies     []string      `name:"trusted-proxies" help:"Networks of your reverse proxies, such as 10.0.0.0/24: only their X-Forwarded-For is believed." env:"TANDEM_TRUSTED_PROXIES"`
	Inbound     int           `name:"inbound-per-minute" help:"Leads that one API key may post in a minute; 0 means 6000." env:"TANDEM_INBOUND_PER_MINUTE"`
	Lease       time.Duration `help:"How long an AI member's turn may go without a sign of life before another process takes it over." default:"30s" env:"TANDEM_LEASE"`
	SendTimeout time.Duration `name:"send-timeout" help:"How long one attempt to send a message may take before its outcome counts as unclear." default:"10s" env:"TANDEM_SEND_TIMEOUT"`
	BlobURL     string        `name:"blob-url" help:"Where the contents of files are kept: s3://bucket?endpoint=https://host&region=name, or file:///directory; empty keeps them in the data directory." env:"TANDEM_BLOB_URL"`
	BlobAccess  string        `name:"blob-access-key" hidden:"" env:"TANDEM_BLOB_ACCESS_KEY"`
	BlobSecret  string        `name:"blob-secret-key" hidden:"" env:"TANDEM_BLOB_SECRET_KEY"`
	MaxUpload   int64         `name:"max-upload" help:"Megabytes that an uploaded file may have." default:"25" env:"TANDEM_MAX_UPLOAD"`
	LogLevel    string        `name:"log-level" help:"debug, info, warn or error." default:"info" enum:"debug,info,warn,error" env:"TANDEM_LOG_LEVEL"`
	LogFormat   string        `name:"log-format" help:"text or json." default:"text" enum:"text,json" env:"TANDEM_LOG_FORMAT"`
}

// minLease is the shortest lease that heartbeats over a local database can hold.
const minLease = 300 * time.Millisecond

// minSend is the shortest time in which a receiver can be expected to answer.
const minSend = 500 * time.Millisecond

// maxUpload in megabytes: what a slow sender can still hand in within an hour.
const maxUpload = 200

func (p place) config(errw io.Writer) (hub.Config, error) {
	c := hub.Config{
		Data: p.Data, HTTP: p.HTTP, DatabaseURL: p.DatabaseURL, MigrateURL: p.MigrateURL, NATSURL: p.NATSURL,
		Replicas: p.Replicas, MasterKey: p.MasterKey, InboundPerMinute: p.Inbound, Lease: p.Lease, SendTimeout: p.SendTimeout, Logger: p.logger(errw),
		BlobURL: p.BlobURL, BlobAccessKey: p.BlobAccess, BlobSecretKey: p.BlobSecret, MaxUpload: p.MaxUpload << 20,
	}
	if p.MaxUpload < 1 || p.MaxUpload > maxUpload {
		return c, tandem.Errorf(tandem.Invalid, "--max-upload must be between 1 and %d MB.", maxUpload)
	}
	if p.Inbound < 0 {
		return c, tandem.Errorf(tandem.Invalid, "--inbound-per-minute must not be negative.")
	}
	if p.Lease < minLease {
		return c, tandem.Errorf(tandem.Invalid, "--lease must be at least %s.", minLease)
	}
	if p.SendTimeout < minSend {
		return c, tandem.Errorf(tandem.Invalid, "--send-timeout must be at least %s.", minSend)
	}
	for _, r := range p.Roles {
		c.Roles = append(c.Roles, hub.Role(r))
	}
	for _, s := range p.Allow {
		a, err := egress.ParseAllow(s)
		if err != nil {
			return c, tandem.Wrap(tandem.Invalid, err, "--allow-private %q is not a network; write 10.0.0.0/24 or 10.0.0.5:11434.", s)
		}
		c.AllowPrivate = append(c.AllowPrivate, a)
	}
	for _, s := range p.Proxies {
		n, err := proxyNetwork(s)
		if err != nil {
			return c, tandem.Wrap(tandem.Invalid, err, "--trusted-proxies %q is not a network; write 10.0.0.0/24 or 10.0.0.5.", s)
		}
		c.TrustedProxies = append(c.TrustedProxies, n)
	}
	return c, nil
}

// proxyNetwork reads a network, or one address as a network of its own.
func proxyNetwork(s string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}

func (p place) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(p.LogLevel)) // kong allows only names that it knows
	o := &slog.HandlerOptions{Level: level}
	if p.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// stdio is where a command writes.
type stdio struct{ out, err io.Writer }

func main() {
	os.Exit(run(os.Args[1:], stdio{os.Stdout, os.Stderr}))
}

// run parses and executes. Only main exits; every failure is one sentence and code 1.
func run(args []string, io stdio) int {
	var c cli
	parser, err := kong.New(&c, kong.Name("tandem"), kong.Description("One hub where people and AI agents work the same conversations as one team."),
		kong.UsageOnError(), kong.Writers(io.out, io.err), kong.Bind(io))
	if err != nil {
		fmt.Fprintln(io.err, "tandem:", err)
		return 1
	}
	kctx, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintln(io.err, "tandem:", err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	kctx.BindTo(ctx, (*context.Context)(nil))
	if err := kctx.Run(); err != nil {
		fmt.Fprintln(io.err, "tandem:", explain(err))
		return 1
	}
	return 0
}

// explain makes one line of an error: the sentence for a person and, in brackets, its cause.
func explain(err error) string {
	text := err.Error()
	var te *tandem.Error
	if errors.As(err, &te) {
		text = te.Msg
		if te.Err != nil {
			text = fmt.Sprintf("%s [%v]", te.Msg, te.Err)
		}
	}
	return strings.Join(strings.Fields(text), " ") // pgx lists what it tried on lines of their own
}

type versionCmd struct{}

func (versionCmd) Run(io stdio) error {
	_, err := fmt.Fprintln(io.out, "tandem", currentVersion())
	return err
}

func currentVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				return "development " + s.Value[:12]
			}
		}
	}
	return "development"
}
