package llm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/tmc/langchaingo/llms"
	"github.com/tmc/langchaingo/llms/openai"

	"github.com/tandemhq/tandem/internal/egress"
)

// remote is a language model at a provider.
type remote struct {
	s      Settings
	client *openai.LLM
}

// Open returns the model that s describes, without calling it. Keep it as long as the settings
// stand: it holds connections. An *Error with CodeSettings wraps what Settings.Check says.
func Open(s Settings) (Model, error) {
	m, err := open(s, newTransport(s.withDefaults()), "", 0)
	if err != nil {
		return nil, err
	}
	return m, nil
}

func newTransport(s Settings) *transport {
	t := &transport{
		next: egress.New(egress.Options{
			Allow: s.AllowPrivate, Timeout: s.Timeout, TLSOnly: true,
			MaxBody: s.MaxBody + 1, // ours is the limit that speaks
		}),
		key: s.APIKey, maxBody: s.MaxBody, attempts: s.MaxAttempts, temperature: s.Temperature,
		maxTokens: "max_tokens", sleep: pause,
	}
	if s.Provider == OpenAI && s.BaseURL == baseURLs[OpenAI] {
		t.maxTokens = "max_completion_tokens" // its newer models refuse the old name, other servers the new one
	}
	return t
}

func open(s Settings, t *transport, embedModel string, shorten int) (*remote, error) {
	if err := s.Check(); err != nil {
		return nil, &Error{Code: CodeSettings, Err: err}
	}
	s = s.withDefaults()
	// Every option that the library would otherwise take from the environment is set: an operator's
	// OPENAI_API_KEY, OPENAI_ORGANIZATION or OPENAI_BASE_URL must never meet a tenant's settings.
	client, err := openai.New(
		openai.WithToken(s.APIKey),
		openai.WithBaseURL(s.BaseURL),
		openai.WithOrganization(""),
		openai.WithAPIType(openai.APITypeOpenAI),
		openai.WithModel(s.Model),
		openai.WithEmbeddingModel(embedModel),
		openai.WithEmbeddingDimensions(shorten),
		openai.WithHTTPClient(&http.Client{
			Transport:     t,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}),
	)
	if err != nil {
		return nil, &Error{Code: CodeSettings, Err: err}
	}
	return &remote{s: s, client: client}, nil
}

// Name returns "provider/model".
func (m *remote) Name() string { return m.s.Provider + "/" + m.s.Model }

// Next sends req without streaming: a stream of this format can end early without saying so.
func (m *remote) Next(ctx context.Context, req Request) (resp Response, err error) {
	x := &exchange{opaque: map[string]json.RawMessage{}}
	msgs, err := m.messages(req, x)
	if err != nil {
		return Response{}, err
	}
	opts := []llms.CallOption{llms.WithModel(m.s.Model)}
	if len(req.Tools) > 0 {
		tools, err := toolSpecs(req.Tools)
		if err != nil {
			return Response{}, err
		}
		opts = append(opts, llms.WithTools(tools))
	}
	if req.MaxTokens > 0 {
		opts = append(opts, llms.WithMaxTokens(req.MaxTokens))
	}
	var out *llms.ContentResponse
	err = m.call(ctx, x, func(ctx context.Context) (err error) {
		out, err = m.client.GenerateContent(ctx, msgs, opts...)
		return err
	})
	if err != nil {
		return Response{}, err
	}
	return m.response(x, out)
}

// call runs f with the deadline and exchange of one call, and turns whatever happens into an *Error.
func (m *remote) call(ctx context.Context, x *exchange, f func(context.Context) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, m.s.Timeout)
	defer cancel()
	defer func() {
		if r := recover(); r != nil {
			err = &Error{Status: x.status, Code: CodeMalformed, Err: fmt.Errorf("the client library panicked: %v", r)}
		}
	}()
	if ctx.Err() != nil {
		return ctxError(ctx)
	}
	err = f(withExchange(ctx, x))
	switch {
	case x.err != nil:
		return x.err
	case err != nil && ctx.Err() != nil:
		return ctxError(ctx)
	case err != nil:
		return &Error{Status: x.status, Code: CodeMalformed, Err: err}
	}
	return nil
}

