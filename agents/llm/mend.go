package llm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// maxCalls bounds the tool calls of one answer.
const maxCalls = 32

// answer is what an OpenAI-compatible server said, after every liberty that servers take with the
// format has been resolved or refused.
type answer struct {
	model string
	text  string
	calls []Call
	stop  string
	usage Usage
}

// wireAnswer reads a chat completion leniently: fields whose type varies stay raw.
type wireAnswer struct {
	Model   string          `json:"model"`
	Error   json.RawMessage `json:"error"`
	Choices []wireChoice    `json:"choices"`
	Usage   struct {
		In  float64 `json:"prompt_tokens"`
		Out float64 `json:"completion_tokens"`
	} `json:"usage"`
}

type wireChoice struct {
	FinishReason json.RawMessage `json:"finish_reason"`
	Error        json.RawMessage `json:"error"`
	Message      *struct {
		Content      json.RawMessage `json:"content"`
		Refusal      string          `json:"refusal"`
		ToolCalls    []wireCall      `json:"tool_calls"`
		FunctionCall *wireFunction   `json:"function_call"`
	} `json:"message"`
}

type wireCall struct {
	ID       string          `json:"id"`
	Type     string          `json:"type"`
	Function *wireFunction   `json:"function"`
	Extra    json.RawMessage `json:"extra_content"`
}

type wireFunction struct {
	Name      string          `json:"name"`
	Arguments json.RawMessage `json:"arguments"`
}

func malformed(format string, args ...any) *Error {
	return &Error{Code: CodeMalformed, Retryable: true, Err: fmt.Errorf(format, args...)}
}

// mendAnswer checks a 2xx chat body and rebuilds it in the strict form that the client library
// reads without harm. Whatever is cut, refused or not understood is an error, never a shorter answer.
func mendAnswer(body []byte) (answer, []byte, *Error) {
	var w wireAnswer
	if err := json.Unmarshal(body, &w); err != nil {
		return answer{}, nil, malformed("answer is not the JSON of a chat completion: %w", err)
	}
	if e := bodyError(w.Error); e != nil {
		return answer{}, nil, e
	}
	if len(w.Choices) == 0 {
		return answer{}, nil, &Error{Code: CodeEmpty, Retryable: true, Err: errors.New("no choices")}
	}
	a := answer{model: w.Model, usage: Usage{InputTokens: int(max(0, w.Usage.In)), OutputTokens: int(max(0, w.Usage.Out))}}
	// One answer was asked for. Some gateways spread its text and calls over several choices.
	for i := range w.Choices {
		if e := a.add(&w.Choices[i]); e != nil {
			return answer{}, nil, e
		}
	}
	if len(a.calls) > maxCalls {
		return answer{}, nil, malformed("%d tool calls in one answer", len(a.calls))
	}
	if a.text == "" && len(a.calls) == 0 {
		return answer{}, nil, &Error{Code: CodeEmpty, Retryable: true, Err: errors.New("neither text nor a tool call")}
	}
	a.nameCalls()
	return a, a.strict(), nil
}

func (a *answer) add(c *wireChoice) *Error {
	if e := bodyError(c.Error); e != nil {
		return e
	}
	if c.Message == nil {
		return malformed("a choice without a message")
	}
	var reason string
	if len(c.FinishReason) > 0 && json.Unmarshal(c.FinishReason, &reason) != nil {
		return malformed("finish_reason is %s", clip(string(c.FinishReason), 40))
	}
	calls := c.Message.ToolCalls
	reason = strings.ToLower(reason)
	switch reason {
	case "stop", "end_turn", "eos", "stop_sequence", "completed":
	case "tool_calls", "tool_use", "function_call":
		if f := c.Message.FunctionCall; f != nil && len(calls) == 0 {
			calls = []wireCall{{Function: f}}
		}
		if len(calls) == 0 {
			return malformed("finish_reason %q without a tool call", reason)
		}
	case "length", "max_tokens":
		return &Error{Code: CodeLength, Err: errors.New("the answer hit the token limit")}
	case "content_filter", "safety", "recitation", "refusal":
		return &Error{Code: CodeFiltered, Err: errors.New("the provider filtered the answer")}
	case "":
		return malformed("no finish_reason: the answer may be cut")
	default:
		return malformed("unknown finish_reason %q", clip(reason, 40))
	}
	text, err := contentText(c.Message.Content)
	if err != nil {
		return malformed("content: %w", err)
	}
	if text == "" && len(calls) == 0 && c.Message.Refusal != "" {
		return &Error{Code: CodeFiltered, Err: fmt.Errorf("refusal: %s", clip(c.Message.Refusal, 200))}
	}
	if a.text == "" {
		a.text = text
	}
	for _, w := range calls {
		call, e := readCall(w)
		if e != nil {
			return e
		}
		a.calls = append(a.calls, call)
	}
	return nil
}

// contentText reads content as a string, null, or an array of text parts, without the model's
// thinking aloud.
func contentText(raw json.RawMessage) (string, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	var s string
	if raw[0] == '[' {
		var parts []struct {
			Type string `json:"type"`
			Text string `json:"text"`
		}
		if err := json.Unmarshal(raw, &parts); err != nil {
			return "", err
		}
		var b strings.Builder
		for _, p := range parts {
			switch p.Type {
			case "text", "output_text":
				b.WriteString(p.Text)
			case "thinking", "reasoning", "redacted_thinking":
			default:
				return "", fmt.Errorf("a part of type %q", clip(p.Type, 40))
			}
		}
		s = b.String()
	} else if err := json.Unmarshal(raw, &s); err != nil {
		return "", err
	}
	s = strings.TrimSpace(strings.ReplaceAll(s, "\x00", ""))
	for _, tag := range []string{"think", "thinking"} {
		if rest, ok := strings.CutPrefix(s, "<"+tag+">"); ok {
			_, after, closed := strings.Cut(rest, "</"+tag+">")
			if !closed {
				return "", errors.New("thinking without an end")
			}
			s = strings.TrimSpace(after)
		}
	}
	return s, nil
}

