-- Run inside a new Tandem database, as a superuser, before the first migration. Safe to run again.

CREATE EXTENSION IF NOT EXISTS vector;
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE EXTENSION IF NOT EXISTS btree_gin;

ALTER SCHEMA public OWNER TO tandem_owner;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO tandem_app;

-- The pool's role reads and writes what migrations make, and owns none of it.
ALTER DEFAULT PRIVILEGES FOR ROLE tandem_owner IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO tandem_app;
ALTER DEFAULT PRIVILEGES FOR ROLE tandem_owner IN SCHEMA public GRANT USAGE ON SEQUENCES TO tandem_app;

-- Under row-level security only a function marked leakproof may run before the policy, and an index search is such a
-- run: without these marks full text, ILIKE, tags and custom fields are searched by reading whole tables. None of
-- these functions tells anything about a row it rejects. Only a superuser may set the mark.
ALTER FUNCTION ts_match_vq(tsvector, tsquery) LEAKPROOF;
ALTER FUNCTION ts_match_qv(tsquery, tsvector) LEAKPROOF;
ALTER FUNCTION textlike(text, text) LEAKPROOF;
ALTER FUNCTION texticlike(text, text) LEAKPROOF;
ALTER FUNCTION texticregexeq(text, text) LEAKPROOF;
ALTER FUNCTION arraycontains(anyarray, anyarray) LEAKPROOF;
ALTER FUNCTION arrayoverlap(anyarray, anyarray) LEAKPROOF;
ALTER FUNCTION jsonb_contains(jsonb, jsonb) LEAKPROOF;
ALTER FUNCTION similarity_op(text, text) LEAKPROOF;
ALTER FUNCTION word_similarity_op(text, text) LEAKPROOF;
