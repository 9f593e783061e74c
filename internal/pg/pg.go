// Package pg owns the connection pool and its transactions.
//
// Every transaction that touches an organization's rows is opened by DB.Tx or DB.Read,
// which take the organization from the actor in the context and hand it to row-level
// security. The pool runs as a role that owns nothing and bypasses nothing; Open
// refuses any other, so a forgotten WHERE can never show another organization's rows.
package pg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	pgxvec "github.com/pgvector/pgvector-go/pgx"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/mutant"
)

// Config says how to reach the database.
type Config struct {
	// URL is a connection string or URL for the application role.
	URL string
	// MaxConns bounds the pool; 0 means 16, which is plenty for a small machine.
	MaxConns int32
	// IdleLimit is how long a transaction may wait for its own process before the server ends it; 0 means 5 s. No
	// transaction of ours waits for anything but the database, so one that does belongs to a process that stands still,
	// and holds what others need. A value in URL wins.
	IdleLimit time.Duration
	// AllowUnsafe accepts a server that does not flush commits to disk. Only tests set it.
	AllowUnsafe bool
	// Logger receives one line per retried transaction; nil means slog.Default.
	Logger *slog.Logger
}

// DB is a pool of connections as the application role.
type DB struct {
	pool *pgxpool.Pool
	log  *slog.Logger
	full *atomic.Pointer[refusal] // the last write that the server had no room for
}

type refusal struct {
	at  time.Time
	err error
}

// TxFunc is the body of a transaction. It may run more than once, so it must not
// touch anything outside tx that a second run would repeat.
type TxFunc func(ctx context.Context, tx pgx.Tx) error

const (
	connectTimeout = 10 * time.Second
	idleLimit      = 5 * time.Second
	idleSetting    = "idle_in_transaction_session_timeout"
)

// Open connects, checks that the role and the server keep Tandem's promises, and returns the pool.
// A database that cannot be reached is Unavailable; a role or setting that breaks a promise is Invalid.
func Open(ctx context.Context, c Config) (*DB, error) {
	pc, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		return nil, tandem.Wrap(tandem.Invalid, err, "The database URL cannot be read.")
	}
	pc.MaxConns = c.MaxConns
	if pc.MaxConns <= 0 {
		pc.MaxConns = 16
	}
	pc.ConnConfig.ConnectTimeout = connectTimeout
	pc.ConnConfig.RuntimeParams["application_name"] = "tandem"
	pc.ConnConfig.RuntimeParams["timezone"] = "UTC"
	if c.IdleLimit <= 0 {
		c.IdleLimit = idleLimit
	}
	if _, set := pc.ConnConfig.RuntimeParams[idleSetting]; !set {
		pc.ConnConfig.RuntimeParams[idleSetting] = strconv.FormatInt(c.IdleLimit.Milliseconds(), 10)
	}
	pc.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error { return pgxvec.RegisterTypes(ctx, conn) }
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if err := check(ctx, pc.ConnConfig.Copy(), c.AllowUnsafe); err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, unreachable(err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, unreachable(err)
	}
	return &DB{pool: pool, log: c.Logger, full: &atomic.Pointer[refusal]{}}, nil
}

// Beside returns another pool for the same database, of at most maxConns connections, for work that must not wait behind
// that of db, or must not make it wait. It connects when it is used; close it like db.
func (db *DB) Beside(ctx context.Context, maxConns int32) (*DB, error) {
	pc := db.pool.Config()
	pc.MaxConns = maxConns
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, unreachable(err)
	}
	return &DB{pool: pool, log: db.log, full: db.full}, nil
}

