-- Boards and stages become records of their own: changed, archived, restored. A stage says what must be true before a record
-- leaves it and how probable a deal on it is. Whoever has a board for leads gets one for deals.

-- +goose Up

ALTER TABLE boards
    ADD COLUMN updated_at  timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN archived_at timestamptz,
    ADD COLUMN version     bigint      NOT NULL DEFAULT 1,
    ADD CHECK (NOT is_default OR archived_at IS NULL),
    DROP CONSTRAINT boards_org_id_name_key;
CREATE UNIQUE INDEX boards_name ON boards (org_id, name) WHERE archived_at IS NULL;
CREATE INDEX boards_recent ON boards (org_id, created_at DESC, id DESC) WHERE archived_at IS NULL;
CREATE INDEX boards_sorted ON boards (org_id, lower(name), id) WHERE archived_at IS NULL;

-- Moving one stage moves those behind it along in the same statement, which two of them may not notice half-way.
ALTER TABLE stages
    ADD COLUMN exit_criteria text[]      NOT NULL DEFAULT '{}' CHECK (cardinality(exit_criteria) <= 20),
    ADD COLUMN probability   int         NOT NULL DEFAULT 0 CHECK (probability BETWEEN 0 AND 100), -- in percent, that a deal is won
    ADD COLUMN color         text        CHECK (color ~ '^#[0-9a-f]{6}$'),
    ADD COLUMN created_at    timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN updated_at    timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN archived_at   timestamptz,
    ADD COLUMN version       bigint      NOT NULL DEFAULT 1,
    DROP CONSTRAINT stages_org_id_board_id_name_key,
    DROP CONSTRAINT stages_org_id_board_id_position_key,
    ADD CONSTRAINT stages_position UNIQUE (org_id, board_id, position) DEFERRABLE INITIALLY IMMEDIATE;
CREATE UNIQUE INDEX stages_name ON stages (org_id, board_id, name) WHERE archived_at IS NULL;
CREATE INDEX stages_recent ON stages (org_id, created_at DESC, id DESC) WHERE archived_at IS NULL;
CREATE INDEX stages_place ON stages (org_id, position, id) WHERE archived_at IS NULL;

-- For the owner of the tables, who otherwise sees no row of them.
ALTER TABLE boards NO FORCE ROW LEVEL SECURITY;
ALTER TABLE stages NO FORCE ROW LEVEL SECURITY;
UPDATE stages SET probability = 100 WHERE kind = 'won';
ALTER TABLE stages ADD CHECK (kind = 'open' OR probability = CASE kind WHEN 'won' THEN 100 ELSE 0 END);
-- What a new organization begins with (crm.SeedDealBoard), for those that exist.
INSERT INTO boards (org_id, id, name, kind, is_default)
SELECT b.org_id, gen_random_uuid(),
       CASE WHEN EXISTS (SELECT FROM boards x WHERE x.org_id = b.org_id AND x.name = 'Deals') THEN 'Deals ' || gen_random_uuid() ELSE 'Deals' END, 'deal', true
FROM boards b
WHERE b.kind = 'lead' AND b.is_default AND NOT EXISTS (SELECT FROM boards x WHERE x.org_id = b.org_id AND x.kind = 'deal' AND x.is_default);
INSERT INTO stages (org_id, id, board_id, name, position, kind, probability)
SELECT b.org_id, gen_random_uuid(), b.id, s.name, s.position, s.kind, s.probability
FROM boards b CROSS JOIN (VALUES
    ('Qualified', 1, 'open', 20), ('Proposal', 2, 'open', 40), ('Negotiation', 3, 'open', 70), ('Won', 4, 'won', 100), ('Lost', 5, 'lost', 0)) s (name, position, kind, probability)
WHERE b.kind = 'deal' AND NOT EXISTS (SELECT FROM stages x WHERE x.org_id = b.org_id AND x.board_id = b.id);
ALTER TABLE boards FORCE ROW LEVEL SECURITY;
ALTER TABLE stages FORCE ROW LEVEL SECURITY;

-- A lead opens on a board for leads, and neither on a board nor on a stage that is archived. Both rows are held against their
-- being archived from here on instead of from the lead's foreign keys on, which lock the same rows: the statement is the same,
-- with the same plan. The rest of tandem_intake stays as it is.
-- +goose StatementBegin
DO $$
DECLARE
    was text := pg_get_functiondef('tandem_intake'::regproc);
    now text := replace(replace(replace(was,
        $was$AND s.kind = 'open' ORDER BY s.position LIMIT 1) s ON true$was$,
        $now$AND s.kind = 'open' AND s.archived_at IS NULL ORDER BY s.position LIMIT 1 FOR KEY SHARE) s ON true$now$),
        $was$WHERE b.org_id = org AND CASE$was$,
        $now$WHERE b.org_id = org AND b.kind = 'lead' AND b.archived_at IS NULL AND CASE$now$),
        $was$ORDER BY b.id LIMIT 1;
        IF NOT FOUND OR$was$,
        $now$ORDER BY b.id LIMIT 1 FOR KEY SHARE OF b;
        IF NOT FOUND OR$now$);
BEGIN
    IF length(now) - length(was) <> length(' AND s.archived_at IS NULL FOR KEY SHARE AND b.kind = ''lead'' AND b.archived_at IS NULL FOR KEY SHARE OF b') THEN
        RAISE EXCEPTION 'tandem_intake is not the function that this migration knows';
    END IF;
    EXECUTE now;
END $$;
-- +goose StatementEnd
