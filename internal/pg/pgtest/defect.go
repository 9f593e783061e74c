package pgtest

import "github.com/tandemhq/tandem/internal/mutant"

const rowSecurityOff = `
	DO $$ DECLARE r record; BEGIN
	    FOR r IN SELECT oid::regclass AS name FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace LOOP
	        EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', r.name);
	    END LOOP;
	END $$`

const noInboundIndex = `
	DO $$ DECLARE r record; BEGIN
	    FOR r IN SELECT conname FROM pg_constraint WHERE conrelid = 'inbound'::regclass AND contype = 'u' LOOP
	        EXECUTE format('ALTER TABLE inbound DROP CONSTRAINT %I', r.conname);
	    END LOOP;
	    EXECUTE replace(pg_get_functiondef('tandem_intake'::regproc), 'ON CONFLICT (org_id, channel_id, external_id)', 'ON CONFLICT');
	END $$`

const inboundByIDOnly = noInboundIndex + `;
	DO $$ BEGIN
	    ALTER TABLE inbound ADD UNIQUE (org_id, external_id);
	END $$`

// defect is the deliberate defect of the schema that this process is to have, and what makes it.
func defect() (name, statement string) {
	switch {
	case mutant.Is("rls-off"):
		return "rls_off", rowSecurityOff
	case mutant.Is("foreign-404-after-write"):
		return "foreign", rowSecurityOff
	case mutant.Is("no-unique-inbound-index"):
		return "inbound", noInboundIndex
	case mutant.Is("repeats-by-id-only"):
		return "repeats", inboundByIDOnly
	case mutant.Is("audit-may-be-edited"):
		return "audit", "GRANT UPDATE, DELETE ON events, event_seals TO " + App
	}
	return "", ""
}
