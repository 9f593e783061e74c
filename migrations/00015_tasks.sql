-- Tasks: what somebody has to do, by when, and for whom.

-- +goose Up
CREATE TABLE tasks (
    org_id       uuid        NOT NULL REFERENCES organizations (id),
    id           uuid        NOT NULL,
    title        text        NOT NULL CHECK (length(title) BETWEEN 1 AND 300),
    description  text        NOT NULL DEFAULT '' CHECK (length(description) <= 20000),
    lead_id      uuid,
    contact_id   uuid,
    account_id   uuid,
    assignee_id  uuid,
    parent_id    uuid,
    follows_id   uuid, -- the task whose completion made this one
    status       text        NOT NULL DEFAULT 'todo' CHECK (status IN ('todo', 'in_progress', 'waiting', 'completed', 'cancelled')),
    priority     text        NOT NULL DEFAULT 'normal' CHECK (priority IN ('low', 'normal', 'high', 'urgent')),
    recurrence   text        NOT NULL DEFAULT 'none' CHECK (recurrence IN ('none', 'daily', 'weekly', 'monthly')),
    due_at       timestamptz,
    remind_at    timestamptz,
    completed_at timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    archived_at  timestamptz,
    version      bigint      NOT NULL DEFAULT 1,
    PRIMARY KEY (org_id, id),
    CHECK (num_nonnulls(lead_id, contact_id, account_id) <= 1),
    CHECK (parent_id <> id),
    CHECK (recurrence = 'none' OR due_at IS NOT NULL),
    CHECK ((status = 'completed') = (completed_at IS NOT NULL)),
    FOREIGN KEY (org_id, lead_id) REFERENCES leads (org_id, id),
    FOREIGN KEY (org_id, contact_id) REFERENCES contacts (org_id, id),
    FOREIGN KEY (org_id, account_id) REFERENCES accounts (org_id, id),
    FOREIGN KEY (org_id, assignee_id) REFERENCES members (org_id, id),
    FOREIGN KEY (org_id, parent_id) REFERENCES tasks (org_id, id),
    FOREIGN KEY (org_id, follows_id) REFERENCES tasks (org_id, id)
);
CREATE INDEX tasks_recent ON tasks (org_id, created_at DESC, id DESC) WHERE archived_at IS NULL;
CREATE INDEX tasks_due ON tasks (org_id, coalesce(due_at, 'infinity'), id) WHERE archived_at IS NULL;
CREATE INDEX tasks_assignee ON tasks (org_id, assignee_id, coalesce(due_at, 'infinity'), id) WHERE assignee_id IS NOT NULL;
CREATE INDEX tasks_lead ON tasks (org_id, lead_id, created_at DESC, id DESC) WHERE lead_id IS NOT NULL;
CREATE INDEX tasks_contact ON tasks (org_id, contact_id, created_at DESC, id DESC) WHERE contact_id IS NOT NULL;
CREATE INDEX tasks_account ON tasks (org_id, account_id, created_at DESC, id DESC) WHERE account_id IS NOT NULL;
CREATE INDEX tasks_parent ON tasks (org_id, parent_id) WHERE parent_id IS NOT NULL;
-- A task is followed once, however often it is completed.
CREATE UNIQUE INDEX tasks_follows ON tasks (org_id, follows_id) WHERE follows_id IS NOT NULL;
CALL tandem_protect('tasks');
