-- Stage history: how long each lead and each deal has been on which stage. A lead that was never moved has no rows: it has been
-- on its stage since it was opened, and intake has nothing more to write.

-- +goose Up
CREATE TABLE stage_history (
    org_id     uuid        NOT NULL REFERENCES organizations (id),
    id         uuid        NOT NULL,
    noun       text        NOT NULL CHECK (noun IN ('lead', 'deal')),
    record_id  uuid        NOT NULL, -- the lead or deal; like an event, without a foreign key, and none is ever deleted
    stage_id   uuid        NOT NULL,
    entered_at timestamptz NOT NULL,
    left_at    timestamptz, -- NULL: it is there now
    actor_id   uuid,        -- who put it there; NULL: Tandem itself, or nobody knows any more
    PRIMARY KEY (org_id, id),
    CHECK (left_at >= entered_at),
    FOREIGN KEY (org_id, stage_id) REFERENCES stages (org_id, id),
    FOREIGN KEY (org_id, actor_id) REFERENCES members (org_id, id)
);
CREATE INDEX stage_history_record ON stage_history (org_id, noun, record_id, entered_at, id);
CREATE INDEX stage_history_stage ON stage_history (org_id, stage_id, entered_at);
-- Everything is on one stage at a time.
CREATE UNIQUE INDEX stage_history_now ON stage_history (org_id, noun, record_id) WHERE left_at IS NULL;

-- Leads that were moved before: their events say from where to where. For the owner of the tables, who otherwise sees no row.
ALTER TABLE events NO FORCE ROW LEVEL SECURITY;
ALTER TABLE leads NO FORCE ROW LEVEL SECURITY;
ALTER TABLE stages NO FORCE ROW LEVEL SECURITY;
ALTER TABLE members NO FORCE ROW LEVEL SECURITY;
WITH moves AS (
    SELECT e.org_id, e.record_id, e.at, e.actor_id, (c.change->>'old')::uuid AS old, (c.change->>'new')::uuid AS new,
           row_number() OVER w AS n, lead(e.at) OVER w AS until
    FROM events e CROSS JOIN LATERAL jsonb_array_elements(e.changes) c (change)
    WHERE e.noun = 'lead' AND e.verb = 'moved' AND c.change->>'field' = 'stage_id'
    WINDOW w AS (PARTITION BY e.org_id, e.record_id ORDER BY e.seq)
)
INSERT INTO stage_history (org_id, id, noun, record_id, stage_id, entered_at, left_at, actor_id)
SELECT h.org_id, gen_random_uuid(), 'lead', h.record_id, h.stage, h.since, CASE WHEN h.until IS NOT NULL THEN greatest(h.until, h.since) END, m.id
FROM (
    SELECT v.org_id, v.record_id, v.old AS stage, least(l.created_at, v.at) AS since, v.at AS until, NULL::uuid AS actor_id
    FROM moves v JOIN leads l ON l.org_id = v.org_id AND l.id = v.record_id WHERE v.n = 1
    UNION ALL
    SELECT v.org_id, v.record_id, v.new, v.at, v.until, v.actor_id FROM moves v) h
JOIN stages s ON s.org_id = h.org_id AND s.id = h.stage
LEFT JOIN members m ON m.org_id = h.org_id AND m.id = h.actor_id;
ALTER TABLE events FORCE ROW LEVEL SECURITY;
ALTER TABLE leads FORCE ROW LEVEL SECURITY;
ALTER TABLE stages FORCE ROW LEVEL SECURITY;
ALTER TABLE members FORCE ROW LEVEL SECURITY;
CALL tandem_protect('stage_history');
