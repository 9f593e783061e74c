-- Every filter that a list offers has an index that is in the list's order, so that a page costs the same in a small and
-- in a large organization, also where what is asked for is rare.

-- +goose Up

CREATE INDEX conversations_owner_state ON conversations (org_id, owner_id, state, last_message_at DESC, id DESC) WHERE owner_id IS NOT NULL;
CREATE INDEX conversations_owner_kind_state ON conversations (org_id, owner_kind, state, last_message_at DESC, id DESC) WHERE owner_kind IS NOT NULL;
CREATE INDEX conversations_channel ON conversations (org_id, channel_id, last_message_at DESC, id DESC);
CREATE INDEX leads_board ON leads (org_id, board_id, created_at DESC, id DESC) WHERE archived_at IS NULL;
CREATE INDEX leads_assignee ON leads (org_id, assignee_id, created_at DESC, id DESC) WHERE assignee_id IS NOT NULL AND archived_at IS NULL;
