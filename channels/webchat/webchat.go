// Package webchat is the chat on a team's own web pages. A visitor's browser holds a
// signed token; it writes by POST and reads by a stream of server-sent events that
// resumes at the last line it has seen.
package webchat

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
)

// Kind is the web chat with the default limits.
var Kind = KindWith(Limits{})

// Limits bounds what visitors may ask of us. Zero fields take the default.
// Rates are per minute; a burst is how many calls may come at once after a rest.
type Limits struct {
	MessagesPerVisitor, MessagesPerVisitorBurst int // 10, 5
	MessagesPerIP, MessagesPerIPBurst           int // 60, 30: an office shares one address
	SessionsPerIP, SessionsPerIPBurst           int // 10, 10: new visitors only
	ReadsPerVisitor, ReadsPerVisitorBurst       int // 120, 40: streams opened, pages read, sessions resumed, typing
	StreamsPerVisitor                           int // 3: open at the same time
	Streams                                     int // 5,000: open at the same time, whole channel
}

func (l Limits) withDefaults() Limits {
	set := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	set(&l.MessagesPerVisitor, 10)
	set(&l.MessagesPerVisitorBurst, 5)
	set(&l.MessagesPerIP, 60)
	set(&l.MessagesPerIPBurst, 30)
	set(&l.SessionsPerIP, 10)
	set(&l.SessionsPerIPBurst, 10)
	set(&l.ReadsPerVisitor, 120)
	set(&l.ReadsPerVisitorBurst, 40)
	set(&l.StreamsPerVisitor, 3)
	set(&l.Streams, 5000)
	return l
}

// KindWith is Kind with other limits.
func KindWith(l Limits) channels.Kind {
	return channels.Kind{
		Name:  "webchat",
		Title: "Web chat",
		Open: func(_ context.Context, c channels.Config) (channels.Channel, error) {
			return open(c, l.withDefaults())
		},
	}
}

// Settings is the channel's settings object.
type Settings struct {
	Title    string `json:"title"`    // head of the chat window; default: the channel's name
	Greeting string `json:"greeting"` // shown before the first message; default: "Hi! How can we help?"
	Team     string `json:"team"`     // who answers when nobody in particular does; default: the channel's name
	Accent   string `json:"accent"`   // "#rrggbb"; default: Tandem's blue
}

const defaultGreeting = "Hi! How can we help?"

var accentColor = regexp.MustCompile(`^(#[0-9a-fA-F]{6})?$`)

func parseSettings(raw json.RawMessage, name string) (Settings, error) {
	var s Settings
	if len(bytes.TrimSpace(raw)) > 0 {
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&s); err != nil {
			return s, tandem.InvalidFields(settingsError(err))
		}
	}
	var wrong []tandem.FieldError
	for field, v := range map[string]struct {
		text string
		most int
	}{"title": {s.Title, 80}, "greeting": {s.Greeting, 500}, "team": {s.Team, 80}} {
		if utf8.RuneCountInString(v.text) > v.most {
			wrong = append(wrong, tandem.FieldError{Field: "settings." + field, Message: "This is too long."})
		}
	}
	if !accentColor.MatchString(s.Accent) {
		wrong = append(wrong, tandem.FieldError{Field: "settings.accent", Message: "Write a color as #rrggbb, such as #2058cf."})
	}
	if len(wrong) > 0 {
		return s, tandem.InvalidFields(wrong...)
	}
	fill := func(p *string, v string) {
		if strings.TrimSpace(*p) == "" {
			*p = v
		}
	}
	fill(&s.Title, name)
	fill(&s.Team, name)
	fill(&s.Greeting, defaultGreeting)
	return s, nil
}

