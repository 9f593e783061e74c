-- Channels, conversations, messages and handoffs.

-- +goose Up

CREATE TABLE channels (
    org_id       uuid        NOT NULL REFERENCES organizations (id),
    id           uuid        NOT NULL,
    kind         text        NOT NULL CHECK (kind ~ '^[a-z]{2,40}$'),
    name         text        NOT NULL CHECK (length(name) BETWEEN 1 AND 120),
    status       text        NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused')),
    settings     jsonb       NOT NULL DEFAULT '{}', -- owned by the adapter
    secret       bytea,      -- the adapter's secrets, sealed
    public_key   text,       -- shown in the widget's script tag; its SHA-256 is in doors
    board_id     uuid,       -- where leads of this channel open; NULL: the default board
    ai_member_id uuid,       -- who answers first; NULL: people
    last_error   text        NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    version      bigint      NOT NULL DEFAULT 1,
    PRIMARY KEY (org_id, id),
    FOREIGN KEY (org_id, board_id) REFERENCES boards (org_id, id),
    FOREIGN KEY (org_id, ai_member_id) REFERENCES members (org_id, id)
);
CALL tandem_protect('channels');

CREATE TABLE conversations (
    org_id           uuid        NOT NULL,
    id               uuid        NOT NULL,
    channel_id       uuid        NOT NULL,
    contact_id       uuid        NOT NULL,
    lead_id          uuid,
    thread           text        NOT NULL DEFAULT '', -- the channel's own thread key; '' where a contact has one thread
    subject          text        NOT NULL DEFAULT '',
    state            text        NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'waiting', 'snoozed', 'resolved', 'spam')),
    snoozed_until    timestamptz,
    -- Ownership: see docs/architecture.md. Every change of owner raises fence.
    owner_id         uuid,
    owner_kind       text        CHECK (owner_kind IN ('human', 'ai', 'external')),
    fence            bigint      NOT NULL DEFAULT 0,
    lease_until      timestamptz, -- an AI owner's worker must renew before this; NULL: no turn is running
    lease_run        uuid,        -- the run that holds the lease
    -- What a row of the list shows, kept here so that a list is one index scan.
    next_seq         bigint      NOT NULL DEFAULT 1,
    last_message_at  timestamptz NOT NULL DEFAULT now(),
    preview          text        NOT NULL DEFAULT '',
    preview_kind     text        NOT NULL DEFAULT 'contact', -- who wrote the previewed message
    preview_name     text        NOT NULL DEFAULT '',
    message_count    int         NOT NULL DEFAULT 0,
    unread           int         NOT NULL DEFAULT 0, -- inbound since a person last read it
    last_inbound_seq bigint      NOT NULL DEFAULT 0,
    answered_seq     bigint      NOT NULL DEFAULT 0, -- the highest inbound seq that an answer or a handoff has covered
    ai_streak        int         NOT NULL DEFAULT 0, -- AI messages since the contact or a person last wrote
    handoff_id       uuid,        -- the handoff that waits for a person
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id),
    UNIQUE (org_id, channel_id, contact_id, thread),
    CHECK ((owner_id IS NULL) = (owner_kind IS NULL)),
    CHECK (lease_until IS NULL OR owner_kind IN ('ai', 'external')),
    CHECK ((lease_until IS NULL) = (lease_run IS NULL)),
    CHECK ((state = 'snoozed') = (snoozed_until IS NOT NULL)),
    FOREIGN KEY (org_id, channel_id) REFERENCES channels (org_id, id),
    FOREIGN KEY (org_id, contact_id) REFERENCES contacts (org_id, id),
    FOREIGN KEY (org_id, lead_id) REFERENCES leads (org_id, id),
    FOREIGN KEY (org_id, owner_id) REFERENCES members (org_id, id)
);
CREATE INDEX conversations_recent ON conversations (org_id, last_message_at DESC, id DESC);
CREATE INDEX conversations_state ON conversations (org_id, state, last_message_at DESC, id DESC);
CREATE INDEX conversations_owner ON conversations (org_id, owner_id, last_message_at DESC, id DESC) WHERE owner_id IS NOT NULL;
CREATE INDEX conversations_owner_kind ON conversations (org_id, owner_kind, last_message_at DESC, id DESC) WHERE owner_kind IS NOT NULL;
CREATE INDEX conversations_handoff ON conversations (org_id, last_message_at DESC, id DESC) WHERE handoff_id IS NOT NULL;
CREATE INDEX conversations_unowned ON conversations (org_id, last_message_at DESC, id DESC) WHERE owner_id IS NULL AND state = 'open';
CREATE INDEX conversations_contact ON conversations (org_id, contact_id);
CREATE INDEX conversations_lead ON conversations (org_id, lead_id) WHERE lead_id IS NOT NULL;
CALL tandem_protect('conversations');

