package bus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/tandemhq/tandem"
)

// takeDir makes the directory private and holds it against other processes. The kernel lets
// go of the lock when this process dies, however it dies.
func (b *Bus) takeDir() error {
	if b.o.Dir == "" {
		return tandem.Errorf(tandem.Invalid, "The embedded message bus needs a directory.")
	}
	if err := os.MkdirAll(b.o.Dir, 0o700); err != nil {
		return tandem.Wrap(tandem.Invalid, err, "The directory %s for the message bus cannot be created.", b.o.Dir)
	}
	if err := os.Chmod(b.o.Dir, 0o700); err != nil {
		return tandem.Wrap(tandem.Invalid, err, "The directory %s for the message bus cannot be made private.", b.o.Dir)
	}
	f, err := os.OpenFile(filepath.Join(b.o.Dir, "tandem.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return tandem.Wrap(tandem.Invalid, err, "The directory %s for the message bus cannot be written to.", b.o.Dir)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return errors.Join(tandem.Wrap(tandem.Conflict, err, "Another Tandem is using the directory %s; stop it, or give this one a directory of its own.", b.o.Dir), f.Close())
	}
	b.lock = f
	return nil
}

// spareStore is what the server's own limit leaves above the stream's, so that the stream's is met first.
const spareStore = 16 << 20

// startServer runs a new embedded server on the directory. It opens no socket.
func (b *Bus) startServer() error {
	logger := &serverLog{log: b.log}
	srv, err := server.NewServer(&server.Options{
		ServerName: "tandem", DontListen: true, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: b.o.Dir, SyncInterval: syncInterval, DisableJetStreamBanner: true,
		JetStreamMaxMemory: 16 << 20, JetStreamMaxStore: b.o.MaxStore + spareStore, MaxPayload: maxPayload,
	})
	if err != nil {
		return unavailable(fmt.Errorf("make the embedded server: %w", err))
	}
	srv.SetLoggerV2(logger, false, false, false)
	srv.Start()
	if !logger.failed.Load() && srv.ReadyForConnections(openTimeout) && srv.JetStreamEnabled() {
		b.mu.Lock()
		b.srv = srv
		b.mu.Unlock()
		return nil
	}
	srv.Shutdown()
	srv.WaitForShutdown()
	return unavailable(fmt.Errorf("the embedded server did not start on %s", b.o.Dir))
}

// startEmpty replaces a store that cannot be used by an empty one. The old one is kept until
// the next such event for whoever wants to look at it.
func (b *Bus) startEmpty() error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if err := b.stopServer(ctx); err != nil {
		return err
	}
	store := filepath.Join(b.o.Dir, server.JetStreamStoreDir)
	aside := store + ".broken"
	if err := os.RemoveAll(aside); err != nil {
		return unavailable(fmt.Errorf("remove the older broken store: %w", err))
	}
	if err := os.Rename(store, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unavailable(fmt.Errorf("set the broken store aside: %w", err))
	}
	return b.startServer()
}

// stopServer shuts the embedded server down and waits until it has let go of its files.
func (b *Bus) stopServer(ctx context.Context) error {
	b.mu.Lock()
	srv := b.srv
	b.mu.Unlock()
	if srv == nil {
		return nil
	}
	down := make(chan struct{})
	go func() {
		defer close(down)
		srv.Shutdown()
		srv.WaitForShutdown()
	}()
	select {
	case <-down:
		b.mu.Lock()
		b.srv = nil
		b.mu.Unlock()
		return nil
	case <-ctx.Done():
		return unavailable(fmt.Errorf("the embedded server does not stop: %w", ctx.Err()))
	}
}

// restartServer replaces the embedded server by a new one on the same store, in process.
// Connections, listeners and consumers come back by themselves.
func (b *Bus) restartServer(ctx context.Context) error {
	began := time.Now()
	sctx, cancel := context.WithTimeout(ctx, shutdownTimeout)
	defer cancel()
	if err := b.stopServer(sctx); err != nil {
		return err
	}
	if err := b.startServer(); err != nil {
		b.log.WarnContext(ctx, "the message store cannot be opened; starting with an empty one", "err", err)
		if err := b.startEmpty(); err != nil {
			return err
		}
	}
	// The store is open. A server that does not answer now, such as one whose disk has filled up again, will not later.
	rctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := b.ready(rctx); err != nil {
		return err
	}
	b.mu.Lock()
	b.restarts++
	b.mu.Unlock()
	b.log.WarnContext(ctx, "embedded message server restarted", "took", time.Since(began))
	return nil
}

// serverLog passes the server's own log on. Its notices are routine, so they are debug lines here.
type serverLog struct {
	log    *slog.Logger
	failed atomic.Bool // the server gave up starting
}

func (l *serverLog) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *serverLog) Debugf(format string, v ...any)  { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *serverLog) Tracef(string, ...any)           {}
func (l *serverLog) Warnf(format string, v ...any)   { l.log.Warn(fmt.Sprintf(format, v...)) }
func (l *serverLog) Errorf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l *serverLog) Fatalf(format string, v ...any) {
	l.failed.Store(true)
	l.log.Error(fmt.Sprintf(format, v...))
}
