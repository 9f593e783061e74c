package agenttest

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"github.com/tandemhq/tandem/agents/llm"
)

var (
	_ llm.Model = (*Scripted)(nil)
	_ llm.Model = (*Malicious)(nil)
)

func TestScriptedPlaysInOrderAndThenFails(t *testing.T) {
	t.Parallel()
	s := NewScripted(Says("a"), Fails(errors.New("b"))).Then(Replies("c"))
	if r, err := s.Next(t.Context(), llm.Request{System: "1"}); err != nil || r.Text != "a" {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := s.Next(t.Context(), llm.Request{}); err == nil {
		t.Error("no failure")
	}
	if r, err := s.Next(t.Context(), llm.Request{}); err != nil || len(r.Calls) != 1 || r.Calls[0].Name != "reply" || s.Left() != 0 {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := s.Next(t.Context(), llm.Request{}); llm.AsError(err) == nil {
		t.Errorf("beyond the script: %v", err)
	}
	s.Otherwise(HandsOff("policy"))
	if r, err := s.Next(t.Context(), llm.Request{}); err != nil || r.Calls[0].Name != "request_handoff" {
		t.Errorf("%+v %v", r, err)
	}
	if got := s.Requests(); len(got) != 5 || got[0].System != "1" {
		t.Errorf("requests %+v", got)
	}
}

func TestBlockStopsInTheMiddleOfACall(t *testing.T) {
	t.Parallel()
	s := NewScripted()
	entered, release := s.Block(Says("late"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan llm.Response)
	go func() { r, _ := s.Next(ctx, llm.Request{}); done <- r }()
	<-entered
	cancel()
	select {
	case <-done:
		t.Fatal("a canceled context ended the call")
	default:
	}
	close(release)
	if r := <-done; r.Text != "late" {
		t.Errorf("%+v", r)
	}

	entered, _ = s.BlockUntilCanceled(Says("never"))
	ctx, cancel = context.WithCancel(t.Context())
	fail := make(chan error)
	go func() { _, err := s.Next(ctx, llm.Request{}); fail <- err }()
	<-entered
	cancel()
	if err := <-fail; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestMaliciousIsReproducibleAndEnds(t *testing.T) {
	t.Parallel()
	req := llm.Request{Tools: []llm.ToolSpec{{Name: "reply"}, {Name: "move_stage"}, {Name: "set_lead_fields"}, {Name: "request_handoff"}, {Name: "search_knowledge"}}}
	v := Victims{Leads: []string{"lead-1", "lead-2"}, Addresses: []string{"canary@example.com"}}
	calls := 0
	for seed := range 2 * len(Attacks()) {
		a, b := NewMalicious(seed, v), NewMalicious(seed, v)
		for range 3 {
			ra, err := a.Next(t.Context(), req)
			rb, _ := b.Next(t.Context(), req)
			if err != nil || !reflect.DeepEqual(ra, rb) {
				t.Fatalf("seed %d (%s) differs between two runs", seed, a.Case)
			}
			calls += len(ra.Calls)
		}
		if r, _ := a.Next(t.Context(), req); len(r.Calls) != 0 {
			t.Errorf("%s does not end", a.Case)
		}
	}
	t.Logf("%d attacks, %d hostile calls in %d cases", len(Attacks()), calls, 2*len(Attacks()))
}
