-- A lead knows what came of it, and notes, tasks and calls can be about a deal.

-- +goose Up
ALTER TABLE leads
    ADD COLUMN converted_at timestamptz,
    ADD COLUMN account_id   uuid,
    ADD COLUMN deal_id      uuid,
    ADD CHECK (converted_at IS NOT NULL OR num_nonnulls(account_id, deal_id) = 0),
    ADD FOREIGN KEY (org_id, account_id) REFERENCES accounts (org_id, id),
    ADD FOREIGN KEY (org_id, deal_id) REFERENCES deals (org_id, id);
CREATE INDEX leads_account ON leads (org_id, account_id, created_at DESC, id DESC) WHERE account_id IS NOT NULL;

ALTER TABLE notes ADD COLUMN deal_id uuid, ADD FOREIGN KEY (org_id, deal_id) REFERENCES deals (org_id, id),
    DROP CONSTRAINT notes_check, ADD CONSTRAINT notes_about CHECK (num_nonnulls(lead_id, contact_id, account_id, deal_id) = 1);
ALTER TABLE tasks ADD COLUMN deal_id uuid, ADD FOREIGN KEY (org_id, deal_id) REFERENCES deals (org_id, id),
    DROP CONSTRAINT tasks_check, ADD CONSTRAINT tasks_about CHECK (num_nonnulls(lead_id, contact_id, account_id, deal_id) <= 1);
ALTER TABLE calls ADD COLUMN deal_id uuid, ADD FOREIGN KEY (org_id, deal_id) REFERENCES deals (org_id, id),
    DROP CONSTRAINT calls_check, ADD CONSTRAINT calls_about CHECK (num_nonnulls(lead_id, contact_id, account_id, deal_id) = 1);
CREATE INDEX notes_deal ON notes (org_id, deal_id, created_at DESC, id DESC) WHERE deal_id IS NOT NULL;
CREATE INDEX tasks_deal ON tasks (org_id, deal_id, created_at DESC, id DESC) WHERE deal_id IS NOT NULL;
CREATE INDEX calls_deal ON calls (org_id, deal_id, created_at DESC, id DESC) WHERE deal_id IS NOT NULL;
