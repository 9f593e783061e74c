package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tandemhq/tandem/bus/bustest"
	"github.com/tandemhq/tandem/internal/pg/local"
)

// doctor runs it and returns what each check said, by name, with what it advises.
func doctor(t *testing.T, env []string, args ...string) (found map[string]string, code int) {
	t.Helper()
	p := launch(t, env, append([]string{"doctor"}, args...)...)
	code = p.ends(atMost)
	found = map[string]string{}
	name := ""
	for line := range strings.Lines(p.out.String()) {
		line = strings.TrimRight(line, "\n")
		if mark, rest, ok := strings.Cut(line, "  "); ok && (mark == "ok" || mark == "MEND") {
			name = strings.Fields(rest)[0]
			found[name] = mark
		}
		found[name] += " " + strings.TrimSpace(line)
	}
	bad := 0
	for _, f := range found {
		if strings.HasPrefix(f, "MEND") {
			bad++
		}
	}
	if (bad > 0) != (code == 1) || bad == 0 && code != 0 {
		t.Errorf("exit code %d with %d things to mend", code, bad)
	}
	if bad > 0 {
		oneSentence(t, p.err.String(), "need mending")
	}
	return found, code
}

func TestDoctorFindsNothingWrong(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"private": nil,
		"external": {
			"--database-url", database(t, "migrated", true)(local.App), "--nats-url", bustest.Server(t),
			"--roles", "api,jobs",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found, code := doctor(t, nil, append(args, "--data", dataDir(t), "--http", "127.0.0.1:0")...)
			if code != 0 {
				t.Errorf("exit code %d", code)
			}
			for _, check := range []string{"configuration", "disk", "clock", "address", "database", "bus", "files"} {
				if !strings.HasPrefix(found[check], "ok") {
					t.Errorf("%s: %q", check, found[check])
				}
			}
			if !strings.Contains(found["database"], "PostgreSQL") || !strings.Contains(found["database"], "pgvector") {
				t.Errorf("database: %q", found["database"])
			}
		})
	}
}

func TestDoctorNamesWhatToMend(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	ahead := t.TempDir()
	future := time.Now().Add(time.Hour)
	if err := os.Chtimes(ahead, future, future); err != nil {
		t.Fatal(err)
	}
	bare := database(t, "doctorless", false)
	execute(t, bare(local.Super), `DROP EXTENSION vector`)
	for name, c := range map[string]struct {
		env, args []string
		check     string
		words     []string
	}{
		"configuration": {nil, []string{"--roles", "cooks"}, "configuration", []string{"cooks", "tandem serve --help"}},
		"address":       {nil, []string{"--http", ln.Addr().String()}, "address", []string{"in use", "--http"}},
		"clock":         {nil, []string{"--data", ahead}, "clock", []string{ahead, "NTP"}},
		"no PostgreSQL": {[]string{"TANDEM_PG_BIN=" + t.TempDir()}, nil, "database", []string{"TANDEM_PG_BIN", "scripts/setup"}},
		"database away": {nil, []string{"--database-url", "postgres://a@127.0.0.1:1/x?connect_timeout=2"}, "database", []string{"reached", "--database-url"}},
		"pgvector":      {nil, []string{"--database-url", bare(local.App)}, "database", []string{"pgvector", "postgres-init.sql"}},
		"superuser":     {nil, []string{"--database-url", bare(local.Super)}, "database", []string{"bypasses row-level security"}},
		"schema":        {nil, []string{"--database-url", database(t, "doctor_unmigrated", false)(local.App)}, "database", []string{"version 0", "tandem migrate"}},
		"files":         {[]string{"TANDEM_BLOB_ACCESS_KEY=a", "TANDEM_BLOB_SECRET_KEY=b"}, []string{"--blob-url", "s3://files?endpoint=http://127.0.0.1:1"}, "files", []string{"cannot be reached", "--blob-url"}},
		"NATS":          {nil, []string{"--nats-url", "nats://127.0.0.1:1"}, "bus", []string{"NATS", "nats-server -js"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := c.args
			if !strings.Contains(strings.Join(args, " "), "--http") {
				args = append(args, "--http", "127.0.0.1:0")
			}
			if !strings.Contains(strings.Join(args, " "), "--data ") {
				args = append(args, "--data", t.TempDir())
			}
			found, _ := doctor(t, c.env, args...)
			if !strings.HasPrefix(found[c.check], "MEND") {
				t.Fatalf("%s: %q, want it to need mending", c.check, found[c.check])
			}
			for _, w := range c.words {
				if !strings.Contains(found[c.check], w) {
					t.Errorf("%s: %q, want it to name %q", c.check, found[c.check], w)
				}
			}
			for check, f := range found {
				if check != c.check && !strings.HasPrefix(f, "ok") {
					t.Errorf("%s: %q, want ok", check, f)
				}
			}
		})
	}
	t.Run("disk", func(t *testing.T) {
		t.Parallel()
		found, _ := doctor(t, nil, "--data", smallDisk(t), "--http", "127.0.0.1:0")
		if !strings.HasPrefix(found["disk"], "MEND") || !strings.Contains(found["disk"], "--data") {
			t.Errorf("disk: %q", found["disk"])
		}
	})
}

func TestMigrateAndVersion(t *testing.T) {
	t.Parallel()
	url := database(t, "to_migrate", false)
	var first string
	for range 2 {
		p := launch(t, nil, "migrate", "--migrate-url", url(local.Owner))
		if code := p.ends(atMost); code != 0 || !strings.HasPrefix(p.out.String(), "The schema is at version ") {
			t.Fatalf("exit code %d, said %q", code, p.out.String())
		}
		if first != "" && p.out.String() != first {
			t.Errorf("said %q and then %q", first, p.out.String())
		}
		first = p.out.String()
	}
	p := launch(t, nil, "version")
	if code := p.ends(atMost); code != 0 || !strings.HasPrefix(p.out.String(), "tandem ") {
		t.Errorf("exit code %d, said %q", code, p.out.String())
	}
}

// A database of one's own needs no private one: nothing of PostgreSQL appears in the data directory.
func TestServeOnAnExternalDatabase(t *testing.T) {
	t.Parallel()
	url := database(t, "served", false)
	dir := dataDir(t)
	p := launch(t, nil, "serve", "--data", dir, "--http", "127.0.0.1:0", "--database-url", url(local.App), "--migrate-url", url(local.Owner))
	p.says("Tandem answers on http://localhost:")
	if _, err := os.Stat(filepath.Join(dir, "postgres")); err == nil {
		t.Error("a private database was made beside the external one")
	}
	address := strings.TrimPrefix(strings.TrimSpace(p.out.String()), "Tandem answers on http://")
	if !running(context.Background(), address) {
		t.Errorf("nothing answers at %s", address)
	}
	found, _ := doctor(t, nil, "--data", dir, "--http", address, "--database-url", url(local.App))
	if !strings.Contains(found["address"], "a running Tandem answers") {
		t.Errorf("address: %q", found["address"])
	}
	stopped(t, p)
}
