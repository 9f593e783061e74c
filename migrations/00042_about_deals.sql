-- Deals have what the other records have, which came beside them.

-- +goose Up
CREATE INDEX deals_custom ON deals USING gin (org_id, custom jsonb_path_ops) WHERE custom <> '{}';
CREATE INDEX deals_tags ON deals USING gin (org_id, tags) WHERE archived_at IS NULL;
CREATE INDEX deals_pipeline ON deals (org_id, board_id, stage_id) INCLUDE (currency, amount_minor) WHERE NOT closed AND archived_at IS NULL;
CREATE INDEX deals_closed ON deals (org_id, board_id, stage_changed_at) INCLUDE (stage_id, currency, amount_minor) WHERE closed AND archived_at IS NULL;
