-- Saved views: a list of records as somebody likes to see it.

-- +goose Up
CREATE TABLE saved_views (
    org_id      uuid        NOT NULL REFERENCES organizations (id),
    id          uuid        NOT NULL,
    owner_id    uuid        NOT NULL,
    name        text        NOT NULL CHECK (length(name) BETWEEN 1 AND 120),
    record_type text        NOT NULL CHECK (length(record_type) <= 60), -- the noun of a record that has a list
    query       jsonb       NOT NULL DEFAULT '{}' CHECK (length(query::text) <= 20000),
    shared      boolean     NOT NULL DEFAULT false, -- seen by everybody, not by its owner alone
    position    int         NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    archived_at timestamptz,
    version     bigint      NOT NULL DEFAULT 1,
    PRIMARY KEY (org_id, id),
    FOREIGN KEY (org_id, owner_id) REFERENCES members (org_id, id)
);
CREATE INDEX saved_views_recent ON saved_views (org_id, created_at DESC, id DESC) WHERE archived_at IS NULL;
CREATE INDEX saved_views_position ON saved_views (org_id, position, id) WHERE archived_at IS NULL;
CREATE INDEX saved_views_owner ON saved_views (org_id, owner_id);
CALL tandem_protect('saved_views');
