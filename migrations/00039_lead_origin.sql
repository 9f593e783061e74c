-- A lead belongs to the lead source that has its source's name, whatever the case.

-- +goose Up

-- Columns, because lower() is not leakproof: under row-level security no index on it would be searched.
ALTER TABLE leads ADD COLUMN source_key text GENERATED ALWAYS AS (lower(source)) STORED;
ALTER TABLE lead_sources ADD COLUMN name_key text GENERATED ALWAYS AS (lower(name)) STORED;
CREATE INDEX leads_origin ON leads (org_id, source_key, created_at DESC, id DESC) WHERE archived_at IS NULL;
CREATE INDEX lead_sources_key ON lead_sources (org_id, name_key) WHERE archived_at IS NULL;
