-- tandem_intake once more, whole (migrations/00007_intake.sql says what it does). An address goes on in its own threads after
-- its contact became a part of another (00028); what is for a thread that was merged is left to the slow path (00037), which
-- knows where the thread goes on; a lead opens on a board and a stage that are not archived (00022); and a conversation that is open
-- is not locked before it is written.

-- +goose Up
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION tandem_intake(orgs uuid[], channels uuid[], externals text[], kinds text[], scopes text[], vals text[], threads text[],
    claims jsonb[], news jsonb[], inbounds uuid[], messages uuid[], received uuid[], reopened uuid[], chains uuid[],
    hashes bytea[], raws bytea[], subjects text[], previews text[], texts text[], htmls text[])
RETURNS TABLE (place int, conversation uuid, contact uuid, lead uuid, number bigint)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    n         int := cardinality(orgs);
    convs     uuid[] := array_fill(NULL::uuid, ARRAY[n]); -- NULL: not taken
    contacts  uuid[] := array_fill(NULL::uuid, ARRAY[n]);
    leads     uuid[] := array_fill(NULL::uuid, ARRAY[n]);
    names     text[] := array_fill(NULL::text, ARRAY[n]);
    doors     text[] := array_fill(NULL::text, ARRAY[n]); -- the channels' names
    fresh     boolean[] := array_fill(false, ARRAY[n]);
    behind    text[] := '{}'; -- senders whose further messages have to wait
    facts     uuid[] := '{}'; -- events, for the outbox, in their order
    fact_orgs uuid[] := '{}';
    topics    text[] := '{}';
    records   uuid[] := '{}';
    org       uuid;
    entered   uuid;
    said      jsonb;
    novel     jsonb;
    conv      uuid;
    person    uuid;
    prefix    text; -- of the threads in which this address writes
    chance    uuid; -- the lead
    board     uuid;
    stage     uuid;
    stage_name text;
    person_name text;
    door      text;
    seq       bigint;
    gone      uuid; -- where the conversation was merged
    was       text;
    sender    text;
    known     record; -- of the contact
    lead_known record;
    plain     boolean; -- nothing but the message is new
    enquiry   jsonb;
    usual     uuid; -- the channel's board
    at_channel uuid;
    i         int;
    made      int;
