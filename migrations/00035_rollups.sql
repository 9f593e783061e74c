-- Numbers over time, kept as facts come in, so that a dashboard need not count messages. Each can be counted again from
-- the events: see crm/report.

-- +goose Up

-- What happened in an hour, a day or a month of UTC, by what and by whom. Readers take the coarsest that fit into their
-- days, and hours for the rest.
CREATE TABLE rollups (
    org_id  uuid        NOT NULL REFERENCES organizations (id),
    grain   text        NOT NULL CHECK (grain IN ('hour', 'day', 'month', 'ever')),
    measure text        NOT NULL, -- what is counted: see crm/report/contributions.go
    at      timestamptz NOT NULL, -- the beginning of the hour, day or month; 1970 where the grain is ever
    subject uuid        NOT NULL, -- a channel, member or board; zeros: nobody
    label   text        NOT NULL DEFAULT '',
    bucket  smallint    NOT NULL DEFAULT 0, -- of a time: up to 100 ms times 2 to the power of bucket / 2
    n       bigint      NOT NULL,
    amount  bigint      NOT NULL, -- of times: milliseconds in all
    PRIMARY KEY (org_id, grain, measure, at, subject, label, bucket)
) WITH (fillfactor = 70); -- the rows of this hour, day and month change all the time
CALL tandem_protect('rollups');

-- The same of a whole organization, by the hour, for curves: a year is 8,784 rows.
CREATE TABLE rollup_hours (
    org_id      uuid        NOT NULL REFERENCES organizations (id),
    hour        timestamptz NOT NULL, -- its beginning
    received    bigint      NOT NULL,
    sent_people bigint      NOT NULL,
    sent_ai     bigint      NOT NULL, -- by AI and external members
    sent_other  bigint      NOT NULL, -- by Tandem itself
    opened      bigint      NOT NULL,
    resolved    bigint      NOT NULL,
    leads       bigint      NOT NULL,
    PRIMARY KEY (org_id, hour)
) WITH (fillfactor = 70);
CALL tandem_protect('rollup_hours');

-- Since when an organization's numbers are whole. One whose events are still to be counted has no time here.
CREATE TABLE rollup_state (
    org_id   uuid        NOT NULL REFERENCES organizations (id),
    built_at timestamptz,
    PRIMARY KEY (org_id)
);
-- Organizations that exist have events that no consumer will be told of again: they are counted once by whoever has the
-- role jobs. For the owner of the tables, who otherwise sees no organization.
ALTER TABLE organizations NO FORCE ROW LEVEL SECURITY;
INSERT INTO rollup_state (org_id) SELECT id FROM organizations;
INSERT INTO timers (kind, org_id, record_id, due_at) SELECT 'rollups', id, id, now() FROM organizations;
ALTER TABLE organizations FORCE ROW LEVEL SECURITY;
CALL tandem_protect('rollup_state');
