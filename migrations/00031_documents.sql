-- Documents: files that belong to a lead, a contact, an account or a deal, with every version of their content.

-- +goose Up
CREATE TABLE documents (
    org_id          uuid        NOT NULL REFERENCES organizations (id),
    id              uuid        NOT NULL,
    name            text        NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    category        text        NOT NULL DEFAULT 'other' CHECK (category IN ('contract', 'proposal', 'invoice', 'identity', 'other')),
    lead_id         uuid,
    contact_id      uuid,
    account_id      uuid,
    deal_id         uuid,
    owner_id        uuid, -- NULL: Tandem itself
    access          text        NOT NULL DEFAULT 'team' CHECK (access IN ('team', 'private')),
    current_version int         NOT NULL CHECK (current_version >= 1),
    -- Of the current version, so that a list reads one table.
    file_name       text        NOT NULL CHECK (length(file_name) BETWEEN 1 AND 200),
    content_type    text        NOT NULL CHECK (length(content_type) BETWEEN 1 AND 120),
    size            bigint      NOT NULL CHECK (size >= 0),
    sha256          text        NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    -- What facts call it: those of a private one are seen by more people than it is.
    label           text        GENERATED ALWAYS AS (CASE WHEN access = 'team' THEN name ELSE '' END) STORED,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    archived_at     timestamptz,
    version         bigint      NOT NULL DEFAULT 1,
    PRIMARY KEY (org_id, id),
    CONSTRAINT documents_related CHECK (num_nonnulls(lead_id, contact_id, account_id, deal_id) = 1),
    CHECK (access = 'team' OR owner_id IS NOT NULL),
    FOREIGN KEY (org_id, lead_id) REFERENCES leads (org_id, id),
    FOREIGN KEY (org_id, contact_id) REFERENCES contacts (org_id, id),
    FOREIGN KEY (org_id, account_id) REFERENCES accounts (org_id, id),
    FOREIGN KEY (org_id, deal_id) REFERENCES deals (org_id, id),
    FOREIGN KEY (org_id, owner_id) REFERENCES members (org_id, id)
);
CREATE INDEX documents_recent ON documents (org_id, created_at DESC, id DESC) WHERE archived_at IS NULL;
CREATE INDEX documents_name ON documents (org_id, lower(name), id) WHERE archived_at IS NULL;
CREATE INDEX documents_lead ON documents (org_id, lead_id, created_at DESC, id DESC) WHERE lead_id IS NOT NULL;
CREATE INDEX documents_contact ON documents (org_id, contact_id, created_at DESC, id DESC) WHERE contact_id IS NOT NULL;
CREATE INDEX documents_account ON documents (org_id, account_id, created_at DESC, id DESC) WHERE account_id IS NOT NULL;
CREATE INDEX documents_deal ON documents (org_id, deal_id, created_at DESC, id DESC) WHERE deal_id IS NOT NULL;
CREATE INDEX documents_owner ON documents (org_id, owner_id, created_at DESC, id DESC) WHERE owner_id IS NOT NULL;
CALL tandem_protect('documents');

CREATE TABLE document_versions (
    org_id       uuid        NOT NULL,
    document_id  uuid        NOT NULL,
    n            int         NOT NULL CHECK (n >= 1),
    blob_id      uuid        NOT NULL, -- the content's name in the file store
    file_name    text        NOT NULL CHECK (length(file_name) BETWEEN 1 AND 200),
    content_type text        NOT NULL CHECK (length(content_type) BETWEEN 1 AND 120),
    size         bigint      NOT NULL CHECK (size >= 0),
    sha256       text        NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    uploaded_by  uuid, -- NULL: Tandem itself
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, document_id, n),
    UNIQUE (org_id, blob_id),
    FOREIGN KEY (org_id, document_id) REFERENCES documents (org_id, id),
    FOREIGN KEY (org_id, uploaded_by) REFERENCES members (org_id, id)
);
CALL tandem_protect('document_versions');
