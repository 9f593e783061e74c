-- What happened to one record, for the timelines of contacts and accounts.

-- +goose Up

-- Events of conversations, messages above all, are found by their conversation: they are not in here, so that storing a message
-- of somebody known writes no more than before.
CREATE INDEX events_record ON events (org_id, record_id, seq) WHERE conversation_id IS NULL;
-- An account's newest contacts.
DROP INDEX contacts_account;
CREATE INDEX contacts_account ON contacts (org_id, account_id, id) WHERE account_id IS NOT NULL;