CREATE TABLE messages (
    org_id          uuid        NOT NULL,
    id              uuid        NOT NULL,
    conversation_id uuid        NOT NULL,
    seq             bigint      NOT NULL CHECK (seq > 0),
    direction       text        NOT NULL CHECK (direction IN ('inbound', 'outbound')),
    kind            text        NOT NULL DEFAULT 'message' CHECK (kind IN ('message', 'note')),
    sender_kind     text        NOT NULL CHECK (sender_kind IN ('contact', 'human', 'ai', 'external', 'system')),
    sender_id       uuid,
    sender_name     text        NOT NULL DEFAULT '',
    text            text        NOT NULL DEFAULT '',
    html            text        NOT NULL DEFAULT '',
    attachments     jsonb       NOT NULL DEFAULT '[]',
    status          text        NOT NULL CHECK (status IN ('received', 'noted', 'draft', 'queued', 'dispatching', 'retry_wait',
                                                           'unknown', 'sent', 'delivered', 'read', 'failed', 'cancelled')),
    provider_id     text,       -- outbound: fixed before the first attempt and never changed
    client_key      text,       -- the sender's idempotency key
    fence           bigint      NOT NULL DEFAULT 0, -- outbound: the fence its author held
    handoff_id      uuid,       -- the one line that tells the customer of this handoff
    run_id          uuid,       -- the run that wrote it
    ai              jsonb,      -- model, confidence, sources: only on what an AI member wrote
    attempt         int         NOT NULL DEFAULT 0,
    error           text        NOT NULL DEFAULT '',
    sent_at         timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id),
    UNIQUE (org_id, conversation_id, seq),
    CHECK ((direction = 'inbound') = (status = 'received')),
    CHECK ((kind = 'note') = (status = 'noted')),
    CHECK (kind <> 'note' OR direction = 'outbound'),
    FOREIGN KEY (org_id, conversation_id) REFERENCES conversations (org_id, id)
);
CREATE UNIQUE INDEX messages_client_key ON messages (org_id, conversation_id, client_key) WHERE client_key IS NOT NULL;
CREATE UNIQUE INDEX messages_provider ON messages (org_id, conversation_id, provider_id) WHERE provider_id IS NOT NULL;
CREATE UNIQUE INDEX messages_handoff ON messages (org_id, handoff_id) WHERE handoff_id IS NOT NULL;
CREATE INDEX messages_undone ON messages (org_id, conversation_id, seq) WHERE status IN ('draft', 'queued', 'retry_wait', 'dispatching');
CALL tandem_protect('messages');

-- What came in, as it came in. UNIQUE (org_id, channel_id, external_id) decides duplicates.
CREATE TABLE inbound (
    org_id          uuid        NOT NULL,
    id              uuid        NOT NULL,
    channel_id      uuid        NOT NULL,
    external_id     text        NOT NULL CHECK (length(external_id) BETWEEN 1 AND 500),
    body_hash       bytea       NOT NULL, -- SHA-256 of raw
    raw             bytea       NOT NULL,
    state           text        NOT NULL CHECK (state IN ('applied', 'quarantined')),
    reason          text        NOT NULL DEFAULT '',
    contact_id      uuid,
    lead_id         uuid,
    conversation_id uuid,
    message_id      uuid,
    received_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id),
    UNIQUE (org_id, channel_id, external_id),
    CHECK ((state = 'applied') = (message_id IS NOT NULL)),
    FOREIGN KEY (org_id, channel_id) REFERENCES channels (org_id, id),
    FOREIGN KEY (org_id, contact_id) REFERENCES contacts (org_id, id),
    FOREIGN KEY (org_id, lead_id) REFERENCES leads (org_id, id),
    FOREIGN KEY (org_id, conversation_id) REFERENCES conversations (org_id, id),
    FOREIGN KEY (org_id, message_id) REFERENCES messages (org_id, id)
);
CREATE INDEX inbound_quarantined ON inbound (org_id, received_at DESC) WHERE state = 'quarantined';
CALL tandem_protect('inbound');

CREATE TABLE handoffs (
    org_id          uuid        NOT NULL,
    id              uuid        NOT NULL,
    conversation_id uuid        NOT NULL,
    lead_id         uuid,
    state           text        NOT NULL DEFAULT 'requested' CHECK (state IN ('requested', 'accepted', 'rejected', 'cancelled', 'expired')),
    reason          text        NOT NULL CHECK (reason IN ('customer_asked', 'missing_knowledge', 'unsupported_request', 'policy', 'tool_failure',
                                                           'pending_clarification', 'budget', 'qualified_lead', 'sentiment', 'high_value', 'out_of_hours')),
    packet          jsonb       NOT NULL, -- summary, asked, tried, promised, qualification, next_step
    from_id         uuid        NOT NULL,
    to_member_id    uuid,
    to_team_id      uuid,
    to_skill        text,
    deadline        timestamptz NOT NULL,
    decided_by      uuid,
    decision        text        NOT NULL DEFAULT '', -- the reason given with a rejection or cancellation
    decided_at      timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id),
    CHECK (num_nonnulls(to_member_id, to_team_id, to_skill) = 1),
    CHECK ((state = 'requested') = (decided_at IS NULL)),
    FOREIGN KEY (org_id, conversation_id) REFERENCES conversations (org_id, id),
    FOREIGN KEY (org_id, lead_id) REFERENCES leads (org_id, id),
    FOREIGN KEY (org_id, from_id) REFERENCES members (org_id, id),
    FOREIGN KEY (org_id, to_member_id) REFERENCES members (org_id, id),
    FOREIGN KEY (org_id, to_team_id) REFERENCES teams (org_id, id),
    FOREIGN KEY (org_id, decided_by) REFERENCES members (org_id, id)
);
CREATE UNIQUE INDEX handoffs_open ON handoffs (org_id, conversation_id) WHERE state = 'requested';
CREATE INDEX handoffs_recent ON handoffs (org_id, state, created_at DESC, id DESC);
CALL tandem_protect('handoffs');

ALTER TABLE conversations ADD FOREIGN KEY (org_id, handoff_id) REFERENCES handoffs (org_id, id);
ALTER TABLE messages ADD FOREIGN KEY (org_id, handoff_id) REFERENCES handoffs (org_id, id);