BEGIN
    -- Who wrote, and is there anything to learn? Rows are read only.
    FOR i IN 1..n LOOP
        org := orgs[i];
        IF entered IS DISTINCT FROM org THEN
            PERFORM set_config('app.org_id', org::text, true);
            entered := org;
            at_channel := NULL;
        END IF;
        said := claims[i];
        sender := channels[i] || ' ' || kinds[i] || ' ' || scopes[i] || ' ' || vals[i];
        CONTINUE WHEN sender = ANY (behind);
        IF at_channel IS DISTINCT FROM channels[i] THEN
            SELECT ch.name, coalesce(ch.board_id, (SELECT b.id FROM boards b WHERE b.org_id = org AND b.kind = 'lead' AND b.is_default))
            INTO door, usual FROM channels ch WHERE ch.org_id = org AND ch.id = channels[i];
            at_channel := channels[i];
        END IF;
        -- One key after the other instead of a join: the plan has to be good before anybody has counted the tables' rows.
        SELECT d.contact_id, d.thread_prefix INTO person, prefix FROM contact_identities d
        WHERE d.org_id = org AND d.kind = kinds[i] AND d.scope = scopes[i] AND d.value = vals[i];
        plain := FOUND;
        IF plain THEN
            SELECT c.id, c.lead_id INTO conv, chance FROM conversations c
            WHERE c.org_id = org AND c.channel_id = channels[i] AND c.contact_id = person AND c.thread = prefix || threads[i] AND c.merged_into IS NULL;
            plain := FOUND AND chance IS NOT NULL;
        END IF;
        IF plain THEN
            SELECT ct.name, ct.archived_at IS NOT NULL AS archived, ct.first_name = '' AND ct.last_name = '' AS nameless, ct.email, ct.phone, ct.company
            INTO known FROM contacts ct WHERE ct.org_id = org AND ct.id = person;
            person_name := known.name;
            SELECT l.contact_id = person AND NOT l.closed AND l.archived_at IS NULL AS open, l.source, l.value_minor, l.tags, l.custom, l.board_id
            INTO lead_known FROM leads l WHERE l.org_id = org AND l.id = chance;
        END IF;
        IF plain THEN
            plain := NOT known.archived
                AND NOT (known.nameless AND said ? 'named')
                AND NOT (known.email IS NULL AND said ? 'email')
                AND NOT (known.phone IS NULL AND said ? 'phone')
                AND NOT (known.company = '' AND said ? 'company');
            IF plain AND said ? 'trusted' THEN
                plain := (NOT said ? 'email' OR kinds[i] = 'email' OR EXISTS (
                        SELECT FROM contact_identities x WHERE x.org_id = org AND x.kind = 'email' AND x.scope = '' AND x.value = said->>'email'))
                    AND (NOT said ? 'phone' OR kinds[i] = 'phone' OR EXISTS (
                        SELECT FROM contact_identities x WHERE x.org_id = org AND x.kind = 'phone' AND x.scope = '' AND x.value = said->>'phone'));
            END IF;
            enquiry := said->'lead';
            IF plain AND enquiry IS NOT NULL THEN
                board := usual;
                IF enquiry ? 'board' THEN
                    board := (enquiry->>'board')::uuid;
                ELSIF enquiry ? 'board_name' THEN
                    board := (SELECT b.id FROM boards b WHERE b.org_id = org AND lower(b.name) = lower(enquiry->>'board_name') ORDER BY b.id LIMIT 1);
                END IF;
                plain := lead_known.open
                    AND coalesce(lead_known.board_id = board, false)
                    AND NOT (lead_known.source = '' AND enquiry ? 'source')
                    AND NOT (lead_known.value_minor IS NULL AND enquiry ? 'value')
                    AND (NOT enquiry ? 'tags' OR to_jsonb(lead_known.tags) @> (enquiry->'tags'))
                    AND (NOT enquiry ? 'fields' OR lead_known.custom ?& ARRAY (SELECT jsonb_array_elements_text(enquiry->'fields')));
            END IF;
        END IF;
        IF NOT plain THEN
            behind := behind || sender;
            novel := news[i];
            CONTINUE WHEN novel IS NULL OR EXISTS (
                SELECT FROM jsonb_to_recordset(novel->'identities') AS u(kind text, scope text, value text)
                WHERE (SELECT x.contact_id FROM contact_identities x WHERE x.org_id = org AND x.kind = u.kind AND x.scope = u.scope AND x.value = u.value) IS NOT NULL);
            CONTINUE WHEN door IS NULL; -- there is no such channel
            conv := (novel->>'conversation')::uuid;
            person := (novel->>'contact')::uuid;
            chance := (novel->'lead'->>'id')::uuid;
            person_name := novel->>'name';
            fresh[i] := true;
        END IF;
        convs[i] := conv;
        contacts[i] := person;
        leads[i] := chance;
        names[i] := person_name;
        doors[i] := door;
    END LOOP;

    -- Is it a repeat? In the order of the key, so that two calls cannot wait for each other.
    entered := NULL;
    FOR i IN SELECT u.i FROM generate_series(1, n) u(i) WHERE convs[u.i] IS NOT NULL ORDER BY orgs[u.i], channels[u.i], externals[u.i], u.i LOOP
        org := orgs[i];
        IF entered IS DISTINCT FROM org THEN
            PERFORM set_config('app.org_id', org::text, true);
            entered := org;
        END IF;
        INSERT INTO inbound (org_id, id, channel_id, external_id, body_hash, raw, state, contact_id, lead_id, conversation_id, message_id)
        VALUES (org, inbounds[i], channels[i], externals[i], hashes[i], raws[i], 'applied', contacts[i], leads[i], convs[i], messages[i])
        ON CONFLICT (org_id, channel_id, external_id) DO NOTHING;
        IF NOT FOUND THEN
            convs[i] := NULL;
            place := i;
            conversation := NULL; -- a repeat
            RETURN NEXT;
            CONTINUE;
        END IF;
        CONTINUE WHEN NOT fresh[i];

        -- Somebody new: the contact, the ways to recognize it, its lead and its conversation.
        novel := news[i];
        INSERT INTO contacts (org_id, id, name, first_name, last_name, email, phone, company)
        VALUES (org, contacts[i], names[i], novel->>'first', novel->>'last', nullif(novel->>'email', ''), nullif(novel->>'phone', ''), novel->>'company');
        INSERT INTO contact_identities (org_id, kind, scope, value, contact_id, evidence)
        SELECT org, u.kind, u.scope, u.value, contacts[i], novel->>'evidence'
        FROM jsonb_to_recordset(novel->'identities') AS u(kind text, scope text, value text)
        ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS made = ROW_COUNT;
        SELECT b.id, s.id, s.name INTO board, stage, stage_name
        FROM boards b JOIN LATERAL (
            SELECT s.id, s.name FROM stages s WHERE s.org_id = b.org_id AND s.board_id = b.id AND s.kind = 'open' AND s.archived_at IS NULL ORDER BY s.position LIMIT 1 FOR KEY SHARE) s ON true
        WHERE b.org_id = org AND b.kind = 'lead' AND b.archived_at IS NULL AND CASE
            WHEN novel->'lead' ? 'board' THEN b.id = (novel->'lead'->>'board')::uuid
            WHEN novel->'lead' ? 'board_name' THEN lower(b.name) = lower(novel->'lead'->>'board_name')
            ELSE b.id = coalesce((SELECT ch.board_id FROM channels ch WHERE ch.org_id = org AND ch.id = channels[i]),
                                 (SELECT x.id FROM boards x WHERE x.org_id = org AND x.kind = 'lead' AND x.is_default)) END
        ORDER BY b.id LIMIT 1 FOR KEY SHARE OF b;
        IF NOT FOUND OR made <> jsonb_array_length(novel->'identities') THEN -- somebody was faster, or there is no such board
            DELETE FROM contact_identities x WHERE x.org_id = org AND x.contact_id = contacts[i];
            DELETE FROM contacts x WHERE x.org_id = org AND x.id = contacts[i];
            DELETE FROM inbound x WHERE x.org_id = org AND x.id = inbounds[i];
            convs[i] := NULL;
            CONTINUE;
        END IF;
        INSERT INTO leads (org_id, id, contact_id, board_id, stage_id, title, source, value_minor, currency, priority, tags, custom)
        VALUES (org, leads[i], contacts[i], board, stage, novel->'lead'->>'title', novel->'lead'->>'source', (novel->'lead'->>'minor')::bigint,
                novel->'lead'->>'currency', novel->'lead'->>'priority', ARRAY (SELECT jsonb_array_elements_text(novel->'lead'->'tags')), novel->'lead'->'custom');
        INSERT INTO conversations (org_id, id, channel_id, contact_id, lead_id, thread, subject)
        VALUES (org, convs[i], channels[i], contacts[i], leads[i], threads[i], subjects[i]);
        INSERT INTO events (org_id, id, noun, verb, record_id, actor_kind, actor_name, changes, description, category, severity, lead_id, chain_id)
        VALUES (org, (novel->>'contact_event')::uuid, 'contact', 'created', contacts[i], 'system', 'Tandem',
                jsonb_build_array(jsonb_build_object('field', 'name', 'new', names[i])), 'Tandem added the contact ' || names[i], 'crm', 'info', NULL, chains[i]),
               (org, (novel->>'lead_event')::uuid, 'lead', 'created', leads[i], 'system', 'Tandem',
                jsonb_build_array(jsonb_build_object('field', 'stage', 'new', stage_name)), 'Tandem opened the lead ' || (novel->'lead'->>'title'), 'crm', 'info', leads[i], chains[i]);
        facts := facts || ARRAY[(novel->>'contact_event')::uuid, (novel->>'lead_event')::uuid];
        fact_orgs := fact_orgs || ARRAY[org, org];
        topics := topics || '{contact.created,lead.created}'::text[];
        records := records || ARRAY[contacts[i], leads[i]];
    END LOOP;

    -- The message takes its place in the conversation. Conversations are locked in the order of their ids.
    entered := NULL;
    FOR i IN SELECT u.i FROM generate_series(1, n) u(i) WHERE convs[u.i] IS NOT NULL ORDER BY orgs[u.i], convs[u.i], u.i LOOP
        org := orgs[i];
        IF entered IS DISTINCT FROM org THEN
            PERFORM set_config('app.org_id', org::text, true);
            entered := org;
        END IF;
        was := 'open';
        gone := NULL;
        LOOP -- most are open; only one that is not has to be locked before it is written, to see what it was
            UPDATE conversations c SET next_seq = c.next_seq + 1, last_inbound_seq = c.next_seq, message_count = c.message_count + 1,
                   unread = c.unread + 1, ai_streak = 0,
                   state = CASE WHEN c.state = 'spam' THEN 'spam' ELSE 'open' END, snoozed_until = NULL,
                   subject = CASE WHEN c.subject = '' THEN subjects[i] ELSE c.subject END,
                   last_message_at = now(), preview = previews[i], preview_kind = 'contact', preview_name = names[i], updated_at = now()
            WHERE c.org_id = org AND c.id = convs[i] AND c.merged_into IS NULL AND (was <> 'open' OR c.state IN ('open', 'spam'))
            RETURNING c.next_seq - 1 INTO seq;
            EXIT WHEN FOUND;
            SELECT c.state, c.merged_into INTO was, gone FROM conversations c WHERE c.org_id = org AND c.id = convs[i] FOR NO KEY UPDATE;
            EXIT WHEN gone IS NOT NULL;
        END LOOP;
        IF gone IS NOT NULL THEN -- while the message was on its way: the caller knows where the thread goes on
            DELETE FROM inbound x WHERE x.org_id = org AND x.id = inbounds[i];
            CONTINUE;
        END IF;
        INSERT INTO messages (org_id, id, conversation_id, seq, direction, sender_kind, sender_id, sender_name, text, html, status, provider_id)
        VALUES (org, messages[i], convs[i], seq, 'inbound', 'contact', contacts[i], names[i], texts[i], htmls[i], 'received', 'in:' || externals[i]);
        IF fresh[i] OR was NOT IN ('open', 'spam') THEN
            INSERT INTO events (org_id, id, noun, verb, record_id, actor_id, actor_kind, actor_name, changes, description, category, severity, conversation_id, lead_id, chain_id)
            VALUES (org, reopened[i], 'conversation', CASE WHEN fresh[i] THEN 'opened' ELSE 'reopened' END, convs[i], contacts[i], 'contact', names[i],
                    CASE WHEN fresh[i] THEN '[]'::jsonb ELSE jsonb_build_array(jsonb_build_object('field', 'state', 'old', was, 'new', 'open')) END,
                    CASE WHEN fresh[i] THEN names[i] || ' opened a conversation on ' || doors[i] || '.' ELSE names[i] || ' wrote again, so the conversation is open.' END,
                    'conversation', 'info', convs[i], leads[i], chains[i]);
            facts := facts || reopened[i];
            fact_orgs := fact_orgs || org;
            topics := topics || CASE WHEN fresh[i] THEN 'conversation.opened' ELSE 'conversation.reopened' END;
            records := records || convs[i];
        END IF;
        INSERT INTO events (org_id, id, noun, verb, record_id, actor_id, actor_kind, actor_name, description, category, severity, conversation_id, lead_id, chain_id)
        VALUES (org, received[i], 'message', 'received', messages[i], contacts[i], 'contact', names[i], names[i] || ' wrote on ' || doors[i] || '.',
                'conversation', 'info', convs[i], leads[i], chains[i]);
        facts := facts || received[i];
        fact_orgs := fact_orgs || org;
        topics := topics || 'message.received'::text;
        records := records || messages[i];
        place := i;
        conversation := convs[i];
        contact := contacts[i];
        lead := leads[i];
        number := seq;
        RETURN NEXT;
    END LOOP;

    INSERT INTO outbox (org_id, msg_id, topic, subject, record_id)
    SELECT u.org, u.fact, u.topic, 'ev.' || u.org || '.' || u.topic, u.record
    FROM unnest(fact_orgs, facts, topics, records) WITH ORDINALITY u(org, fact, topic, record, ord) ORDER BY u.ord;
END $$;
-- +goose StatementEnd
