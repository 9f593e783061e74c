package api

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

const checkTimeout = 2 * time.Second

// healthz says that the process answers; it asks nothing else.
func (s *server) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"status":"ok"}` + "\n"))
}

// readyz asks every part that work depends on, all at once, and names those that fail.
func (s *server) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	var (
		mu     sync.Mutex
		wg     sync.WaitGroup
		ready  = true
		checks = map[string]string{}
	)
	for name, check := range s.Checks {
		wg.Go(func() {
			err := check(ctx)
			mu.Lock()
			defer mu.Unlock()
			checks[name] = "ok"
			if err != nil {
				ready = false
				checks[name] = "failing"
				s.log.WarnContext(r.Context(), "not ready", "check", name, "err", err)
			}
		})
	}
	wg.Wait()
	status, word := http.StatusOK, "ready"
	if !ready {
		status, word = http.StatusServiceUnavailable, "not ready"
		w.Header().Set("Retry-After", "5")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"status": word, "checks": checks})
}
