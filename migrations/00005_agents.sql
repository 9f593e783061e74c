-- Runs of AI members and the knowledge they answer from.

-- +goose Up

-- One turn of an AI member over one conversation.
CREATE TABLE runs (
    org_id          uuid        NOT NULL,
    id              uuid        NOT NULL,
    conversation_id uuid        NOT NULL,
    member_id       uuid        NOT NULL,
    trigger_seq     bigint      NOT NULL, -- the inbound message it answers
    state           text        NOT NULL CHECK (state IN ('running', 'done', 'handed_off', 'superseded', 'cancelled', 'failed', 'budget')),
    fence           bigint      NOT NULL,
    provider        text        NOT NULL DEFAULT '',
    model           text        NOT NULL DEFAULT '',
    input_tokens    int         NOT NULL DEFAULT 0,
    output_tokens   int         NOT NULL DEFAULT 0,
    cost_micros     bigint      NOT NULL DEFAULT 0, -- millionths of the organization's currency unit
    tool_calls      int         NOT NULL DEFAULT 0,
    error           text        NOT NULL DEFAULT '',
    chain_id        uuid        NOT NULL,
    started_at      timestamptz NOT NULL DEFAULT now(),
    ended_at        timestamptz,
    PRIMARY KEY (org_id, id),
    CHECK ((state = 'running') = (ended_at IS NULL)),
    FOREIGN KEY (org_id, conversation_id) REFERENCES conversations (org_id, id),
    FOREIGN KEY (org_id, member_id) REFERENCES members (org_id, id)
);
-- A turn is unique per conversation and trigger: of two workers one wins. A turn that
-- was cancelled or whose worker died may be tried again.
CREATE UNIQUE INDEX runs_turn ON runs (org_id, conversation_id, trigger_seq) WHERE state IN ('running', 'done', 'handed_off', 'budget');
CREATE INDEX runs_recent ON runs (org_id, started_at DESC, id DESC);
CREATE INDEX runs_conversation ON runs (org_id, conversation_id, started_at DESC);
CALL tandem_protect('runs');

CREATE TABLE run_steps (
    org_id        uuid        NOT NULL,
    run_id        uuid        NOT NULL,
    idx           int         NOT NULL,
    kind          text        NOT NULL CHECK (kind IN ('model', 'tool')),
    name          text        NOT NULL,
    input         jsonb       NOT NULL DEFAULT 'null',
    output        jsonb       NOT NULL DEFAULT 'null',
    error         text        NOT NULL DEFAULT '',
    input_tokens  int         NOT NULL DEFAULT 0,
    output_tokens int         NOT NULL DEFAULT 0,
    cost_micros   bigint      NOT NULL DEFAULT 0,
    chunks        jsonb       NOT NULL DEFAULT '[]', -- knowledge used: [{chunk_id, document_id, title, score}]
    latency_ms    int         NOT NULL DEFAULT 0,
    at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, run_id, idx),
    FOREIGN KEY (org_id, run_id) REFERENCES runs (org_id, id)
);
CALL tandem_protect('run_steps');

CREATE TABLE knowledge_documents (
    org_id     uuid        NOT NULL REFERENCES organizations (id),
    id         uuid        NOT NULL,
    title      text        NOT NULL CHECK (length(title) BETWEEN 1 AND 300),
    body       text        NOT NULL CHECK (length(body) <= 1000000),
    url        text        NOT NULL DEFAULT '',
    author_id  uuid,       -- always a member: what a customer wrote never enters by itself
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    archived_at timestamptz,
    version    bigint      NOT NULL DEFAULT 1,
    PRIMARY KEY (org_id, id),
    FOREIGN KEY (org_id, author_id) REFERENCES members (org_id, id)
);
CREATE INDEX knowledge_documents_recent ON knowledge_documents (org_id, created_at DESC, id DESC) WHERE archived_at IS NULL;
CALL tandem_protect('knowledge_documents');

-- A passage of a document. A column of its own per vector dimension; which one is filled
-- follows from the embedder's dimension.
CREATE TABLE chunks (
    org_id         uuid     NOT NULL,
    id             uuid     NOT NULL,
    document_id    uuid     NOT NULL,
    ord            int      NOT NULL,
    text           text     NOT NULL,
    tsv            tsvector GENERATED ALWAYS AS (to_tsvector('english', text)) STORED,
    embedder       text     NOT NULL, -- the embedder's name: vectors of different ones are never compared
    embedding_384  vector(384),
    embedding_1536 vector(1536),
    PRIMARY KEY (org_id, id),
    UNIQUE (org_id, document_id, ord),
    CHECK (num_nonnulls(embedding_384, embedding_1536) = 1),
    FOREIGN KEY (org_id, document_id) REFERENCES knowledge_documents (org_id, id)
);
CREATE INDEX chunks_text ON chunks USING gin (org_id, tsv);
CREATE INDEX chunks_org ON chunks (org_id, embedder);
CALL tandem_protect('chunks');
