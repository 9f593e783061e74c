package inbox

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/record"
)

// Channel is one configured way in and out. Its secret is never shown.
type Channel struct {
	ID         tandem.ID       `json:"id" db:"id"`
	Kind       string          `json:"kind" db:"kind"`
	Name       string          `json:"name" db:"name"`
	Status     string          `json:"status" db:"status" enum:"active,paused"`
	Settings   json.RawMessage `json:"settings" db:"settings"` // the kind's own
	PublicKey  *string         `json:"public_key,omitempty" db:"public_key"`
	BoardID    *tandem.ID      `json:"board_id,omitempty" db:"board_id"`         // where its leads open; none: the default board
	AIMemberID *tandem.ID      `json:"ai_member_id,omitempty" db:"ai_member_id"` // who answers first; none: people
	LastError  string          `json:"last_error,omitempty" db:"last_error"`
	CreatedAt  time.Time       `json:"created_at" db:"created_at"`
	UpdatedAt  time.Time       `json:"updated_at" db:"updated_at"`
	Version    int64           `json:"version" db:"version"`

	Secret []byte `json:"-" db:"secret"` // sealed
}

// NewChannel is what a channel is made from.
type NewChannel struct {
	Kind     string
	Name     string
	Settings json.RawMessage // empty: the kind's defaults
	Secret   string          // the kind's own, such as a password; empty: none
	Board    tandem.ID       // empty: the default board
	AIMember tandem.ID       // empty: people answer
}

// ChannelPatch names what shall change; nil leaves a field as it is.
type ChannelPatch struct {
	Name     *string
	Status   *string
	Settings json.RawMessage
	Secret   *string // empty: none any more
	Board    *string // an id; empty: the default board
	AIMember *string // an id; empty: people answer
	Version  *int64  // refuse with Conflict when the channel has another version
}

var channelSet = record.Set[Channel]{
	Noun: "channel", Table: "channels", Label: "name", Category: "team",
	Fields: []record.Field{
		{Name: "kind", Once: true, Filter: true},
		{Name: "name", Write: true},
		{Name: "status", Filter: true, Write: true},
		{Name: "settings", Write: true, Hidden: true},
		{Name: "secret", Write: true, Hidden: true},
		{Name: "public_key", Once: true},
		{Name: "board_id", Write: true, Type: record.ID},
		{Name: "ai_member_id", Write: true, Type: record.ID},
	},
	Check: func(c *Channel) error {
		var wrong []tandem.FieldError
		c.Name = strings.TrimSpace(c.Name)
		if n := len([]rune(c.Name)); n < 1 || n > 120 {
			wrong = append(wrong, tandem.FieldError{Field: "name", Message: "A channel needs a name of at most 120 characters."})
		}
		if c.Status != "active" && c.Status != "paused" {
			wrong = append(wrong, tandem.FieldError{Field: "status", Message: "This is not one of active, paused."})
		}
		if wrong != nil {
			return tandem.InvalidFields(wrong...)
		}
		return nil
	},
}

// ChannelInfo describes the set of channels to those who list all sets.
func ChannelInfo() record.Info { return channelSet.Info() }

// Channels are an organization's channels: a record with checks that know the kinds.
type Channels struct{ in *Inbox }

// List returns a page of channels. It needs channel:read.
func (c *Channels) List(ctx context.Context, tx pgx.Tx, q tandem.Query) (tandem.Page[Channel], error) {
	return channelSet.List(ctx, tx, q)
}

// Get returns one channel. It needs channel:read.
func (c *Channels) Get(ctx context.Context, tx pgx.Tx, id tandem.ID) (Channel, error) {
	return channelSet.Get(ctx, tx, id)
}

const newDoorSQL = `INSERT INTO doors (kind, key, org_id, record_id) VALUES ('channel', @key, @org, @channel)`

