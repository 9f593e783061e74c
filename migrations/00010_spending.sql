-- What AI members spend, by the hour, so that a turn need not add up a day of runs before it may begin.

-- +goose Up

CREATE TABLE ai_spending (
    org_id      uuid        NOT NULL,
    hour        timestamptz NOT NULL, -- its beginning
    member_id   uuid        NOT NULL,
    cost_micros bigint      NOT NULL, -- millionths of the organization's currency unit
    tokens      bigint      NOT NULL,
    PRIMARY KEY (org_id, hour, member_id),
    FOREIGN KEY (org_id, member_id) REFERENCES members (org_id, id)
) WITH (fillfactor = 50); -- each row changes with each call of a model in its hour

-- The last day's runs count on. For the owner of the tables, who otherwise sees no organization's rows.
ALTER TABLE runs NO FORCE ROW LEVEL SECURITY;
INSERT INTO ai_spending (org_id, hour, member_id, cost_micros, tokens)
SELECT org_id, date_trunc('hour', started_at, 'UTC'), member_id, sum(cost_micros), sum(input_tokens::bigint + output_tokens)
FROM runs WHERE started_at > now() - interval '25 hours' AND cost_micros + input_tokens + output_tokens > 0
GROUP BY 1, 2, 3;
ALTER TABLE runs FORCE ROW LEVEL SECURITY;
CALL tandem_protect('ai_spending');

-- The runs of one AI member, newest first, however many those of the others are; and a conversation's in the same order.
CREATE INDEX runs_member ON runs (org_id, member_id, started_at DESC, id DESC);
DROP INDEX runs_conversation;
CREATE INDEX runs_conversation ON runs (org_id, conversation_id, started_at DESC, id DESC);
