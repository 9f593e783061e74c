package llm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tandemhq/tandem/internal/egress"
)

// The client library reports errors as bare text, trusts every body, and panics on some. So the
// transport below does the real work of a call: it mends the request, retries, reads the whole
// bounded answer, and hands the library only a body that it has rebuilt from checked parts. What
// went wrong travels beside the library, in an exchange that rides in the context.

// exchange is the record of one call, written by transport and read by the adapter.
type exchange struct {
	opaque   map[string]json.RawMessage // call id -> what the provider wants back with it
	embed    int                        // number of texts of an embedding call, 0 for chat
	err      *Error
	status   int
	attempts int
	answer   answer
	sent     int // bytes of the request
	got      int // bytes of the answer
}

type exchangeKey struct{}

func withExchange(ctx context.Context, x *exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, x)
}

// transport is the http.RoundTripper under the client library.
type transport struct {
	next        http.RoundTripper
	key         string
	maxBody     int64
	attempts    int
	temperature *float64
	maxTokens   string                                           // the field's name at this provider
	sleep       func(ctx context.Context, d time.Duration) error // waits between attempts
}

// RoundTrip sends req and returns a rebuilt 200 response, or an *Error that is also in the exchange.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	x, _ := req.Context().Value(exchangeKey{}).(*exchange)
	if x == nil {
		x = &exchange{}
	}
	body, err := t.roundTrip(req, x)
	if err != nil {
		err.Status = max(err.Status, x.status)
		x.err = err
		return nil, err
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/json"}},
		Body:          io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)),
		Request:       req,
	}, nil
}

func (t *transport) roundTrip(req *http.Request, x *exchange) ([]byte, *Error) {
	ctx := req.Context()
	var raw []byte
	if req.Body != nil {
		b, err := io.ReadAll(req.Body)
		_ = req.Body.Close()
		if err != nil {
			return nil, &Error{Code: CodeInput, Err: fmt.Errorf("read request: %w", err)}
		}
		raw = b
	}
	payload, err := t.mendRequest(raw, x)
	if err != nil {
		return nil, &Error{Code: CodeInput, Err: fmt.Errorf("mend request: %w", err)}
	}
	x.sent = len(payload)
	for {
		x.attempts++
		out, failed := t.attempt(ctx, req, payload, x)
		if failed == nil {
			return out, nil
		}
		if !failed.Retryable || failed.Deadline || !again(failed) || x.attempts >= t.attempts {
			return nil, failed
		}
		wait := failed.RetryAfter
		if wait <= 0 {
			wait = 500 * time.Millisecond << (x.attempts - 1)
			wait += rand.N(wait / 2)
		}
		// Waiting past the deadline would turn a known refusal into a timeout.
		if end, ok := ctx.Deadline(); ok && time.Until(end) <= wait {
			return nil, failed
		}
		if t.sleep(ctx, wait) != nil {
			return nil, ctxError(ctx)
		}
	}
}

// again says which failures another attempt of the same call may cure. A malformed answer is left
// to the turn: it costs tokens each time.
func again(e *Error) bool {
	return e.Code == CodeThrottled || e.Code == CodeProvider || e.Code == CodeNetwork
}