// check looks, on one connection of its own, at what the pool will rely on.
func check(ctx context.Context, cc *pgx.ConnConfig, allowUnsafe bool) error {
	conn, err := pgx.ConnectConfig(ctx, cc)
	if err != nil {
		return unreachable(err)
	}
	defer conn.Close(ctx)
	var role, fsync, fullPages, sync string
	var super, bypass, vector bool
	err = conn.QueryRow(ctx, `
		SELECT r.rolname, r.rolsuper, r.rolbypassrls, current_setting('fsync'), current_setting('full_page_writes'),
		       current_setting('synchronous_commit'), EXISTS (SELECT FROM pg_extension WHERE extname = 'vector')
		FROM pg_roles r WHERE r.rolname = current_user`).Scan(&role, &super, &bypass, &fsync, &fullPages, &sync, &vector)
	if err != nil {
		return fmt.Errorf("look at the database role: %w", err)
	}
	switch {
	case super || bypass:
		return tandem.Errorf(tandem.Invalid, "The database role %q bypasses row-level security; connect as a role that is neither superuser nor BYPASSRLS, such as tandem_app.", role)
	case !vector:
		return tandem.Errorf(tandem.Invalid, "The database lacks the extension pgvector; install it and run CREATE EXTENSION vector as a superuser.")
	case !allowUnsafe && (fsync != "on" || fullPages != "on" || sync == "off"):
		return tandem.Errorf(tandem.Invalid, "The database would lose committed messages on a power cut; turn on fsync, full_page_writes and synchronous_commit.")
	}
	return nil
}

func unreachable(err error) error {
	return &tandem.Error{Kind: tandem.Unavailable, Msg: "The database cannot be reached.", RetryAfter: 5 * time.Second, Err: err}
}

// Close closes every connection; it waits for those in use.
func (db *DB) Close() { db.pool.Close() }

// Pool returns the pool itself, for what needs a connection of its own (LISTEN, locks) and for health checks.
func (db *DB) Pool() *pgxpool.Pool { return db.pool }

// Tx runs fn in a transaction inside the organization of ctx's actor and commits when fn
// returns nil. A deadlock, a serialization failure, ErrStale and an end by the IdleLimit are
// retried, at most three times in all.
// Without an actor it returns Unauthenticated; a lost connection is Unavailable.
func (db *DB) Tx(ctx context.Context, fn TxFunc) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	return db.run(ctx, pgx.TxOptions{}, a.Org, fn)
}

// Read is Tx in a read-only transaction.
func (db *DB) Read(ctx context.Context, fn TxFunc) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	return db.run(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly}, a.Org, fn)
}

// Global runs fn in a transaction that belongs to no organization: it sees only the tables
// without row-level security (users, doors, outbox, processed, timers, loose_blobs).
func (db *DB) Global(ctx context.Context, fn TxFunc) error {
	return db.run(ctx, pgx.TxOptions{}, "", fn)
}

// Again is Global for what is simply done again when it is lost: its commit does not wait for the disk, so a crash of
// the server, though not of this process, may undo it after it was reported as done.
func (db *DB) Again(ctx context.Context, fn TxFunc) error {
	return db.retry(ctx, func() error { return db.once(ctx, pgx.TxOptions{CommitQuery: lazyCommit}, "", fn) })
}

// The setting has to be in force at the commit only.
const lazyCommit = "SET LOCAL synchronous_commit = off; COMMIT"

// Queryer runs a statement; a transaction and a connection are one.
type Queryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Statement runs fn, which executes one statement that is a transaction by itself: it costs one
// round trip, and belongs to no organization unless it enters one. Retries and errors are as with Tx.
func (db *DB) Statement(ctx context.Context, fn func(ctx context.Context, q Queryer) error) error {
	return db.retry(ctx, func() error { return fn(ctx, db.pool) })
}

const maxTries = 3

func (db *DB) run(ctx context.Context, o pgx.TxOptions, org tandem.ID, fn TxFunc) error {
	return db.retry(ctx, func() error { return db.once(ctx, o, org, fn) })
}

func (db *DB) retry(ctx context.Context, once func() error) error {
	for try := 1; ; try++ {
		err := once()
		db.noteRoom(err)
		if err == nil || try == maxTries || !retryable(err) {
			return classify(err)
		}
		db.log.WarnContext(ctx, "transaction retried", "try", try, "err", err)
	}
}

// fullFor is how long a refused write stands for the state of the server's disk. A busy server refuses the next one
// long before.
const fullFor = 5 * time.Second

func (db *DB) noteRoom(err error) {
	var pe *pgconn.PgError
	if errors.As(err, &pe) && pe.Code == "53100" {
		db.full.Store(&refusal{time.Now(), err})
	}
}

// Full returns why the server lately refused a write when its disk was full, or nil. A ping does not see that: a full
// server still answers questions.
func (db *DB) Full() error {
	if r := db.full.Load(); r != nil && time.Since(r.at) < fullFor {
		return unreachable(r.err)
	}
	return nil
}

