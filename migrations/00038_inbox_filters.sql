-- What a team chooses conversations by. A filter has an index in the list's order, or chooses from few rows to begin with.

-- +goose Up

-- Those that were merged are in no list, so they are in no index of one.
DROP INDEX conversations_recent, conversations_state, conversations_channel;
CREATE INDEX conversations_recent ON conversations (org_id, last_message_at DESC, id DESC) WHERE merged_into IS NULL;
CREATE INDEX conversations_state ON conversations (org_id, state, last_message_at DESC, id DESC) WHERE merged_into IS NULL;
CREATE INDEX conversations_channel ON conversations (org_id, channel_id, last_message_at DESC, id DESC) WHERE merged_into IS NULL;

CREATE INDEX conversations_created ON conversations (org_id, created_at DESC, id DESC) WHERE merged_into IS NULL;
CREATE INDEX conversations_unread ON conversations (org_id, last_message_at DESC, id DESC) WHERE unread > 0 AND merged_into IS NULL;
CREATE INDEX conversations_unanswered ON conversations (org_id, last_message_at DESC, id DESC) WHERE last_inbound_seq > answered_seq AND merged_into IS NULL;
CREATE INDEX conversations_priority ON conversations (org_id, priority, last_message_at DESC, id DESC) WHERE priority <> 'normal' AND merged_into IS NULL;
CREATE INDEX conversations_tags ON conversations USING gin (org_id, tags) WHERE tags <> '{}' AND merged_into IS NULL;

-- Searching by the beginning of a name or an address, whatever the database's collation. The columns are there because lower()
-- is not leakproof: under row-level security no index on it would be searched.
ALTER TABLE contacts
    ADD COLUMN name_key  text GENERATED ALWAYS AS (lower(name)) STORED,
    ADD COLUMN email_key text GENERATED ALWAYS AS (lower(email)) STORED;
CREATE INDEX contacts_name_begins ON contacts (org_id, name_key text_pattern_ops);
CREATE INDEX contacts_email_begins ON contacts (org_id, email_key text_pattern_ops) WHERE email_key IS NOT NULL;

-- What waits for somebody, the soonest deadline first.
CREATE INDEX handoffs_waiting ON handoffs (org_id, deadline, id) WHERE state = 'requested';
