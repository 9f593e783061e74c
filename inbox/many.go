package inbox

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/internal/events"
)

// The fast path for many messages of one organization: as quickSQL, with the messages
// joined on the whole key that decides duplicates, because two copies of one message may be
// in the same batch. Rows that are not returned are repeats, need the slow path, or come
// behind one of the same sender that may. Lateral
// lookups and arrays of ids keep the plan on primary keys whatever the tables' statistics say.
const manySQL = `
	WITH input AS (
	    SELECT * FROM unnest(@ords::int[], @channels::uuid[], @externals::text[], @kinds::text[], @scopes::text[], @values::text[], @threads::text[], @saids::text[],
	                         @inbounds::uuid[], @messages::uuid[], @hashes::bytea[], @raws::bytea[],
	                         @subjects::text[], @previews::text[], @texts::text[], @htmls::text[])
	         AS u(ord, channel_id, external_id, kind, scope, value, thread, claims, inbound_id, message_id, hash, raw, subject, preview, text, html)
	), one AS (
	    SELECT DISTINCT ON (channel_id, external_id) * FROM input ORDER BY channel_id, external_id, ord
	), known AS (
	    SELECT o.*, o.claims::jsonb AS said, (SELECT i.contact_id FROM contact_identities i
	                 WHERE i.org_id = @org AND i.kind = o.kind AND i.scope = o.scope AND i.value = o.value) AS contact_id
	    FROM one o
	), placed AS (
	    SELECT k.*, c.id AS conversation_id, c.lead_id,
	           bool_and(c.id IS NOT NULL) OVER (PARTITION BY k.channel_id, k.kind, k.scope, k.value ORDER BY k.ord) AS ready
	    FROM known k
	    LEFT JOIN LATERAL (SELECT c.id, c.lead_id FROM conversations c
	                       WHERE c.org_id = @org AND c.channel_id = k.channel_id AND c.contact_id = k.contact_id AND c.thread = k.thread
	                         AND c.lead_id IS NOT NULL AND ` + crm.SQLNothingNew + ` LIMIT 1) c ON true
	), found AS (
	    SELECT * FROM placed WHERE ready
	), taken AS (
	    INSERT INTO inbound (org_id, id, channel_id, external_id, body_hash, raw, state, contact_id, lead_id, conversation_id, message_id)
	    SELECT @org, inbound_id, channel_id, external_id, hash, raw, 'applied', contact_id, lead_id, conversation_id, message_id
	    FROM found ORDER BY channel_id, external_id
	    ON CONFLICT (org_id, channel_id, external_id) DO NOTHING
	    RETURNING id
	), numbered AS (
	    SELECT f.*, row_number() OVER (PARTITION BY f.conversation_id ORDER BY f.ord) AS n, count(*) OVER (PARTITION BY f.conversation_id) AS total
	    FROM found f JOIN taken t ON t.id = f.inbound_id
	), held AS (
	    SELECT c.id, c.state FROM conversations c
	    WHERE c.org_id = @org AND c.id = ANY (ARRAY (SELECT conversation_id FROM numbered)) ORDER BY c.id FOR NO KEY UPDATE
	), moved AS (
	    UPDATE conversations c SET next_seq = c.next_seq + l.total, last_inbound_seq = c.next_seq + l.total - 1,
	           message_count = c.message_count + l.total, unread = c.unread + l.total, ai_streak = 0,
	           state = CASE WHEN c.state = 'spam' THEN 'spam' ELSE 'open' END, snoozed_until = NULL,
	           subject = CASE WHEN c.subject = '' THEN l.subject ELSE c.subject END,
	           last_message_at = now(), preview = l.preview, preview_kind = 'contact',
	           preview_name = (SELECT ct.name FROM contacts ct WHERE ct.org_id = @org AND ct.id = c.contact_id), updated_at = now()
	    FROM held h JOIN numbered l ON l.conversation_id = h.id AND l.n = l.total
	    WHERE c.org_id = @org AND c.id = ANY (ARRAY (SELECT id FROM held)) AND c.id = h.id
	    RETURNING c.id AS conversation_id, c.contact_id, c.lead_id, c.next_seq - l.total AS base, h.state AS was, c.preview_name AS name,
	              (SELECT ch.name FROM channels ch WHERE ch.org_id = @org AND ch.id = c.channel_id) AS channel_name
	), stored AS (
	    INSERT INTO messages (org_id, id, conversation_id, seq, direction, sender_kind, sender_id, sender_name, text, html, status, provider_id)
	    SELECT @org, n.message_id, n.conversation_id, m.base + n.n - 1, 'inbound', 'contact', m.contact_id, m.name, n.text, n.html, 'received',
	           'in:' || n.external_id
	    FROM numbered n JOIN moved m ON m.conversation_id = n.conversation_id
	)
	SELECT n.ord, m.conversation_id, m.contact_id, m.lead_id, m.base + n.n - 1 AS seq, CASE WHEN n.n = 1 THEN m.was ELSE 'open' END AS was,
	       m.name, m.channel_name
	FROM numbered n JOIN moved m ON m.conversation_id = n.conversation_id
	ORDER BY n.ord`