func (db *DB) once(ctx context.Context, o pgx.TxOptions, org tandem.ID, fn TxFunc) (err error) {
	o.BeginQuery, err = begin(o, org)
	if err != nil {
		return err
	}
	o.AccessMode = ""
	tx, err := db.pool.BeginTx(ctx, o)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	// After a commit this does nothing. A context of its own: ctx may be the reason to roll back.
	defer func() {
		rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
		defer cancel()
		_ = tx.Rollback(rctx)
	}()
	if err := fn(ctx, tx); err != nil {
		if mutant.Is("foreign-404-after-write") {
			_ = tx.Commit(ctx)
		}
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// begin opens the transaction and enters the organization in one round trip. The id is
// checked to be a UUID because this statement takes no parameters.
func begin(o pgx.TxOptions, org tandem.ID) (string, error) {
	q := "BEGIN"
	if o.AccessMode == pgx.ReadOnly {
		q = "BEGIN READ ONLY"
	}
	if org == "" {
		return q, nil
	}
	id, err := tandem.ParseID(string(org))
	if err != nil {
		return "", err
	}
	return q + "; SET LOCAL app.org_id = '" + string(id) + "'", nil
}

// EnterOrg switches the running transaction to org. Only code that works through several
// organizations in turn needs it: a login, a timer, a batch of inbound messages.
func EnterOrg(ctx context.Context, tx pgx.Tx, org tandem.ID) error {
	if _, err := tx.Exec(ctx, "SELECT set_config('app.org_id', $1, true)", string(org)); err != nil {
		return fmt.Errorf("enter organization: %w", err)
	}
	return nil
}

// idleTooLong says that the server has ended a transaction because this process stood still in it. Nothing of it is kept.
const idleTooLong = "25P03"

// ErrStale says that what a transaction has locked is no longer what it was looking for. Tx runs it once more, without the
// locks, which others may wait for: to look on with them could end in a circle.
var ErrStale = errors.New("what was found has changed meanwhile")

func retryable(err error) bool {
	var pe *pgconn.PgError
	return errors.Is(err, ErrStale) || errors.As(err, &pe) && (pe.Code == "40001" || pe.Code == "40P01" || pe.Code == idleTooLong)
}

// classify turns the loss of the database into Unavailable and leaves every other error as it is.
func classify(err error) error {
	if err == nil {
		return nil
	}
	var te *tandem.Error
	if errors.As(err, &te) {
		return err
	}
	var ce *pgconn.ConnectError
	if errors.As(err, &ce) { // before what the server says: whatever bars the way in, no statement has run
		return unreachable(err)
	}
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		if pe.Code == idleTooLong {
			return unreachable(err)
		}
		switch pe.Code[:2] {
		case "08", "53", "57", "58": // connection, resources (disk full), operator (shutdown), system
			return unreachable(err)
		}
		return err
	}
	var ne net.Error
	if (errors.As(err, &ne) && !errors.Is(err, context.Canceled)) || pgconn.SafeToRetry(err) || isClosed(err) {
		return unreachable(err)
	}
	return err
}

// isClosed reports whether the connection went away under a running statement.
func isClosed(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || err.Error() == "conn closed" || errors.Is(err, pgx.ErrTxClosed)
}

// IsUnique reports whether err is a violation of the named unique constraint or index;
// an empty name means any.
func IsUnique(err error, constraint string) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && pe.Code == "23505" && (constraint == "" || pe.ConstraintName == constraint)
}

// Refusal gives a constraint's refusal of a record, which people call by word, its kind: a value that is taken is
// Conflict, a reference to nothing and a value that no column takes are Invalid. Other errors stay as they are.
func Refusal(err error, word string) error {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return err
	}
	switch {
	case pe.Code == "23505":
		return tandem.Wrap(tandem.Conflict, err, "There is already a %s like this.", word)
	case pe.Code == "23503":
		return tandem.Wrap(tandem.Invalid, err, "The %s names something that does not exist.", word)
	case pe.Code == "23502" || pe.Code == "23514" || strings.HasPrefix(pe.Code, "22"): // NULL, CHECK, and data no column takes
		return tandem.Wrap(tandem.Invalid, err, "The %s has a value that is not allowed.", word)
	}
	return err
}

// NoRows reports whether err says that a query for one row found none.
func NoRows(err error) bool { return errors.Is(err, pgx.ErrNoRows) }
