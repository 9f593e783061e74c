-- What more is known of a contact, and what a merge of two contacts needs.

-- +goose Up
ALTER TABLE contacts
    ADD COLUMN title    text NOT NULL DEFAULT '' CHECK (length(title) <= 200), -- what somebody does at the company
    ADD COLUMN language text CHECK (language ~ '^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$'), -- BCP 47
    ADD COLUMN timezone text CHECK (length(timezone) <= 60), -- a name of the IANA's
    ADD COLUMN city     text NOT NULL DEFAULT '' CHECK (length(city) <= 120),
    ADD COLUMN country  text CHECK (country ~ '^[A-Z]{2}$'), -- ISO 3166
    -- The contact that this one became a part of. Whoever still asks for this one is told so.
    ADD COLUMN merged_into uuid,
    ADD CHECK (merged_into IS NULL OR archived_at IS NOT NULL),
    ADD FOREIGN KEY (org_id, merged_into) REFERENCES contacts (org_id, id);

-- A contact that others were merged into has their addresses and their threads. Each address goes on in its own threads, and a
-- thread is answered where it was written from: both carry the same prefix, one "<merge>:" for each merge they went through.
-- The channel's own key of a thread is what follows the prefix.
ALTER TABLE contact_identities ADD COLUMN thread_prefix text NOT NULL DEFAULT '';
ALTER TABLE conversations ADD COLUMN thread_prefix text NOT NULL DEFAULT '';
