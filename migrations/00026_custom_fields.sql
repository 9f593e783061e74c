-- Custom fields: what an organization notes of its records besides what Tandem knows of them.

-- +goose Up
CREATE TABLE custom_fields (
    org_id        uuid        NOT NULL REFERENCES organizations (id),
    id            uuid        NOT NULL,
    record_type   text        NOT NULL CHECK (record_type IN ('contact', 'account', 'lead', 'deal')),
    key           text        NOT NULL CHECK (key ~ '^[a-z][a-z0-9_]{0,39}$'), -- the member of the records' custom
    label         text        NOT NULL CHECK (length(label) BETWEEN 1 AND 120),
    description   text        NOT NULL DEFAULT '' CHECK (length(description) <= 1000),
    type          text        NOT NULL CHECK (type IN ('text', 'long_text', 'number', 'money', 'date', 'datetime', 'select', 'multi_select',
                                  'checkbox', 'url', 'email', 'phone', 'user', 'relation')),
    required      boolean     NOT NULL DEFAULT false,
    is_unique     boolean     NOT NULL DEFAULT false,
    default_value jsonb,
    options       jsonb       NOT NULL DEFAULT '[]' CHECK (length(options::text) <= 100000), -- of select and multi_select
    validation    jsonb       NOT NULL DEFAULT '{}',
    target        text        CHECK (target IN ('contact', 'account', 'lead', 'deal')), -- the record type of a relation
    position      int         NOT NULL DEFAULT 0,
    ai_may_write  boolean     NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    archived_at   timestamptz,
    version       bigint      NOT NULL DEFAULT 1,
    PRIMARY KEY (org_id, id),
    CHECK ((type = 'relation') = (target IS NOT NULL))
);
CREATE UNIQUE INDEX custom_fields_key ON custom_fields (org_id, record_type, key) WHERE archived_at IS NULL;
CREATE INDEX custom_fields_recent ON custom_fields (org_id, created_at DESC, id DESC) WHERE archived_at IS NULL;
CREATE INDEX custom_fields_position ON custom_fields (org_id, position, id) WHERE archived_at IS NULL;
CALL tandem_protect('custom_fields');

-- The values of unique fields that records have which are not archived, as tandem_unique spells them. What came from outside
-- is not here before somebody changes it: it is taken as it comes.
CREATE TABLE custom_uniques (
    org_id    uuid NOT NULL,
    field_id  uuid NOT NULL,
    value     text NOT NULL,
    record_id uuid NOT NULL, -- of the field's record type
    PRIMARY KEY (org_id, field_id, value),
    FOREIGN KEY (org_id, field_id) REFERENCES custom_fields (org_id, id)
);
CREATE INDEX custom_uniques_record ON custom_uniques (org_id, record_id);
CALL tandem_protect('custom_uniques');

-- tandem_unique is a custom value as it is compared with others, whatever its case; NULL for what is never unique. A value
-- that came from outside may be longer than an index takes.
-- +goose StatementBegin
CREATE FUNCTION tandem_unique(v jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE jsonb_typeof(v) WHEN 'number' THEN left(trim_scale((v #>> '{}')::numeric)::text, 500) WHEN 'string' THEN left(lower(v #>> '{}'), 500) END
$$;
-- +goose StatementEnd
