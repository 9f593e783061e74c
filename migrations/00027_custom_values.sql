-- Lists can be filtered and sorted by custom fields. What came from outside need not fit its definition: such a value reads as
-- NULL, and never fails a statement.

-- +goose Up
-- +goose StatementBegin
CREATE FUNCTION tandem_number(v jsonb) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE jsonb_typeof(v) WHEN 'number' THEN (v #>> '{}')::numeric END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION tandem_bool(v jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE jsonb_typeof(v) WHEN 'boolean' THEN (v #>> '{}')::boolean END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION tandem_uuid(v jsonb) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN v #>> '{}' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN (v #>> '{}')::uuid END
$$;
-- +goose StatementEnd

-- The first of the month and so many days more: no such sum fails, whereas 30 February is no date.
-- +goose StatementBegin
CREATE FUNCTION tandem_date(v jsonb) RETURNS date LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN v #>> '{}' ~ '^(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])(T|$)'
        THEN make_date(substr(v #>> '{}', 1, 4)::int, substr(v #>> '{}', 6, 2)::int, 1) + (substr(v #>> '{}', 9, 2)::int - 1) END
$$;
-- +goose StatementEnd

-- A moment in the one form in which crm writes it: UTC, to the second.
-- +goose StatementBegin
CREATE FUNCTION tandem_time(v jsonb) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN v #>> '{}' ~ 'T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$'
        THEN (tandem_date(v) + make_time(left(right(v #>> '{}', 9), 2)::int, left(right(v #>> '{}', 6), 2)::int, left(right(v #>> '{}', 3), 2)::int)) AT TIME ZONE 'UTC' END
$$;
-- +goose StatementEnd

-- Records without custom values, which is most of what comes in, cost these indexes nothing.
CREATE INDEX contacts_custom ON contacts USING gin (org_id, custom jsonb_path_ops) WHERE custom <> '{}';
CREATE INDEX accounts_custom ON accounts USING gin (org_id, custom jsonb_path_ops) WHERE custom <> '{}';
CREATE INDEX leads_custom ON leads USING gin (org_id, custom jsonb_path_ops) WHERE custom <> '{}';
