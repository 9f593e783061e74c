package prove

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/local"
)

// Cluster is a PostgreSQL of the operator's own, run by this test process: it survives every kill of Tandem. It flushes
// to disk, because Tandem refuses one that does not.
type Cluster struct {
	Dir    string
	Server *local.Server
	made   atomic.Int64
}

// NewCluster starts a cluster with room for a few processes. settings are of postgresql.conf. It stops with the test.
func NewCluster(t testing.TB, settings map[string]string) *Cluster {
	t.Helper()
	set := map[string]string{"max_connections": "300"}
	for name, value := range settings {
		set[name] = value
	}
	c := &Cluster{Dir: filepath.Join(Dir(t), "postgres")}
	ctx, cancel := context.WithTimeout(context.Background(), 2*Patience)
	defer cancel()
	var err error
	if c.Server, err = local.Start(ctx, local.Options{Dir: c.Dir, Settings: set}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := c.Server.Stop(ctx); err != nil {
			t.Errorf("stop the cluster: %v", err)
		}
	})
	return c
}

// Database makes a fresh migrated database and returns its name.
func (c *Cluster) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("site%d", c.made.Add(1))
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	err := local.Provision(ctx, c.Dir, name)
	if err == nil {
		err = pg.Migrate(ctx, local.DSN(c.Dir, name, local.Owner))
	}
	if err != nil {
		t.Fatalf("make database %s: %v", name, err)
	}
	return name
}
