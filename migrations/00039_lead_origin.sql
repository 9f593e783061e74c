-- A lead belongs to the lead source that has its source's name, whatever the case.

-- +goose Up
CREATE INDEX leads_origin ON leads (org_id, lower(source), created_at DESC, id DESC) WHERE archived_at IS NULL;
