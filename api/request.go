package api

import (
	"context"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/tandemhq/tandem"
)

// versionHeader names the API's version in every answer.
const versionHeader = "Tandem-Version"

type requestIDKey struct{}

func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// named gives every request an id, which also starts the causal chain of what it sets off, and says which API answers.
func named(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := string(tandem.NewID())
		h := w.Header() // not Set, which a waiting live stream would keep the stack of
		h["X-Request-Id"], h[versionHeader] = []string{id}, []string{Version}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id)))
	})
}

// recorder remembers what was answered. It passes Flush and deadlines through Unwrap.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(b)
	r.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the real writer.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// Flush keeps server-sent events flowing through adapters that ask for http.Flusher.
func (r *recorder) Flush() { _ = http.NewResponseController(r.ResponseWriter).Flush() }

// watched logs each request once, counts it, and turns a panic into a 500 that names the request.
func (s *server) watched(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec, start := &recorder{ResponseWriter: w}, time.Now()
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				s.log.ErrorContext(r.Context(), "handler panicked", "panic", p, "stack", string(debug.Stack()), "request_id", requestID(r.Context()))
				if rec.status == 0 {
					writeProblem(rec, r, s.log, tandem.Errorf(tandem.Internal, "panic"))
				}
			}
			route := chi.RouteContext(r.Context()).RoutePattern()
			if route == "" {
				route = "other"
			}
			if rec.status == 0 {
				rec.status = http.StatusOK // nothing was written: net/http answers so
			}
			if rec.status >= http.StatusInternalServerError && r.Context().Err() != nil {
				rec.status = clientGone
			}
			s.metrics.request(r.Method, route, rec.status, time.Since(start))
			level := slog.LevelDebug
			if rec.status >= http.StatusInternalServerError && rec.status != http.StatusServiceUnavailable { // those are told together
				level = slog.LevelWarn
			}
			s.log.Log(r.Context(), level, "request", "method", r.Method, "route", route, "status", rec.status,
				"bytes", rec.bytes, "ms", time.Since(start).Milliseconds(), "request_id", requestID(r.Context()))
		}()
		next.ServeHTTP(rec, r)
	})
}

// clientGone is how logs and metrics name a request whose sender did not wait for the answer,
// as web servers commonly do. Nobody receives it.
const clientGone = 499

// secured sets the headers that every answer of the API carries.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		next.ServeHTTP(w, r)
	})
}
