-- Accounts: the companies that contacts work for.

-- +goose Up
CREATE TABLE accounts (
    org_id      uuid        NOT NULL REFERENCES organizations (id),
    id          uuid        NOT NULL,
    name        text        NOT NULL CHECK (length(name) BETWEEN 1 AND 300),
    domain      text        CHECK (length(domain) <= 253), -- lower case, such as example.com
    parent_id   uuid,
    website     text        NOT NULL DEFAULT '' CHECK (length(website) <= 2000),
    phone       text, -- E.164
    industry    text        NOT NULL DEFAULT '' CHECK (length(industry) <= 120),
    owner_id    uuid,
    tags        text[]      NOT NULL DEFAULT '{}',
    custom      jsonb       NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    archived_at timestamptz,
    version     bigint      NOT NULL DEFAULT 1,
    PRIMARY KEY (org_id, id),
    CHECK (parent_id <> id),
    FOREIGN KEY (org_id, parent_id) REFERENCES accounts (org_id, id),
    FOREIGN KEY (org_id, owner_id) REFERENCES members (org_id, id)
);
CREATE INDEX accounts_recent ON accounts (org_id, created_at DESC, id DESC) WHERE archived_at IS NULL;
CREATE INDEX accounts_name ON accounts (org_id, lower(name), id) WHERE archived_at IS NULL;
CREATE INDEX accounts_parent ON accounts (org_id, parent_id) WHERE parent_id IS NOT NULL;
-- Whoever writes from a domain works for one company.
CREATE UNIQUE INDEX accounts_domain ON accounts (org_id, domain) WHERE domain IS NOT NULL AND archived_at IS NULL;
CALL tandem_protect('accounts');

ALTER TABLE contacts ADD COLUMN account_id uuid, ADD FOREIGN KEY (org_id, account_id) REFERENCES accounts (org_id, id);
CREATE INDEX contacts_account ON contacts (org_id, account_id) WHERE account_id IS NOT NULL;
