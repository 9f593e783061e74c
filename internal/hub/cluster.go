package hub

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/tandemhq/tandem/internal/pg/local"
)

// cluster keeps the private Postgres running: when its process dies, it is started again.
type cluster struct {
	opt  local.Options
	log  *slog.Logger
	ctx  context.Context // ends when the cluster is to stop, and with it a start under way
	quit context.CancelFunc
	done chan struct{}

	mu     sync.Mutex
	server *local.Server
}

func startCluster(ctx context.Context, opt local.Options, log *slog.Logger) (*cluster, error) {
	s, err := local.Start(ctx, opt)
	if err != nil {
		return nil, err
	}
	c := &cluster{opt: opt, log: log, server: s, done: make(chan struct{})}
	c.ctx, c.quit = context.WithCancel(context.Background())
	go c.watch()
	if err := s.Provision(ctx, database); err != nil {
		sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		_ = c.stop(sctx) // the reason it could not be provisioned says more
		return nil, err
	}
	return c, nil
}

func (c *cluster) dsn(role string) string { return local.DSN(c.opt.Dir, database, role) }

func (c *cluster) current() *local.Server {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.server
}

// watch starts the server again whenever it ends unasked.
func (c *cluster) watch() {
	defer close(c.done)
	for {
		s := c.current()
		select {
		case <-c.ctx.Done():
			return
		case <-s.Exited():
		}
		if c.ctx.Err() != nil {
			return
		}
		c.log.Error("the private database ended and is started again")
		if !c.restart(s) {
			return
		}
	}
}

func (c *cluster) restart(old *local.Server) bool {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		ctx, cancel := context.WithTimeout(c.ctx, time.Minute)
		_ = old.Stop(ctx) // it has ended; this frees its lock on the directory
		s, err := local.Start(ctx, c.opt)
		cancel()
		if err == nil {
			c.mu.Lock()
			c.server = s
			c.mu.Unlock()
			return true
		}
		if c.ctx.Err() != nil {
			return false
		}
		c.log.Error("the private database cannot be started", "err", err)
		select {
		case <-c.ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
}

func (c *cluster) stop(ctx context.Context) error {
	c.quit()
	<-c.done
	return c.current().Stop(ctx)
}
