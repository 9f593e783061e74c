-- What is rare is found by an index: a name, an address, a company or a tag that few have. What is common fills a page from the
-- list's own order, and the planner chooses. All of them begin with the organization, and may be used under its policy
-- because scripts/postgres-init.sql marks these operators leakproof.

-- +goose Up
CREATE INDEX contacts_search ON contacts USING gin (org_id, name gin_trgm_ops, last_name gin_trgm_ops, email gin_trgm_ops, phone gin_trgm_ops, company gin_trgm_ops)
    WHERE archived_at IS NULL;
CREATE INDEX contacts_tags ON contacts USING gin (org_id, tags) WHERE archived_at IS NULL;
CREATE INDEX accounts_tags ON accounts USING gin (org_id, tags) WHERE archived_at IS NULL;
CREATE INDEX leads_tags ON leads USING gin (org_id, tags) WHERE archived_at IS NULL;
CREATE INDEX leads_source ON leads (org_id, source, created_at DESC, id DESC) WHERE archived_at IS NULL;
