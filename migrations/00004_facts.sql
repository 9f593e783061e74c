-- The event log and what carries it: outbox, consumers' memory, dead letters, timers.

-- +goose Up

-- The only record of what happened. The app role may read and append, nothing else.
CREATE TABLE events (
    org_id          uuid        NOT NULL REFERENCES organizations (id),
    id              uuid        NOT NULL,
    seq             bigint      GENERATED ALWAYS AS IDENTITY,
    noun            text        NOT NULL,
    verb            text        NOT NULL,
    record_id       uuid        NOT NULL,
    actor_id        uuid,
    actor_kind      text        NOT NULL CHECK (actor_kind IN ('human', 'ai', 'external', 'system', 'contact')),
    actor_name      text        NOT NULL,
    on_behalf_of    uuid,
    changes         jsonb       NOT NULL DEFAULT '[]',
    description     text        NOT NULL,
    category        text        NOT NULL,
    severity        text        NOT NULL CHECK (severity IN ('info', 'notice', 'warning')),
    conversation_id uuid,
    lead_id         uuid,
    chain_id        uuid        NOT NULL,
    at              timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id)
);
CREATE INDEX events_seq ON events (org_id, seq);
CREATE INDEX events_conversation ON events (org_id, conversation_id, seq) WHERE conversation_id IS NOT NULL;
CREATE INDEX events_lead ON events (org_id, lead_id, seq) WHERE lead_id IS NOT NULL;
CALL tandem_protect('events');

-- The hash chain over an organization's events: hash = SHA-256(previous hash || canonical event).
CREATE TABLE event_seals (
    org_id   uuid   NOT NULL,
    n        bigint NOT NULL, -- 1, 2, 3, ... without a gap
    event_id uuid   NOT NULL,
    hash     bytea  NOT NULL,
    PRIMARY KEY (org_id, n),
    UNIQUE (org_id, event_id),
    FOREIGN KEY (org_id, event_id) REFERENCES events (org_id, id)
);
CALL tandem_protect('event_seals');

-- What still has to reach the bus, and what has reached it but is not yet applied by every
-- consumer. Ids only, read across organizations by the drain, so without row-level security.
CREATE TABLE outbox (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id       uuid        NOT NULL REFERENCES organizations (id),
    msg_id       uuid        NOT NULL UNIQUE, -- the event's id, or the command's
    topic        text        NOT NULL,        -- noun.verb of an event; "out" for a send
    subject      text        NOT NULL,
    record_id    uuid        NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz,
    epoch        timestamptz, -- when the stream that took it was created
    stream_seq   bigint
);
CREATE INDEX outbox_unpublished ON outbox (id) WHERE published_at IS NULL;
CREATE INDEX outbox_published ON outbox (published_at) WHERE published_at IS NOT NULL;

-- +goose StatementBegin
CREATE FUNCTION outbox_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_notify('tandem_outbox', ''); RETURN NULL; END $$;
-- +goose StatementEnd
CREATE TRIGGER outbox_notify AFTER INSERT ON outbox FOR EACH STATEMENT EXECUTE FUNCTION outbox_notify();

-- What each consumer has applied, written in the transaction of the effect. Ids only.
CREATE TABLE processed (
    consumer text        NOT NULL,
    msg_id   uuid        NOT NULL,
    at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, msg_id)
);
CREATE INDEX processed_at ON processed (at);

CREATE TABLE dead_letters (
    org_id     uuid        NOT NULL REFERENCES organizations (id),
    id         uuid        NOT NULL,
    consumer   text        NOT NULL,
    msg_id     uuid        NOT NULL,
    subject    text        NOT NULL,
    body       bytea       NOT NULL,
    error      text        NOT NULL,
    tries      int         NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id),
    UNIQUE (org_id, consumer, msg_id)
);
CALL tandem_protect('dead_letters');

-- What must happen later: one row per (kind, record), fired once on the database's clock.
-- Ids only, read across organizations by the timer runner.
CREATE TABLE timers (
    kind      text        NOT NULL,
    org_id    uuid        NOT NULL REFERENCES organizations (id),
    record_id uuid        NOT NULL,
    due_at    timestamptz NOT NULL,
    PRIMARY KEY (kind, org_id, record_id)
);
CREATE INDEX timers_due ON timers (due_at);

-- +goose StatementBegin
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'tandem_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON events, event_seals FROM tandem_app;
    END IF;
END $$;
-- +goose StatementEnd
