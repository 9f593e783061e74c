package team

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
)

const (
	// SessionMaxAge is how long a session lives at most, however much it is used.
	SessionMaxAge = 30 * 24 * time.Hour
	// SessionIdle is how long a session lives without being used.
	SessionIdle = 12 * time.Hour

	tokenBytes = 32 // 256 bits
)

// Session is one sign-in of a member on one device.
type Session struct {
	ID         tandem.ID `json:"id" db:"id"`
	Member     tandem.ID `json:"member_id" db:"member_id"`
	UserAgent  string    `json:"user_agent" db:"user_agent"`
	CreatedAt  time.Time `json:"created_at" db:"created_at"`
	LastSeenAt time.Time `json:"last_seen_at" db:"last_seen_at"` // to the minute
	ExpiresAt  time.Time `json:"expires_at" db:"expires_at"`
}

// Credentials are what somebody presents to sign in.
type Credentials struct {
	Email, Password string
	UserAgent       string // shown in the member's list of sessions
	IP              string // counts failed attempts; empty: not counted
}

// Me is who is signed in and what they may do.
type Me struct {
	Member      Member
	Org         Org
	Permissions []string // sorted
}

// gate is who may come in. One serves the process; tests make their own with a clock.
type gate struct {
	now      func() time.Time
	failures *throttle
	sessions *cache[seen]
	keys     *cache[tandem.Actor]
}

type seen struct {
	actor   tandem.Actor
	session Session
}

func newGate(now func() time.Time) *gate {
	return &gate{now: now, failures: newThrottle(now, maxThrottled), sessions: newCache[seen](now), keys: newCache[tandem.Actor](now)}
}

var entrance = newGate(time.Now)

// Login checks an e-mail address and password and opens a session. The token is shown
// once; the database keeps its hash. Every login makes a new token. Unknown users, wrong
// passwords and disabled members are the same Unauthenticated error after the same time;
// after ten failures within 15 minutes of one account or one address it is Throttled.
func Login(ctx context.Context, db *pg.DB, c Credentials) (token string, a tandem.Actor, me Me, err error) {
	return entrance.login(ctx, db, c)
}

// ActorBySession returns who a session's token stands for, or Unauthenticated. An answer
// may be up to a second old. Use keeps the session alive.
func ActorBySession(ctx context.Context, db *pg.DB, token string) (tandem.Actor, Session, error) {
	return entrance.actorBySession(ctx, db, token)
}

// Logout ends a session. An unknown token is no error.
func Logout(ctx context.Context, db *pg.DB, token string) error {
	return entrance.logout(ctx, db, token)
}

var (
	errBadLogin  = tandem.Errorf(tandem.Unauthenticated, "The e-mail address or the password is not right.")
	errNoSession = tandem.Errorf(tandem.Unauthenticated, "Your session has ended. Sign in again.")
)

const (
	sqlUserByEmail = `SELECT id, password_hash FROM users WHERE email = @email`
	sqlUserDoors   = `SELECT org_id, record_id FROM doors WHERE kind = 'user' AND key = uuid_send(@user::uuid) ORDER BY org_id LIMIT 100`
	sqlAddSession  = `
INSERT INTO sessions (org_id, id, member_id, token_hash, user_agent, expires_at)
VALUES (@org, @id, @member, @hash, @agent, now() + @age::interval)`
	sqlAddDoor = `INSERT INTO doors (kind, key, org_id, record_id) VALUES (@kind, @hash, @org, @id)`
	sqlDoor    = `SELECT org_id, record_id FROM doors WHERE kind = @kind AND key = @hash`
	// The session is kept alive at most once a minute, so that reading costs no write.
	sqlSession = `
WITH s AS (
	SELECT s.id, s.member_id, s.user_agent, s.created_at, s.last_seen_at, s.expires_at, m.kind, m.name, m.role
	FROM sessions s JOIN members m ON m.org_id = s.org_id AND m.id = s.member_id
	WHERE s.org_id = @org AND s.id = @id AND s.token_hash = @hash AND s.revoked_at IS NULL AND m.status = 'active'
	  AND s.expires_at > now() AND s.last_seen_at > now() - @idle::interval),
alive AS (
	UPDATE sessions SET last_seen_at = now() FROM s
	WHERE sessions.org_id = @org AND sessions.id = s.id AND s.last_seen_at < now() - interval '1 minute')
SELECT id, member_id, user_agent, created_at, last_seen_at, expires_at, kind, name, role FROM s`
	sqlEndSession = `
WITH s AS (UPDATE sessions SET revoked_at = now() WHERE org_id = @org AND token_hash = @hash AND revoked_at IS NULL RETURNING id),
     d AS (DELETE FROM doors WHERE kind = 'session' AND key = @hash AND org_id = @org)
SELECT id FROM s`
)