// Create adds a channel with a public key of its own. Settings that its kind does not
// accept are Invalid. It needs channel:write.
func (c *Channels) Create(ctx context.Context, tx pgx.Tx, in NewChannel) (Channel, error) {
	a, err := channelSet.May(ctx, "write")
	if err != nil {
		return Channel{}, err
	}
	if len(in.Settings) == 0 {
		in.Settings = json.RawMessage(`{}`)
	}
	key := "pk_" + base62(22)
	v := Channel{
		ID: tandem.NewID(), Kind: in.Kind, Name: in.Name, Status: "active", Settings: in.Settings, PublicKey: &key,
		BoardID: in.Board.Ptr(), AIMemberID: in.AIMember.Ptr(),
	}
	if in.Secret != "" {
		v.Secret = c.seal(a.Org, v.ID, in.Secret)
	}
	if err := c.check(ctx, tx, a.Org, v); err != nil {
		return Channel{}, err
	}
	if v, err = channelSet.Create(ctx, tx, v); err != nil {
		return Channel{}, err
	}
	sum := sha256.Sum256([]byte(key))
	if _, err := tx.Exec(ctx, newDoorSQL, pgx.StrictNamedArgs{"key": sum[:], "org": a.Org, "channel": v.ID}); err != nil {
		return Channel{}, fmt.Errorf("open door of channel: %w", err)
	}
	return v, nil
}

// Patch changes a channel. What its kind does not accept is Invalid. It needs channel:write.
func (c *Channels) Patch(ctx context.Context, tx pgx.Tx, id tandem.ID, p ChannelPatch) (Channel, error) {
	a, err := channelSet.May(ctx, "write")
	if err != nil {
		return Channel{}, err
	}
	fields := map[string]any{}
	if p.Name != nil {
		fields["name"] = *p.Name
	}
	if p.Status != nil {
		fields["status"] = *p.Status
	}
	if len(p.Settings) > 0 {
		fields["settings"] = p.Settings
	}
	if p.Secret != nil {
		fields["secret"] = nil
		if *p.Secret != "" {
			fields["secret"] = base64.StdEncoding.EncodeToString(c.seal(a.Org, id, *p.Secret))
		}
	}
	if p.Board != nil {
		fields["board_id"] = none(*p.Board)
	}
	if p.AIMember != nil {
		fields["ai_member_id"] = none(*p.AIMember)
	}
	raw, err := json.Marshal(fields)
	if err != nil {
		return Channel{}, tandem.InvalidFields(tandem.FieldError{Field: "settings", Message: "This is not JSON."})
	}
	v, err := channelSet.Patch(ctx, tx, id, raw, p.Version)
	if err != nil {
		return Channel{}, err
	}
	return v, c.check(ctx, tx, a.Org, v)
}

const (
	isAISQL = `SELECT EXISTS (SELECT FROM members WHERE org_id = @org AND id = @id AND kind = 'ai' AND status = 'active')`
	// The board is held, so that nobody archives it meanwhile.
	takesLeadsSQL = `SELECT FROM boards WHERE org_id = @org AND id = @id AND kind = 'lead' AND archived_at IS NULL FOR KEY SHARE`
)

