package team

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
)

// Key is an API key as a person may see it: never its secret.
type Key struct {
	ID         tandem.ID  `json:"id" db:"id"`
	Name       string     `json:"name" db:"name"`
	Prefix     string     `json:"prefix" db:"prefix"` // such as "tdm_8Kd02hQz"
	Member     tandem.ID  `json:"member_id" db:"member_id"`
	Scopes     []string   `json:"scopes" db:"scopes" nullable:"false"` // empty: all that the member may
	ExpiresAt  *time.Time `json:"expires_at,omitempty" db:"expires_at"`
	LastUsedAt *time.Time `json:"last_used_at,omitempty" db:"last_used_at"` // to the minute
	CreatedAt  time.Time  `json:"created_at" db:"created_at"`
}

const (
	keyIDLen     = 8
	keySecretLen = 43 // 256 bits in base 62
)

var (
	keyForm   = regexp.MustCompile(`^tdm_[0-9A-Za-z]{8}_[0-9A-Za-z]{43}$`)
	errBadKey = tandem.Errorf(tandem.Unauthenticated, "This API key is unknown or has been revoked.")
)

const (
	sqlAddKey = `
INSERT INTO api_keys (org_id, id, name, prefix, secret_hash, member_id, scopes)
VALUES (@org, @id, @name, @prefix, @hash, @member, @scopes)`
	sqlKeys = `
SELECT id, name, prefix, member_id, scopes, expires_at, last_used_at, created_at FROM api_keys
WHERE org_id = @org AND revoked_at IS NULL ORDER BY id DESC LIMIT 1000`
	sqlRevokeKey = `
WITH k AS (UPDATE api_keys SET revoked_at = now() WHERE org_id = @org AND id = @id AND revoked_at IS NULL RETURNING id, name),
     d AS (DELETE FROM doors USING k WHERE doors.org_id = @org AND doors.kind = 'api_key' AND doors.record_id = k.id)
SELECT name FROM k`
	// The use is noted at most once a minute, so that most requests write nothing.
	sqlKey = `
WITH k AS (
	SELECT k.id, k.member_id, k.scopes, k.last_used_at, m.kind, m.name, m.role
	FROM api_keys k JOIN members m ON m.org_id = k.org_id AND m.id = k.member_id
	WHERE k.org_id = @org AND k.id = @id AND k.secret_hash = @hash AND k.revoked_at IS NULL AND m.status = 'active'
	  AND (k.expires_at IS NULL OR k.expires_at > now())),
used AS (
	UPDATE api_keys SET last_used_at = now() FROM k
	WHERE api_keys.org_id = @org AND api_keys.id = k.id AND (k.last_used_at IS NULL OR k.last_used_at < now() - interval '1 minute'))
SELECT member_id, scopes, kind, name, role FROM k`
)

// CreateKey makes an API key that acts as member with at most the scopes, which are
// permissions; none means all that the member may. The plain key is shown this once: the
// database keeps its hash. Making one for somebody needs member:write.
func CreateKey(ctx context.Context, tx pgx.Tx, name string, member tandem.ID, scopes []string) (plain string, id tandem.ID, err error) {
	a, err := Members.May(ctx, "write")
	if err != nil {
		return "", "", err
	}
	name = strings.TrimSpace(name)
	wrong := checkText(nil, "name", name, 120)
	for _, s := range scopes {
		if !slices.Contains(Permissions, s) {
			wrong = append(wrong, tandem.FieldError{Field: "scopes", Message: fmt.Sprintf("There is no permission %q.", clip(s, 60))})
		}
	}
	if len(wrong) > 0 {
		return "", "", tandem.InvalidFields(wrong...)
	}
	m, err := Members.Load(ctx, tx, member, true)
	if err != nil {
		return "", "", err
	}
	if m.Status != "active" {
		return "", "", tandem.Errorf(tandem.Conflict, "%s is disabled.", m.Name)
	}
	if scopes == nil {
		scopes = []string{}
	}
	prefix := "tdm_" + base62(keyIDLen)
	plain, id = prefix+"_"+base62(keySecretLen), tandem.NewID()
	hash := sha256.Sum256([]byte(plain))
	if _, err := tx.Exec(ctx, sqlAddKey, pgx.StrictNamedArgs{
		"org": a.Org, "id": id, "name": name, "prefix": prefix, "hash": hash[:], "member": member, "scopes": scopes,
	}); err != nil {
		return "", "", fmt.Errorf("create key: %w", err)
	}
	if _, err := tx.Exec(ctx, sqlAddDoor, pgx.StrictNamedArgs{"kind": "api_key", "hash": hash[:], "org": a.Org, "id": id}); err != nil {
		return "", "", fmt.Errorf("create key: %w", err)
	}
	_, err = events.Emit(ctx, tx, tandem.Event{
		Noun: "key", Verb: "created", Record: id, Category: "security", Severity: "notice",
		Changes:     []tandem.Change{{Field: "name", New: name}, {Field: "prefix", New: prefix}, {Field: "scopes", New: scopes}},
		Description: a.Name + " made the API key " + name + " for " + m.Name,
	})
	if err != nil {
		return "", "", fmt.Errorf("create key: %w", err)
	}
	return plain, id, nil
}

