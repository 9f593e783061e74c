package report

import "strings"

// What is counted, the values of rollups.measure, with their subject, label and bucket:
//
//	received    messages from contacts, by channel
//	sent        messages that were sent, by channel; label: who wrote them (human, ai, external, system)
//	opened      conversations that began, by channel
//	reopened    conversations that were closed and began again, by channel
//	resolved    conversations that were resolved, by channel
//	resolution  the same by the member who resolved them, with the time since they began in bucket and amount
//	state       conversations that are in a state now, by channel; label: the state. Of the grain ever
//	reply       messages that a member sent; label: first (to what had no answer since the conversation began), later, or
//	            more (nobody waited for it); the first two with the time to them in bucket and amount
//	answered    conversations in which a member answered for the first time since they began
//	requested   handoffs by who asked; label: the reason
//	accepted    handoffs by who took them, with the time to it; label: the reason
//	rejected, expired, cancelled   handoffs; label: the reason
//	lead        leads that were opened, by board; label: where they come from, as it is known now
//
// Whatever is counted hangs on the fact and on rows that do not change any more when the fact is there, so that it is the
// same whenever and in whichever order facts are looked at: a message is counted when it is sent, for nothing that was
// before it in its conversation is on its way then. What may change later, such as where a lead comes from, is counted as
// it was at the fact, and the fact of the change moves it.
//
// {facts} stands for the events to count, {ms} for bucketSQL.
const contributionsSQL = `
	f AS MATERIALIZED (
		SELECT e.id, e.seq, e.noun, e.verb, e.record_id, e.actor_id, e.actor_kind, e.conversation_id, e.lead_id, e.at,
		       CASE e.noun WHEN 'conversation' THEN jsonb_path_query_first(e.changes, '$[*] ? (@.field == "state")')
		                   WHEN 'lead' THEN jsonb_path_query_first(e.changes, '$[*] ? (@.field == "source")') END AS change
		FROM events e WHERE {facts}
	), conv AS (
		SELECT f.*, c.channel_id, c.created_at AS made, f.change->>'old' AS was,
		       CASE WHEN f.verb = 'opened' THEN 'open' ELSE f.change->>'new' END AS state,
		       (f.verb = 'opened' OR f.verb = 'reopened' AND f.change->>'old' IN ('resolved', 'spam')) AS begins,
		       (f.verb = 'resolved' AND f.change->>'old' NOT IN ('resolved', 'spam')) AS ends
		FROM f JOIN conversations c ON c.org_id = @org AND c.id = f.record_id
		WHERE f.noun = 'conversation'
	), ended AS (
		SELECT v.at, CASE WHEN v.actor_kind IN ('human', 'ai', 'external') THEN v.actor_id END AS member,
		       extract(epoch FROM v.at - coalesce(began.at, v.made)) * 1000 AS ms
		FROM conv v LEFT JOIN LATERAL (
			SELECT x.at FROM events x
			WHERE x.org_id = @org AND x.conversation_id = v.record_id AND x.seq < v.seq AND x.noun = 'conversation' AND x.verb IN ('opened', 'reopened')
			  AND (x.verb = 'opened' OR jsonb_path_query_first(x.changes, '$[*] ? (@.field == "state")')->>'old' IN ('resolved', 'spam'))
			ORDER BY x.seq DESC LIMIT 1) began ON true
		WHERE v.ends
	), sent AS (
		SELECT f.at, f.seq AS fact, m.conversation_id, m.seq, m.sender_kind, m.sender_id, m.sent_at, c.channel_id,
		       (m.sender_kind IN ('human', 'ai', 'external') AND m.sender_id IS NOT NULL AND m.handoff_id IS NULL) AS answers
		FROM f JOIN messages m ON m.org_id = @org AND m.id = f.record_id JOIN conversations c ON c.org_id = @org AND c.id = m.conversation_id
		WHERE f.noun = 'message' AND f.verb IN ('sent', 'delivered', 'read') AND m.direction = 'outbound' AND m.kind = 'message'
		  AND m.sent_at = f.at -- it is this fact that says so first; what is delivered was mostly said to be sent before
	), reply AS (
		SELECT s.at, s.sender_id, extract(epoch FROM s.at - asked.at) * 1000 AS ms, coalesce(before.sent_at >= began.at, before.sent_at IS NOT NULL) AS later,
		       NOT EXISTS (
		           SELECT FROM messages p WHERE p.org_id = @org AND p.conversation_id = s.conversation_id AND p.seq < s.seq AND p.sender_id = s.sender_id
		             AND p.direction = 'outbound' AND p.kind = 'message' AND p.handoff_id IS NULL AND p.sent_at <= s.sent_at
		             AND p.sent_at >= coalesce(began.at, '-infinity')) AS new
		FROM sent s
		LEFT JOIN LATERAL (
			SELECT x.at FROM events x
			WHERE x.org_id = @org AND x.conversation_id = s.conversation_id AND x.seq < s.fact AND x.noun = 'conversation' AND x.verb IN ('opened', 'reopened')
			  AND (x.verb = 'opened' OR jsonb_path_query_first(x.changes, '$[*] ? (@.field == "state")')->>'old' IN ('resolved', 'spam'))
			ORDER BY x.seq DESC LIMIT 1) began ON true
		LEFT JOIN LATERAL (
			SELECT p.seq, p.sent_at FROM messages p
			WHERE p.org_id = @org AND p.conversation_id = s.conversation_id AND p.seq < s.seq AND p.direction = 'outbound' AND p.kind = 'message'
			  AND p.sender_kind IN ('human', 'ai', 'external') AND p.sender_id IS NOT NULL AND p.handoff_id IS NULL AND p.sent_at <= s.sent_at
			ORDER BY p.seq DESC LIMIT 1) before ON true
		LEFT JOIN LATERAL (
			SELECT q.created_at AS at FROM messages q
			WHERE q.org_id = @org AND q.conversation_id = s.conversation_id AND q.seq > coalesce(before.seq, 0) AND q.seq < s.seq
			  AND q.direction = 'inbound' AND q.created_at >= coalesce(began.at, '-infinity')
			ORDER BY q.seq LIMIT 1) asked ON true
		WHERE s.answers
	), given AS (
		SELECT f.at, f.verb, h.from_id, h.decided_by, h.reason, extract(epoch FROM f.at - h.created_at) * 1000 AS ms
		FROM f JOIN handoffs h ON h.org_id = @org AND h.id = f.record_id WHERE f.noun = 'handoff'
	), lead AS (
		SELECT f.verb, f.change, l.board_id, l.created_at AS at, l.source AS source_now, f.lead_id, f.seq
		FROM f JOIN leads l ON l.org_id = @org AND l.id = f.record_id WHERE f.noun = 'lead' AND (f.verb = 'created' OR f.change IS NOT NULL)
	), origin AS ( -- where a lead was said to come from when it was opened: what the first change of that replaced
		SELECT l.board_id, l.at, CASE WHEN next.change IS NULL THEN l.source_now ELSE coalesce(next.change->>'old', '') END AS source
		FROM lead l LEFT JOIN LATERAL (
			SELECT jsonb_path_query_first(x.changes, '$[*] ? (@.field == "source")') AS change FROM events x
			WHERE x.org_id = @org AND x.lead_id = l.lead_id AND x.seq > l.seq AND x.noun = 'lead' AND x.verb = 'updated' AND x.changes @> '[{"field":"source"}]'
			ORDER BY x.seq LIMIT 1) next ON true
		WHERE l.verb = 'created'
	), part (measure, at, subject, label, bucket, n, amount) AS (
		SELECT 'received', f.at, c.channel_id, '', 0, 1, 0
		FROM f JOIN conversations c ON c.org_id = @org AND c.id = f.conversation_id WHERE f.noun = 'message' AND f.verb = 'received'
		UNION ALL SELECT 'sent', at, channel_id, sender_kind, 0, 1, 0 FROM sent
		UNION ALL SELECT CASE verb WHEN 'opened' THEN 'opened' ELSE 'reopened' END, at, channel_id, '', 0, 1, 0 FROM conv WHERE begins
		UNION ALL SELECT 'resolved', at, channel_id, '', 0, 1, 0 FROM conv WHERE ends
		UNION ALL SELECT 'resolution', at, coalesce(member, {nobody}), '', {ms}, 1, ms::bigint FROM ended
		UNION ALL SELECT 'state', at, channel_id, was, 0, -1, 0 FROM conv WHERE was <> state
		UNION ALL SELECT 'state', at, channel_id, state, 0, 1, 0 FROM conv WHERE was IS DISTINCT FROM state AND state IS NOT NULL
		UNION ALL SELECT 'reply', at, sender_id, CASE WHEN ms IS NULL THEN 'more' WHEN later THEN 'later' ELSE 'first' END, {ms}, 1, coalesce(ms, 0)::bigint FROM reply
		UNION ALL SELECT 'answered', at, sender_id, '', 0, 1, 0 FROM reply WHERE new
		UNION ALL SELECT 'requested', at, from_id, reason, 0, 1, 0 FROM given WHERE verb = 'requested'
		UNION ALL SELECT 'accepted', at, coalesce(decided_by, {nobody}), reason, {ms}, 1, ms::bigint FROM given WHERE verb = 'accepted'
		UNION ALL SELECT verb, at, {nobody}, reason, 0, 1, 0 FROM given WHERE verb IN ('rejected', 'expired', 'cancelled')
		UNION ALL SELECT 'lead', at, board_id, source, 0, 1, 0 FROM origin
		UNION ALL SELECT 'lead', at, board_id, coalesce(change->>'old', ''), 0, -1, 0 FROM lead WHERE verb = 'updated'
		UNION ALL SELECT 'lead', at, board_id, coalesce(change->>'new', ''), 0, 1, 0 FROM lead WHERE verb = 'updated'
	), fine AS (
		SELECT grain, measure, CASE grain WHEN 'hour' THEN date_trunc('hour', at, 'UTC') WHEN 'day' THEN date_trunc('day', at, 'UTC')
		            WHEN 'month' THEN date_trunc('month', at, 'UTC') ELSE 'epoch' END AS at,
		       subject, label, bucket::smallint AS bucket, sum(n)::bigint AS n, sum(amount)::bigint AS amount
		FROM part JOIN (VALUES ('hour'), ('day'), ('month'), ('ever')) g (grain) ON (grain = 'ever') = (measure = 'state')
		GROUP BY 1, 2, 3, 4, 5, 6 HAVING sum(n) <> 0 OR sum(amount) <> 0
	), coarse AS (
		SELECT date_trunc('hour', at, 'UTC') AS hour,
		       (coalesce(sum(n) FILTER (WHERE measure = 'received'), 0))::bigint AS received,
		       (coalesce(sum(n) FILTER (WHERE measure = 'sent' AND label = 'human'), 0))::bigint AS sent_people,
		       (coalesce(sum(n) FILTER (WHERE measure = 'sent' AND label IN ('ai', 'external')), 0))::bigint AS sent_ai,
		       (coalesce(sum(n) FILTER (WHERE measure = 'sent' AND label NOT IN ('human', 'ai', 'external')), 0))::bigint AS sent_other,
		       (coalesce(sum(n) FILTER (WHERE measure = 'opened'), 0))::bigint AS opened,
		       (coalesce(sum(n) FILTER (WHERE measure = 'resolved'), 0))::bigint AS resolved,
		       (coalesce(sum(n) FILTER (WHERE measure = 'lead'), 0))::bigint AS leads
		FROM part WHERE measure IN ('received', 'sent', 'opened', 'resolved', 'lead') GROUP BY 1
		HAVING sum(n) <> 0
	)`

