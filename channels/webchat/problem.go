package webchat

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/tandemhq/tandem"
)

// Errors of the request itself, before its meaning.
var (
	errMalformed = &tandem.Error{Kind: tandem.Invalid, Msg: "The body is not valid JSON."}
	errTooLarge  = &tandem.Error{Kind: tandem.Invalid, Msg: "The body is too large."}
)

var statuses = map[tandem.Kind]int{
	tandem.Invalid:         http.StatusUnprocessableEntity,
	tandem.NotFound:        http.StatusNotFound,
	tandem.Conflict:        http.StatusConflict,
	tandem.Forbidden:       http.StatusForbidden,
	tandem.Unauthenticated: http.StatusUnauthorized,
	tandem.Throttled:       http.StatusTooManyRequests,
	tandem.Unavailable:     http.StatusServiceUnavailable,
}

// problem is RFC 9457.
type problem struct {
	Type   string              `json:"type"`
	Title  string              `json:"title"`
	Status int                 `json:"status"`
	Detail string              `json:"detail"`
	Errors []tandem.FieldError `json:"errors,omitempty"`
	// Request is the id that the api gave the request, empty without one.
	Request string `json:"request_id,omitempty"`
}

// fail answers err. What only the log may see goes there.
func (c *chat) fail(w http.ResponseWriter, r *http.Request, err error) {
	kind := tandem.KindOf(err)
	status, ok := statuses[kind]
	switch {
	case errors.Is(err, errMalformed):
		status = http.StatusBadRequest
	case errors.Is(err, errTooLarge):
		status = http.StatusRequestEntityTooLarge
	case !ok:
		status = http.StatusInternalServerError
	}
	if status >= 500 && r.Context().Err() == nil {
		c.config.Log().ErrorContext(r.Context(), "web chat call failed", "path", r.URL.Path, "status", status, "error", err)
	}
	p := problem{
		Type: "urn:tandem:problem:" + kind.String(), Title: http.StatusText(status), Status: status,
		Detail: tandem.Message(err), Request: w.Header().Get("X-Request-Id"),
	}
	var e *tandem.Error
	if errors.As(err, &e) {
		p.Errors = e.Fields
		if e.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(retrySeconds(e.RetryAfter)))
		}
	}
	if kind == tandem.Unavailable && w.Header().Get("Retry-After") == "" {
		w.Header().Set("Retry-After", "5")
	}
	w.Header().Set("Content-Type", "application/problem+json")
	write(w, status, p)
}

// reply answers v as JSON.
func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	write(w, status, v)
}

func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that left early is no failure of ours
}
