package prove

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/local"
	"github.com/tandemhq/tandem/internal/seal"
)

// SiteOptions says what a site stands on. The zero value is what a single machine has: a private PostgreSQL and an
// embedded NATS under the data directory.
type SiteOptions struct {
	Cluster *Cluster // an external PostgreSQL; nil: the private one
	NATSURL string   // an external NATS with JetStream; empty: the embedded one
	Dir     string   // the data directory, empty and passable by PostgreSQL's account; "": a fresh one of Dir
	Args    []string // flags of every process of the site, such as "--nats-replicas", "3"
}

// Site is an installation with one organization: an owner with an API key, the AI member Ava, a chat channel that Ava
// answers and a form channel that people answer, until AddModel or Answer says otherwise.
type Site struct {
	Dir   string // the data directory of Serve
	Addr  string // host:port of Serve, the same at every start
	URL   string // http://Addr
	Email string // the owner's login
	Password,
	APIKey, WidgetKey string

	Org, Owner, Ava, Chat, Form tandem.ID
	MasterKey                   string // 64 hex digits

	t      testing.TB
	opt    SiteOptions
	db     string // name of the database in the external cluster
	sealer *seal.Sealer
}

// NewSite makes an installation with `tandem init`. No process of it runs yet.
func NewSite(t testing.TB, o SiteOptions) *Site {
	t.Helper()
	if o.Dir == "" {
		o.Dir = Dir(t)
	}
	master := make([]byte, 32)
	_, _ = rand.Read(master) // never fails
	s := &Site{
		Dir: o.Dir, Addr: FreeAddr(t), Email: "owner@example.com", Password: "correct horse battery",
		MasterKey: hex.EncodeToString(master), t: t, opt: o,
	}
	s.URL = "http://" + s.Addr
	var err error
	if s.sealer, err = seal.Open(master); err != nil {
		t.Fatal(err)
	}
	if o.Cluster != nil {
		s.db = o.Cluster.Database(t)
	}
	args := []string{"init", "--data", s.Dir, "--organization", "Proof", "--owner", "Olga", "--email", s.Email, "--password", s.Password, "--log-level", "error"}
	p := Start(t, Command{Args: append(args, o.Args...), Env: s.env()})
	if code := p.Wait(2 * Patience); code != 0 {
		t.Fatalf("tandem init ended with %d: %s", code, p.Stderr())
	}
	s.APIKey = match(t, p.Stdout(), `API key\s+(\S+)`)
	s.WidgetKey = match(t, p.Stdout(), `data-key="([^"]+)"`)
	s.lookUp()
	return s
}

func match(t testing.TB, text, pattern string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in the output: %s", pattern, text)
	}
	return m[1]
}

// env is what every process of the site gets.
func (s *Site) env() []string {
	env := []string{"TANDEM_MASTER_KEY=" + s.MasterKey}
	if s.opt.Cluster != nil {
		env = append(env, "TANDEM_DATABASE_URL="+s.DSN(local.App), "TANDEM_MIGRATE_URL="+s.DSN(local.Owner))
	}
	if s.opt.NATSURL != "" {
		env = append(env, "TANDEM_NATS_URL="+s.opt.NATSURL)
	}
	return env
}

// DSN is the connection string of the site's database as one of the roles of package local.
func (s *Site) DSN(role string) string {
	if s.opt.Cluster != nil {
		return local.DSN(s.opt.Cluster.Dir, s.db, role)
	}
	return local.DSN(filepath.Join(s.Dir, "postgres"), "tandem", role)
}

// always are the flags without which a driver on the loopback is taken for an attacker: models and sinks are on the
// loopback, every visitor has an address of its own by X-Forwarded-For, and leads come faster than any form sends them.
var always = []string{
	"--allow-private", "127.0.0.0/8", "--trusted-proxies", "127.0.0.1", "--inbound-per-minute", "1000000", "--log-level", "warn",
}

// Serve starts `tandem serve` on the site's directory and address and returns when it is ready. args come after the
// site's own and win.
func (s *Site) Serve(args ...string) *Process {
	s.t.Helper()
	p := s.Begin(args...)
	p.WaitReady(Patience)
	return p
}

