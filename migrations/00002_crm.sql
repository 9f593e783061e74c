-- Contacts, boards, stages, leads and what is known of them.

-- +goose Up

CREATE TABLE contacts (
    org_id      uuid        NOT NULL REFERENCES organizations (id),
    id          uuid        NOT NULL,
    name        text        NOT NULL CHECK (length(name) <= 300),
    first_name  text        NOT NULL DEFAULT '',
    last_name   text        NOT NULL DEFAULT '',
    email       text,
    phone       text, -- E.164
    company     text        NOT NULL DEFAULT '',
    tags        text[]      NOT NULL DEFAULT '{}',
    custom      jsonb       NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    archived_at timestamptz,
    version     bigint      NOT NULL DEFAULT 1,
    PRIMARY KEY (org_id, id)
);
CREATE INDEX contacts_recent ON contacts (org_id, created_at DESC, id DESC) WHERE archived_at IS NULL;
CALL tandem_protect('contacts');

-- How a contact is recognised. One value names one contact of an organization; a channel's
-- own ids (a visitor's cookie) are scoped by their channel.
CREATE TABLE contact_identities (
    org_id     uuid        NOT NULL,
    kind       text        NOT NULL CHECK (kind IN ('email', 'phone', 'whatsapp', 'visitor', 'external')),
    scope      text        NOT NULL DEFAULT '', -- the channel's id where the value means something only there
    value      text        NOT NULL CHECK (length(value) BETWEEN 1 AND 320),
    contact_id uuid        NOT NULL,
    evidence   text        NOT NULL DEFAULT '', -- what made us believe it: "webhook", "verified e-mail", ...
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, kind, scope, value),
    FOREIGN KEY (org_id, contact_id) REFERENCES contacts (org_id, id)
);
CREATE INDEX contact_identities_contact ON contact_identities (org_id, contact_id);
CALL tandem_protect('contact_identities');

CREATE TABLE boards (
    org_id     uuid        NOT NULL REFERENCES organizations (id),
    id         uuid        NOT NULL,
    name       text        NOT NULL CHECK (length(name) BETWEEN 1 AND 120),
    kind       text        NOT NULL DEFAULT 'lead' CHECK (kind IN ('lead', 'deal')),
    is_default boolean     NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id),
    UNIQUE (org_id, name)
);
CREATE UNIQUE INDEX boards_default ON boards (org_id, kind) WHERE is_default;
CALL tandem_protect('boards');

CREATE TABLE stages (
    org_id   uuid NOT NULL,
    id       uuid NOT NULL,
    board_id uuid NOT NULL,
    name     text NOT NULL CHECK (length(name) BETWEEN 1 AND 120),
    position int  NOT NULL,
    kind     text NOT NULL DEFAULT 'open' CHECK (kind IN ('open', 'won', 'lost')),
    PRIMARY KEY (org_id, id),
    UNIQUE (org_id, board_id, name),
    UNIQUE (org_id, board_id, position),
    UNIQUE (org_id, board_id, id),
    FOREIGN KEY (org_id, board_id) REFERENCES boards (org_id, id)
);
CALL tandem_protect('stages');

CREATE TABLE leads (
    org_id           uuid        NOT NULL,
    id               uuid        NOT NULL,
    contact_id       uuid        NOT NULL,
    board_id         uuid        NOT NULL,
    stage_id         uuid        NOT NULL,
    title            text        NOT NULL CHECK (length(title) BETWEEN 1 AND 300),
    assignee_id      uuid,
    source           text        NOT NULL DEFAULT '',
    value_minor      bigint      CHECK (value_minor >= 0), -- in the currency's minor unit
    currency         text        CHECK (currency ~ '^[A-Z]{3}$'),
    priority         text        NOT NULL DEFAULT 'normal' CHECK (priority IN ('low', 'normal', 'high', 'urgent')),
    temperature      text        NOT NULL DEFAULT 'cold' CHECK (temperature IN ('cold', 'warm', 'hot')),
    tags             text[]      NOT NULL DEFAULT '{}',
    custom           jsonb       NOT NULL DEFAULT '{}',
    closed           boolean     NOT NULL DEFAULT false, -- on a won or lost stage
    stage_changed_at timestamptz NOT NULL DEFAULT now(),
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    archived_at      timestamptz,
    version          bigint      NOT NULL DEFAULT 1,
    PRIMARY KEY (org_id, id),
    CHECK ((value_minor IS NULL) = (currency IS NULL)),
    FOREIGN KEY (org_id, contact_id) REFERENCES contacts (org_id, id),
    FOREIGN KEY (org_id, board_id) REFERENCES boards (org_id, id),
    FOREIGN KEY (org_id, board_id, stage_id) REFERENCES stages (org_id, board_id, id),
    FOREIGN KEY (org_id, assignee_id) REFERENCES members (org_id, id)
);
CREATE INDEX leads_recent ON leads (org_id, created_at DESC, id DESC) WHERE archived_at IS NULL;
CREATE INDEX leads_stage ON leads (org_id, stage_id, created_at DESC, id DESC) WHERE archived_at IS NULL;
CREATE INDEX leads_contact ON leads (org_id, contact_id);
-- One open lead per contact and board: a second enquiry joins it instead of racing to make another.
CREATE UNIQUE INDEX leads_open ON leads (org_id, board_id, contact_id) WHERE NOT closed AND archived_at IS NULL;
CALL tandem_protect('leads');

-- BANT with evidence: what is believed, how surely, and from which message.
CREATE TABLE qualifications (
    org_id      uuid        NOT NULL,
    lead_id     uuid        NOT NULL,
    field       text        NOT NULL CHECK (field IN ('budget', 'authority', 'need', 'timeline')),
    value       text        NOT NULL CHECK (length(value) BETWEEN 1 AND 1000),
    confidence  real        NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    quote       text        NOT NULL DEFAULT '', -- the words it was taken from
    message_id  uuid,       -- the message it was taken from
    author_id   uuid,
    author_kind text        NOT NULL CHECK (author_kind IN ('human', 'ai', 'external', 'system')),
    locked      boolean     NOT NULL DEFAULT false, -- set by a person; no AI member may change it then
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, lead_id, field),
    FOREIGN KEY (org_id, lead_id) REFERENCES leads (org_id, id),
    FOREIGN KEY (org_id, author_id) REFERENCES members (org_id, id),
    CHECK (NOT locked OR author_kind = 'human')
);
CALL tandem_protect('qualifications');
