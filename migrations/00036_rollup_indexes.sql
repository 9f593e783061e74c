-- What the rollups and the dashboard look up.

-- +goose Up

-- When a conversation was opened last, however much was said since.
CREATE INDEX events_cases ON events (org_id, conversation_id, seq) WHERE noun = 'conversation' AND verb IN ('opened', 'reopened');
-- The pipeline as it is, and what was won and lost: each lead is in one of the two.
CREATE INDEX leads_pipeline ON leads (org_id, board_id, stage_id) INCLUDE (currency, value_minor) WHERE NOT closed AND archived_at IS NULL;
CREATE INDEX leads_closed ON leads (org_id, board_id, stage_changed_at) INCLUDE (stage_id, source, currency, value_minor) WHERE closed AND archived_at IS NULL;
