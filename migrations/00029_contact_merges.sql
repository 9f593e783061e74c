-- Merges of contacts: what became of which, exactly enough to undo it.

-- +goose Up
CREATE TABLE contact_merges (
    org_id     uuid        NOT NULL REFERENCES organizations (id),
    id         uuid        NOT NULL,
    into_id    uuid        NOT NULL,
    from_id    uuid        NOT NULL,
    moved      jsonb       NOT NULL, -- ids by kind of record, and what was turned on the way: crm.moved
    filled     jsonb       NOT NULL, -- the fields of into_id that were empty and are not any more: [{field, old, new}]
    by_id      uuid        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    undone_at  timestamptz,
    undone_by  uuid,
    PRIMARY KEY (org_id, id),
    CHECK (into_id <> from_id),
    CHECK ((undone_at IS NULL) = (undone_by IS NULL)),
    FOREIGN KEY (org_id, into_id) REFERENCES contacts (org_id, id),
    FOREIGN KEY (org_id, from_id) REFERENCES contacts (org_id, id),
    FOREIGN KEY (org_id, by_id) REFERENCES members (org_id, id),
    FOREIGN KEY (org_id, undone_by) REFERENCES members (org_id, id)
);
CREATE INDEX contact_merges_into ON contact_merges (org_id, into_id, created_at DESC, id DESC);
-- A contact is part of one other at a time.
CREATE UNIQUE INDEX contact_merges_from ON contact_merges (org_id, from_id) WHERE undone_at IS NULL;
CALL tandem_protect('contact_merges');
