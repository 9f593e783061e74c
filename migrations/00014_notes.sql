-- Notes: what the team writes down about a lead, a contact or an account.

-- +goose Up
CREATE TABLE notes (
    org_id      uuid        NOT NULL REFERENCES organizations (id),
    id          uuid        NOT NULL,
    lead_id     uuid,
    contact_id  uuid,
    account_id  uuid,
    author_id   uuid, -- NULL: Tandem itself
    body        text        NOT NULL CHECK (length(body) BETWEEN 1 AND 50000), -- Markdown, as it was written
    mentions    uuid[]      NOT NULL DEFAULT '{}', -- members; crm checks that they are
    pinned      boolean     NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    archived_at timestamptz,
    version     bigint      NOT NULL DEFAULT 1,
    PRIMARY KEY (org_id, id),
    CHECK (num_nonnulls(lead_id, contact_id, account_id) = 1),
    FOREIGN KEY (org_id, lead_id) REFERENCES leads (org_id, id),
    FOREIGN KEY (org_id, contact_id) REFERENCES contacts (org_id, id),
    FOREIGN KEY (org_id, account_id) REFERENCES accounts (org_id, id),
    FOREIGN KEY (org_id, author_id) REFERENCES members (org_id, id)
);
CREATE INDEX notes_recent ON notes (org_id, created_at DESC, id DESC) WHERE archived_at IS NULL;
CREATE INDEX notes_lead ON notes (org_id, lead_id, created_at DESC, id DESC) WHERE lead_id IS NOT NULL;
CREATE INDEX notes_contact ON notes (org_id, contact_id, created_at DESC, id DESC) WHERE contact_id IS NOT NULL;
CREATE INDEX notes_account ON notes (org_id, account_id, created_at DESC, id DESC) WHERE account_id IS NOT NULL;
CREATE INDEX notes_author ON notes (org_id, author_id, created_at DESC, id DESC) WHERE author_id IS NOT NULL;
CALL tandem_protect('notes');
