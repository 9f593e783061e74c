-- What a member is told of, and what tasks and accounts remember besides.

-- +goose Up
CREATE TABLE notifications (
    org_id     uuid        NOT NULL REFERENCES organizations (id),
    id         uuid        NOT NULL,
    member_id  uuid        NOT NULL, -- who is told; nobody else sees it
    event_id   uuid        NOT NULL, -- of what
    kind       text        NOT NULL CHECK (kind IN ('mention', 'task_reminder', 'task_assigned', 'lead_assigned')),
    noun       text        NOT NULL,
    record_id  uuid        NOT NULL,
    text       text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    read_at    timestamptz,
    PRIMARY KEY (org_id, id),
    -- A fact is told once to each, however often it is delivered.
    UNIQUE (org_id, member_id, event_id),
    FOREIGN KEY (org_id, member_id) REFERENCES members (org_id, id),
    FOREIGN KEY (org_id, event_id) REFERENCES events (org_id, id)
);
CREATE INDEX notifications_recent ON notifications (org_id, member_id, created_at DESC, id DESC);
CREATE INDEX notifications_unread ON notifications (org_id, member_id, created_at DESC, id DESC) WHERE read_at IS NULL;
CALL tandem_protect('notifications');

-- The day of the month on which a monthly task is due where the month has it, while that is not the day of due_at.
ALTER TABLE tasks ADD COLUMN anchor_day smallint CHECK (anchor_day BETWEEN 1 AND 31);

-- A note's body as safe HTML, made when the note is written; NULL on notes that are older.
ALTER TABLE notes ADD COLUMN html text;

-- Contacts without an account, by the domain that they write from. It is a column, since an index on an expression cannot be used
-- under row-level security: the server takes no function of ours or its own for harmless.
ALTER TABLE contacts ADD COLUMN email_domain text GENERATED ALWAYS AS (split_part(email, '@', 2)) STORED;
CREATE INDEX contacts_unmatched ON contacts (org_id, email_domain, id) WHERE account_id IS NULL AND archived_at IS NULL AND email_domain IS NOT NULL;
