package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem/internal/pg/local"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
)

// refused wants tandem to end with code 1, nothing on its output, and one sentence that has all the words.
func refused(t *testing.T, env, args []string, words ...string) {
	t.Helper()
	p := launch(t, env, args...)
	if code := p.ends(atMost); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if out := p.out.String(); out != "" {
		t.Errorf("output %q, want none", out)
	}
	oneSentence(t, p.err.String(), words...)
}

func oneSentence(t *testing.T, said string, words ...string) {
	t.Helper()
	if strings.Count(said, "\n") != 1 || !strings.HasPrefix(said, "tandem: ") || !strings.HasSuffix(said, "\n") {
		t.Errorf("said %q, want one line of tandem's own", said)
	}
	for _, w := range words {
		if !strings.Contains(said, w) {
			t.Errorf("said %q, want it to name %q", said, w)
		}
	}
	for _, w := range []string{"panic", "goroutine ", "level="} {
		if strings.Contains(said, w) {
			t.Errorf("said %q, which is no sentence for a person", said)
		}
	}
}

func TestWrongConfigurationIsOneSentence(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const dsn = "postgres://tandem_app@127.0.0.1:1/tandem?connect_timeout=2"
	for name, c := range map[string]struct {
		env, args, words []string
	}{
		"no command":              {nil, nil, []string{"serve", "demo"}},
		"unknown command":         {nil, []string{"cook"}, []string{"cook"}},
		"unknown flag":            {nil, []string{"serve", "--fast"}, []string{"--fast"}},
		"unknown role":            {nil, []string{"serve", "--roles", "api,cooks"}, []string{"--roles", `"cooks"`, "agents"}},
		"role in the environment": {[]string{"TANDEM_ROLES=cooks"}, []string{"serve"}, []string{`"cooks"`}},
		"roles without NATS":      {nil, []string{"serve", "--roles", "api,jobs"}, []string{"--nats-url"}},
		"address without port":    {nil, []string{"serve", "--http", "nowhere"}, []string{"--http", `"nowhere"`, "127.0.0.1:8080"}},
		"port too high":           {nil, []string{"serve", "--http", "127.0.0.1:99999"}, []string{"--http", "99999"}},
		"master key no hex":       {nil, []string{"serve", "--master-key", "secret-zz"}, []string{"--master-key", "openssl rand -hex 32"}},
		"master key too short":    {nil, []string{"serve", "--master-key", "abcd"}, []string{"--master-key", "64"}},
		"migrate URL alone":       {nil, []string{"serve", "--migrate-url", dsn}, []string{"--database-url"}},
		"private network":         {nil, []string{"serve", "--allow-private", "everything"}, []string{"--allow-private", "everything"}},
		"rate below zero":         {nil, []string{"serve", "--inbound-per-minute=-1"}, []string{"--inbound-per-minute"}},
		"lease too short":         {nil, []string{"serve", "--lease", "1ms"}, []string{"--lease", "300ms"}},
		"log level":               {nil, []string{"serve", "--log-level", "loud"}, []string{"--log-level", "debug"}},
		"data is a file":          {nil, []string{"serve", "--data", file}, []string{file}},
		"no PostgreSQL":           {[]string{"TANDEM_PG_BIN=" + t.TempDir()}, []string{"serve", "--data", filepath.Join(dataDir(t), "d"), "--http", "127.0.0.1:0"}, []string{"TANDEM_PG_BIN"}},
		"database URL":            {nil, []string{"serve", "--data", t.TempDir(), "--http", "127.0.0.1:0", "--database-url", "postgres://a:hunter2@h:port/x"}, []string{"database URL"}},
		"database away":           {nil, []string{"serve", "--data", t.TempDir(), "--http", "127.0.0.1:0", "--database-url", dsn}, []string{"database", "127.0.0.1"}},
		"migrate without URL":     {nil, []string{"migrate"}, []string{"--migrate-url"}},
		"migrate away":            {nil, []string{"migrate", "--migrate-url", dsn}, []string{"database"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused(t, c.env, c.args, c.words...)
		})
	}
}

// A secret in a flag never ends in what tandem says, which goes to logs.
func TestRefusalsKeepSecrets(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"master key":   {"serve", "--master-key", "hunter2"},
		"database URL": {"serve", "--http", "127.0.0.1:0", "--database-url", "postgres://a:hunter2@127.0.0.1:1/x?connect_timeout=2"},
		"broken URL":   {"serve", "--http", "127.0.0.1:0", "--database-url", "postgres://a:hunter2@h:port/x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := launch(t, nil, append(args, "--data", t.TempDir())...)
			p.ends(atMost)
			if said := p.err.String(); strings.Contains(said, "hunter2") {
				t.Errorf("said %q", said)
			}
		})
	}
}

