// Package llm is the port through which an AI member thinks: one small Model interface with
// messages and tool calls, and an Embedder. The built-in rules model (agents/rules), the scripted
// model for tests (agents/agenttest) and every language model meet the same interface, so a turn
// never knows which one it talks to.
//
// Language models are reached through langchaingo's OpenAI-compatible client, which only this
// package imports, behind a transport that keeps its defects away from us (see wire.go).
package llm

import (
	"context"
	"encoding/json"
)

// Role says whose turn a Message is in the conversation with the model.
type Role string

const (
	System    Role = "system"    // our instructions; never a byte of a tenant or a customer
	User      Role = "user"      // what somebody outside the model said; see Message.From
	Assistant Role = "assistant" // what the model said or called before
	Tool      Role = "tool"      // the result of one call, named by CallID
)

// Whose words a user message carries (Message.From).
const (
	FromContact = "contact" // the customer
	FromHuman   = "human"   // a person of the team
	FromAI      = "ai"      // another AI member
	FromNote    = "note"    // an internal note, never shown to the customer
	FromRecords = "records" // what our database says of the customer, never shown as it stands

	// FromOrg is how the organization wants its AI member to work: the one text beside the system
	// prompt that a model is to follow. Only the first message may carry it.
	FromOrg = "organization"
)

// Message is one entry of the conversation with the model.
type Message struct {
	Role   Role
	Text   string
	Calls  []Call // for Assistant: the tools the model asked for
	CallID string // for Tool: the Call.ID that this answers
	Name   string // for Tool: the tool's name
	From   string // for User: whose words they are; a model may ignore it
}

// Call is one tool call that a model asks for. Args is always a valid JSON object.
type Call struct {
	ID   string          `json:"id"`
	Name string          `json:"name"`
	Args json.RawMessage `json:"args"`

	// Opaque is what the provider wants back with this call in later requests, such as a thought
	// signature. Keep it with the call; it means nothing to us.
	Opaque json.RawMessage `json:"opaque,omitempty"`
}

// ToolSpec describes a tool to the model.
type ToolSpec struct {
	Name   string
	About  string          // one or two sentences the model reads
	Schema json.RawMessage // a JSON Schema of type "object"; empty means no parameters
}

// Request is everything a model sees for its next step.
type Request struct {
	System    string // our instructions, kept apart from anything a tenant or customer wrote
	Messages  []Message
	Tools     []ToolSpec
	Nonce     string // marks the borders of quoted data, one per turn; empty means a fresh one per call
	MaxTokens int    // upper bound on the answer; 0 means the model's own default
	Facts     Facts  // structured view for the built-in rules model
}

// Usage is what one model call consumed. CostMicros is in millionths of the currency that the
// settings' prices are in, 0 when no price is set.
type Usage struct {
	InputTokens  int   `json:"input_tokens"`
	OutputTokens int   `json:"output_tokens"`
	CostMicros   int64 `json:"cost_micros"`
}

// Why a model stopped (Response.Stop).
const (
	StopDone  = "stop"       // it said what it had to say
	StopTools = "tool_calls" // it waits for the results of its calls
)

// Response is one step of a model: text, calls, or both. A cut or refused answer is an *Error
// and never a Response, so Text is always whole.
type Response struct {
	Text       string
	Calls      []Call
	Stop       string // StopDone or StopTools
	Usage      Usage
	Model      string  // the model that answered, as the provider names it
	Confidence float64 // 0 to 1 as the model itself judges; 0 when it does not say
}

// Model takes one step of a conversation. Implementations are safe for use by several goroutines.
// Next returns an *Error for every failure, and never panics on what a provider sends.
type Model interface {
	Name() string
	Next(ctx context.Context, req Request) (Response, error)
}

// Embedder turns texts into vectors of Dim numbers, one per text, in the order of the texts.
type Embedder interface {
	Name() string
	Dim() int
	Embed(ctx context.Context, texts []string) ([][]float32, error)
}
