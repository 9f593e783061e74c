package events

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// leaderIdle is how long a drain that stands still keeps the lock: a process that is frozen keeps its session, and
// without an end to that nobody would publish until it goes on.
const leaderIdle = 10 * time.Second

// leader is the session that holds the drain's lock and hears of new rows.
type leader struct {
	conn *pgx.Conn
	idle time.Duration
	sign time.Time // when it last gave a sign of life
}

// tryLead takes the lock; nil when another session has it.
func tryLead(ctx context.Context, pool *pgxpool.Pool, idle time.Duration) (*leader, error) {
	conn, err := pgx.ConnectConfig(ctx, pool.Config().ConnConfig.Copy())
	if err != nil {
		return nil, fmt.Errorf("connect for the outbox: %w", err)
	}
	l := &leader{conn: conn, idle: idle}
	mine := false
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", drainLock).Scan(&mine); err != nil || !mine {
		l.close(ctx)
		return nil, wrap(err, "take the outbox lock")
	}
	if _, err := conn.Exec(ctx, fmt.Sprintf("SET idle_session_timeout = %d", idle.Milliseconds())); err != nil {
		l.close(ctx)
		return nil, fmt.Errorf("bound the outbox lock: %w", err)
	}
	if _, err := conn.Exec(ctx, "LISTEN tandem_outbox"); err != nil {
		l.close(ctx)
		return nil, fmt.Errorf("listen to the outbox: %w", err)
	}
	l.sign = time.Now()
	return l, nil
}

// listen calls wake for each notification and gives signs of life, until the session or ctx ends; it returns why.
func (l *leader) listen(ctx context.Context, wake func()) error {
	for {
		next := l.sign.Add(l.idle / 3)
		wctx, done := context.WithDeadline(ctx, next)
		_, err := l.conn.WaitForNotification(wctx)
		over := wctx.Err() != nil
		done()
		switch {
		case err == nil:
			wake()
		case ctx.Err() != nil || !over || l.conn.IsClosed():
			return err
		}
		if time.Now().Before(next) {
			continue
		}
		// Notifications do not count: only what we say ends the server's wait for us.
		if _, err := l.conn.Exec(ctx, "SELECT"); err != nil {
			return fmt.Errorf("give a sign of life: %w", err)
		}
		l.sign = time.Now()
	}
}

func (l *leader) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementLimit)
	defer cancel()
	_ = l.conn.Close(ctx) // the server ends the session, and with it the lock, either way
}
