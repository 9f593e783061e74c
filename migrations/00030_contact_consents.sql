-- Whether a contact wants to hear from us, by sort of channel. Nothing is sent where it is denied: inbox asks in the
-- statements that store and that let out a message.

-- +goose Up
CREATE TABLE contact_consents (
    org_id     uuid        NOT NULL,
    contact_id uuid        NOT NULL,
    kind       text        NOT NULL CHECK (kind ~ '^[a-z]{2,40}$'), -- a channel's, or one without channels such as phone
    state      text        NOT NULL CHECK (state IN ('unknown', 'granted', 'denied')),
    source     text        NOT NULL DEFAULT '' CHECK (length(source) <= 200),  -- where it was said: "web form", "on the phone"
    evidence   text        NOT NULL DEFAULT '' CHECK (length(evidence) <= 2000), -- the words, or where they can be seen
    note       text        NOT NULL DEFAULT '' CHECK (length(note) <= 2000),
    by_id      uuid,       -- NULL: Tandem itself, on the contact's own word
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, contact_id, kind),
    FOREIGN KEY (org_id, contact_id) REFERENCES contacts (org_id, id),
    FOREIGN KEY (org_id, by_id) REFERENCES members (org_id, id)
);
CALL tandem_protect('contact_consents');
