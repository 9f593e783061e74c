// Package agenttest has models for tests: one that follows a script and can be stopped in the
// middle of a call, and one that does everything a hostile model might.
package agenttest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/tandemhq/tandem/agents/llm"
)

// Step is one call of a scripted model.
type Step func(ctx context.Context, req llm.Request) (llm.Response, error)

// Scripted is an llm.Model that takes its steps from a queue and keeps every request it saw.
// A call beyond the script fails with an *llm.Error that says so, unless Otherwise is set.
// It is safe for use by several goroutines; concurrent calls take steps in the order they arrive.
type Scripted struct {
	mu        sync.Mutex
	steps     []Step
	otherwise Step
	requests  []llm.Request
}

// NewScripted returns a model that plays steps in order.
func NewScripted(steps ...Step) *Scripted { return &Scripted{steps: steps} }

// Then appends steps to the script and returns s.
func (s *Scripted) Then(steps ...Step) *Scripted {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps = append(s.steps, steps...)
	return s
}

// Otherwise sets the step that is played whenever the script has run out, and returns s.
func (s *Scripted) Otherwise(step Step) *Scripted {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.otherwise = step
	return s
}

// Block appends a step that closes entered when it is called, then waits until release is closed
// and plays step. It does not look at its context, as a model in the middle of an answer does not:
// this is the worst case of a takeover. A test closes release, also when it fails.
func (s *Scripted) Block(step Step) (entered <-chan struct{}, release chan<- struct{}) {
	in, out := make(chan struct{}), make(chan struct{})
	s.Then(func(ctx context.Context, req llm.Request) (llm.Response, error) {
		close(in)
		<-out
		return step(ctx, req)
	})
	return in, out
}

// BlockUntilCanceled is Block with a step that also ends when its context does.
func (s *Scripted) BlockUntilCanceled(step Step) (entered <-chan struct{}, release chan<- struct{}) {
	in, out := make(chan struct{}), make(chan struct{})
	s.Then(func(ctx context.Context, req llm.Request) (llm.Response, error) {
		close(in)
		select {
		case <-out:
			return step(ctx, req)
		case <-ctx.Done():
			return llm.Response{}, &llm.Error{Code: llm.CodeCanceled, Err: ctx.Err()}
		}
	})
	return in, out
}

// Requests returns a copy of the list of requests seen so far.
func (s *Scripted) Requests() []llm.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]llm.Request(nil), s.requests...)
}

// Left returns how many steps have not been played.
func (s *Scripted) Left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.steps)
}

// Name returns "scripted".
func (s *Scripted) Name() string { return "scripted" }

// Next plays the next step. The lock is not held while it runs.
func (s *Scripted) Next(ctx context.Context, req llm.Request) (llm.Response, error) {
	s.mu.Lock()
	s.requests = append(s.requests, req)
	step := s.otherwise
	if len(s.steps) > 0 {
		step, s.steps = s.steps[0], s.steps[1:]
	}
	n := len(s.requests)
	s.mu.Unlock()
	if step == nil {
		return llm.Response{}, &llm.Error{Code: llm.CodeEmpty, Err: fmt.Errorf("the script has no step for call %d", n)}
	}
	return step(ctx, req)
}

// Says returns a step that answers with plain text and no call.
func Says(text string) Step {
	return func(context.Context, llm.Request) (llm.Response, error) {
		return llm.Response{Text: text, Stop: llm.StopDone, Model: "scripted", Usage: llm.Usage{InputTokens: 10, OutputTokens: 5}}, nil
	}
}

// Calls returns a step that asks for the given tool calls.
func Calls(calls ...llm.Call) Step {
	return func(_ context.Context, req llm.Request) (llm.Response, error) {
		return llm.Response{Calls: calls, Stop: llm.StopTools, Model: "scripted", Usage: llm.Usage{InputTokens: 10, OutputTokens: 5}}, nil
	}
}

// Fails returns a step that fails with err.
func Fails(err error) Step {
	return func(context.Context, llm.Request) (llm.Response, error) { return llm.Response{}, err }
}

// Panics returns a step that panics, as broken client code does.
func Panics() Step {
	return func(context.Context, llm.Request) (llm.Response, error) {
		panic(errors.New("a scripted panic"))
	}
}

// Replies returns a step that calls reply with the text.
func Replies(text string) Step {
	return Calls(Call("reply", map[string]any{"text": text, "confidence": 0.9, "sources": []string{}}))
}

// HandsOff returns a step that calls request_handoff for the reason.
func HandsOff(reason string) Step {
	return Calls(Call("request_handoff", map[string]any{
		"reason": reason, "summary": "A scripted handoff.", "asked": []string{}, "tried": []string{}, "promised": []string{},
		"next_step": "Answer the customer.", "customer_line": "A colleague takes over.",
	}))
}

var callID struct {
	sync.Mutex
	n int
}

// Call makes a tool call with a fresh id. It panics when args has no JSON form.
func Call(name string, args any) llm.Call {
	raw, err := json.Marshal(args)
	if err != nil {
		panic(err)
	}
	callID.Lock()
	defer callID.Unlock()
	callID.n++
	return llm.Call{ID: fmt.Sprintf("call_%d", callID.n), Name: name, Args: raw}
}
