package channeltest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
)

// Said is what a provider was told about a message that it offered.
type Said string

// The answers a provider can get.
const (
	Taken   Said = "taken"   // an acknowledgement: the provider forgets the message
	Refused Said = "refused" // wrong for ever: the provider need not repeat it
	Later   Said = "later"   // the provider shall repeat it
)

// Message is one inbound message, before the adapter's kit puts it into its provider's format.
type Message struct {
	ID   string // a UUID
	From string // the same text: the same sender
	Text string // may be anything, also not UTF-8; the kit must not clean it
}

// Send is one case of an outbound message with what a provider does to it.
type Send struct {
	Name string
	// Open returns a channel that is connected to a provider which behaves as the case
	// says, and how often the provider has seen each id.
	Open func(t *testing.T) (ch channels.Channel, seen func() map[channels.ExternalID]int)
	OK   bool             // Send must succeed
	Want channels.Outcome // else: this outcome
}

// Kit is what the suite needs to know about one kind of channel.
type Kit struct {
	Kind     channels.Kind
	Settings string // valid settings, as JSON
	Secret   string

	// BadSettings are settings that Open must refuse, by the field that must be named.
	BadSettings map[string]string

	// Offer hands one message to the adapter as its provider would, and reports what
	// the provider was told. nil: the kind receives nothing.
	Offer func(t *testing.T, ch channels.Channel, h channels.Host, m Message) Said

	TooLong string // a text above the adapter's limit; empty: there is none
	Sends   []Send
}

// Config returns a configuration for tests: a fixed organization and channel, real MACs.
func (k Kit) Config(logs *slog.Logger) channels.Config {
	key := []byte("a key for tests of the channels contract")
	sign := func(b []byte) []byte {
		m := hmac.New(sha256.New, key)
		m.Write(b)
		return m.Sum(nil)
	}
	return channels.Config{
		Org: "0190a000-0000-7000-8000-000000000001", ID: "0190a000-0000-7000-8000-000000000002",
		Name: "Shop", PublicKey: "pk_test", Settings: json.RawMessage(k.Settings), Secret: []byte(k.Secret),
		Sign: sign, Verify: func(b, mac []byte) bool { return hmac.Equal(sign(b), mac) },
		HTTP: &http.Client{Timeout: 10 * time.Second}, Logger: logs,
	}
}

// Run is the suite.
func Run(t *testing.T, k Kit) {
	t.Helper()
	t.Run("kind", func(t *testing.T) { t.Parallel(); testKind(t, k) })
	t.Run("run ends with its context", func(t *testing.T) { t.Parallel(); testRun(t, k) })
	t.Run("close twice", func(t *testing.T) { t.Parallel(); testClose(t, k) })
	if k.Offer != nil {
		testInbound(t, k)
	}
	for _, s := range k.Sends {
		t.Run("send/"+s.Name, func(t *testing.T) { t.Parallel(); testSend(t, s) })
	}
}

func (k Kit) open(t *testing.T) channels.Channel {
	t.Helper()
	ch, logs := k.openLogged(t)
	t.Cleanup(func() {
		if k.Secret != "" && strings.Contains(logs.String(), k.Secret) {
			t.Error("the secret is in the log")
		}
	})
	return ch
}

func (k Kit) openLogged(t *testing.T) (channels.Channel, *Log) {
	t.Helper()
	logs := &Log{}
	ch, err := k.Kind.Open(t.Context(), k.Config(slog.New(slog.NewJSONHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := ch.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return ch, logs
}

// Log is a log kept in memory. Use it from several goroutines.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func testKind(t *testing.T, k Kit) {
	if k.Kind.Name == "" || strings.Trim(k.Kind.Name, "abcdefghijklmnopqrstuvwxyz") != "" || len(k.Kind.Name) > 40 {
		t.Errorf("name %q: want 1 to 40 lower-case letters", k.Kind.Name)
	}
	if k.Kind.Title == "" {
		t.Error("a title for people is missing")
	}
	bad := map[string]string{`[`: "settings", `"text"`: "settings", `{"no_such_setting": 1}`: "settings.no_such_setting"}
	for settings, field := range k.BadSettings {
		bad[settings] = field
	}
	for settings, field := range bad {
		c := k.Config(nil)
		c.Settings = json.RawMessage(settings)
		ch, err := k.Kind.Open(t.Context(), c)
		if err == nil {
			_ = ch.Close()
			t.Errorf("settings %s: accepted", settings)
			continue
		}
		var e *tandem.Error
		if !errors.As(err, &e) || e.Kind != tandem.Invalid || len(e.Fields) == 0 || e.Fields[0].Field != field {
			t.Errorf("settings %s: got %v, want Invalid that names %s", settings, err, field)
		}
	}
	c := k.Config(nil)
	c.Settings = nil
	if ch, err := k.Kind.Open(t.Context(), c); err != nil {
		t.Errorf("without settings: %v", err)
	} else {
		_ = ch.Close()
	}
}

const patience = 10 * time.Second

func testRun(t *testing.T, k Kit) {
	ch, h := k.open(t), NewHost()
	for i := range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- ch.Run(ctx, h) }()
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("run %d: %v, want nil when its context ends", i+1, err)
			}
		case <-time.After(patience):
			t.Fatalf("run %d does not end with its context", i+1)
		}
	}
}

func testClose(t *testing.T, k Kit) {
	ch, err := k.Kind.Open(t.Context(), k.Config(nil))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if err := ch.Close(); err != nil {
			t.Errorf("close %d: %v", i+1, err)
		}
	}
	if _, err := ch.Send(t.Context(), outbound()); err != nil {
		var e *channels.SendError
		if !errors.As(err, &e) {
			t.Errorf("send after close: %v, want a *channels.SendError", err)
		}
	}
}

func outbound() channels.Outbound {
	id := tandem.NewID()
	return channels.Outbound{
		Message: id, Conversation: tandem.NewID(), ProviderID: channels.ExternalID("msg_" + string(id)),
		To: "ann@example.com", Text: "Hello Ann", Attempt: 1,
	}
}

func testSend(t *testing.T, s Send) {
	ch, seen := s.Open(t)
	m := outbound()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	for attempt := range 2 { // the same message again, as a retry would
		m.Attempt = attempt + 1
		began := time.Now()
		_, err := ch.Send(ctx, m)
		if took := time.Since(began); took > patience {
			t.Errorf("send took %s with a deadline of 2 s", took)
		}
		var e *channels.SendError
		switch {
		case s.OK && err != nil && ctx.Err() == nil:
			t.Fatalf("send: %v, want success", err)
		case s.OK:
		case err == nil:
			t.Fatalf("send succeeded, want %s", s.Want)
		case !errors.As(err, &e):
			t.Fatalf("send: %v, want a *channels.SendError", err)
		case attempt == 0 && e.Outcome != s.Want:
			t.Fatalf("send: %s (%v), want %s", e.Outcome, err, s.Want)
		}
	}
	if seen != nil {
		for id := range seen() {
			if id != m.ProviderID {
				t.Errorf("the provider saw the id %q, want only %q at every attempt", id, m.ProviderID)
			}
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := ch.Send(ended, outbound()); err == nil {
		t.Error("send with an ended context succeeded")
	} else if e := channels.AsSendError(err); e.Outcome == channels.Ambiguous {
		t.Errorf("send with an ended context: %v, want not_sent or refused: nothing can have left", err)
	}
}
