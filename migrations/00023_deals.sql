-- Deals: what a company may buy, for how much and by when, on a stage of a board for deals.

-- +goose Up
CREATE TABLE deals (
    org_id            uuid        NOT NULL REFERENCES organizations (id),
    id                uuid        NOT NULL,
    name              text        NOT NULL CHECK (length(name) BETWEEN 1 AND 300),
    board_id          uuid        NOT NULL,
    stage_id          uuid        NOT NULL,
    account_id        uuid,
    contact_id        uuid, -- the first to ask; the others are in deal_contacts
    lead_id           uuid, -- the lead it came from
    assignee_id       uuid,
    amount_minor      bigint      CHECK (amount_minor >= 0), -- in the currency's minor unit
    currency          text        CHECK (currency ~ '^[A-Z]{3}$'),
    probability       int         CHECK (probability BETWEEN 0 AND 100), -- in percent; NULL: what its stage says
    expected_close    date,
    forecast_category text        NOT NULL DEFAULT 'pipeline' CHECK (forecast_category IN ('pipeline', 'best_case', 'commit', 'closed', 'omitted')),
    tags              text[]      NOT NULL DEFAULT '{}',
    custom            jsonb       NOT NULL DEFAULT '{}',
    won_reason        text        CHECK (length(won_reason) BETWEEN 1 AND 1000),
    lost_reason       text        CHECK (length(lost_reason) BETWEEN 1 AND 1000),
    closed            boolean     NOT NULL DEFAULT false, -- on a won or lost stage
    closed_at         timestamptz,
    stage_changed_at  timestamptz NOT NULL DEFAULT now(),
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    archived_at       timestamptz,
    version           bigint      NOT NULL DEFAULT 1,
    PRIMARY KEY (org_id, id),
    CHECK ((amount_minor IS NULL) = (currency IS NULL)),
    CHECK (closed = (closed_at IS NOT NULL)),
    CHECK (closed = (forecast_category = 'closed')),
    CHECK (closed OR num_nonnulls(won_reason, lost_reason) = 0),
    CHECK (num_nonnulls(won_reason, lost_reason) <= 1),
    FOREIGN KEY (org_id, board_id) REFERENCES boards (org_id, id),
    FOREIGN KEY (org_id, board_id, stage_id) REFERENCES stages (org_id, board_id, id),
    FOREIGN KEY (org_id, account_id) REFERENCES accounts (org_id, id),
    FOREIGN KEY (org_id, contact_id) REFERENCES contacts (org_id, id),
    FOREIGN KEY (org_id, lead_id) REFERENCES leads (org_id, id),
    FOREIGN KEY (org_id, assignee_id) REFERENCES members (org_id, id)
);
CREATE INDEX deals_recent ON deals (org_id, created_at DESC, id DESC) WHERE archived_at IS NULL;
CREATE INDEX deals_name ON deals (org_id, lower(name), id) WHERE archived_at IS NULL;
CREATE INDEX deals_amount ON deals (org_id, (coalesce(amount_minor, -1)), id) WHERE archived_at IS NULL;
CREATE INDEX deals_expected_close ON deals (org_id, (coalesce(expected_close, '9999-12-31'::date)), id) WHERE archived_at IS NULL;
CREATE INDEX deals_stage_changed ON deals (org_id, stage_changed_at, id) WHERE archived_at IS NULL;
CREATE INDEX deals_stage ON deals (org_id, stage_id, created_at DESC, id DESC) WHERE archived_at IS NULL;
CREATE INDEX deals_board ON deals (org_id, board_id, created_at DESC, id DESC) WHERE archived_at IS NULL;
CREATE INDEX deals_assignee ON deals (org_id, assignee_id, created_at DESC, id DESC) WHERE assignee_id IS NOT NULL AND archived_at IS NULL;
CREATE INDEX deals_account ON deals (org_id, account_id, created_at DESC, id DESC) WHERE account_id IS NOT NULL;
CREATE INDEX deals_contact ON deals (org_id, contact_id, created_at DESC, id DESC) WHERE contact_id IS NOT NULL;
CREATE INDEX deals_lead ON deals (org_id, lead_id, created_at DESC, id DESC) WHERE lead_id IS NOT NULL;
CALL tandem_protect('deals');

-- Who else has a say in a deal.
CREATE TABLE deal_contacts (
    org_id     uuid NOT NULL,
    deal_id    uuid NOT NULL,
    contact_id uuid NOT NULL,
    PRIMARY KEY (org_id, deal_id, contact_id),
    FOREIGN KEY (org_id, deal_id) REFERENCES deals (org_id, id),
    FOREIGN KEY (org_id, contact_id) REFERENCES contacts (org_id, id)
);
CREATE INDEX deal_contacts_contact ON deal_contacts (org_id, contact_id, deal_id);
CALL tandem_protect('deal_contacts');

ALTER TABLE tags DROP CONSTRAINT tags_record_type_check, ADD CHECK (record_type IN ('lead', 'contact', 'account', 'deal'));
