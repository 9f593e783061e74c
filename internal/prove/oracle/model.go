package oracle

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Script is what the model does.
type Script struct {
	// Do is one of answer (the default), think (answer after N ms), handoff (ask for a person by the tool), tool (call the
	// tool of Arg with empty arguments, then answer), flood (N kB of answer, 1024 when 0), hang (never answer), cut (half an
	// answer), garbage, empty, 429, 500, 401.
	Do string `json:"do"`
	// N is a number for Do, see there.
	N int `json:"n"`
	// Arg is a word for Do, see there.
	Arg string `json:"arg"`
}

var deeds = []string{"", "answer", "think", "handoff", "tool", "flood", "hang", "cut", "garbage", "empty", "429", "500", "401"}

// What the newest message of the contact says in brackets comes before the script: "[think 700]", "[hang]", "[tool add_note]".
// "[#ID]" is the message's name; the answer repeats the last one.
var (
	directive = regexp.MustCompile(`\[(think|handoff|tool|flood|hang|cut|garbage|empty|429|500|401)(?: (\w+))?\]`)
	nameOf    = regexp.MustCompile(`\[#([^\]\s]+)\]`)
)

// AnswerTo is the text with which the model answers the message that carries [#id].
func AnswerTo(id string) string { return "Answer to [#" + id + "]" }

// Named is the id in a text's last [#id], or nothing.
func Named(text string) string {
	all := nameOf.FindAllStringSubmatch(text, -1)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1][1]
}

type model struct {
	j      *Journal
	faults *faults
	ctx    context.Context
	mu     sync.Mutex
	script Script
}

func (m *model) set(s Script) error {
	if !slices.Contains(deeds, s.Do) {
		return fmt.Errorf("the model can do one of %q", deeds)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.script = s
	return nil
}

type chatRequest struct {
	Model    string `json:"model"`
	Stream   bool   `json:"stream"`
	Messages []struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	} `json:"messages"`
	Tools []struct {
		Function struct{ Name string } `json:"function"`
	} `json:"tools"`
}

// text is the content, in either of its two forms.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var parts []struct{ Text string }
	if json.Unmarshal(raw, &parts) != nil {
		return ""
	}
	for _, p := range parts {
		s += p.Text
	}
	return s
}

// read finds out what to do about a conversation, the id to answer, and whether a tool was called since the newest word of
// the contact.
func (m *model) read(r chatRequest) (do Script, id string, called bool) {
	m.mu.Lock()
	do = m.script
	m.mu.Unlock()
	for _, msg := range slices.Backward(r.Messages) {
		if msg.Role == "tool" {
			called = true
		}
		if msg.Role != "user" {
			continue
		}
		t := text(msg.Content)
		id = Named(t)
		if d := directive.FindStringSubmatch(t); d != nil {
			n, _ := strconv.Atoi(d[2]) // a word otherwise
			do = Script{Do: d[1], N: n, Arg: d[2]}
		}
		break
	}
	return do, id, called
}

func (m *model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != "/v1/chat/completions" {
		http.NotFound(w, r)
		return
	}
	f := m.faults.roll(Model)
	if !f.begin(m.ctx, w, r) {
		return
	}
	var req chatRequest
	if err := json.NewDecoder(io.LimitReader(r.Body, mostBody)).Decode(&req); err != nil || len(req.Messages) == 0 {
		fail(w, http.StatusBadRequest, "invalid_request_error", "the body is no chat completion request")
		return
	}
	do, id, called := m.read(req)
	m.j.add(Entry{Provider: Model, Kind: Call, Key: id, Text: strings.TrimSpace(do.Do + " " + do.Arg)})
	out := completion{Text: AnswerTo(id)}
	switch do.Do {
	case "think":
		sleep(m.ctx, r.Context(), time.Duration(do.N)*time.Millisecond)
	case "handoff":
		out = completion{Tool: "request_handoff", Args: `{"reason":"customer_asked","summary":"The customer asked for a person."}`}
	case "tool":
		if !called {
			out = completion{Tool: do.Arg, Args: `{}`}
		}
	case "flood":
		out.Text += strings.Repeat("la ", max(do.N, 1024)<<10/3)
	case "hang":
		sleep(m.ctx, r.Context(), time.Hour)
		return
	case "garbage":
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"choices":[{"message":{"content":"Internal error at 10.0.0.7: stack trace","tool_calls":[{"fun`)
		return
	case "empty":
		out.Text = ""
	case "cut":
		f.Point, f.Provider = Middle, Model
	case "429":
		w.Header().Set("Retry-After", "1")
		fail(w, http.StatusTooManyRequests, "rate_limit_exceeded", "Rate limit reached for key sk-proof")
		return
	case "500":
		fail(w, http.StatusInternalServerError, "server_error", "panic: runtime error in worker-7")
		return
	case "401":
		fail(w, http.StatusUnauthorized, "invalid_api_key", "Incorrect API key provided: sk-proof")
		return
	}
	if !f.taken(m.ctx, w, r, id) {
		return
	}
	m.j.add(Entry{Provider: Model, Kind: Answered, Key: id})
	if req.Stream {
		out.stream(w, req.Model, f)
		return
	}
	out.whole(w, req.Model, f)
}

func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"type": code, "code": code, "message": message}}) // the client may be gone
}

// completion is what the model says: a text, or a call of one tool.
type completion struct{ Text, Tool, Args string }

func (c completion) reason() string {
	if c.Tool != "" {
		return "tool_calls"
	}
	return "stop"
}

func (c completion) message(index bool) map[string]any {
	msg := map[string]any{"role": "assistant", "content": c.Text}
	if c.Tool != "" {
		call := map[string]any{"id": "call_1", "type": "function", "function": map[string]string{"name": c.Tool, "arguments": c.Args}}
		if index {
			call["index"] = 0
		}
		msg["content"], msg["tool_calls"] = nil, []any{call}
	}
	return msg
}

func (c completion) whole(w http.ResponseWriter, model string, f *fate) {
	body, err := json.Marshal(map[string]any{
		"id": "chatcmpl-oracle", "object": "chat.completion", "created": time.Now().Unix(), "model": model,
		"choices": []any{map[string]any{"index": 0, "message": c.message(false), "finish_reason": c.reason()}},
		"usage":   map[string]int{"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
	})
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if f.at(Middle, "") {
		_, _ = w.Write(body[:len(body)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(body) // the client may be gone
}

// stream writes the answer as server-sent events, word by word.
func (c completion) stream(w http.ResponseWriter, model string, f *fate) {
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(delta map[string]any, reason any) {
		b, err := json.Marshal(map[string]any{
			"id": "chatcmpl-oracle", "object": "chat.completion.chunk", "created": time.Now().Unix(), "model": model,
			"choices": []any{map[string]any{"index": 0, "delta": delta, "finish_reason": reason}},
		})
		if err == nil {
			_, _ = fmt.Fprintf(w, "data: %s\n\n", b)
			_ = http.NewResponseController(w).Flush()
		}
	}
	words := strings.SplitAfter(c.Text, " ")
	cut := f.at(Middle, "")
	switch {
	case c.Tool != "":
		send(c.message(true), nil)
	default:
		for i, word := range words {
			if cut && i >= len(words)/2 {
				panic(http.ErrAbortHandler)
			}
			send(map[string]any{"role": "assistant", "content": word}, nil)
		}
	}
	send(map[string]any{}, c.reason())
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
}