func TestBusyPortIsRefusedBeforeAnythingStarts(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dir := t.TempDir()
	refused(t, nil, []string{"serve", "--data", dir, "--http", ln.Addr().String()}, ln.Addr().String(), "in use", "--http")
	if _, err := os.Stat(filepath.Join(dir, "postgres")); err == nil {
		t.Error("a database was made although the port was busy")
	}
}

func TestClosedDirectoryIsOneSentence(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	closed := filepath.Join(parent, "closed")
	if os.Geteuid() != 0 {
		if err := os.Mkdir(closed, 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(closed, 0o700) })
		refused(t, nil, []string{"serve", "--data", filepath.Join(closed, "data"), "--http", "127.0.0.1:0"}, closed, "permission denied")
		return
	}
	// Nothing is closed to root, but PostgreSQL then runs under another account.
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	refused(t, nil, []string{"serve", "--data", filepath.Join(closed, "data"), "--http", "127.0.0.1:0"}, "bars the account", "chmod o+x")
}

// smallDisk is a file system of 12 MB.
func smallDisk(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a small disk can be mounted by root only")
	}
	dir := dataDir(t)
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=12m,mode=0755", "tandem-test", dir).CombinedOutput(); err != nil {
		t.Skipf("a small disk cannot be mounted here: %s", strings.TrimSpace(string(out)))
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("unmount the small disk: %v: %s", err, out)
		}
	})
	return dir
}

func TestFullDiskIsOneSentence(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t)
	t.Run("nearly full", func(t *testing.T) {
		refused(t, nil, []string{"serve", "--data", dir, "--http", "127.0.0.1:0"}, dir, "MB free", "free some space")
	})
	t.Run("full to the last byte", func(t *testing.T) {
		ballast := filepath.Join(dir, "ballast")
		_ = os.WriteFile(ballast, make([]byte, 16<<20), 0o600) // it ends where the disk does
		refused(t, nil, []string{"serve", "--data", filepath.Join(dir, "data"), "--http", "127.0.0.1:0"}, dir)
	})
}

func TestUnfitDatabaseIsOneSentence(t *testing.T) {
	t.Parallel()
	migrated := database(t, "migrated", true)
	serve := func(url string) []string {
		return []string{"serve", "--data", t.TempDir(), "--http", "127.0.0.1:0", "--database-url", url}
	}
	t.Run("superuser", func(t *testing.T) {
		t.Parallel()
		refused(t, nil, serve(migrated(local.Super)), "tandem_super", "bypasses row-level security", "tandem_app")
	})
	t.Run("unmigrated", func(t *testing.T) {
		t.Parallel()
		refused(t, nil, serve(database(t, "unmigrated", false)(local.App)), "version 0", "tandem migrate --migrate-url")
	})
	t.Run("newer than the program", func(t *testing.T) {
		t.Parallel()
		newer := database(t, "newer", true)
		execute(t, newer(local.Owner), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)`)
		refused(t, nil, serve(newer(local.App)), "99999", "newer")
		refused(t, nil, []string{"migrate", "--migrate-url", newer(local.Owner)}, "newer")
	})
	t.Run("no pgvector", func(t *testing.T) {
		t.Parallel()
		bare := database(t, "bare", false)
		execute(t, bare(local.Super), `DROP EXTENSION vector`)
		refused(t, nil, serve(bare(local.App)), "pgvector", "CREATE EXTENSION vector")
		refused(t, nil, append(serve(bare(local.App)), "--migrate-url", bare(local.Owner)), "pgvector", "CREATE EXTENSION vector")
	})
	t.Run("does not flush to disk", func(t *testing.T) {
		t.Parallel()
		refused(t, nil, serve(pgtest.URL(t, pgtest.Create(t), pgtest.App)), "fsync")
	})
	t.Run("NATS away", func(t *testing.T) {
		t.Parallel()
		refused(t, nil, append(serve(migrated(local.App)), "--nats-url", "nats://tandem:hunter2@127.0.0.1:1"), "NATS", "--nats-url", "127.0.0.1:1")
	})
}

func execute(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}
