package pgtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/local"
	"github.com/tandemhq/tandem/migrations"
)

// templateLock is the advisory lock under which one process makes a template and the others wait.
const templateLock = 7_246_001

var (
	templateMu   sync.Mutex
	templateName string // set once it is known to exist in this process's cluster
)

// templateIn returns the name of a database with the present migrations applied, making it when no process has yet.
// The name holds a hash of the migrations: a changed file makes a new template and never meets an old one.
func templateIn(ctx context.Context, dir string) (string, error) {
	templateMu.Lock()
	defer templateMu.Unlock()
	if templateName != "" {
		return templateName, nil
	}
	hash, err := schemaHash()
	if err != nil {
		return "", err
	}
	spoiled, spoil := defect()
	name := "template_" + hash + spoiled
	admin, err := pgx.Connect(ctx, local.DSN(dir, "postgres", Super))
	if err != nil {
		return "", err
	}
	defer admin.Close(context.WithoutCancel(ctx)) // which frees the lock, too
	if _, err := admin.Exec(ctx, "SELECT pg_advisory_lock($1)", templateLock); err != nil {
		return "", fmt.Errorf("wait for another process that makes the template: %w", err)
	}
	var exists bool
	if err := admin.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists); err != nil {
		return "", fmt.Errorf("look for the template: %w", err)
	}
	if !exists {
		if err := makeTemplate(ctx, admin, dir, name, spoil); err != nil {
			return "", err
		}
	}
	templateName = name
	return name, nil
}

func makeTemplate(ctx context.Context, admin *pgx.Conn, dir, name, spoil string) error {
	fresh := name + "_new" // renamed when complete: a failing migration leaves no half template
	if _, err := admin.Exec(ctx, "DROP DATABASE IF EXISTS "+fresh+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop a half-made template: %w", err)
	}
	if err := local.Provision(ctx, dir, fresh); err != nil {
		return err
	}
	if err := pg.Migrate(ctx, local.DSN(dir, fresh, Owner)); err != nil {
		return err
	}
	if spoil != "" {
		if err := administerIn(ctx, dir, fresh, spoil); err != nil {
			return fmt.Errorf("make the deliberate defect: %w", err)
		}
	}
	for _, statement := range []string{
		"ALTER DATABASE " + fresh + " RENAME TO " + name,
		"ALTER DATABASE " + name + " ALLOW_CONNECTIONS false", // a connection would block copies
	} {
		if _, err := admin.Exec(ctx, statement); err != nil {
			return fmt.Errorf("finish the template: %w", err)
		}
	}
	return nil
}

// schemaHash identifies everything that a template is made of.
func schemaHash() (string, error) {
	sum := sha256.New()
	sum.Write([]byte(local.DatabaseSQL))
	err := fs.WalkDir(migrations.FS, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(migrations.FS, path)
		fmt.Fprintf(sum, "\n%s %d\n", path, len(content))
		sum.Write(content)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read the migrations: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil))[:16], nil
}
