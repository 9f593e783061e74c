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