type doorRow struct {
	Org    tandem.ID `db:"org_id"`
	Record tandem.ID `db:"record_id"`
}

func (g *gate) login(ctx context.Context, db *pg.DB, c Credentials) (token string, a tandem.Actor, me Me, err error) {
	email, valid := loginEmail(c.Email)
	account := fmt.Sprintf("%p account %s", db, email)
	keys := []string{account}
	if c.IP != "" {
		keys = append(keys, fmt.Sprintf("%p address %s", db, c.IP))
	}
	if err := g.failures.take(keys...); err != nil {
		return "", a, me, err
	}
	// An attempt that broke off for a reason of ours says nothing about the password.
	defer func() {
		if err != nil && tandem.KindOf(err) != tandem.Unauthenticated {
			g.failures.forgive(keys...)
		}
	}()
	user, hash := tandem.ID(""), nobody()
	if valid {
		err = db.Global(ctx, func(ctx context.Context, tx pgx.Tx) error {
			err := tx.QueryRow(ctx, sqlUserByEmail, pgx.StrictNamedArgs{"email": email}).Scan(&user, &hash)
			if pg.NoRows(err) {
				return nil
			}
			return err
		})
		if err != nil {
			return "", a, me, fmt.Errorf("login: %w", err)
		}
	}
	right, err := verifyPassword(ctx, c.Password, hash) // no transaction is open meanwhile
	if err != nil {
		return "", a, me, fmt.Errorf("login: %w", err)
	}
	if !right || user == "" {
		return "", a, me, errBadLogin
	}
	raw := make([]byte, tokenBytes)
	if _, err := rand.Read(raw); err != nil {
		return "", a, me, fmt.Errorf("make token: %w", err)
	}
	token = base64.RawURLEncoding.EncodeToString(raw)
	err = db.Global(ctx, func(ctx context.Context, tx pgx.Tx) error {
		a, me, err = g.enter(ctx, tx, user, c.UserAgent, sha256.Sum256([]byte(token)))
		return err
	})
	if err != nil {
		return "", tandem.Actor{}, Me{}, err
	}
	g.failures.forgive(keys...)
	g.failures.clear(account)
	return token, a, me, nil
}

// enter opens a session in the user's first organization that has them as an active member.
func (g *gate) enter(ctx context.Context, tx pgx.Tx, user tandem.ID, agent string, hash [sha256.Size]byte) (a tandem.Actor, me Me, err error) {
	rows, err := tx.Query(ctx, sqlUserDoors, pgx.StrictNamedArgs{"user": user})
	if err != nil {
		return a, me, fmt.Errorf("login: %w", err)
	}
	doors, err := pgx.CollectRows(rows, pgx.RowToStructByName[doorRow])
	if err != nil {
		return a, me, fmt.Errorf("login: %w", err)
	}
	for _, d := range doors {
		if err := pg.EnterOrg(ctx, tx, d.Org); err != nil {
			return a, me, err
		}
		octx := tandem.AsSystem(ctx, d.Org)
		a, err = MemberActor(octx, tx, d.Record)
		if k := tandem.KindOf(err); err != nil && (k == tandem.Forbidden || k == tandem.NotFound) {
			continue
		}
		if err != nil {
			return a, me, err
		}
		octx = tandem.WithActor(ctx, a)
		id := tandem.NewID()
		if _, err := tx.Exec(octx, sqlAddSession, pgx.StrictNamedArgs{
			"org": a.Org, "id": id, "member": a.Member, "hash": hash[:], "agent": clip(agent, 300), "age": SessionMaxAge,
		}); err != nil {
			return a, me, fmt.Errorf("add session: %w", err)
		}
		if _, err := tx.Exec(octx, sqlAddDoor, pgx.StrictNamedArgs{"kind": "session", "hash": hash[:], "org": a.Org, "id": id}); err != nil {
			return a, me, fmt.Errorf("add session: %w", err)
		}
		if _, err := events.Emit(octx, tx, tandem.Event{
			Noun: "session", Verb: "created", Record: id, Category: "security", Severity: "info", Description: a.Name + " signed in",
		}); err != nil {
			return a, me, fmt.Errorf("add session: %w", err)
		}
		me, err = meIn(octx, tx, a)
		return a, me, err
	}
	return a, me, errBadLogin
}

