package webchat

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
)

const (
	// MaxText is the longest message of a visitor, in characters.
	MaxText = 8000

	maxMessageBody = 128 << 10 // 8,000 characters, each written as two JSON escapes of six bytes, and the frame
	maxSmallBody   = 4 << 10
	maxPage        = 200
)

// Webhook answers the widget: POST /session, POST and GET /messages, GET /stream and
// POST /typing. Any page may call it, because a team's shop is not our origin: there
// are no cookies, the visitor token is all the authority there is.
func (c *chat) Webhook(h channels.Host) http.Handler {
	mux := http.NewServeMux()
	route := func(pattern string, fn func(http.ResponseWriter, *http.Request, channels.Host) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := fn(w, r, h); err != nil {
				c.fail(w, r, err)
			}
		})
	}
	route("POST /session", c.session)
	route("POST /messages", c.receive)
	route("GET /messages", c.page)
	route("GET /stream", c.stream)
	route("POST /typing", c.typing)
	route("/", func(_ http.ResponseWriter, r *http.Request, _ channels.Host) error {
		return tandem.Errorf(tandem.NotFound, "The web chat has no %s %s.", r.Method, r.URL.Path)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Access-Control-Allow-Origin", "*")
		head.Set("Access-Control-Expose-Headers", "Retry-After")
		head.Set("Cross-Origin-Resource-Policy", "cross-origin")
		head.Set("X-Content-Type-Options", "nosniff")
		if r.Method == http.MethodOptions {
			head.Set("Access-Control-Allow-Methods", "GET, POST")
			head.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID")
			head.Set("Access-Control-Max-Age", "7200")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// token returns the visitor token of a request. EventSource can set no header, so the
// query may carry it too; the api must not log queries under /chat.
func token(r *http.Request) string {
	if t, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return strings.TrimSpace(t)
	}
	return r.URL.Query().Get("token")
}

// reader is the visitor of a call that only reads, within the limit for reads.
func (c *chat) reader(r *http.Request) (channels.Address, error) {
	who, _, err := c.visitor(token(r))
	if err != nil {
		return "", err
	}
	return who, c.reads.take(string(who), c.now())
}

type sessionAnswer struct {
	Token        string    `json:"token"`
	Conversation tandem.ID `json:"conversation_id,omitempty"`
	Title        string    `json:"title"`
	Greeting     string    `json:"greeting"`
	Team         string    `json:"team"`
	Accent       string    `json:"accent,omitempty"`
	Answers      string    `json:"answers"` // ai, human or team
	Name         string    `json:"name"`    // of the one who answers
}

// session gives a visitor a token, the same visitor when a valid one is shown.
func (c *chat) session(w http.ResponseWriter, r *http.Request, h channels.Host) error {
	body, err := readBody(w, r, maxSmallBody)
	if err != nil {
		return err
	}
	var in struct {
		Token string `json:"token"`
	}
	if len(bytes.TrimSpace(body)) > 0 && json.Unmarshal(body, &in) != nil {
		return errMalformed
	}
	who, age, err := c.visitor(in.Token)
	if err == nil {
		if err := c.reads.take(string(who), c.now()); err != nil {
			return err
		}
	} else {
		if err := c.sessionsIP.take(caller(r), c.now()); err != nil {
			return err
		}
		who, in.Token = channels.Address(tandem.NewID()), ""
	}
	if in.Token == "" || age > tokenRenew {
		if in.Token, err = c.issue(who); err != nil {
			return err
		}
	}
	t, err := h.Thread(r.Context(), c.config.ID, who, 0, 1)
	if err != nil {
		return err
	}
	st := c.state(t)
	reply(w, http.StatusOK, sessionAnswer{
		Token: in.Token, Conversation: t.Conversation,
		Title: c.settings.Title, Greeting: c.settings.Greeting, Team: c.settings.Team, Accent: c.settings.Accent,
		Answers: st.Answering, Name: st.Name,
	})
	return nil
}

type received struct {
	Seq int64     `json:"seq"`
	ID  tandem.ID `json:"id"`
}

// receive takes one message of a visitor. The widget's own id of it makes a retry a success.
func (c *chat) receive(w http.ResponseWriter, r *http.Request, h channels.Host) error {
	who, _, err := c.visitor(token(r))
	if err != nil {
		return err
	}
	if err := c.messagesIP.take(caller(r), c.now()); err != nil {
		return err
	}
	if err := c.messages.take(string(who), c.now()); err != nil {
		return err
	}
	raw, err := readBody(w, r, maxMessageBody)
	if err != nil {
		return err
	}
	id, text, err := parseMessage(raw)
	if err != nil {
		return err
	}
	in := channels.Inbound{
		Org: c.config.Org, Channel: c.config.ID, ID: externalID(who, id),
		From: who, FromKind: channels.IdentityVisitor,
		Text: text, Raw: raw, At: c.now().UTC(),
	}
	if err := in.Check(); err != nil {
		return err
	}
	got, err := h.Deliver(r.Context(), in)
	if err != nil {
		return err
	}
	status := http.StatusCreated
	if got.Duplicate {
		status = http.StatusOK
	}
	reply(w, status, received{Seq: got.Seq, ID: got.Message})
	return nil
}

func parseMessage(raw []byte) (id, text string, err error) {
	if !utf8.Valid(raw) { // the JSON package would replace what is wrong and hide it
		return "", "", tandem.InvalidFields(tandem.FieldError{Field: "text", Message: "This is not valid UTF-8."})
	}
	var in struct {
		ID   string `json:"id"`
		Text string `json:"text"`
	}
	if json.Unmarshal(raw, &in) != nil {
		return "", "", errMalformed
	}
	var wrong []tandem.FieldError
	key, err := tandem.ParseID(strings.ToLower(in.ID))
	if err != nil {
		wrong = append(wrong, tandem.FieldError{Field: "id", Message: "Give each message its own UUID."})
	}
	text = strings.TrimSpace(strings.ReplaceAll(in.Text, "\x00", ""))
	switch {
	case text == "":
		wrong = append(wrong, tandem.FieldError{Field: "text", Message: "Write something first."})
	case utf8.RuneCountInString(text) > MaxText:
		wrong = append(wrong, tandem.FieldError{Field: "text", Message: "This is longer than 8,000 characters."})
	}
	if len(wrong) > 0 {
		return "", "", tandem.InvalidFields(wrong...)
	}
	return string(key), text, nil
}

// externalID joins the visitor and the widget's id, because ids are chosen by browsers:
// one visitor must not be able to collide with another's message.
func externalID(who channels.Address, client string) channels.ExternalID {
	return channels.ExternalID(string(who) + "/" + client)
}

// shown turns the lines' external ids back into the widget's own.
func shown(who channels.Address, lines []channels.Line) []channels.Line {
	out := make([]channels.Line, len(lines))
	for i, l := range lines {
		l.ClientID = channels.ExternalID(strings.TrimPrefix(string(l.ClientID), string(who)+"/"))
		out[i] = l
	}
	return out
}

type linePage struct {
	Items []channels.Line `json:"items"`
	Next  string          `json:"next,omitempty"` // pass as after
}

// page answers the lines after a seq, oldest first.
func (c *chat) page(w http.ResponseWriter, r *http.Request, h channels.Host) error {
	who, err := c.reader(r)
	if err != nil {
		return err
	}
	after, err := natural(r, "after", 0)
	if err != nil {
		return err
	}
	limit, err := natural(r, "limit", 50)
	if err != nil {
		return err
	}
	limit = min(max(limit, 1), maxPage)
	t, err := h.Thread(r.Context(), c.config.ID, who, after, int(limit)+1)
	if err != nil {
		return err
	}
	p := linePage{Items: shown(who, t.Lines)}
	if len(p.Items) > int(limit) {
		p.Items = p.Items[:limit]
		p.Next = strconv.FormatInt(p.Items[limit-1].Seq, 10)
	}
	reply(w, http.StatusOK, p)
	return nil
}

// typing passes on that the visitor writes. A lost one harms nobody, so it never fails
// for our own troubles.
func (c *chat) typing(w http.ResponseWriter, r *http.Request, h channels.Host) error {
	who, err := c.reader(r)
	if err != nil {
		return err
	}
	if err := h.Typing(r.Context(), c.config.ID, who); err != nil {
		c.config.Log().DebugContext(r.Context(), "typing was not passed on", "error", err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// natural reads a query parameter that is an integer >= 0.
func natural(r *http.Request, name string, missing int64) (int64, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return missing, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, tandem.InvalidFields(tandem.FieldError{Field: name, Message: "This must be a whole number, 0 or more."})
	}
	return n, nil
}