func (t *transport) attempt(ctx context.Context, req *http.Request, payload []byte, x *exchange) ([]byte, *Error) {
	r, err := http.NewRequestWithContext(ctx, req.Method, req.URL.String(), bytes.NewReader(payload))
	if err != nil {
		return nil, &Error{Code: CodeInput, Err: err}
	}
	// Headers are ours alone: whatever the library took from the environment stays behind.
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Authorization", "Bearer "+t.key)
	x.status = 0
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, t.netError(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	x.status = resp.StatusCode
	limit := t.maxBody
	if resp.StatusCode >= 300 {
		limit = min(limit, 64<<10) // an error needs no more
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case errors.Is(err, egress.ErrTooLarge) || err == nil && int64(len(body)) > limit && resp.StatusCode < 300:
		return nil, &Error{Code: CodeTooLarge, Err: fmt.Errorf("answer over %d bytes", limit)}
	case err != nil && resp.StatusCode < 300:
		return nil, t.netError(ctx, fmt.Errorf("answer cut after %d bytes: %w", len(body), err))
	}
	if resp.StatusCode >= 300 {
		return nil, t.statusError(resp, body)
	}
	if ct := resp.Header.Get("Content-Type"); strings.HasPrefix(ct, "text/event-stream") {
		return nil, &Error{Code: CodeMalformed, Err: errors.New("the server streams although no stream was asked for")}
	}
	var out []byte
	var bad *Error
	if x.embed > 0 {
		out, bad = mendEmbeddings(body, x.embed)
	} else {
		x.got = len(body)
		x.answer, out, bad = mendAnswer(body)
	}
	if bad != nil {
		bad.Err = errors.New(t.redact(bad.Err.Error()))
		return nil, bad
	}
	return out, nil
}

// mendRequest edits the library's JSON: no temperature unless asked for, the provider's name for
// the token limit, a schema for every tool, and what the provider wants back with each call.
func (t *transport) mendRequest(raw []byte, x *exchange) ([]byte, error) {
	var body map[string]json.RawMessage
	if err := json.Unmarshal(raw, &body); err != nil {
		return nil, err
	}
	delete(body, "temperature")
	if x.embed > 0 {
		return json.Marshal(body)
	}
	if t.temperature != nil {
		body["temperature"] = json.RawMessage(strconv.FormatFloat(*t.temperature, 'f', -1, 64))
	}
	if v, ok := body["max_completion_tokens"]; ok && t.maxTokens != "max_completion_tokens" {
		delete(body, "max_completion_tokens")
		body[t.maxTokens] = v
	}
	var messages []map[string]json.RawMessage
	if err := json.Unmarshal(body["messages"], &messages); err != nil {
		return nil, err
	}
	for _, m := range messages {
		if len(m["tool_calls"]) == 0 {
			continue
		}
		if string(m["content"]) == `""` {
			m["content"] = json.RawMessage("null")
		}
		var calls []map[string]json.RawMessage
		if err := json.Unmarshal(m["tool_calls"], &calls); err != nil {
			return nil, err
		}
		for _, c := range calls {
			var id string
			_ = json.Unmarshal(c["id"], &id)
			if extra := x.opaque[id]; len(extra) > 0 {
				c["extra_content"] = extra
			}
		}
		b, err := json.Marshal(calls)
		if err != nil {
			return nil, err
		}
		m["tool_calls"] = b
	}
	b, err := json.Marshal(messages)
	if err != nil {
		return nil, err
	}
	body["messages"] = b
	return json.Marshal(body)
}

// statusError turns an HTTP error answer into an *Error.
func (t *transport) statusError(resp *http.Response, body []byte) *Error {
	msg, code := errorText(body)
	e := &Error{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header, time.Now())}
	switch s := resp.StatusCode; {
	case s < 400:
		e.Code, msg = CodeInput, "the server redirects; enter the address it redirects to"
	case s == 401 || s == 403:
		e.Code = CodeAuth
	case s == 429:
		e.Code = CodeThrottled
		e.Retryable = code != "insufficient_quota" && code != "billing_hard_limit_reached"
	case s == 408 || s >= 500:
		e.Code, e.Retryable = CodeProvider, s != 501
	default:
		e.Code = CodeInput
	}
	if msg == "" {
		msg = http.StatusText(resp.StatusCode)
	}
	e.Err = errors.New(t.redact(clip(msg, 300)))
	return e
}

func (t *transport) netError(ctx context.Context, err error) *Error {
	if ctx.Err() != nil {
		return ctxError(ctx)
	}
	if errors.Is(err, egress.ErrRefused) {
		return &Error{Code: CodeNetwork, Err: errors.New(t.redact(err.Error()))}
	}
	e := &Error{Code: CodeNetwork, Retryable: true, Err: errors.New(t.redact(err.Error()))}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		e.Code, e.Deadline = CodeDeadline, true
	}
	return e
}

// ctxError is the failure of a call whose context has ended.
func ctxError(ctx context.Context) *Error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return &Error{Code: CodeCanceled, Err: context.Cause(ctx)}
	}
	return &Error{Code: CodeDeadline, Deadline: true, Retryable: true, Err: context.DeadlineExceeded}
}

func (t *transport) redact(s string) string {
	if len(t.key) >= 6 {
		s = strings.ReplaceAll(s, t.key, "***")
	}
	return s
}

// retryAfter reads the wait that a server asks for: seconds, milliseconds or a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil && ms > 0 && ms < 1e9 {
		return time.Duration(ms * float64(time.Millisecond))
	}
	v := strings.TrimSpace(h.Get("Retry-After"))
	if s, err := strconv.ParseFloat(v, 64); err == nil && s > 0 && s < 1e6 {
		return time.Duration(s * float64(time.Second))
	}
	if at, err := http.ParseTime(v); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// pause is transport.sleep outside tests.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