// The bounds of buckets are 100 ms times powers of the root of two; see [bound].
const bucketSQL = `(CASE WHEN ms > 100 THEN least(60, ceil(2 * ln(ms::float8 / 100) / ln(2::float8))) ELSE 0 END)`

const nobodySQL = `'00000000-0000-0000-0000-000000000000'::uuid`

// contributions is contributionsSQL for some events.
func contributions(facts string) string {
	return "WITH" + strings.NewReplacer("{facts}", facts, "{ms}", bucketSQL, "{nobody}", nobodySQL).Replace(contributionsSQL)
}

// Rows are written in the order of their keys, so that two transactions cannot wait for each other.
const addSQL = `, added AS (
		INSERT INTO rollups (org_id, grain, measure, at, subject, label, bucket, n, amount)
		SELECT @org, grain, measure, at, subject, label, bucket, n, amount FROM fine ORDER BY grain, measure, at, subject, label, bucket
		ON CONFLICT (org_id, grain, measure, at, subject, label, bucket) DO UPDATE SET n = rollups.n + excluded.n, amount = rollups.amount + excluded.amount
	), added_hours AS (
		INSERT INTO rollup_hours (org_id, hour, received, sent_people, sent_ai, sent_other, opened, resolved, leads)
		SELECT @org, hour, received, sent_people, sent_ai, sent_other, opened, resolved, leads FROM coarse ORDER BY hour
		ON CONFLICT (org_id, hour) DO UPDATE SET received = rollup_hours.received + excluded.received, sent_people = rollup_hours.sent_people + excluded.sent_people,
			sent_ai = rollup_hours.sent_ai + excluded.sent_ai, sent_other = rollup_hours.sent_other + excluded.sent_other,
			opened = rollup_hours.opened + excluded.opened, resolved = rollup_hours.resolved + excluded.resolved, leads = rollup_hours.leads + excluded.leads
	)`
