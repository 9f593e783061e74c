-- Calls: who of the team spoke with whom on the phone, and what came of it.

-- +goose Up
CREATE TABLE calls (
    org_id           uuid        NOT NULL REFERENCES organizations (id),
    id               uuid        NOT NULL,
    lead_id          uuid,
    contact_id       uuid,
    account_id       uuid,
    member_id        uuid, -- who called or was called; NULL: Tandem itself wrote the call down
    direction        text        NOT NULL CHECK (direction IN ('inbound', 'outbound')),
    outcome          text        NOT NULL CHECK (outcome IN ('connected', 'no_answer', 'busy', 'voicemail', 'failed')),
    started_at       timestamptz NOT NULL,
    duration_seconds bigint      NOT NULL DEFAULT 0 CHECK (duration_seconds BETWEEN 0 AND 604800),
    recording_url    text        CHECK (recording_url LIKE 'https://%' AND length(recording_url) <= 2000),
    notes            text        NOT NULL DEFAULT '' CHECK (length(notes) <= 20000),
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    archived_at      timestamptz,
    version          bigint      NOT NULL DEFAULT 1,
    PRIMARY KEY (org_id, id),
    CHECK (num_nonnulls(lead_id, contact_id, account_id) = 1),
    FOREIGN KEY (org_id, lead_id) REFERENCES leads (org_id, id),
    FOREIGN KEY (org_id, contact_id) REFERENCES contacts (org_id, id),
    FOREIGN KEY (org_id, account_id) REFERENCES accounts (org_id, id),
    FOREIGN KEY (org_id, member_id) REFERENCES members (org_id, id)
);
CREATE INDEX calls_recent ON calls (org_id, created_at DESC, id DESC) WHERE archived_at IS NULL;
CREATE INDEX calls_started ON calls (org_id, started_at, id) WHERE archived_at IS NULL;
CREATE INDEX calls_lead ON calls (org_id, lead_id, created_at DESC, id DESC) WHERE lead_id IS NOT NULL;
CREATE INDEX calls_contact ON calls (org_id, contact_id, created_at DESC, id DESC) WHERE contact_id IS NOT NULL;
CREATE INDEX calls_account ON calls (org_id, account_id, created_at DESC, id DESC) WHERE account_id IS NOT NULL;
CREATE INDEX calls_member ON calls (org_id, member_id, started_at, id) WHERE member_id IS NOT NULL;
CALL tandem_protect('calls');
