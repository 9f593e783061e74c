-- What a POST that named a key was answered, so that the same request sent again is answered the same and done once.

-- +goose Up
CREATE TABLE idempotency_keys (
    org_id     uuid        NOT NULL REFERENCES organizations (id),
    member_id  uuid        NOT NULL, -- whose request it was
    key        text        NOT NULL CHECK (length(key) BETWEEN 1 AND 200),
    request    bytea       NOT NULL, -- SHA-256 of the route and what was asked
    answer     jsonb,                -- NULL while the transaction runs, and for answers without a body
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, member_id, key),
    FOREIGN KEY (org_id, member_id) REFERENCES members (org_id, id)
);
CREATE INDEX idempotency_keys_old ON idempotency_keys (org_id, created_at);
CALL tandem_protect('idempotency_keys');
