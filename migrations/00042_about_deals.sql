-- Deals have what the other records have, which came beside them.

-- +goose Up
CREATE INDEX deals_custom ON deals USING gin (org_id, custom jsonb_path_ops) WHERE custom <> '{}';
CREATE INDEX deals_tags ON deals USING gin (org_id, tags) WHERE archived_at IS NULL;