func settingsError(err error) tandem.FieldError {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) && wrong.Field != "" {
		return tandem.FieldError{Field: "settings." + wrong.Field, Message: "This must be a text."}
	}
	if name, ok := strings.CutPrefix(err.Error(), `json: unknown field "`); ok {
		return tandem.FieldError{Field: "settings." + strings.TrimSuffix(name, `"`), Message: "The web chat has no such setting."}
	}
	return tandem.FieldError{Field: "settings", Message: "This must be a JSON object."}
}

const heartbeat = 15 * time.Second // under the idle limit of the proxies that people use

// chat is one open web chat channel.
type chat struct {
	config    channels.Config
	settings  Settings
	limits    Limits
	now       func() time.Time
	heartbeat time.Duration

	messages, messagesIP, sessionsIP, reads *limiter

	mu      sync.Mutex
	streams map[channels.Address]int // open streams of each visitor
	open    int                      // open streams of all visitors
	closed  chan struct{}
	once    sync.Once
}

var (
	_ channels.Webhooker    = (*chat)(nil)
	_ channels.Deduper      = (*chat)(nil)
	_ channels.ThreadReader = (*chat)(nil)
)

func open(c channels.Config, l Limits) (*chat, error) {
	s, err := parseSettings(c.Settings, c.Name)
	if err != nil {
		return nil, err
	}
	if c.Sign == nil || c.Verify == nil {
		return nil, tandem.Errorf(tandem.Internal, "webchat: Config.Sign and Config.Verify are needed")
	}
	return &chat{
		config: c, settings: s, limits: l, now: time.Now, heartbeat: heartbeat,
		messages:   newLimiter(l.MessagesPerVisitor, l.MessagesPerVisitorBurst),
		messagesIP: newLimiter(l.MessagesPerIP, l.MessagesPerIPBurst),
		sessionsIP: newLimiter(l.SessionsPerIP, l.SessionsPerIPBurst),
		reads:      newLimiter(l.ReadsPerVisitor, l.ReadsPerVisitorBurst),
		streams:    map[channels.Address]int{},
		closed:     make(chan struct{}),
	}, nil
}

// Run waits for ctx to end: everything comes in through Webhook.
func (c *chat) Run(ctx context.Context, _ channels.Host) error {
	<-ctx.Done()
	return nil
}

// Send succeeds at once: the visitor's stream and the next page load read the thread,
// where the message is from the moment that it counts as sent.
func (c *chat) Send(ctx context.Context, m channels.Outbound) (channels.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return channels.Receipt{}, &channels.SendError{Outcome: channels.NotSent, Err: err}
	}
	return channels.Receipt{ID: m.ProviderID}, nil
}

// DedupesByID is true: a line has one seq, so a visitor sees it once.
func (c *chat) DedupesByID() bool { return true }

// ReadsThread is true: visitors see a line from the moment that it counts as sent, and not before.
func (c *chat) ReadsThread() bool { return true }

// Close ends every open stream; browsers come back by themselves.
func (c *chat) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

// enter counts a visitor's new stream. It returns a Throttled or Unavailable error
// when there are too many, else the function that counts it out again.
func (c *chat) enter(who channels.Address) (leave func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open >= c.limits.Streams {
		return nil, unavailable("Too many visitors are connected at the moment. Try again shortly.")
	}
	if c.streams[who] >= c.limits.StreamsPerVisitor {
		e := tandem.Errorf(tandem.Throttled, "This chat is already open in %d windows.", c.limits.StreamsPerVisitor)
		e.RetryAfter = 30 * time.Second
		return nil, e
	}
	c.open++
	c.streams[who]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.open--
		if c.streams[who]--; c.streams[who] == 0 {
			delete(c.streams, who)
		}
	}, nil
}

func unavailable(msg string) *tandem.Error {
	e := tandem.Errorf(tandem.Unavailable, "%s", msg)
	e.RetryAfter = 5 * time.Second
	return e
}

// readBody reads a body of at most most bytes.
func readBody(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, errTooLarge
	case err != nil:
		return nil, errMalformed // the client left, or broke its own framing
	}
	return b, nil
}
