-- Lead sources: where leads come from, and what one of them costs.

-- +goose Up
CREATE TABLE lead_sources (
    org_id      uuid        NOT NULL REFERENCES organizations (id),
    id          uuid        NOT NULL,
    name        text        NOT NULL CHECK (length(name) BETWEEN 1 AND 120),
    kind        text        NOT NULL CHECK (kind IN ('webchat', 'webhook', 'email', 'whatsapp', 'import', 'manual', 'referral', 'ad', 'other')),
    channel_id  uuid,
    cost_minor  bigint      CHECK (cost_minor >= 0), -- of one lead, in the currency's minor unit
    currency    text        CHECK (currency ~ '^[A-Z]{3}$'),
    active      boolean     NOT NULL DEFAULT true,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    archived_at timestamptz,
    version     bigint      NOT NULL DEFAULT 1,
    PRIMARY KEY (org_id, id),
    CHECK ((cost_minor IS NULL) = (currency IS NULL)),
    FOREIGN KEY (org_id, channel_id) REFERENCES channels (org_id, id)
);
CREATE INDEX lead_sources_recent ON lead_sources (org_id, created_at DESC, id DESC) WHERE archived_at IS NULL;
CREATE INDEX lead_sources_sorted ON lead_sources (org_id, lower(name), id) WHERE archived_at IS NULL;
CREATE UNIQUE INDEX lead_sources_name ON lead_sources (org_id, lower(name)) WHERE archived_at IS NULL;

-- What a new organization begins with (crm.SeedLeadSources), for those that exist. For the owner of the tables, who otherwise
-- sees no organization.
ALTER TABLE organizations NO FORCE ROW LEVEL SECURITY;
INSERT INTO lead_sources (org_id, id, name, kind)
SELECT o.id, gen_random_uuid(), s.name, s.kind
FROM organizations o CROSS JOIN (VALUES
    ('Website chat', 'webchat'), ('Web form', 'webhook'), ('Email', 'email'), ('WhatsApp', 'whatsapp'), ('Import', 'import'),
    ('Entered by hand', 'manual'), ('Referral', 'referral'), ('Advertisement', 'ad'), ('Other', 'other')) s (name, kind);
ALTER TABLE organizations FORCE ROW LEVEL SECURITY;
CALL tandem_protect('lead_sources');
