-- Two conversations of one contact on one channel become one, and one becomes two, by a person and never for good.

-- +goose Up

ALTER TABLE conversations
    ADD COLUMN merged_into  uuid, -- where this one's messages are now; NULL: it stands by itself
    ADD COLUMN reply_thread text, -- the channel's thread in which replies go out when it is not thread: of one that was split off
    ADD COLUMN priority     text   NOT NULL DEFAULT 'normal' CHECK (priority IN ('low', 'normal', 'high', 'urgent')),
    ADD COLUMN tags         text[] NOT NULL DEFAULT '{}',
    ADD COLUMN version      bigint NOT NULL DEFAULT 1, -- of what people write on it: subject, priority, tags
    ADD FOREIGN KEY (org_id, merged_into) REFERENCES conversations (org_id, id),
    -- Nothing opens a conversation that is merged: whatever tries fails here, whichever way it came.
    ADD CHECK (merged_into IS NULL OR merged_into <> id AND state = 'resolved' AND owner_id IS NULL AND handoff_id IS NULL);
CREATE INDEX conversations_merged ON conversations (org_id, merged_into) WHERE merged_into IS NOT NULL;

CREATE TABLE conversation_merges (
    org_id      uuid        NOT NULL,
    id          uuid        NOT NULL,
    into_id     uuid        NOT NULL, -- the conversation that survives
    from_id     uuid        NOT NULL,
    from_state  text        NOT NULL, -- its work state before
    from_unread int         NOT NULL, -- and how much of it nobody had read
    by_id       uuid        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    undone_by   uuid,
    undone_at   timestamptz,
    PRIMARY KEY (org_id, id),
    CHECK ((undone_by IS NULL) = (undone_at IS NULL)),
    FOREIGN KEY (org_id, into_id) REFERENCES conversations (org_id, id),
    FOREIGN KEY (org_id, from_id) REFERENCES conversations (org_id, id),
    FOREIGN KEY (org_id, by_id) REFERENCES members (org_id, id),
    FOREIGN KEY (org_id, undone_by) REFERENCES members (org_id, id)
);
CREATE UNIQUE INDEX conversation_merges_from ON conversation_merges (org_id, from_id) WHERE undone_at IS NULL;
CREATE INDEX conversation_merges_into ON conversation_merges (org_id, into_id, created_at) WHERE undone_at IS NULL;
CALL tandem_protect('conversation_merges');

-- Where a message was before it moved. Its place there stays free, so that a merge can be undone exactly.
CREATE TABLE message_moves (
    org_id          uuid        NOT NULL,
    id              uuid        NOT NULL,
    message_id      uuid        NOT NULL,
    conversation_id uuid        NOT NULL, -- what it left
    seq             bigint      NOT NULL,
    client_key      text,       -- a reply that is sent again under this key in the conversation it left is still the same one
    merge_id        uuid,       -- NULL: it was split off
    moved_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id),
    FOREIGN KEY (org_id, message_id) REFERENCES messages (org_id, id),
    FOREIGN KEY (org_id, conversation_id) REFERENCES conversations (org_id, id),
    FOREIGN KEY (org_id, merge_id) REFERENCES conversation_merges (org_id, id)
);
CREATE INDEX message_moves_merge ON message_moves (org_id, merge_id) WHERE merge_id IS NOT NULL;
CREATE INDEX message_moves_key ON message_moves (org_id, conversation_id, client_key) WHERE client_key IS NOT NULL;
CREATE INDEX message_moves_message ON message_moves (org_id, message_id);
CALL tandem_protect('message_moves');
