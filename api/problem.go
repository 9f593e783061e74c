package api

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tandemhq/tandem"
)

// statusOf is the one table from error kinds to HTTP statuses.
var statusOf = map[tandem.Kind]int{
	tandem.Internal:        http.StatusInternalServerError,
	tandem.Invalid:         http.StatusUnprocessableEntity,
	tandem.NotFound:        http.StatusNotFound,
	tandem.Conflict:        http.StatusConflict,
	tandem.Forbidden:       http.StatusForbidden,
	tandem.Unauthenticated: http.StatusUnauthorized,
	tandem.Throttled:       http.StatusTooManyRequests,
	tandem.Unavailable:     http.StatusServiceUnavailable,
}

// Problem is an error as RFC 9457 wants it.
type Problem struct {
	Type      string              `json:"type" doc:"Names the kind of problem." example:"urn:tandem:problem:invalid"`
	Title     string              `json:"title" doc:"The status in words."`
	Status    int                 `json:"status" doc:"The HTTP status."`
	Detail    string              `json:"detail,omitempty" doc:"What happened and what to do, in one or two sentences."`
	Errors    []tandem.FieldError `json:"errors,omitempty" doc:"Each wrong field."`
	Owner     *tandem.MemberRef   `json:"owner,omitempty" doc:"Who holds what you asked for, when that is why it was refused."`
	RequestID string              `json:"request_id,omitempty" doc:"Name this when you report the problem."`

	retryAfter time.Duration
}

func (p *Problem) Error() string { return p.Detail }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders implements huma.HeadersError: Retry-After in whole seconds, rounded up, and
// the challenge that RFC 9110 wants with a 401.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(p.retryAfter.Seconds()))))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="tandem"`)
	}
	return h
}

func newProblem(status int, kind, detail string) *Problem {
	return &Problem{Type: "urn:tandem:problem:" + kind, Title: http.StatusText(status), Status: status, Detail: detail}
}

// problemOf turns any error into what the caller may know of it.
func problemOf(ctx context.Context, err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		p.RequestID = requestID(ctx)
		return p
	}
	if pe := new(pgconn.PgError); errors.As(err, &pe) && (pe.Code == "22021" || pe.Code == "22P05") {
		// PostgreSQL keeps neither NUL nor bytes that are no UTF-8: the sender's text, not our fault.
		err = tandem.Wrap(tandem.Invalid, err, "A text has a character that cannot be stored.")
	}
	kind := tandem.KindOf(err)
	p = newProblem(statusOf[kind], kind.String(), tandem.Message(err))
	p.RequestID = requestID(ctx)
	var te *tandem.Error
	if errors.As(err, &te) && kind != tandem.Internal {
		p.Errors, p.Owner, p.retryAfter = te.Fields, te.Owner, te.RetryAfter
	}
	if p.retryAfter <= 0 && (kind == tandem.Throttled || kind == tandem.Unavailable) {
		p.retryAfter = time.Second
	}
	return p
}

// writeProblem answers outside of the typed routes.
func writeProblem(w http.ResponseWriter, r *http.Request, log *slog.Logger, err error) {
	p := problemOf(r.Context(), err)
	logFailure(r.Context(), log, p, err)
	for k, v := range p.GetHeaders() {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client went away: nothing to be done
}

func logFailure(ctx context.Context, log *slog.Logger, p *Problem, err error) {
	switch {
	case ctx.Err() != nil:
		log.DebugContext(ctx, "the client went away", "err", err, "request_id", p.RequestID)
	case p.Status == http.StatusInternalServerError:
		log.ErrorContext(ctx, "request failed", "err", err, "request_id", p.RequestID)
	case p.Status == http.StatusServiceUnavailable:
		if n := refusals.due(time.Now()); n > 0 {
			log.WarnContext(ctx, "requests refused", "requests", n, "last", err, "request_id", p.RequestID)
		}
	}
}

// refusals are logged once a second: a flood that is refused would otherwise cost more than the refusals.
var refusals tally

// tally counts what is told now and then.
type tally struct {
	n    atomic.Int64
	told atomic.Int64 // Unix time in seconds
}

// due counts one more and returns how many have not been told, when it is time to tell; otherwise 0.
func (t *tally) due(now time.Time) int64 {
	t.n.Add(1)
	was, at := t.told.Load(), now.Unix()
	if at == was || !t.told.CompareAndSwap(was, at) {
		return 0
	}
	return t.n.Swap(0)
}

var installOnce sync.Once

// installProblems makes huma's own refusals (validation, unknown fields, bad JSON) the same shape.
// The hook is a package variable of huma, so it is set once per process.
func installProblems() {
	installOnce.Do(func() {
		huma.DefaultArrayNullable = false // a list of nothing is [], here and in what we accept
		huma.NewErrorWithContext = func(ctx huma.Context, status int, msg string, errs ...error) huma.StatusError {
			p := validationProblem(status, msg, errs)
			if ctx != nil {
				p.RequestID = requestID(ctx.Context())
			}
			return p
		}
		huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
			return validationProblem(status, msg, errs)
		}
	})
}

var kindOfStatus = map[int]string{
	http.StatusBadRequest: "malformed", http.StatusUnprocessableEntity: "invalid", http.StatusRequestEntityTooLarge: "too_large",
	http.StatusUnsupportedMediaType: "unsupported_media_type", http.StatusNotAcceptable: "not_acceptable", http.StatusRequestTimeout: "timeout",
}

var missing = regexp.MustCompile(`^expected required property (\S+) to be present$`)

func validationProblem(status int, msg string, errs []error) *Problem {
	kind, ok := kindOfStatus[status]
	if !ok {
		kind = "internal"
	}
	if status == http.StatusInternalServerError {
		msg = "Something went wrong on our side."
	}
	p := newProblem(status, kind, sentence(msg))
	for _, e := range errs {
		var d *huma.ErrorDetail
		if !errors.As(e, &d) {
			if e != nil && status != http.StatusInternalServerError {
				p.Errors = append(p.Errors, tandem.FieldError{Field: "", Message: e.Error()})
			}
			continue
		}
		field, message := fieldName(d.Location), sentence(d.Message)
		if m := missing.FindStringSubmatch(d.Message); m != nil {
			// huma names the object that lacks the field; a form wants the field itself.
			field, message = fieldName(d.Location+"."+m[1]), "This is needed."
		}
		p.Errors = append(p.Errors, tandem.FieldError{Field: field, Message: message})
	}
	if status == http.StatusUnprocessableEntity {
		p.Detail = "The request has a field that is not right."
		if len(p.Errors) > 0 {
			p.Detail = strings.TrimSpace(p.Errors[0].Field + ": " + p.Errors[0].Message)
		}
	}
	return p
}

// fieldName drops the place that huma puts in front of a path: body.contact.email is contact.email to the caller.
func fieldName(location string) string {
	for _, place := range []string{"body.", "query.", "path.", "header."} {
		if rest, ok := strings.CutPrefix(location, place); ok {
			return rest
		}
	}
	return location
}

func sentence(s string) string {
	if s == "" {
		return s
	}
	s = strings.ToUpper(s[:1]) + s[1:]
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}
