-- Tenancy, members and the doors through which a request finds its organization.
--
-- Rules every table of this schema keeps:
--   * org_id first in the primary key and in every index; foreign keys are composite (org_id, x_id);
--   * row-level security enabled and forced, one policy with USING and WITH CHECK on tandem_org();
--   * the few tables without row-level security hold ids and hashes only and say why.

-- +goose Up

-- The organization of the current transaction; NULL outside of one, so that no row matches.
-- +goose StatementBegin
CREATE FUNCTION tandem_org() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT nullif(current_setting('app.org_id', true), '')::uuid $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE PROCEDURE tandem_protect(tbl regclass) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', tbl);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', tbl);
    EXECUTE format('CREATE POLICY org ON %s USING (org_id = tandem_org()) WITH CHECK (org_id = tandem_org())', tbl);
END $$;
-- +goose StatementEnd

CREATE TABLE organizations (
    id         uuid PRIMARY KEY,
    name       text        NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    currency   text        NOT NULL DEFAULT 'EUR' CHECK (currency ~ '^[A-Z]{3}$'),
    settings   jsonb       NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE organizations ENABLE ROW LEVEL SECURITY;
ALTER TABLE organizations FORCE ROW LEVEL SECURITY;
CREATE POLICY org ON organizations USING (id = tandem_org()) WITH CHECK (id = tandem_org());

-- A person's login, shared by all organizations the person works in. Without row-level
-- security because a login happens before an organization is known.
CREATE TABLE users (
    id            uuid PRIMARY KEY,
    email         text        NOT NULL CHECK (email = lower(email) AND length(email) BETWEEN 3 AND 254),
    name          text        NOT NULL,
    password_hash text        NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (email)
);

-- Which organization a presented secret or public key belongs to. Only hashes and ids, so
-- no row-level security: this is how a request learns which organization to enter.
CREATE TABLE doors (
    kind      text  NOT NULL CHECK (kind IN ('session', 'api_key', 'channel', 'user')),
    key       bytea NOT NULL, -- SHA-256 of the token or key; for kind user the user's id
    org_id    uuid  NOT NULL REFERENCES organizations (id),
    record_id uuid  NOT NULL, -- the session, key, channel or member
    PRIMARY KEY (kind, key, org_id)
);
CREATE INDEX doors_record ON doors (org_id, kind, record_id);

CREATE TABLE members (
    org_id     uuid        NOT NULL REFERENCES organizations (id),
    id         uuid        NOT NULL,
    kind       text        NOT NULL CHECK (kind IN ('human', 'ai', 'external')),
    user_id    uuid        REFERENCES users (id),
    name       text        NOT NULL CHECK (length(name) BETWEEN 1 AND 120),
    title      text        NOT NULL DEFAULT '',
    role       text        NOT NULL CHECK (role IN ('owner', 'admin', 'agent', 'viewer', 'ai')),
    skills     text[]      NOT NULL DEFAULT '{}',
    status     text        NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
    ai         jsonb, -- provider, base_url, model, persona, budgets: team.AIProfile
    secret     bytea, -- the model's API key, sealed
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version    bigint      NOT NULL DEFAULT 1,
    PRIMARY KEY (org_id, id),
    CHECK ((kind = 'human') = (user_id IS NOT NULL)),
    CHECK (kind <> 'ai' OR ai IS NOT NULL)
);
CREATE UNIQUE INDEX members_user ON members (org_id, user_id) WHERE user_id IS NOT NULL;
CALL tandem_protect('members');

CREATE TABLE teams (
    org_id     uuid        NOT NULL REFERENCES organizations (id),
    id         uuid        NOT NULL,
    name       text        NOT NULL CHECK (length(name) BETWEEN 1 AND 120),
    fallback   boolean     NOT NULL DEFAULT false, -- handoffs that nobody took go here
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX teams_fallback ON teams (org_id) WHERE fallback;
CALL tandem_protect('teams');

CREATE TABLE team_members (
    org_id    uuid NOT NULL,
    team_id   uuid NOT NULL,
    member_id uuid NOT NULL,
    PRIMARY KEY (org_id, team_id, member_id),
    FOREIGN KEY (org_id, team_id) REFERENCES teams (org_id, id),
    FOREIGN KEY (org_id, member_id) REFERENCES members (org_id, id)
);
CALL tandem_protect('team_members');

CREATE TABLE sessions (
    org_id       uuid        NOT NULL,
    id           uuid        NOT NULL,
    member_id    uuid        NOT NULL,
    token_hash   bytea       NOT NULL,
    user_agent   text        NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz,
    PRIMARY KEY (org_id, id),
    UNIQUE (org_id, token_hash),
    FOREIGN KEY (org_id, member_id) REFERENCES members (org_id, id)
);
CALL tandem_protect('sessions');

CREATE TABLE api_keys (
    org_id       uuid        NOT NULL,
    id           uuid        NOT NULL,
    name         text        NOT NULL,
    prefix       text        NOT NULL, -- what a person may see of the key to recognise it
    secret_hash  bytea       NOT NULL, -- SHA-256 of the whole key: it is random, so a slow hash buys nothing
    member_id    uuid        NOT NULL, -- the member this key acts as
    scopes       text[]      NOT NULL DEFAULT '{}', -- empty: all that the member may
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id),
    UNIQUE (org_id, secret_hash),
    FOREIGN KEY (org_id, member_id) REFERENCES members (org_id, id)
);
CALL tandem_protect('api_keys');
