package llm

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/egress"
)

// provider is a fake OpenAI-compatible server. It keeps every request it gets.
type provider struct {
	*httptest.Server
	mu      sync.Mutex
	bodies  []map[string]any
	headers []http.Header
	calls   atomic.Int64
}

func newProvider(t *testing.T, h http.HandlerFunc) *provider {
	t.Helper()
	p := &provider{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.calls.Add(1)
		raw, _ := io.ReadAll(r.Body)
		var body map[string]any
		_ = json.Unmarshal(raw, &body)
		p.mu.Lock()
		p.bodies, p.headers = append(p.bodies, body), append(p.headers, r.Header.Clone())
		p.mu.Unlock()
		h(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *provider) settings() Settings {
	ap := netip.MustParseAddrPort(strings.TrimPrefix(p.URL, "http://"))
	return Settings{
		Provider: OpenAI, BaseURL: p.URL + "/v1", Model: "m", APIKey: "tenant-key", Timeout: 5 * time.Second,
		AllowPrivate: []egress.Allow{{Net: netip.PrefixFrom(ap.Addr(), ap.Addr().BitLen()), Port: ap.Port()}},
	}
}

// dial opens a model whose waits between attempts are recorded, not slept.
func dial(t *testing.T, s Settings) (*remote, *[]time.Duration) {
	t.Helper()
	tr := newTransport(s.withDefaults())
	waits := new([]time.Duration)
	tr.sleep = func(_ context.Context, d time.Duration) error { *waits = append(*waits, d); return nil }
	m, err := open(s, tr, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	return m, waits
}

func hello() Request {
	return Request{System: "You are an assistant.", Messages: []Message{{Role: User, Text: "hi", From: FromContact}}}
}

func say(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	}
}

func status(code int, header map[string]string, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for k, v := range header {
			w.Header().Set(k, v)
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func choice(finish, message string) string {
	return `{"id":"1","model":"m-2026","choices":[{"index":0,"finish_reason":` + finish + `,"message":` + message + `}],"usage":{"prompt_tokens":10,"completion_tokens":5}}`
}

func toolCall(fields string) string {
	return choice(`"tool_calls"`, `{"role":"assistant","content":null,"tool_calls":[{`+fields+`}]}`)
}

// TestContract plays what OpenAI-compatible servers were seen to send, and what a broken or hostile
// one may send. Every case ends in a whole answer or in an *Error with its code and status known.
func TestContract(t *testing.T) {
	t.Parallel()
	const fn = `"function":{"name":"find","arguments":"{\"q\":\"a\"}"}`
	for _, tc := range []struct {
		name      string
		h         http.HandlerFunc
		text      string // the whole text wanted
		calls     string // "id name args; ..." wanted
		code      string // the error wanted
		status    int
		retryable bool
		attempts  int64 // requests seen, 0 means 1
		after     time.Duration
	}{
		{name: "plain text", h: say(choice(`"stop"`, `{"content":"Hello."}`)), text: "Hello."},
		{name: "two parallel calls, one without arguments", h: say(choice(`"tool_calls"`, `{"content":null,"tool_calls":[{"id":"c1","type":"function",`+fn+`},{"id":"c2","type":"function","function":{"name":"time","arguments":""}}]}`)), calls: `c1 find {"q":"a"}; c2 time {}`},
		{name: "text and a call", h: say(choice(`"tool_calls"`, `{"content":"Let me look.","tool_calls":[{"id":"c1","type":"function",`+fn+`}]}`)), text: "Let me look.", calls: `c1 find {"q":"a"}`},
		{name: "call without type", h: say(toolCall(`"id":"c1",` + fn)), calls: `c1 find {"q":"a"}`},
		{name: "call without id", h: say(toolCall(`"type":"function",` + fn)), calls: `call_1 find {"q":"a"}`},
		{name: "two calls with one id", h: say(choice(`"tool_calls"`, `{"tool_calls":[{"id":"x",`+fn+`},{"id":"x",`+fn+`}]}`)), calls: `x find {"q":"a"}; call_2 find {"q":"a"}`},
		{name: "calls although stop", h: say(choice(`"stop"`, `{"content":"","tool_calls":[{"id":"c1",`+fn+`}]}`)), calls: `c1 find {"q":"a"}`},
		{name: "arguments as an object", h: say(toolCall(`"id":"c1","function":{"name":"find","arguments":{"q":"a"}}`)), calls: `c1 find {"q":"a"}`},
		{name: "arguments encoded twice", h: say(toolCall(`"id":"c1","function":{"name":"find","arguments":"\"{\\\"q\\\":\\\"a\\\"}\""}`)), calls: `c1 find {"q":"a"}`},
		{name: "arguments null", h: say(toolCall(`"id":"c1","function":{"name":"find","arguments":null}`)), calls: `c1 find {}`},
		{name: "arguments with NUL", h: say(toolCall(`"id":"c1","function":{"name":"find","arguments":"{\"q\":\"a\\u0000b\"}"}`)), calls: `c1 find {"q":"ab"}`},
		{name: "legacy function call", h: say(choice(`"function_call"`, `{"content":null,"function_call":{"name":"find","arguments":"{}"}}`)), calls: `call_1 find {}`},
		{name: "content as an array", h: say(choice(`"stop"`, `{"content":[{"type":"text","text":"Hel"},{"type":"text","text":"lo"}]}`)), text: "Hello"},
		{name: "thinking in the content", h: say(choice(`"stop"`, `{"content":"<think>the customer is rich</think>\n\nHello."}`)), text: "Hello."},
		{name: "thinking parts", h: say(choice(`"stop"`, `{"content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"Hello."}]}`)), text: "Hello."},
		{name: "finish reason in capitals", h: say(choice(`"STOP"`, `{"content":"Hello."}`)), text: "Hello."},
		{name: "usage null", h: say(`{"choices":[{"finish_reason":"stop","message":{"content":"Hello."}}],"usage":null}`), text: "Hello."},
		{name: "text and call spread over choices", h: say(`{"choices":[{"finish_reason":"tool_calls","message":{"content":"Look.","tool_calls":[{"id":"a",` + fn + `}]}},{"finish_reason":"tool_calls","message":{"tool_calls":[{"id":"b",` + fn + `}]}}]}`), text: "Look.", calls: `a find {"q":"a"}; b find {"q":"a"}`},
		{name: "NUL in the text", h: say(choice(`"stop"`, `{"content":"a\u0000b"}`)), text: "ab"},
		{name: "gzip", h: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, choice(`"stop"`, `{"content":"Hello."}`))
			_ = z.Close()
		}, text: "Hello."},

		{name: "function_call without body", h: say(choice(`"function_call"`, `{"content":"x"}`)), code: CodeMalformed, status: 200, retryable: true},
		{name: "tool_calls without calls", h: say(choice(`"tool_calls"`, `{"content":"Let me look"}`)), code: CodeMalformed, status: 200, retryable: true},
		{name: "cut by the token limit", h: say(choice(`"length"`, `{"content":"Our price is 1"}`)), code: CodeLength, status: 200},
		{name: "call cut by the token limit", h: say(choice(`"length"`, `{"tool_calls":[{"id":"c1","type":"function","function":{"name":"find","arguments":"{\"q\":"}}]}`)), code: CodeLength, status: 200},
		{name: "content filter", h: say(choice(`"content_filter"`, `{"content":"Hel"}`)), code: CodeFiltered, status: 200},
		{name: "refusal", h: say(choice(`"stop"`, `{"content":null,"refusal":"I can not help."}`)), code: CodeFiltered, status: 200},
		{name: "no finish reason", h: say(choice(`null`, `{"content":"Hel"}`)), code: CodeMalformed, status: 200, retryable: true},
		{name: "unknown finish reason", h: say(choice(`"malformed_function_call"`, `{"content":"Hel"}`)), code: CodeMalformed, status: 200, retryable: true},
		{name: "finish reason is a number", h: say(choice(`3`, `{"content":"Hel"}`)), code: CodeMalformed, status: 200, retryable: true},
		{name: "truncated JSON", h: say(choice(`"stop"`, `{"content":"Hello."}`)[:60]), code: CodeMalformed, status: 200, retryable: true},
		{name: "truncated arguments", h: say(toolCall(`"id":"c1","function":{"name":"find","arguments":"{\"q\":\"a"}`)), code: CodeMalformed, status: 200, retryable: true},
		{name: "glued arguments", h: say(toolCall(`"id":"c1","function":{"name":"find","arguments":"{\"q\":\"a\"}{\"tz\":\"x\"}"}`)), code: CodeMalformed, status: 200, retryable: true},
		{name: "arguments are a list", h: say(toolCall(`"id":"c1","function":{"name":"find","arguments":"[1]"}`)), code: CodeMalformed, status: 200, retryable: true},
		{name: "call without function", h: say(toolCall(`"id":"c1","type":"function"`)), code: CodeMalformed, status: 200, retryable: true},
		{name: "call with a forged name", h: say(toolCall(`"id":"c1","function":{"name":"../../x y","arguments":"{}"}`)), code: CodeMalformed, status: 200, retryable: true},
		{name: "call of a strange type", h: say(toolCall(`"id":"c1","type":"custom",` + fn)), code: CodeMalformed, status: 200, retryable: true},
		{name: "33 calls", h: say(choice(`"tool_calls"`, `{"tool_calls":[`+strings.TrimSuffix(strings.Repeat(`{`+fn+`},`, 33), ",")+`]}`)), code: CodeMalformed, status: 200, retryable: true},
		{name: "image part", h: say(choice(`"stop"`, `{"content":[{"type":"image_url","image_url":{"url":"https://evil.example/x"}}]}`)), code: CodeMalformed, status: 200, retryable: true},
		{name: "thinking without an end", h: say(choice(`"stop"`, `{"content":"<think>the customer"}`)), code: CodeMalformed, status: 200, retryable: true},
		{name: "empty text", h: say(choice(`"stop"`, `{"content":""}`)), code: CodeEmpty, status: 200, retryable: true},
		{name: "no choices", h: say(`{"choices":[]}`), code: CodeEmpty, status: 200, retryable: true},
		{name: "null choice", h: say(`{"choices":[null]}`), code: CodeMalformed, status: 200, retryable: true},
		{name: "choice without message", h: say(`{"choices":[{"finish_reason":"stop"}]}`), code: CodeMalformed, status: 200, retryable: true},
		{name: "empty body", h: say(``), code: CodeMalformed, status: 200, retryable: true},
		{name: "HTML", h: say(`<html>It works!</html>`), code: CodeMalformed, status: 200, retryable: true},
		{name: "null", h: say(`null`), code: CodeEmpty, status: 200, retryable: true},
		{name: "stream though none was asked for", h: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n")
		}, code: CodeMalformed, status: 200},
		{name: "error in a 200 body", h: say(`{"error":{"message":"overloaded","code":503}}`), code: CodeProvider, status: 200, retryable: true, attempts: 3},
		{name: "rate limit in a 200 body", h: say(`{"error":{"message":"slow down","code":429}}`), code: CodeThrottled, status: 200, retryable: true, attempts: 3},
		{name: "error in a choice", h: say(`{"choices":[{"finish_reason":"stop","error":{"message":"upstream died"},"message":{"content":"Hel"}}]}`), code: CodeProvider, status: 200, retryable: true, attempts: 3},
		{name: "400", h: status(400, nil, `{"error":{"message":"bad schema"}}`), code: CodeInput, status: 400},
		{name: "401", h: status(401, nil, `{"error":{"message":"Incorrect API key provided: tenant-key"}}`), code: CodeAuth, status: 401},
		{name: "403 array", h: status(403, nil, `[{"error":{"message":"denied"}}]`), code: CodeAuth, status: 403},
		{name: "404", h: status(404, nil, `model not found`), code: CodeInput, status: 404},
		{name: "429 with Retry-After", h: status(429, map[string]string{"Retry-After": "2"}, `{"error":{"message":"Rate limit reached","code":"rate_limit_exceeded"}}`), code: CodeThrottled, status: 429, retryable: true, attempts: 3, after: 2 * time.Second},
		{name: "429 that outlasts the deadline", h: status(429, map[string]string{"Retry-After": "7"}, `{"error":"slow down"}`), code: CodeThrottled, status: 429, retryable: true, after: 7 * time.Second},
		{name: "429 without quota", h: status(429, nil, `{"error":{"message":"You exceeded your quota","code":"insufficient_quota"}}`), code: CodeThrottled, status: 429},
		{name: "500", h: status(500, nil, ``), code: CodeProvider, status: 500, retryable: true, attempts: 3},
		{name: "503 HTML", h: status(503, nil, `<html>down</html>`), code: CodeProvider, status: 503, retryable: true, attempts: 3},
		{name: "529 overloaded", h: status(529, map[string]string{"Retry-After-Ms": "50"}, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`), code: CodeProvider, status: 529, retryable: true, attempts: 3, after: 50 * time.Millisecond},
		{name: "redirect", h: status(307, map[string]string{"Location": "http://127.0.0.1:1/"}, ``), code: CodeInput, status: 307},
		{name: "cut body", h: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5000")
			_, _ = io.WriteString(w, `{"choices":[{"finish_reason":"stop","message":{"content":"Hel`)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, code: CodeNetwork, status: 200, retryable: true, attempts: 3},
		{name: "connection dropped", h: func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }, code: CodeNetwork, retryable: true, attempts: 3},
		{name: "body over the limit", h: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, choice(`"stop"`, `{"content":"`+strings.Repeat("a", 5<<20)+`"}`))
		}, code: CodeTooLarge, status: 200},
		{name: "gzip bomb", h: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write(make([]byte, 64<<20))
			_ = z.Close()
		}, code: CodeTooLarge, status: 200},
		{name: "endless error body", h: status(500, nil, strings.Repeat("x", 1<<20)), code: CodeProvider, status: 500, retryable: true, attempts: 3},
		{name: "deep nesting", h: say(`{"choices":` + strings.Repeat("[", 100000) + strings.Repeat("]", 100000) + `}`), code: CodeMalformed, status: 200, retryable: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newProvider(t, tc.h)
			m, _ := dial(t, p.settings())
			resp, err := m.Next(t.Context(), hello())
			if want := max(tc.attempts, 1); p.calls.Load() != want {
				t.Errorf("%d requests, want %d", p.calls.Load(), want)
			}
			if tc.code != "" {
				e := AsError(err)
				if e == nil {
					t.Fatalf("got %+v, %v; want an *Error", resp, err)
				}
				if e.Code != tc.code || e.Status != tc.status || e.Retryable != tc.retryable || e.RetryAfter != tc.after || e.Deadline {
					t.Errorf("got %+v", e)
				}
				if strings.Contains(err.Error(), "tenant-key") {
					t.Errorf("the key is in the error: %v", err)
				}
				if len(err.Error()) > 500 {
					t.Errorf("an error of %d bytes", len(err.Error()))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var calls []string
			for _, c := range resp.Calls {
				calls = append(calls, fmt.Sprintf("%s %s %s", c.ID, c.Name, c.Args))
			}
			if resp.Text != tc.text || strings.Join(calls, "; ") != tc.calls {
				t.Errorf("got text %q calls %q", resp.Text, calls)
			}
			if (resp.Stop == StopTools) != (tc.calls != "") {
				t.Errorf("stop %q", resp.Stop)
			}
		})
	}
}

func TestDeadlineAndCancelAreKnown(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{}, 4)
	p := newProvider(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"choices":[`)
		w.(http.Flusher).Flush()
		entered <- struct{}{}
		<-r.Context().Done()
	})
	s := p.settings()
	s.Timeout = 100 * time.Millisecond
	m, _ := dial(t, s)
	_, err := m.Next(t.Context(), hello())
	e := AsError(err)
	if e == nil || !e.Deadline || e.Code != CodeDeadline || !errors.Is(err, context.DeadlineExceeded) || e.Status != 200 || e.Kind() != tandem.Unavailable {
		t.Errorf("own timeout: %+v", e)
	}
	<-entered

	ctx, cancel := context.WithCancel(t.Context())
	s.Timeout = time.Minute
	m, _ = dial(t, s)
	go func() { <-entered; cancel() }()
	_, err = m.Next(ctx, hello())
	if e := AsError(err); e == nil || e.Deadline || e.Code != CodeCanceled || !errors.Is(err, context.Canceled) || e.Retryable {
		t.Errorf("canceled: %+v", e)
	}

	past, stop := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer stop()
	n := p.calls.Load()
	_, err = m.Next(past, hello())
	if e := AsError(err); e == nil || !e.Deadline || p.calls.Load() != n {
		t.Errorf("deadline before the call: %+v, %d requests", e, p.calls.Load()-n)
	}
}

func TestRetryWaitsAsToldAndThenSucceeds(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	p := newProvider(t, func(w http.ResponseWriter, _ *http.Request) {
		switch n.Add(1) {
		case 1:
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(429)
		case 2:
			w.WriteHeader(502)
		default:
			_, _ = io.WriteString(w, choice(`"stop"`, `{"content":"Hello."}`))
		}
	})
	s := p.settings()
	s.InputPrice, s.OutputPrice = 3_000_000, 15_000_000
	m, waits := dial(t, s)
	resp, err := m.Next(t.Context(), hello())
	if err != nil || resp.Text != "Hello." || resp.Model != "m-2026" {
		t.Fatalf("%+v, %v", resp, err)
	}
	if w := *waits; len(w) != 2 || w[0] != 3*time.Second || w[1] < time.Second || w[1] > 2*time.Second {
		t.Errorf("waits %v", w)
	}
	if u := resp.Usage; u.InputTokens != 10 || u.OutputTokens != 5 || u.CostMicros != 105 {
		t.Errorf("usage %+v, want 10 in, 5 out, 105 micros", u)
	}
	if d := retryAfter(http.Header{"Retry-After": {time.Unix(1000, 0).UTC().Format(http.TimeFormat)}}, time.Unix(990, 0)); d != 10*time.Second {
		t.Errorf("Retry-After as a date: %v", d)
	}
}

func TestPauseEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := pause(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// An operator's key, organization or base URL in the environment must not reach a tenant's server.
func TestOperatorEnvironmentNeverLeaves(t *testing.T) {
	other := newProvider(t, say(choice(`"stop"`, `{"content":"from the operator's server"}`)))
	for k, v := range map[string]string{
		"OPENAI_API_KEY": "OPERATOR-SECRET", "OPENAI_ORGANIZATION": "OPERATOR-ORG", "OPENAI_MODEL": "OPERATOR-MODEL",
		"OPENAI_BASE_URL": other.URL, "OPENAI_API_BASE": other.URL, "HTTP_PROXY": other.URL, "HTTPS_PROXY": other.URL,
	} {
		t.Setenv(k, v)
	}
	p := newProvider(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/embeddings") {
			_, _ = io.WriteString(w, `{"data":[{"index":0,"embedding":[1,2]}]}`)
			return
		}
		_, _ = io.WriteString(w, choice(`"stop"`, `{"content":"Hello."}`))
	})
	for _, s := range []Settings{
		p.settings(),
		{Provider: Ollama, BaseURL: p.URL + "/v1", Model: "m", AllowPrivate: p.settings().AllowPrivate},
	} {
		m, err := Open(s)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := m.Next(t.Context(), hello()); err != nil || resp.Text != "Hello." {
			t.Fatalf("%+v, %v", resp, err)
		}
		e, err := OpenEmbedder(EmbedSettings{Settings: s, Dim: 2})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Embed(t.Context(), []string{"a"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, missing := range []Settings{{Provider: OpenAI, BaseURL: p.URL, Model: "m", AllowPrivate: p.settings().AllowPrivate}, {Provider: Anthropic, Model: "m"}} {
		if _, err := Open(missing); err == nil {
			t.Error("opened without a key of the organization's own")
		}
	}
	if other.calls.Load() != 0 || p.calls.Load() != 4 {
		t.Errorf("%d requests to the operator's server, %d to the tenant's", other.calls.Load(), p.calls.Load())
	}
	for i, h := range p.headers {
		dump := fmt.Sprint(h, p.bodies[i])
		if strings.Contains(dump, "OPERATOR") {
			t.Errorf("request %d carries the operator's environment: %s", i, dump)
		}
		if want := map[bool]string{true: "Bearer tenant-key", false: "Bearer none"}[i < 2]; h.Get("Authorization") != want {
			t.Errorf("request %d: Authorization %q, want %q", i, h.Get("Authorization"), want)
		}
	}
}

func TestSettingsAreChecked(t *testing.T) {
	t.Parallel()
	ok := Settings{Provider: OpenAI, Model: "m", APIKey: "k-123456"}
	for name, tc := range map[string]struct {
		s     Settings
		field string
	}{
		"fine":            {ok, ""},
		"rules":           {Settings{Provider: Rules, Model: "m", APIKey: "k"}, "provider"},
		"no model":        {Settings{Provider: Google, APIKey: "k"}, "model"},
		"no key":          {Settings{Provider: Anthropic, Model: "m"}, "api_key"},
		"key with space":  {Settings{Provider: Anthropic, Model: "m", APIKey: "a b"}, "api_key"},
		"plain http":      {Settings{Provider: OpenAI, Model: "m", APIKey: "k", BaseURL: "http://example.com/v1"}, "base_url"},
		"metadata":        {Settings{Provider: OpenAI, Model: "m", APIKey: "k", BaseURL: "https://169.254.169.254/v1"}, "base_url"},
		"query":           {Settings{Provider: OpenAI, Model: "m", APIKey: "k", BaseURL: "https://example.com/v1?x=1"}, "base_url"},
		"ollama here":     {Settings{Provider: Ollama, Model: "m"}, "base_url"},
		"ollama allowed":  {Settings{Provider: Ollama, Model: "m", AllowPrivate: []egress.Allow{{Net: netip.MustParsePrefix("127.0.0.1/32"), Port: 11434}}}, ""},
		"credentials":     {Settings{Provider: OpenAI, Model: "m", APIKey: "k", BaseURL: "https://u:p@example.com/v1"}, "base_url"},
		"file":            {Settings{Provider: OpenAI, Model: "m", APIKey: "k", BaseURL: "file:///etc/passwd"}, "base_url"},
		"compatible":      {Settings{Provider: Compatible, Model: "m", BaseURL: "https://llm.example.com/v1"}, ""},
		"no address":      {Settings{Provider: Compatible, Model: "m"}, "base_url"},
		"several at once": {Settings{Provider: "x"}, "provider"},
	} {
		_, err := Open(tc.s)
		if tc.field == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		var te *tandem.Error
		if e := AsError(err); e == nil || e.Code != CodeSettings || !errors.As(err, &te) || te.Kind != tandem.Invalid || te.Fields[0].Field != tc.field {
			t.Errorf("%s: %v, want a problem with %s", name, err, tc.field)
		}
	}
}

// A tenant's host name that resolves to a private address is refused at the socket, key unsent.
func TestPrivateAddressIsRefusedAtTheSocket(t *testing.T) {
	t.Parallel()
	p := newProvider(t, say(choice(`"stop"`, `{"content":"x"}`)))
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(p.URL, "http://"))
	s := Settings{Provider: OpenAI, Model: "m", APIKey: "k-123456", BaseURL: "https://localhost:" + port + "/v1"}
	m, waits := dial(t, s)
	_, err := m.Next(t.Context(), hello())
	if e := AsError(err); e == nil || e.Code != CodeNetwork || e.Retryable || p.calls.Load() != 0 || len(*waits) != 0 {
		t.Errorf("%v, %d requests", err, p.calls.Load())
	}
}
