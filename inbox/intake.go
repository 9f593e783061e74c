package inbox

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/internal/pg"
)

// What a message needs beyond tandem_intake, in the order in which its answers come.
type leftover int

const (
	stored   leftover = iota // it is stored
	repeated                 // it is there already: only the slow path finds what it became
	left                     // not taken: tell of the newcomer, or take the slow path
)

// tandem_intake and its rules are in migrations.
const intakeSQL = `
	SELECT place, conversation::text, contact::text, lead::text, number FROM tandem_intake(
	    @orgs::uuid[], @channels::uuid[], @externals::text[], @kinds::text[], @scopes::text[], @values::text[], @threads::text[],
	    @claims::text[]::jsonb[], @news::text[]::jsonb[], @inbounds::uuid[], @messages::uuid[], @received::uuid[], @reopened::uuid[], @chains::uuid[],
	    @hashes::bytea[], @raws::bytea[], @subjects::text[], @previews::text[], @texts::text[], @htmls::text[])`

// taken is one row of it.
type taken struct {
	Place        int
	Conversation *tandem.ID
	Contact      *tandem.ID
	Lead         *tandem.ID
	Number       *int64
}

// intake stores what it can of messages and says, for each, what it became or what is left to
// do. All of one sender's must be there in their order, those of one organization together.
// With newcomers, it also takes those of senders whom nobody knows.
func intake(ctx context.Context, q pg.Queryer, messages []incoming, newcomers bool) ([]channels.Accepted, []leftover, error) {
	n := len(messages)
	got, rest := make([]channels.Accepted, n), make([]leftover, n)
	ids := make([]tandem.ID, 7*n)
	column := func(k int) []tandem.ID { return ids[k*n : (k+1)*n : (k+1)*n] }
	orgs, chans, inbounds, names := column(0), column(1), column(2), column(3)
	received, reopened, chains := column(4), column(5), column(6)
	words := make([]string, 10*n)
	text := func(k int) []string { return words[k*n : (k+1)*n : (k+1)*n] }
	externals, kinds, scopes, values, threads := text(0), text(1), text(2), text(3), text(4)
	claims, subjects, previews, texts, htmls := text(5), text(6), text(7), text(8), text(9)
	news := make([]*string, n)
	hashes, raws := make([][]byte, n), make([][]byte, n)
	for k, i := range messages {
		rest[k] = left
		orgs[k], chans[k], inbounds[k], names[k] = i.Org, i.Channel, i.inbound, i.message
		received[k], reopened[k], chains[k] = tandem.NewID(), tandem.NewID(), i.chain
		externals[k], kinds[k], scopes[k], values[k], threads[k] = string(i.ID), i.from.Kind, i.from.Scope, i.from.Value, i.Thread
		claims[k], subjects[k], previews[k], texts[k], htmls[k] = i.said, i.Subject, previewOf(i.Text), i.Text, i.HTML
		hashes[k], raws[k] = i.hash, i.Raw
		if newcomers {
			var err error
			if news[k], err = i.newcomer(); err != nil {
				return nil, nil, err
			}
		}
	}
	rows, err := q.Query(ctx, intakeSQL, pgx.StrictNamedArgs{
		"orgs": orgs, "channels": chans, "externals": externals, "kinds": kinds, "scopes": scopes, "values": values, "threads": threads,
		"claims": claims, "news": news, "inbounds": inbounds, "messages": names, "received": received, "reopened": reopened, "chains": chains,
		"hashes": hashes, "raws": raws, "subjects": subjects, "previews": previews, "texts": texts, "htmls": htmls,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("take in messages: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByName[taken])
	if err != nil {
		return nil, nil, fmt.Errorf("take in messages: %w", err)
	}
	for _, r := range all {
		k := r.Place - 1
		if r.Conversation == nil {
			rest[k] = repeated
			continue
		}
		rest[k] = stored
		got[k] = channels.Accepted{
			Contact: tandem.Deref(r.Contact), Lead: tandem.Deref(r.Lead), Conversation: *r.Conversation, Message: messages[k].message, Seq: deref(r.Number),
		}
	}
	return got, rest, nil
}

// newcomer is what the message makes of its sender when nobody knows him, or nil when only
// the slow path can tell.
func (i incoming) newcomer() (*string, error) {
	c := crm.NewNewcomer(i.from, i.facts())
	c, ok := c.With(i.newLead(crm.Contact{Name: c.Name}, nil))
	if !ok {
		return nil, nil
	}
	b, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode a newcomer: %w", err)
	}
	s := string(b)
	return &s, nil
}