// Keys lists the organization's live API keys, newest first, at most 1,000.
func Keys(ctx context.Context, tx pgx.Tx) ([]Key, error) {
	a, err := Members.May(ctx, "write")
	if err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, sqlKeys, pgx.StrictNamedArgs{"org": a.Org})
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[Key])
}

// RevokeKey ends an API key; it stops working within a second.
func RevokeKey(ctx context.Context, tx pgx.Tx, id tandem.ID) error {
	a, err := Members.May(ctx, "write")
	if err != nil {
		return err
	}
	gone := tandem.Errorf(tandem.NotFound, "There is no such API key.")
	if _, err := tandem.ParseID(string(id)); err != nil {
		return gone
	}
	var name string
	err = tx.QueryRow(ctx, sqlRevokeKey, pgx.StrictNamedArgs{"org": a.Org, "id": id}).Scan(&name)
	switch {
	case pg.NoRows(err):
		return gone
	case err != nil:
		return fmt.Errorf("revoke key: %w", err)
	}
	_, err = events.Emit(ctx, tx, tandem.Event{
		Noun: "key", Verb: "revoked", Record: id, Category: "security", Severity: "notice",
		Description: a.Name + " revoked the API key " + name,
	})
	return err
}

// ActorByKey returns who an API key acts as, with its scopes as permissions, or
// Unauthenticated. An answer may be up to a second old.
func ActorByKey(ctx context.Context, db *pg.DB, key string) (tandem.Actor, error) {
	return entrance.actorByKey(ctx, db, key)
}

func (g *gate) actorByKey(ctx context.Context, db *pg.DB, key string) (tandem.Actor, error) {
	if !keyForm.MatchString(key) {
		return tandem.Actor{}, errBadKey
	}
	d := door{db, sha256.Sum256([]byte(key))}
	a, ok := g.keys.get(d)
	if !ok {
		asked := g.now()
		err := db.Global(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
			a, err = memberBehind(ctx, tx, d.hash)
			return err
		})
		if err != nil {
			return tandem.Actor{}, err
		}
		g.keys.put(d, a, asked)
	}
	a.Chain = tandem.ChainFrom(ctx)
	return a, nil
}

func memberBehind(ctx context.Context, tx pgx.Tx, hash [sha256.Size]byte) (a tandem.Actor, err error) {
	org, id, err := openDoor(ctx, tx, "api_key", hash, errBadKey)
	if err != nil {
		return a, err
	}
	rows, err := tx.Query(ctx, sqlKey, pgx.StrictNamedArgs{"org": org, "id": id, "hash": hash[:]})
	if err != nil {
		return a, fmt.Errorf("read key: %w", err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[struct {
		Member tandem.ID        `db:"member_id"`
		Scopes []string         `db:"scopes"`
		Kind   tandem.ActorKind `db:"kind"`
		Name   string           `db:"name"`
		Role   string           `db:"role"`
	}])
	switch {
	case pg.NoRows(err):
		return a, errBadKey
	case err != nil:
		return a, fmt.Errorf("read key: %w", err)
	}
	return tandem.Actor{
		Org: org, Member: r.Member, Kind: r.Kind, Name: r.Name, Role: r.Role,
		Grants: scoped(r.Role, r.Scopes), OnBehalf: r.Member,
	}, nil
}

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// base62 returns n random characters, each drawn evenly.
func base62(n int) string {
	b := make([]byte, n)
	for i := range b {
		k, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			panic("team: the system's random source failed: " + err.Error()) // crypto/rand never fails on supported systems
		}
		b[i] = alphabet[k.Int64()]
	}
	return string(b)
}
