-- Tags: the words that people choose from when they tag records of one type.

-- +goose Up
CREATE TABLE tags (
    org_id      uuid        NOT NULL REFERENCES organizations (id),
    id          uuid        NOT NULL,
    name        text        NOT NULL CHECK (length(name) BETWEEN 1 AND 60),
    record_type text        NOT NULL CHECK (record_type IN ('lead', 'contact', 'account')),
    color       text        CHECK (color ~ '^#[0-9a-f]{6}$'),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    archived_at timestamptz,
    version     bigint      NOT NULL DEFAULT 1,
    PRIMARY KEY (org_id, id)
);
CREATE INDEX tags_recent ON tags (org_id, created_at DESC, id DESC) WHERE archived_at IS NULL;
CREATE INDEX tags_sorted ON tags (org_id, lower(name), id) WHERE archived_at IS NULL;
CREATE INDEX tags_type ON tags (org_id, record_type, lower(name), id) WHERE archived_at IS NULL;
CREATE UNIQUE INDEX tags_name ON tags (org_id, record_type, lower(name)) WHERE archived_at IS NULL;
CALL tandem_protect('tags');