// Begin is Serve without the wait.
func (s *Site) Begin(args ...string) *Process {
	s.t.Helper()
	return s.begin(s.Dir, s.Addr, args)
}

// ServeBeside starts another process of the same site beside Serve's, with a data directory and an address of its own;
// the site must have an external cluster and NATS. With the role api among its roles it is ready when this returns;
// without, it may still be starting: nothing of it answers HTTP.
func (s *Site) ServeBeside(args ...string) *Process {
	s.t.Helper()
	if s.opt.Cluster == nil || s.opt.NATSURL == "" {
		s.t.Fatal("several processes need an external cluster and NATS")
	}
	p := s.begin(Dir(s.t), FreeAddr(s.t), args)
	if api(args) {
		p.WaitReady(Patience)
	}
	return p
}

// api tells whether flags leave the process with the role api.
func api(args []string) bool {
	has := true
	for i, a := range args {
		if roles, ok := strings.CutPrefix(a, "--roles="); ok {
			has = strings.Contains(roles, "api")
		} else if a == "--roles" && i+1 < len(args) {
			has = strings.Contains(args[i+1], "api")
		}
	}
	return has
}

func (s *Site) begin(dir, addr string, args []string) *Process {
	s.t.Helper()
	all := append([]string{"serve", "--data", dir, "--http", addr}, always...)
	all = append(append(all, s.opt.Args...), args...)
	return Start(s.t, Command{Args: all, Env: s.env(), URL: "http://" + addr})
}

// DB connects to the site's database as a superuser, who sees every row. The private cluster answers while a process of
// the site runs. The connection closes with the test.
func (s *Site) DB(t testing.TB) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.DSN(local.Super))
	if err != nil {
		t.Fatalf("connect to the site's database: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // it may be lost by then
	return conn
}

// Superuser is DB that returns the error: for tests during which the database goes away.
func (s *Site) Superuser(ctx context.Context) (*pgx.Conn, error) {
	return pgx.Connect(ctx, s.DSN(local.Super))
}

const idsSQL = `
SELECT o.id AS org, m.id AS owner, a.id AS ava, c.id AS chat, f.id AS form
FROM organizations o JOIN members m ON m.org_id = o.id AND m.role = 'owner'
JOIN members a ON a.org_id = o.id AND a.kind = 'ai'
JOIN channels c ON c.org_id = o.id AND c.kind = 'webchat'
JOIN channels f ON f.org_id = o.id AND f.kind = 'webhook'`

func (s *Site) lookUp() {
	s.t.Helper()
	s.withDatabase(func(ctx context.Context) error {
		conn, err := s.Superuser(ctx)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		return conn.QueryRow(ctx, idsSQL).Scan(&s.Org, &s.Owner, &s.Ava, &s.Chat, &s.Form)
	})
}

// withDatabase runs fn while the site's database answers: when no process of the site runs, the private cluster is
// started for as long as fn takes.
func (s *Site) withDatabase(fn func(ctx context.Context) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if conn, err := s.Superuser(ctx); err == nil {
		_ = conn.Close(ctx)
	} else if s.opt.Cluster != nil {
		s.t.Fatalf("the external cluster does not answer: %v", err)
	} else {
		server, err := local.Start(ctx, local.Options{Dir: filepath.Join(s.Dir, "postgres")})
		if err != nil {
			s.t.Fatal(err)
		}
		defer func() {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			if err := server.Stop(ctx); err != nil {
				s.t.Error(err)
			}
		}()
	}
	if err := fn(ctx); err != nil {
		s.t.Fatalf("prepare the site: %v", err)
	}
}

// edit runs fn with the site's database opened as the application does.
func (s *Site) edit(fn func(ctx context.Context, db *pg.DB) error) {
	s.t.Helper()
	s.withDatabase(func(ctx context.Context) error {
		db, err := pg.Open(ctx, pg.Config{URL: s.DSN(local.App), AllowUnsafe: true})
		if err != nil {
			return err
		}
		defer db.Close()
		return fn(ctx, db)
	})
}
