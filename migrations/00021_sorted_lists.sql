-- What lists of contacts and leads can be sorted by.

-- +goose Up
CREATE INDEX contacts_name ON contacts (org_id, lower(name), id) WHERE archived_at IS NULL;
CREATE INDEX leads_value ON leads (org_id, (coalesce(value_minor, -1)), id) WHERE archived_at IS NULL;
CREATE INDEX leads_stage_changed ON leads (org_id, stage_changed_at, id) WHERE archived_at IS NULL;
