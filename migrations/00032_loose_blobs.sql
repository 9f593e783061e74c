-- Loose blobs: contents of the file store that no record names. An upload enters its own here before the first byte, and
-- the transaction that names it takes it out; whoever removes the last record of a content enters it again. What stays
-- loose for a day is removed from the store. The table is without row-level security because the sweeper works for all
-- organizations: it holds ids alone.

-- +goose Up
CREATE TABLE loose_blobs (
    org_id   uuid        NOT NULL,
    id       uuid        NOT NULL,
    since    timestamptz NOT NULL DEFAULT now(),
    swept_at timestamptz, -- a sweeper has begun to remove it: nobody may name it any more
    PRIMARY KEY (org_id, id)
);
-- Across organizations, for the sweeper.
CREATE INDEX loose_blobs_since ON loose_blobs (since);