// check asks the channel's kind whether it would open like this.
func (c *Channels) check(ctx context.Context, tx pgx.Tx, org tandem.ID, v Channel) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(v.Settings, &object); err != nil || object == nil {
		return tandem.InvalidFields(tandem.FieldError{Field: "settings", Message: "The settings must be a JSON object."})
	}
	for field, id := range map[string]*tandem.ID{"board_id": v.BoardID, "ai_member_id": v.AIMemberID} {
		if id == nil {
			continue
		}
		if _, err := tandem.ParseID(string(*id)); err != nil {
			return tandem.InvalidFields(tandem.FieldError{Field: field, Message: "This is not an id."})
		}
	}
	if v.BoardID != nil {
		tag, err := tx.Exec(ctx, takesLeadsSQL, pgx.StrictNamedArgs{"org": org, "id": *v.BoardID})
		if err != nil {
			return fmt.Errorf("find board: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return tandem.InvalidFields(tandem.FieldError{Field: "board_id", Message: "There is no board for leads like that."})
		}
	}
	if v.AIMemberID != nil {
		var ok bool
		if err := tx.QueryRow(ctx, isAISQL, pgx.StrictNamedArgs{"org": org, "id": *v.AIMemberID}).Scan(&ok); err != nil {
			return fmt.Errorf("find AI member: %w", err)
		}
		if !ok {
			return tandem.InvalidFields(tandem.FieldError{Field: "ai_member_id", Message: "There is no active AI member like that."})
		}
	}
	ch, err := c.openOne(ctx, org, v)
	if err != nil {
		return err
	}
	return ch.Close()
}

// openOne opens the channel as its kind does, without touching the network.
func (c *Channels) openOne(ctx context.Context, org tandem.ID, v Channel) (channels.Channel, error) {
	var kind *channels.Kind
	var names []string
	for i, k := range c.in.o.Kinds {
		names = append(names, k.Name)
		if k.Name == v.Kind {
			kind = &c.in.o.Kinds[i]
		}
	}
	if kind == nil {
		return nil, tandem.InvalidFields(tandem.FieldError{Field: "kind", Message: "This is not one of " + strings.Join(names, ", ") + "."})
	}
	var secret []byte
	if v.Secret != nil {
		var err error
		if secret, err = c.in.o.Sealer.Unseal(org, "channels", "secret", v.ID, v.Secret); err != nil {
			return nil, fmt.Errorf("open secret of channel %s: %w", v.ID, err)
		}
	}
	sealer := c.in.o.Sealer
	ch, err := kind.Open(ctx, channels.Config{
		Org: org, ID: v.ID, Name: v.Name, PublicKey: deref(v.PublicKey), Settings: v.Settings, Secret: secret,
		Sign:   func(payload []byte) []byte { return sealer.Sign("channels", payload) },
		Verify: func(payload, mac []byte) bool { return sealer.Verify("channels", payload, mac) },
		HTTP:   c.in.o.HTTP, Logger: c.in.o.Logger.With("channel", v.ID, "kind", v.Kind),
	})
	if err != nil {
		var te *tandem.Error
		if errors.As(err, &te) {
			return nil, err
		}
		return nil, fmt.Errorf("open channel %s: %w", v.ID, err)
	}
	return ch, nil
}

func (c *Channels) seal(org, id tandem.ID, secret string) []byte {
	return c.in.o.Sealer.Seal(org, "channels", "secret", id, []byte(secret))
}

// ChannelOfKind returns the organization's first active channel of that kind; NotFound
// when there is none.
func ChannelOfKind(ctx context.Context, tx pgx.Tx, kind string) (id tandem.ID, err error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return "", err
	}
	err = tx.QueryRow(ctx, `SELECT id FROM channels WHERE org_id = @org AND kind = @kind AND status = 'active' ORDER BY created_at, id LIMIT 1`,
		pgx.StrictNamedArgs{"org": a.Org, "kind": kind}).Scan(&id)
	if pg.NoRows(err) {
		return "", tandem.Errorf(tandem.NotFound, "Your organization has no active channel of the kind %s. Add one first.", kind)
	}
	if err != nil {
		return "", fmt.Errorf("find channel of kind %s: %w", kind, err)
	}
	return id, nil
}

const alphabet62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// base62 returns n random letters and digits.
func base62(n int) string {
	out := make([]byte, 0, n)
	var b [64]byte
	for len(out) < n {
		_, _ = rand.Read(b[:]) // never fails on supported systems
		for _, c := range b {
			if c < 248 && len(out) < n { // 248 = 4 * 62: every letter is equally likely
				out = append(out, alphabet62[c%62])
			}
		}
	}
	return string(out)
}
