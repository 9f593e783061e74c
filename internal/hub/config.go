package hub

import (
	"encoding/hex"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/bus"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/blob"
	"github.com/tandemhq/tandem/internal/egress"
)

// Role is a share of the work. One process may have all of them, or several processes may split them.
type Role string

const (
	RoleAPI      Role = "api"      // HTTP: routes, live streams, channels' doors, the app
	RoleChannels Role = "channels" // receiving from and sending to providers
	RoleAgents   Role = "agents"   // turns of AI members
	RoleJobs     Role = "jobs"     // the drain to the bus, the reconciler, timers
)

// AllRoles is what a process does when nothing else is said.
var AllRoles = []Role{RoleAPI, RoleChannels, RoleAgents, RoleJobs}

// Config is everything a hub can be told. Zero values are the defaults of `tandem serve`.
type Config struct {
	// Data is the directory for the private database, the embedded bus and the master key.
	Data string
	// HTTP is the address to listen on; empty means 127.0.0.1:8080. Port 0 takes any free one.
	HTTP string
	// DatabaseURL connects as the application role to a database of your own; empty
	// starts a private cluster under Data.
	DatabaseURL string
	// MigrateURL connects to that database as the role that owns the schema; when set,
	// migrations are applied at start.
	MigrateURL string
	// NATSURL names a JetStream server or cluster of your own; empty embeds one.
	NATSURL string
	// Replicas is how many copies an external JetStream keeps; 0 means 1.
	Replicas int
	// MasterKey seals secrets and signs tokens: 32 bytes as 64 hex digits. Empty keeps a
	// generated one in Data. Several processes must share one.
	MasterKey string
	// Roles is this process's share of the work; empty means all.
	Roles []Role
	// AllowPrivate lists networks that addresses supplied by users may point into, such as
	// a language model on your own network. Empty refuses every private address.
	AllowPrivate []egress.Allow
	// OnListen, when set, is told the address that the hub has taken, before anything
	// uses the rest of the configuration, which it may still change.
	OnListen func(addr net.Addr, c *Config)
	// Demo, when set, is served at /demo.
	Demo http.Handler
	// TrustedProxies are the networks of your own reverse proxies, whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	// InboundPerMinute bounds leads per API key; 0 means 6,000.
	InboundPerMinute int
	// BlobURL is where the contents of files are kept, such as s3://bucket?endpoint=https://host&region=name or
	// file:///directory; empty keeps them under Data. Several processes need one that they share.
	BlobURL string
	// BlobAccessKey and BlobSecretKey open an S3-compatible store.
	BlobAccessKey, BlobSecretKey string
	// MaxUpload bounds a file, in bytes; 0 means 25 MB.
	MaxUpload int64
	// UploadGrace is how long an upload may take besides what its size needs; 0 means 30 s.
	UploadGrace time.Duration
	// Unsafe accepts a database that does not flush to disk, and makes the private one so. Only tests set it.
	Unsafe bool
	// Lease is how long an AI member's turn may go without a heartbeat; 0 means 30 s.
	Lease time.Duration
	// SendTimeout bounds one attempt to send a message; 0 means 10 s.
	SendTimeout time.Duration
	// Fault is called at named points of the road; nil in production.
	Fault inbox.Fault
	// Unheard loses acknowledgements on the bus; nil in production. See bus.Options.
	Unheard func(m bus.Msg) bool
	// Logger receives the structured log; nil means slog.Default.
	Logger *slog.Logger
}

const (
	defaultHTTP  = "127.0.0.1:8080"
	badMasterKey = "--master-key must have 64 hexadecimal digits; make one with: openssl rand -hex 32"
)

// Check says whether the configuration can be used, without starting anything.
func (c Config) Check() error { return c.complete() }

// complete fills in the defaults and refuses what cannot work.
func (c *Config) complete() error {
	if c.Data == "" {
		return tandem.Errorf(tandem.Invalid, "--data must name a directory.")
	}
	abs, err := filepath.Abs(c.Data)
	if err != nil {
		return tandem.Wrap(tandem.Invalid, err, "--data %q is not a usable path.", c.Data)
	}
	c.Data = abs
	if c.HTTP == "" {
		c.HTTP = defaultHTTP
	}
	if _, port, err := net.SplitHostPort(c.HTTP); err != nil || !isPort(port) {
		return tandem.Errorf(tandem.Invalid, "--http %q is not an address; write host:port, such as 127.0.0.1:8080.", c.HTTP)
	}
	if len(c.Roles) == 0 {
		c.Roles = AllRoles
	}
	for _, r := range c.Roles {
		if !slices.Contains(AllRoles, r) {
			return tandem.Errorf(tandem.Invalid, "--roles has %q; the roles are api, channels, agents and jobs.", r)
		}
	}
	if len(c.Roles) < len(AllRoles) && c.NATSURL == "" {
		return tandem.Errorf(tandem.Invalid, "A process with only the roles %s needs --nats-url: the embedded bus serves one process.", c.roleNames())
	}
	if b, err := hex.DecodeString(c.MasterKey); c.MasterKey != "" && (err != nil || len(b) != 32) {
		return tandem.Errorf(tandem.Invalid, badMasterKey) // never with the key itself, which would end in a log
	}
	if c.MigrateURL != "" && c.DatabaseURL == "" {
		return tandem.Errorf(tandem.Invalid, "--migrate-url needs --database-url; the private database is migrated by itself.")
	}
	if err := c.blobs().Check(); err != nil {
		return err
	}
	if c.MaxUpload < 0 {
		return tandem.Errorf(tandem.Invalid, "--max-upload must not be negative.")
	}
	if c.SendTimeout == 0 {
		c.SendTimeout = defaultSendTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

// blobs are the options of the file store.
func (c *Config) blobs() blob.Options {
	return blob.Options{Dir: filepath.Join(c.Data, "blobs"), URL: c.BlobURL, AccessKey: c.BlobAccessKey, SecretKey: c.BlobSecretKey}
}

// Blobs opens the file store.
func (c Config) Blobs() (blob.Store, error) { return blob.New(c.blobs()) }

func (c *Config) has(r Role) bool { return slices.Contains(c.Roles, r) }

func (c *Config) roleNames() string {
	names := make([]string, len(c.Roles))
	for i, r := range c.Roles {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}

func isPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil
}

// listen takes the port before anything slow starts, so that a busy one is known at once.
func (c *Config) listen() (net.Listener, error) {
	ln, err := net.Listen("tcp", c.HTTP)
	if err != nil {
		return nil, tandem.Wrap(tandem.Unavailable, err, "The address %s cannot be listened on (%s); choose another with --http.", c.HTTP, reason(err))
	}
	return ln, nil
}

func reason(err error) string {
	msg := err.Error()
	if i := strings.LastIndex(msg, ": "); i >= 0 {
		msg = msg[i+2:]
	}
	return msg
}