func (g *gate) actorBySession(ctx context.Context, db *pg.DB, token string) (tandem.Actor, Session, error) {
	d := door{db, sha256.Sum256([]byte(token))}
	s, ok := g.sessions.get(d)
	if !ok {
		asked := g.now()
		err := db.Global(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
			s, err = sessionBehind(ctx, tx, d.hash)
			return err
		})
		if err != nil {
			return tandem.Actor{}, Session{}, err
		}
		g.sessions.put(d, s, asked)
	}
	s.actor.Chain = tandem.ChainFrom(ctx)
	return s.actor, s.session, nil
}

func sessionBehind(ctx context.Context, tx pgx.Tx, hash [sha256.Size]byte) (s seen, err error) {
	org, id, err := openDoor(ctx, tx, "session", hash, errNoSession)
	if err != nil {
		return s, err
	}
	rows, err := tx.Query(ctx, sqlSession, pgx.StrictNamedArgs{"org": org, "id": id, "hash": hash[:], "idle": SessionIdle})
	if err != nil {
		return s, fmt.Errorf("read session: %w", err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[struct {
		Session
		Kind tandem.ActorKind `db:"kind"`
		Name string           `db:"name"`
		Role string           `db:"role"`
	}])
	switch {
	case pg.NoRows(err):
		return s, errNoSession
	case err != nil:
		return s, fmt.Errorf("read session: %w", err)
	}
	s.session = r.Session
	s.actor = tandem.Actor{Org: org, Member: r.Member, Kind: r.Kind, Name: r.Name, Role: r.Role, Grants: Grants(r.Role)}
	return s, nil
}

// openDoor enters the organization that a hash belongs to; none is the error closed.
func openDoor(ctx context.Context, tx pgx.Tx, kind string, hash [sha256.Size]byte, closed error) (org, id tandem.ID, err error) {
	err = tx.QueryRow(ctx, sqlDoor, pgx.StrictNamedArgs{"kind": kind, "hash": hash[:]}).Scan(&org, &id)
	switch {
	case pg.NoRows(err):
		return "", "", closed
	case err != nil:
		return "", "", fmt.Errorf("look for %s: %w", kind, err)
	}
	return org, id, pg.EnterOrg(ctx, tx, org)
}

func (g *gate) logout(ctx context.Context, db *pg.DB, token string) error {
	hash := sha256.Sum256([]byte(token))
	defer g.sessions.drop(door{db, hash})
	err := db.Global(ctx, func(ctx context.Context, tx pgx.Tx) error {
		s, err := sessionBehind(ctx, tx, hash)
		if err != nil {
			return err
		}
		s.actor.Chain = tandem.ChainFrom(ctx)
		ctx = tandem.WithActor(ctx, s.actor)
		var id tandem.ID
		if err := tx.QueryRow(ctx, sqlEndSession, pgx.StrictNamedArgs{"org": s.actor.Org, "hash": hash[:]}).Scan(&id); err != nil {
			if pg.NoRows(err) {
				return nil
			}
			return fmt.Errorf("end session: %w", err)
		}
		_, err = events.Emit(ctx, tx, tandem.Event{
			Noun: "session", Verb: "ended", Record: id, Category: "security", Severity: "info", Description: s.actor.Name + " signed out",
		})
		return err
	})
	if tandem.KindOf(err) == tandem.Unauthenticated {
		return nil
	}
	return err
}

// MeOf returns who ctx's actor is. An actor that is no member is Forbidden.
func MeOf(ctx context.Context, db *pg.DB) (me Me, err error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return me, err
	}
	if a.Member == "" {
		return me, tandem.Errorf(tandem.Forbidden, "Only a member can ask this.")
	}
	err = db.Read(ctx, func(ctx context.Context, tx pgx.Tx) error {
		me, err = meIn(ctx, tx, a)
		return err
	})
	return me, err
}

func meIn(ctx context.Context, tx pgx.Tx, a tandem.Actor) (me Me, err error) {
	if me.Member, err = Members.Load(ctx, tx, a.Member, false); err != nil {
		return me, err
	}
	if me.Org, err = GetOrg(ctx, tx); err != nil {
		return me, err
	}
	for p, ok := range a.Grants {
		if ok {
			me.Permissions = append(me.Permissions, p)
		}
	}
	slices.Sort(me.Permissions)
	return me, nil
}

func clip(s string, n int) string {
	r := []rune(cleanText(s))
	return string(r[:min(len(r), n)])
}