type manyRow struct {
	Ord int
	applied
}

// ingestMany stores the messages of batch at the given places, all of one organization,
// and fills got at the same places. The messages of one sender keep their order.
func ingestMany(ctx context.Context, tx pgx.Tx, org tandem.ID, batch []*delivery, places []int, got []channels.Accepted) error {
	all := make(map[int]incoming, len(places))
	var quick []int
	type sender struct {
		channel    tandem.ID
		kind, from string
	}
	slow := map[sender]bool{} // behind a sender's slow message, all of that sender's are
	for _, p := range places {
		i, err := newIncoming(batch[p].in)
		if err != nil {
			return err
		}
		all[p] = i
		s := sender{i.Channel, i.FromKind, string(i.From)}
		if !i.quick {
			slow[s] = true
		}
		if !slow[s] {
			quick = append(quick, p)
		}
	}
	if err := quickMany(ctx, tx, org, batch, quick, all, got); err != nil {
		return err
	}
	for _, p := range places {
		if got[p].Message != "" {
			continue
		}
		a, err := all[p].slow(onChainOf(ctx, batch[p]), tx)
		if err != nil {
			return err
		}
		got[p] = a
	}
	return nil
}

// onChainOf returns ctx on the causal chain of the one who delivers.
func onChainOf(ctx context.Context, d *delivery) context.Context {
	return tandem.WithActor(ctx, tandem.Actor{Org: d.in.Org, Kind: tandem.System, Name: "Tandem", Chain: tandem.ChainFrom(d.ctx)})
}

func quickMany(ctx context.Context, tx pgx.Tx, org tandem.ID, batch []*delivery, places []int, all map[int]incoming, got []channels.Accepted) error {
	for _, p := range places {
		got[p] = channels.Accepted{} // an earlier try of this transaction may have filled it
	}
	if len(places) == 0 {
		return nil
	}
	n := len(places)
	ords := make([]int32, n)
	chans, inbounds, messages := make([]tandem.ID, n), make([]tandem.ID, n), make([]tandem.ID, n)
	externals, kinds, scopes, values, threads, saids := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	subjects, previews, texts, htmls := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	hashes, raws := make([][]byte, n), make([][]byte, n)
	for k, p := range places {
		i := all[p]
		ords[k], chans[k], inbounds[k], messages[k] = int32(p), i.Channel, i.inbound, i.message
		externals[k], kinds[k], scopes[k], values[k], threads[k], saids[k] = string(i.ID), i.from.Kind, i.from.Scope, i.from.Value, i.Thread, i.said
		subjects[k], previews[k], texts[k], htmls[k] = i.Subject, previewOf(i.Text), i.Text, i.HTML
		hashes[k], raws[k] = i.hash, i.Raw
	}
	rows, err := tx.Query(ctx, manySQL, pgx.StrictNamedArgs{
		"org": org, "ords": ords, "channels": chans, "externals": externals, "kinds": kinds, "scopes": scopes, "values": values, "threads": threads, "saids": saids,
		"inbounds": inbounds, "messages": messages, "hashes": hashes, "raws": raws, "subjects": subjects, "previews": previews, "texts": texts, "htmls": htmls,
	})
	if err != nil {
		return fmt.Errorf("ingest batch: %w", err)
	}
	done, err := pgx.CollectRows(rows, pgx.RowToStructByName[manyRow])
	if err != nil {
		return fmt.Errorf("ingest batch: %w", err)
	}
	if len(done) == 0 {
		return nil
	}
	var m events.Many
	for _, r := range done {
		got[r.Ord] = r.accepted(all[r.Ord])
		if err := all[r.Ord].addEvents(onChainOf(ctx, batch[r.Ord]), &m, r.applied, false); err != nil {
			return err
		}
	}
	if err := m.Flush(ctx, tx); err != nil {
		return err
	}
	fault(ctx, "ingest.applied")
	return nil
}
