// Package webhook is the channel for web forms and other systems: leads come in as
// JSON by POST /api/v1/inbound/lead, and answers go out by POST to an address that
// the team chose.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
)

// Kind is the webhook channel.
var Kind = channels.Kind{
	Name:  "webhook",
	Title: "Webhook",
	Open: func(_ context.Context, c channels.Config) (channels.Channel, error) {
		return open(c)
	},
}

// Settings is the channel's settings object.
type Settings struct {
	// ReplyURL is the http or https address that answers are posted to. Empty: this
	// channel only receives, and an answer fails with a sentence that says so.
	ReplyURL string `json:"reply_url"`
}

// hook is one open webhook channel.
type hook struct {
	config channels.Config
	url    string
	key    []byte
	client http.Client
	now    func() time.Time
}

var _ channels.Deduper = (*hook)(nil)

func open(c channels.Config) (*hook, error) {
	var s Settings
	if len(bytes.TrimSpace(c.Settings)) > 0 {
		dec := json.NewDecoder(bytes.NewReader(c.Settings))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&s); err != nil {
			field, msg := "settings", "This must be a JSON object."
			if name, ok := strings.CutPrefix(err.Error(), `json: unknown field "`); ok {
				field, msg = "settings."+strings.TrimSuffix(name, `"`), "The webhook channel has no such setting."
			} else if wrong := new(json.UnmarshalTypeError); errors.As(err, &wrong) && wrong.Field != "" {
				field, msg = "settings."+wrong.Field, "This must be a text."
			}
			return nil, tandem.InvalidFields(tandem.FieldError{Field: field, Message: msg})
		}
	}
	h := &hook{config: c, url: s.ReplyURL, now: time.Now}
	if s.ReplyURL == "" {
		return h, nil
	}
	u, err := url.Parse(s.ReplyURL)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil || len(s.ReplyURL) > 2000 {
		return nil, tandem.InvalidFields(tandem.FieldError{
			Field: "settings.reply_url", Message: "Write a full address, such as https://example.com/replies.",
		})
	}
	if c.HTTP == nil {
		return nil, tandem.Errorf(tandem.Internal, "webhook: Config.HTTP is needed to send")
	}
	h.client = *c.HTTP
	h.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if h.key, err = signingKey(c.Secret); err != nil {
		return nil, err
	}
	return h, nil
}

// signingKey reads a Standard Webhooks secret: "whsec_" and base64, or the bytes as they are.
func signingKey(secret []byte) ([]byte, error) {
	text, ok := strings.CutPrefix(string(secret), "whsec_")
	if !ok {
		return secret, nil
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) == 0 {
		return nil, tandem.InvalidFields(tandem.FieldError{Field: "secret", Message: "What follows whsec_ must be base64."})
	}
	return key, nil
}

// Run waits for ctx to end: leads come in through the api.
func (h *hook) Run(ctx context.Context, _ channels.Host) error {
	<-ctx.Done()
	return nil
}

// Close has nothing to free: the HTTP client belongs to the caller.
func (h *hook) Close() error { return nil }

// DedupesByID is true: the receiver is told to remember webhook-id, as Standard
// Webhooks has it.
func (h *hook) DedupesByID() bool { return true }

// delivery is the body that the receiver gets.
type delivery struct {
	Type string       `json:"type"` // "message.created"
	At   time.Time    `json:"timestamp"`
	Data deliveryData `json:"data"`
}

type deliveryData struct {
	Message      tandem.ID           `json:"message_id"`
	Conversation tandem.ID           `json:"conversation_id"`
	To           channels.Address    `json:"to"`
	Thread       string              `json:"thread,omitempty"`
	Text         string              `json:"text"`
	HTML         string              `json:"html,omitempty"`
	Provider     channels.ExternalID `json:"id"`
}

// Send posts one answer to the reply address. The id in webhook-id is the same at
// every attempt; with a secret the post is signed as Standard Webhooks says
// ("v1,<base64 of HMAC-SHA256 over id.timestamp.body>").
func (h *hook) Send(ctx context.Context, m channels.Outbound) (channels.Receipt, error) {
	if h.url == "" {
		return refused(tandem.Errorf(tandem.Invalid, "This channel cannot send. Set a reply address in its settings, or answer by e-mail."))
	}
	at := h.now().UTC()
	body, err := json.Marshal(delivery{Type: "message.created", At: at, Data: deliveryData{
		Message: m.Message, Conversation: m.Conversation, To: m.To, Thread: m.Thread, Text: m.Text, HTML: m.HTML, Provider: m.ProviderID,
	}})
	if err != nil {
		return refused(tandem.Wrap(tandem.Internal, err, "The message cannot be encoded."))
	}
	var written atomic.Bool
	trace := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { written.Store(true) }})
	req, err := http.NewRequestWithContext(trace, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return refused(tandem.Wrap(tandem.Invalid, err, "The reply address is not usable."))
	}
	h.sign(req.Header, m.ProviderID, at, body)
	res, err := h.client.Do(req)
	if err != nil {
		outcome := channels.NotSent // no connection, or nothing written to it
		if written.Load() {
			outcome = channels.Ambiguous
		}
		return channels.Receipt{}, &channels.SendError{Outcome: outcome, Err: fmt.Errorf("post the answer: %w", err)}
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10) // so that the connection can be used again
	return h.outcome(res, m)
}

func (h *hook) sign(head http.Header, id channels.ExternalID, at time.Time, body []byte) {
	stamp := strconv.FormatInt(at.Unix(), 10)
	head.Set("Content-Type", "application/json")
	head.Set("webhook-id", string(id))
	head.Set("webhook-timestamp", stamp)
	if len(h.key) == 0 {
		return
	}
	mac := hmac.New(sha256.New, h.key)
	mac.Write([]byte(string(id) + "." + stamp + "."))
	mac.Write(body)
	head.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// outcome reads the receiver's answer. Any answer but success is sure not to be
// harmful to repeat, because the receiver knows the id.
func (h *hook) outcome(res *http.Response, m channels.Outbound) (channels.Receipt, error) {
	said := tandem.Errorf(tandem.Invalid, "The reply address answered with status %d.", res.StatusCode)
	switch s := res.StatusCode; {
	case s >= 200 && s < 300:
		return channels.Receipt{ID: m.ProviderID}, nil
	case s >= 500, s == http.StatusTooManyRequests, s == http.StatusRequestTimeout, s == http.StatusTooEarly:
		return channels.Receipt{}, &channels.SendError{Outcome: channels.NotSent, RetryAfter: h.retryAfter(res), Err: said}
	}
	return refused(said)
}

const mostRetryAfter = 24 * time.Hour

// retryAfter reads both forms of the header: seconds, or a date.
func (h *hook) retryAfter(res *http.Response) time.Duration {
	v := res.Header.Get("Retry-After")
	var d time.Duration
	if n, err := strconv.ParseInt(v, 10, 32); err == nil {
		d = time.Duration(n) * time.Second
	} else if t, err := http.ParseTime(v); err == nil {
		d = t.Sub(h.now())
	}
	return min(max(d, 0), mostRetryAfter)
}

func refused(err error) (channels.Receipt, error) {
	return channels.Receipt{}, &channels.SendError{Outcome: channels.Refused, Err: err}
}
