package list

// The statements that fill an organization. Each knows @n conversations of the organization, which are of the first half of
// as many contacts; two in five of these have a lead, so leads are a fifth as many. Every choice hangs on the row's number and @seed, so that the small database has the shape of the large one.
const (
	// makeID is a UUIDv7 that anybody can name again: ids made later sort later, as the product's do.
	makeID = `
CREATE FUNCTION bench_id(org uuid, kind text, i bigint) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT (lpad(to_hex(1700000000000 + i * 1000), 12, '0') || '7' || left(h, 3) || '8' || right(h, 15))::uuid FROM md5(kind || i || org) h
$$`

	contactsSQL = `
INSERT INTO contacts (org_id, id, name, first_name, last_name, email, company, tags, created_at, updated_at)
SELECT @org, bench_id(@org, 'contact', i), 'Contact ' || i, 'Contact', i::text, 'contact' || i || '@example.com', 'Company ' || i % 997,
       CASE WHEN h % 40 = 0 THEN ARRAY['vip'] ELSE '{}' END, t, t
FROM generate_series(0, @n::bigint - 1) i,
     LATERAL (SELECT abs(hashint8extended(i, @seed::bigint) / 2) AS h, timestamptz '2024-06-01' + i % (@n::bigint / 2) * (interval '2 years' / @n::bigint) * 2 AS t) AS x`

	peopleSQL = `
WITH u AS (
	INSERT INTO users (id, email, name, password_hash)
	SELECT bench_id(@org, 'user', i), 'agent.' || i || '.' || @org || '@example.com', 'Agent ' || i, 'nobody signs in' FROM generate_series(1, @people::int) i
	RETURNING id, name)
INSERT INTO members (org_id, id, kind, user_id, name, role) SELECT @org, id, 'human', id, name, 'agent' FROM u RETURNING id`

	// 60 % of the leads are on the first stage, the rest won or lost.
	leadsSQL = `
INSERT INTO leads (org_id, id, contact_id, board_id, stage_id, title, source, assignee_id, value_minor, currency, closed, tags, created_at, updated_at)
SELECT @org, bench_id(@org, 'lead', i), bench_id(@org, 'contact', i), @board, (@stages::uuid[])[stage], 'Enquiry ' || i, 'form',
       CASE WHEN h % 3 = 0 THEN (@staff::uuid[])[1 + (h >> 8) % cardinality(@staff::uuid[])] END,
       CASE WHEN h % 2 = 0 THEN h % 1000000 END, CASE WHEN h % 2 = 0 THEN 'EUR' END, stage > 1,
       CASE WHEN (h >> 20) % 10 = 0 THEN ARRAY['b2b'] ELSE '{}' END, t, t
FROM generate_series(0, (@n::bigint - 1) / 2) i,
     LATERAL (SELECT abs(hashint8extended(i, @seed::bigint) / 2) AS h, timestamptz '2024-06-01' + i * (interval '2 years' / @n::bigint) * 2 AS t) AS x,
     LATERAL (SELECT CASE WHEN h % 10 < 6 THEN 1 WHEN h % 10 < 8 THEN 2 ELSE 3 END AS stage) AS y
WHERE i % 5 < 2`

	// 20 % are open, 66 % resolved. Of the channels one is rare (1 in 1,000), of the people some have much and some
	// little. The last messages come in about the order in which the conversations began.
	conversationsSQL = `
INSERT INTO conversations (org_id, id, channel_id, contact_id, lead_id, thread, state, snoozed_until, owner_id, owner_kind, fence, next_seq,
	last_message_at, preview, preview_kind, preview_name, message_count, unread, last_inbound_seq, answered_seq, handoff_id, created_at, updated_at)
SELECT @org, bench_id(@org, 'conversation', i), (@channels::uuid[])[CASE WHEN (h >> 24) % 1000 = 0 THEN 3 ELSE 1 + i % 2 END],
       bench_id(@org, 'contact', i / 2), ` + lead + `, (i % 2)::text, state, CASE WHEN state = 'snoozed' THEN timestamptz '2099-01-01' END,
       CASE kind WHEN 'ai' THEN @ai::uuid WHEN 'human' THEN (@staff::uuid[])[1 + floor(cardinality(@staff::uuid[]) * power((h >> 32) % 1000 / 1000.0, 2))::int] END,
       kind, 1, ` + two + ` + 1, t + h % 259200 * interval '1 second', left((@texts::text[])[1 + h % 1000], 160), 'contact', 'Contact ' || i / 2,
       ` + two + `, h % 2, 1, ` + two + `, CASE WHEN ` + waits + ` THEN bench_id(@org, 'handoff', i) END, t, t
FROM generate_series(0, @n::bigint - 1) i` + choices

	handoffsSQL = `
INSERT INTO handoffs (org_id, id, conversation_id, lead_id, reason, packet, from_id, to_member_id, deadline, created_at)
SELECT @org, bench_id(@org, 'handoff', i), bench_id(@org, 'conversation', i), ` + lead + `, 'customer_asked', '{}', @ai,
       (@staff::uuid[])[1], timestamptz '2099-01-01', t
FROM generate_series(0, @n::bigint - 1) i` + choices + ` WHERE ` + waits

	messagesSQL = `
INSERT INTO messages (org_id, id, conversation_id, seq, direction, sender_kind, sender_name, text, status, sent_at, created_at)
SELECT @org, bench_id(@org, 'message', i * ` + two + ` + seq), bench_id(@org, 'conversation', i), seq,
       CASE WHEN seq = 1 THEN 'inbound' ELSE 'outbound' END, CASE WHEN seq = 1 THEN 'contact' ELSE 'human' END, 'Somebody',
       (@texts::text[])[1 + (h + seq) % 1000], CASE WHEN seq = 1 THEN 'received' ELSE 'sent' END, CASE WHEN seq > 1 THEN t END, t + seq * interval '1 minute'
FROM generate_series(0, @n::bigint - 1) i` + choices + `, generate_series(1, ` + two + `) seq`

	two   = `2` // messages, in SQL
	lead  = `CASE WHEN i / 2 % 5 < 2 THEN bench_id(@org, 'lead', i / 2) END`
	waits = `state = 'open' AND kind = 'ai' AND (h >> 40) % 50 = 0`

	// choices follows "FROM ... i": the row's number from the seed, its time, its state and who owns it.
	choices = `,
     LATERAL (SELECT abs(hashint8extended(i, @seed::bigint) / 2) AS h, timestamptz '2024-06-01' + i * (interval '2 years' / @n::bigint) AS t) AS x,
     LATERAL (SELECT CASE WHEN (h >> 8) % 100 < 20 THEN 'open' WHEN (h >> 8) % 100 < 30 THEN 'waiting' WHEN (h >> 8) % 100 < 32 THEN 'snoozed'
                          WHEN (h >> 8) % 100 < 34 THEN 'spam' ELSE 'resolved' END AS state) AS y,
     LATERAL (SELECT CASE WHEN state = 'spam' OR (h >> 16) % 100 < 15 THEN NULL WHEN (h >> 16) % 100 < 55 THEN 'human' ELSE 'ai' END AS kind) AS z`
)
