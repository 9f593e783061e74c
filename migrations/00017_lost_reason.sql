-- Why a lead was lost; a lead that is open again has no such reason.

-- +goose Up
ALTER TABLE leads ADD COLUMN lost_reason text CHECK (length(lost_reason) BETWEEN 1 AND 1000), ADD CHECK (lost_reason IS NULL OR closed);
