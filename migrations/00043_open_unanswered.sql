-- Who waits for an answer, of one state: of many that were never answered few are open, and the other way round.

-- +goose Up
CREATE INDEX conversations_state_unanswered ON conversations (org_id, state, last_message_at DESC, id DESC)
    WHERE last_inbound_seq > answered_seq AND merged_into IS NULL;
