// Package turns measures how long it takes from a lead that comes in to the first byte of what the AI member's language
// model is asked.
package turns

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/tandemhq/tandem/internal/bench"
)

// thinks is how long the model takes to answer.
const thinks = 50 * time.Millisecond

// model is a language model that speaks OpenAI's format and always says the same, and the receiver of the answers.
type model struct {
	addr   string
	server *http.Server

	mu      sync.Mutex
	asked   map[string]time.Time // external id of the newest message it was shown -> when the first request with it came
	calls   int
	replies int
}

func startModel() (*model, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen as the model: %w", err)
	}
	m := &model{addr: ln.Addr().String(), asked: map[string]time.Time{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", m.complete)
	mux.HandleFunc("POST /replies", m.reply)
	m.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = m.server.Serve(ln) }() // ends with stop
	return m, nil
}

func (m *model) stop() { _ = m.server.Close() }

func (m *model) complete(w http.ResponseWriter, r *http.Request) {
	came := time.Now()
	body, err := io.ReadAll(io.LimitReader(r.Body, 4<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	id := newest(body)
	m.mu.Lock()
	m.calls++
	if _, ok := m.asked[id]; !ok {
		m.asked[id] = came
	}
	m.mu.Unlock()
	select {
	case <-time.After(thinks - time.Since(came)):
	case <-r.Context().Done():
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"id": "chatcmpl-bench", "object": "chat.completion", "created": came.Unix(), "model": "bench",
		"choices": []any{map[string]any{
			"index": 0, "finish_reason": "stop",
			"message": map[string]any{"role": "assistant", "content": "Thank you for your message. Yes, there is a free trial of two weeks."},
		}},
		"usage": map[string]any{"prompt_tokens": 900, "completion_tokens": 20, "total_tokens": 920},
	})
}

// newest is the external id at the end of the last message of a contact in a request.
func newest(body []byte) string {
	i := bytes.LastIndex(body, []byte(bench.TextMark))
	if i < 0 {
		return ""
	}
	id := body[i+len(bench.TextMark):]
	if end := bytes.IndexFunc(id, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && r != '-'
	}); end >= 0 {
		id = id[:end]
	}
	return string(id)
}

func (m *model) reply(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	m.mu.Lock()
	m.replies++
	m.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (m *model) counts() (calls, replies int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls, m.replies
}

// waitReplies returns when n answers have come.
func (m *model) waitReplies(ctx context.Context, n int, within time.Duration) error {
	for deadline := time.Now().Add(within); ; {
		_, replies := m.counts()
		if replies >= n {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d answers arrived within %s", replies, n, within)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