// response compares what the library understood with what was on the wire, and refuses a difference.
func (m *remote) response(x *exchange, out *llms.ContentResponse) (Response, error) {
	a := x.answer
	if len(out.Choices) != 1 || out.Choices[0].Content != a.text || len(out.Choices[0].ToolCalls) != len(a.calls) {
		return Response{}, &Error{Status: x.status, Code: CodeMalformed, Err: errors.New("the client library lost a part of the answer")}
	}
	for i, c := range out.Choices[0].ToolCalls {
		if c.ID != a.calls[i].ID || c.FunctionCall == nil || c.FunctionCall.Name != a.calls[i].Name || c.FunctionCall.Arguments != string(a.calls[i].Args) {
			return Response{}, &Error{Status: x.status, Code: CodeMalformed, Err: errors.New("the client library changed a tool call")}
		}
	}
	u := a.usage
	if u.InputTokens == 0 && u.OutputTokens == 0 { // a server that does not count: budgets hold all the same
		u.InputTokens, u.OutputTokens = x.sent/bytesPerToken, max(1, x.got/bytesPerToken)
	}
	// Tokens times price per million tokens; split so that no product overflows.
	u.CostMicros = cost(u.InputTokens, m.s.InputPrice) + cost(u.OutputTokens, m.s.OutputPrice)
	model := a.model
	if model == "" {
		model = m.s.Model
	}
	return Response{Text: a.text, Calls: a.calls, Stop: a.stop, Usage: u, Model: clip(model, 200)}, nil
}

// bytesPerToken is what texts in European languages come to, about.
const bytesPerToken = 4

func cost(tokens int, price int64) int64 {
	const million = 1_000_000
	n := int64(tokens)
	return n/million*price + n%million*price/million
}

// messages turns a Request into the library's form. All text from outside goes in quoted.
func (m *remote) messages(req Request, x *exchange) ([]llms.MessageContent, error) {
	nonce := req.Nonce
	if nonce == "" {
		nonce = NewNonce()
	}
	system := strings.TrimSpace(req.System)
	var out []llms.MessageContent
	waiting := map[string]bool{} // calls whose result has not come yet
	for i, msg := range req.Messages {
		if len(waiting) > 0 && msg.Role != Tool {
			return nil, inputError("message %d comes before the results of %d calls", i, len(waiting))
		}
		switch msg.Role {
		case System:
			return nil, inputError("message %d has the system role; Request.System alone is our instructions", i)
		case User:
			text := Quote(nonce, msg.From, msg.Text)
			if msg.From == FromOrg {
				if i != 0 {
					return nil, inputError("message %d is guidance; only the first may be", i)
				}
				text = Guide(nonce, msg.Text)
			}
			out = append(out, llms.TextParts(llms.ChatMessageTypeHuman, text))
		case Assistant:
			var parts []llms.ContentPart
			if msg.Text != "" {
				parts = append(parts, llms.TextContent{Text: msg.Text})
			}
			for _, c := range msg.Calls {
				args := string(c.Args)
				if args == "" {
					args = "{}"
				}
				parts = append(parts, llms.ToolCall{ID: c.ID, Type: "function", FunctionCall: &llms.FunctionCall{Name: c.Name, Arguments: args}})
				waiting[c.ID] = true
				x.opaque[c.ID] = c.Opaque
			}
			if len(parts) == 0 {
				continue
			}
			out = append(out, llms.MessageContent{Role: llms.ChatMessageTypeAI, Parts: parts})
		case Tool:
			if !waiting[msg.CallID] {
				return nil, inputError("message %d answers the unknown call %q", i, msg.CallID)
			}
			delete(waiting, msg.CallID)
			out = append(out, llms.MessageContent{Role: llms.ChatMessageTypeTool, Parts: []llms.ContentPart{
				llms.ToolCallResponse{ToolCallID: msg.CallID, Name: msg.Name, Content: Quote(nonce, "tool "+msg.Name, msg.Text)},
			}})
		default:
			return nil, inputError("message %d has the unknown role %q", i, msg.Role)
		}
	}
	if len(waiting) > 0 {
		return nil, inputError("%d calls have no result", len(waiting))
	}
	if len(out) == 0 {
		return nil, inputError("no message to answer")
	}
	first := llms.TextParts(llms.ChatMessageTypeSystem, strings.TrimSpace(system+"\n\n"+quoteRule(nonce)))
	return append([]llms.MessageContent{first}, out...), nil
}

func inputError(format string, args ...any) *Error {
	return &Error{Code: CodeInput, Err: fmt.Errorf(format, args...)}
}

func toolSpecs(specs []ToolSpec) ([]llms.Tool, error) {
	out := make([]llms.Tool, len(specs))
	for i, s := range specs {
		var schema map[string]any
		if len(s.Schema) > 0 {
			if err := json.Unmarshal(s.Schema, &schema); err != nil {
				return nil, inputError("schema of tool %s: %w", s.Name, err)
			}
		}
		if schema == nil {
			schema = map[string]any{}
		}
		if schema["type"] == nil {
			schema["type"] = "object"
		}
		if schema["properties"] == nil {
			schema["properties"] = map[string]any{} // strict servers refuse parameters without it
		}
		out[i] = llms.Tool{Type: "function", Function: &llms.FunctionDefinition{Name: s.Name, Description: s.About, Parameters: schema}}
	}
	return out, nil
}
