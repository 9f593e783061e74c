-- Prepares your own PostgreSQL (15 or later, with pgvector 0.8 or later) for Tandem. Run it once, as a superuser, with psql:
--
--   TANDEM_OWNER_PASSWORD=... TANDEM_APP_PASSWORD=... psql -f scripts/postgres-init.sql postgres://postgres@db.example/postgres
--
-- and then start Tandem with
--
--   TANDEM_DATABASE_URL=postgres://tandem_app:...@db.example/tandem
--   TANDEM_MIGRATE_URL=postgres://tandem_owner:...@db.example/tandem
--
-- docker-compose.yml runs it by itself. Running it again is fine; it then sets the passwords anew.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
\getenv owner_password TANDEM_OWNER_PASSWORD
\getenv app_password TANDEM_APP_PASSWORD
\if :{?owner_password}
\else
  DO $$ BEGIN RAISE 'TANDEM_OWNER_PASSWORD is not set: choose a password for the role that owns the schema.'; END $$;
\endif
\if :{?app_password}
\else
  DO $$ BEGIN RAISE 'TANDEM_APP_PASSWORD is not set: choose a password for the role that Tandem works as.'; END $$;
\endif

-- Neither may bypass row-level security: Tandem refuses to start as a role that does.
SELECT format('CREATE ROLE %I LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE', name)
FROM unnest(ARRAY['tandem_owner', 'tandem_app']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec
ALTER ROLE tandem_owner PASSWORD :'owner_password';
ALTER ROLE tandem_app PASSWORD :'app_password';

SELECT 'CREATE DATABASE tandem OWNER tandem_owner ENCODING UTF8 TEMPLATE template0'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'tandem')
\gexec
\connect tandem
SET client_min_messages = warning;

-- From here on the same as internal/pg/local/database.sql; a test compares the two.
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