func readCall(w wireCall) (Call, *Error) {
	if w.Type != "" && w.Type != "function" {
		return Call{}, malformed("a tool call of type %q", clip(w.Type, 40))
	}
	if w.Function == nil || !toolName(w.Function.Name) {
		return Call{}, malformed("a tool call without a valid name")
	}
	args, err := readArgs(w.Function.Arguments)
	if err != nil {
		return Call{}, malformed("arguments of %s: %w", w.Function.Name, err)
	}
	c := Call{ID: strings.ReplaceAll(w.ID, "\x00", ""), Name: w.Function.Name, Args: args}
	if len(c.ID) > 256 {
		c.ID = ""
	}
	if len(w.Extra) > 0 && len(w.Extra) <= 64<<10 && string(w.Extra) != "null" {
		c.Opaque = w.Extra
	}
	return c, nil
}

// readArgs accepts an object, a string that holds one, or nothing, and returns an object.
func readArgs(raw json.RawMessage) (json.RawMessage, error) {
	raw = bytes.TrimSpace(raw)
	for range 2 { // a string within a string comes from gateways that encode twice
		if len(raw) > 0 && raw[0] == '"' {
			var s string
			if err := json.Unmarshal(raw, &s); err != nil {
				return nil, err
			}
			raw = bytes.TrimSpace([]byte(s))
		}
	}
	if len(raw) == 0 || string(raw) == "null" {
		return json.RawMessage("{}"), nil
	}
	var v map[string]any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	if d.More() {
		return nil, errors.New("more than one JSON value")
	}
	if bytes.Contains(raw, []byte(`\u0000`)) {
		return json.Marshal(withoutNUL(v)) // PostgreSQL stores no NUL
	}
	var out bytes.Buffer
	if err := json.Compact(&out, raw); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func withoutNUL(v any) any {
	switch x := v.(type) {
	case string:
		return strings.ReplaceAll(x, "\x00", "")
	case []any:
		for i := range x {
			x[i] = withoutNUL(x[i])
		}
	case map[string]any:
		out := make(map[string]any, len(x))
		for k, e := range x {
			out[strings.ReplaceAll(k, "\x00", "")] = withoutNUL(e)
		}
		return out
	}
	return v
}

func toolName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
	})
}

// nameCalls gives every call an id of its own: servers leave ids out or repeat them.
func (a *answer) nameCalls() {
	seen := map[string]bool{}
	for i := range a.calls {
		id := a.calls[i].ID
		for n := i + 1; id == "" || seen[id]; n++ {
			id = fmt.Sprintf("call_%d", n)
		}
		seen[id] = true
		a.calls[i].ID = id
	}
	a.stop = StopDone
	if len(a.calls) > 0 {
		a.stop = StopTools
	}
}

// strict writes the answer in the one form that the client library is known to read rightly.
func (a *answer) strict() []byte {
	type fn struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	}
	type call struct {
		ID       string `json:"id"`
		Type     string `json:"type"`
		Function fn     `json:"function"`
	}
	calls := make([]call, len(a.calls))
	for i, c := range a.calls {
		calls[i] = call{c.ID, "function", fn{c.Name, string(c.Args)}}
	}
	b, err := json.Marshal(map[string]any{
		"model": a.model,
		"choices": []any{map[string]any{
			"index": 0, "finish_reason": a.stop,
			"message": map[string]any{"role": "assistant", "content": a.text, "tool_calls": calls},
		}},
		"usage": map[string]int{"prompt_tokens": a.usage.InputTokens, "completion_tokens": a.usage.OutputTokens},
	})
	if err != nil {
		panic("llm: a checked answer does not encode: " + err.Error()) // strings and ints always do
	}
	return b
}

// bodyError reads an error object in a 2xx body.
func bodyError(raw json.RawMessage) *Error {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	msg, code := errorText(append(append([]byte(`{"error":`), raw...), '}'))
	if msg == "" {
		msg = "the provider sent an error without a text"
	}
	e := &Error{Code: CodeProvider, Retryable: true, Err: errors.New(clip(msg, 300))}
	if code == "429" || code == "rate_limit_exceeded" {
		e.Code = CodeThrottled
	}
	return e
}

// errorText finds the message and code in the shapes that servers use for errors.
func errorText(body []byte) (msg, code string) {
	var w struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"`
	}
	if json.Unmarshal(body, &w) != nil {
		var list []json.RawMessage // Google answers errors in an array
		if json.Unmarshal(body, &list) == nil && len(list) > 0 {
			return errorText(list[0])
		}
		if text := strings.TrimSpace(string(body)); text != "" && text[0] != '<' {
			return strings.ToValidUTF8(text, ""), ""
		}
		return "", ""
	}
	var obj struct {
		Message string          `json:"message"`
		Type    string          `json:"type"`
		Code    json.RawMessage `json:"code"`
	}
	var text string
	if json.Unmarshal(w.Error, &text) == nil {
		msg = text
	} else if json.Unmarshal(w.Error, &obj) == nil {
		msg, code = obj.Message, strings.Trim(string(obj.Code), `"`)
		if code == "" || code == "null" {
			code = obj.Type
		}
	}
	if msg == "" {
		msg = w.Message
	}
	if msg == "" && json.Unmarshal(w.Detail, &text) == nil {
		msg = text
	}
	return msg, code
}
