-- The plans of tandem_intake's statements are kept for as long as a connection lives. Each of them goes by a key, and has to
-- when the plan is made while a table is all but empty, too: another plan would read the whole table once it has grown.

-- +goose Up
-- +goose StatementBegin
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION %s SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off', 'tandem_intake'::regproc::regprocedure);
END $$;
-- +goose StatementEnd
