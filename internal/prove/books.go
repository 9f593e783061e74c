package prove

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Books is what a site's database holds of its conversations.
type Books struct {
	Messages      []Message
	Conversations []Conversation
	Dispatches    []Dispatch // only of a site with WatchDispatches
	Takeovers     []Takeover // the same
}

// Message is a row of messages, notes left out, with the inbound row that it came from.
type Message struct {
	ID, Conversation, Channel string // the channel's kind
	Seq                       int64
	Inbound                   bool
	External                  string // of an inbound one: the sender's id
	Sender                    string
	Text                      string
	Status                    string
	Provider                  string // of an outbound one: our id at the provider
	Fence                     int64
}

// Conversation is what its row says about who waits for whom.
type Conversation struct {
	ID             string
	LastInbound    int64 `db:"last_inbound"`
	Answered       int64
	OwnerKind      string `db:"owner_kind"`
	Handoff        bool
	Undone         int // outbound messages that have not gone out
	Unknown        int // of which it is not known whether they arrived
	Working        bool
	OpenSince, Now time.Time
}

// Dispatch is the commit that let a message of a machine go out.
type Dispatch struct {
	Message, Conversation string
	At                    time.Time
}

// Takeover is the commit by which a person became the owner.
type Takeover struct {
	Conversation string
	At           time.Time
}

const messagesSQL = `
SELECT m.id::text, m.conversation_id::text AS conversation, ch.kind AS channel, m.seq, m.direction = 'inbound' AS inbound,
       coalesce(i.external_id, '') AS external, m.sender_kind AS sender, m.text, m.status, coalesce(m.provider_id, '') AS provider, m.fence
FROM messages m
JOIN conversations c ON c.org_id = m.org_id AND c.id = m.conversation_id
JOIN channels ch ON ch.org_id = c.org_id AND ch.id = c.channel_id
LEFT JOIN inbound i ON i.org_id = m.org_id AND i.message_id = m.id
WHERE m.kind = 'message'
ORDER BY m.conversation_id, m.seq`

const conversationsSQL = `
SELECT c.id::text, c.last_inbound_seq AS last_inbound, c.answered_seq AS answered, coalesce(c.owner_kind, '') AS owner_kind, c.handoff_id IS NOT NULL AS handoff,
       (SELECT count(*) FROM messages m WHERE m.org_id = c.org_id AND m.conversation_id = c.id AND m.status IN ('draft', 'queued', 'retry_wait', 'dispatching'))::int AS undone,
       (SELECT count(*) FROM messages m WHERE m.org_id = c.org_id AND m.conversation_id = c.id AND m.status = 'unknown')::int AS unknown,
       c.lease_run IS NOT NULL AS working, c.last_message_at AS open_since, clock_timestamp() AS now
FROM conversations c`

const watchedSQL = `SELECT to_regclass('prove.log') IS NOT NULL`

const (
	dispatchesSQL = `SELECT record AS message, conversation, pg_xact_commit_timestamp(xid::xid) AS at FROM prove.log WHERE kind = 'dispatch' ORDER BY n`
	takeoversSQL  = `SELECT conversation, pg_xact_commit_timestamp(xid::xid) AS at FROM prove.log WHERE kind = 'takeover' ORDER BY n`
)

// ReadBooks reads a site's books as its superuser.
func ReadBooks(ctx context.Context, conn *pgx.Conn) (b Books, err error) {
	if b.Messages, err = collect[Message](ctx, conn, messagesSQL); err != nil {
		return b, err
	}
	if b.Conversations, err = collect[Conversation](ctx, conn, conversationsSQL); err != nil {
		return b, err
	}
	var watched bool
	if err = conn.QueryRow(ctx, watchedSQL).Scan(&watched); err != nil || !watched {
		return b, err
	}
	if b.Dispatches, err = collect[Dispatch](ctx, conn, dispatchesSQL); err != nil {
		return b, err
	}
	b.Takeovers, err = collect[Takeover](ctx, conn, takeoversSQL)
	return b, err
}

func collect[T any](ctx context.Context, conn *pgx.Conn, sql string) ([]T, error) {
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return nil, fmt.Errorf("read the books: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[T])
	if err != nil {
		return nil, fmt.Errorf("read the books: %w", err)
	}
	return found, nil
}

// WatchSettings is what a cluster needs for Site.WatchDispatches: the time of each commit.
var WatchSettings = map[string]string{"track_commit_timestamp": "on"}

const watchSQL = `
CREATE SCHEMA prove;
CREATE TABLE prove.log (n bigserial PRIMARY KEY, kind text, conversation text, record text, xid xid8 DEFAULT pg_current_xact_id());
CREATE FUNCTION prove.dispatch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN INSERT INTO prove.log (kind, conversation, record) VALUES ('dispatch', NEW.conversation_id, NEW.id); RETURN NULL; END $$;
CREATE FUNCTION prove.takeover() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN INSERT INTO prove.log (kind, conversation) VALUES ('takeover', NEW.id); RETURN NULL; END $$;
CREATE TRIGGER prove_dispatch AFTER UPDATE OF status ON messages FOR EACH ROW
WHEN (NEW.status = 'dispatching' AND NEW.sender_kind IN ('ai', 'external') AND NEW.handoff_id IS NULL) EXECUTE FUNCTION prove.dispatch();
CREATE TRIGGER prove_takeover AFTER UPDATE OF owner_kind ON conversations FOR EACH ROW
WHEN (NEW.owner_kind = 'human' AND NEW.owner_id IS DISTINCT FROM OLD.owner_id) EXECUTE FUNCTION prove.takeover();`

// WatchDispatches makes the database note, in each transaction itself, when a machine's message is let out and when a
// person takes over. The order is that of the commits, by the server's own record of them. The site's cluster must have
// been started with WatchSettings.
func (s *Site) WatchDispatches() {
	s.t.Helper()
	s.withDatabase(func(ctx context.Context) error {
		conn, err := s.Superuser(ctx)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, watchSQL)
		return err
	})
}
