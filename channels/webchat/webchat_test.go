package webchat

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/channels/channeltest"
)

// wide lets the suite offer faster than any person writes.
var wide = Limits{MessagesPerVisitor: 6000, MessagesPerVisitorBurst: 100, MessagesPerIP: 6000, MessagesPerIPBurst: 1000}

func TestConformance(t *testing.T) {
	t.Parallel()
	channeltest.Run(t, channeltest.Kit{
		Kind: KindWith(wide), Settings: `{"title":"Acme","greeting":"Hello!","team":"Acme team","accent":"#aa0033"}`, Secret: "unused but secret",
		BadSettings: map[string]string{
			`{"title":5}`:        "settings.title",
			`{"accent":"red;x"}`: "settings.accent",
			`{"greeting":"` + strings.Repeat("x", 501) + `"}`: "settings.greeting",
		},
		TooLong: strings.Repeat("é", MaxText+1),
		Offer:   offer,
		Sends: []channeltest.Send{{Name: "nothing to do", OK: true, Open: func(t *testing.T) (channels.Channel, func() map[channels.ExternalID]int) {
			t.Helper()
			ch, err := Kind.Open(t.Context(), channeltest.Kit{}.Config(nil))
			if err != nil {
				t.Fatal(err)
			}
			return ch, nil
		}}},
	})
}

// offer posts a message as a browser does.
func offer(t *testing.T, ch channels.Channel, h channels.Host, m channeltest.Message) channeltest.Said {
	t.Helper()
	c := ch.(*chat)
	token, err := c.issue(channels.Address(fmt.Sprintf("00000000-0000-7000-8000-%012x", []byte(m.From)[:min(6, len(m.From))])))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(m.Text)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), `\ufffd`) { // the encoder replaced bytes that the case wants as they are
		text = []byte(`"` + m.Text + `"`)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/messages", strings.NewReader(`{"id":"`+m.ID+`","text":`+string(text)+`}`))
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	c.Webhook(h).ServeHTTP(w, r)
	switch {
	case w.Code >= 200 && w.Code < 300:
		return channeltest.Taken
	case w.Code == 429 || w.Code >= 500:
		return channeltest.Later
	}
	return channeltest.Refused
}

// room is one web chat behind a real server, as the api mounts it.
type room struct {
	*chat
	host *channeltest.Host
	url  string

	mu    sync.Mutex
	clock time.Time
}

func openRoom(t *testing.T, l Limits) *room {
	t.Helper()
	r := &room{host: channeltest.NewHost(), clock: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)}
	ch, err := KindWith(l).Open(t.Context(), channeltest.Kit{}.Config(nil))
	if err != nil {
		t.Fatal(err)
	}
	r.chat = ch.(*chat)
	r.now = func() time.Time {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.clock
	}
	s := httptest.NewServer(http.StripPrefix("/chat/pk_test", r.Webhook(r.host)))
	t.Cleanup(s.Close)
	t.Cleanup(func() { _ = r.Close() }) // before the server, which waits for its streams
	r.url = s.URL + "/chat/pk_test"
	return r
}

func (r *room) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock = r.clock.Add(d)
}

// call sends one request and decodes the answer into out, when there is one.
func (r *room) call(t *testing.T, method, path, token, body string, out any) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if out != nil {
		if err := json.NewDecoder(res.Body).Decode(out); err != nil {
			t.Fatalf("%s %s: %d and no JSON: %v", method, path, res.StatusCode, err)
		}
	}
	return res
}

func (r *room) join(t *testing.T) (token string, who channels.Address) {
	t.Helper()
	var s sessionAnswer
	if res := r.call(t, "POST", "/session", "", "{}", &s); res.StatusCode != 200 {
		t.Fatalf("session: %d", res.StatusCode)
	}
	who, _, err := r.visitor(s.Token)
	if err != nil {
		t.Fatal(err)
	}
	return s.Token, who
}

func says(text string) string {
	return fmt.Sprintf(`{"id":%q,"text":%q}`, tandem.NewID(), text)
}

func TestSessionKeepsItsVisitor(t *testing.T) {
	t.Parallel()
	r := openRoom(t, Limits{})
	token, who := r.join(t)
	var s sessionAnswer
	r.call(t, "POST", "/session", "", `{"token":"`+token+`"}`, &s)
	if s.Token != token || s.Conversation != "" || s.Answers != "ai" || s.Name != "Ava" || s.Title != "Shop" || s.Team != "Shop" || s.Greeting != defaultGreeting {
		t.Errorf("session answers %+v", s)
	}
	var got received
	r.call(t, "POST", "/messages", token, says("hi"), &got)
	r.advance(tokenRenew + time.Second)
	s = sessionAnswer{}
	r.call(t, "POST", "/session", "", `{"token":"`+token+`"}`, &s)
	if again, _, err := r.visitor(s.Token); err != nil || again != who || s.Token == token || s.Conversation == "" {
		t.Errorf("a day later: visitor %q (%v), want %q under a fresh token: %+v", again, err, who, s)
	}
	r.advance(tokenLife + time.Hour)
	r.call(t, "POST", "/session", "", `{"token":"`+s.Token+`"}`, &s)
	if other, _, err := r.visitor(s.Token); err != nil || other == who {
		t.Errorf("an expired token still names %q (%v)", other, err)
	}
}

func TestForgedTokensAreRefused(t *testing.T) {
	t.Parallel()
	r := openRoom(t, Limits{ReadsPerVisitor: 60000, ReadsPerVisitorBurst: 10000})
	token, who := r.join(t)
	other := openRoom(t, Limits{})
	other.chat.config.ID = tandem.NewID() // same key, another channel
	foreign, err := other.issue(who)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(token, ".")
	forged := []string{
		"", "x", "..", "v1..", "v2." + parts[1] + "." + parts[2], parts[1] + "." + parts[2], "v1." + parts[1] + ".",
		"v1." + parts[1] + "." + parts[1], token + ".x", token + "=", token + strings.Repeat("A", 1000), foreign,
	}
	for i := range []byte(token) { // every character changed
		b := []byte(token)
		if b[i]++; b[i] == token[i] {
			b[i] = 'A'
		}
		forged = append(forged, string(b))
	}
	for _, f := range forged {
		for _, call := range [][2]string{{"POST", "/messages"}, {"GET", "/messages"}, {"GET", "/stream"}, {"POST", "/typing"}} {
			w := httptest.NewRecorder()
			req := httptest.NewRequestWithContext(t.Context(), call[0], call[1], strings.NewReader(says("let me in")))
			req.Header.Set("Authorization", "Bearer "+f)
			r.Webhook(r.host).ServeHTTP(w, req)
			if w.Code != http.StatusUnauthorized {
				t.Fatalf("%s %s with the forged token %q: %d, want 401", call[0], call[1], f, w.Code)
			}
		}
	}
	if n := r.host.Calls(); n != 0 {
		t.Errorf("%d deliveries by forged tokens", n)
	}
	t.Logf("%d forged tokens refused at 4 endpoints", len(forged))
}

func TestVisitorsCannotReachEachOther(t *testing.T) {
	t.Parallel()
	r := openRoom(t, Limits{})
	ann, _ := r.join(t)
	bob, _ := r.join(t)
	body := says("my secret")
	var first, stolen received
	if res := r.call(t, "POST", "/messages", ann, body, &first); res.StatusCode != 201 {
		t.Fatalf("first: %d", res.StatusCode)
	}
	if res := r.call(t, "POST", "/messages", ann, body, &stolen); res.StatusCode != 200 || stolen != first {
		t.Errorf("the same id again: %d %+v, want 200 %+v", res.StatusCode, stolen, first)
	}
	if res := r.call(t, "POST", "/messages", bob, body, &stolen); res.StatusCode != 201 || stolen.ID == first.ID {
		t.Errorf("another visitor with the same id: %d %+v, want a message of his own", res.StatusCode, stolen)
	}
	var p linePage
	r.call(t, "GET", "/messages?token="+bob, "", "", &p)
	if len(p.Items) != 1 || p.Items[0].ID == first.ID || !strings.Contains(body, string(p.Items[0].ClientID)) {
		t.Errorf("bob sees %+v", p.Items)
	}
}

func TestRateLimitIsExact(t *testing.T) {
	t.Parallel()
	r := openRoom(t, Limits{})
	token, _ := r.join(t)
	send := func() (int, string) {
		res := r.call(t, "POST", "/messages", token, says("hello"), nil)
		return res.StatusCode, res.Header.Get("Retry-After")
	}
	for i := range 5 {
		if code, _ := send(); code != 201 {
			t.Fatalf("message %d of the burst: %d", i+1, code)
		}
	}
	for _, step := range []struct {
		after time.Duration
		code  int
		retry string
	}{
		{0, 429, "6"},
		{4 * time.Second, 429, "2"},
		{1999 * time.Millisecond, 429, "1"},
		{time.Millisecond, 201, ""},
		{0, 429, "6"},
		{12 * time.Second, 201, ""},
		{0, 201, ""},
		{0, 429, "6"},
	} {
		r.advance(step.after)
		if code, retry := send(); code != step.code || retry != step.retry {
			t.Fatalf("%s later: %d, Retry-After %q; want %d, %q", step.after, code, retry, step.code, step.retry)
		}
	}
	sent := 8
	for range 600 { // ten minutes, a try every second
		r.advance(time.Second)
		if code, _ := send(); code == 201 {
			sent++
		}
	}
	if sent != 8+100 {
		t.Errorf("%d messages passed in ten minutes, want exactly 100 after the burst", sent-8)
	}
	if n := len(r.host.Delivered()); n != sent {
		t.Errorf("%d delivered, %d accepted", n, sent)
	}
	for i := range 9 { // one session was made above
		if res := r.call(t, "POST", "/session", "", "", nil); res.StatusCode != 200 && i < 9 {
			t.Fatalf("session %d: %d", i+2, res.StatusCode)
		}
	}
	r.call(t, "POST", "/session", "", "", nil) // ten minutes earned one more
	if res := r.call(t, "POST", "/session", "", "", nil); res.StatusCode != 429 || res.Header.Get("Retry-After") != "6" {
		t.Errorf("session 11 at once: %d, Retry-After %q; want 429, 6", res.StatusCode, res.Header.Get("Retry-After"))
	}
	if res := r.call(t, "POST", "/session", "", `{"token":"`+token+`"}`, nil); res.StatusCode != 200 {
		t.Errorf("a known visitor is refused with the new ones: %d", res.StatusCode)
	}
}

func TestLimiterIsBounded(t *testing.T) {
	t.Parallel()
	l := newLimiter(10, 5)
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	passed := 0
	for i := range 10 * limiterKeys {
		if l.take(strconv.Itoa(i), now) == nil {
			passed++
		}
	}
	if len(l.free) > limiterKeys || passed != limiterKeys+5 {
		t.Errorf("%d keys kept and %d calls passed, want %d and %d", len(l.free), passed, limiterKeys, limiterKeys+5)
	}
	if err := l.take("0", now); err != nil {
		t.Errorf("a known caller is shut out by the flood: %v", err)
	}
	now = now.Add(time.Minute)
	if err := l.take("new", now); err != nil || len(l.free) != 1 {
		t.Errorf("after a rest: %v with %d keys, want room again", err, len(l.free))
	}
	for addr, want := range map[string]string{
		"192.0.2.1:5": "192.0.2.1", "[2001:db8:1:2:3::4]:5": "2001:db8:1:2::/64", "[::ffff:192.0.2.1]:5": "192.0.2.1", "odd": "odd",
	} {
		if got := caller(&http.Request{RemoteAddr: addr}); got != want {
			t.Errorf("caller of %s: %s, want %s", addr, got, want)
		}
	}
}

func TestHandlerRefusals(t *testing.T) {
	t.Parallel()
	r := openRoom(t, wide)
	token, _ := r.join(t)
	long := strings.Repeat("é", MaxText)
	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{"POST", "/messages", `{`, 400},
		{"POST", "/messages", `{}`, 422},
		{"POST", "/messages", `{"id":"1","text":"x"}`, 422},
		{"POST", "/messages", says(long), 201},
		{"POST", "/messages", says(long + "x"), 422},
		{"POST", "/messages", says(strings.Repeat("x", maxMessageBody)), 413},
		{"POST", "/session", strings.Repeat(" ", maxSmallBody+1), 413},
		{"POST", "/session", `[`, 400},
		{"GET", "/messages?after=-1", "", 422},
		{"GET", "/messages?after=x", "", 422},
		{"GET", "/stream?after=x", "", 422},
		{"GET", "/session", "", 404},
		{"GET", "/other", "", 404},
		{"DELETE", "/messages", "", 404},
		{"POST", "/typing", "", 204},
		{"OPTIONS", "/messages", "", 204},
	} {
		res := r.call(t, c.method, c.path, token, c.body, nil)
		if res.StatusCode != c.want {
			t.Errorf("%s %s %.40s: %d, want %d", c.method, c.path, c.body, res.StatusCode, c.want)
		}
		if res.Header.Get("Access-Control-Allow-Origin") != "*" || res.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s %s: CORS headers %v", c.method, c.path, res.Header)
		}
		if ct := res.Header.Get("Content-Type"); c.want >= 400 && ct != "application/problem+json" {
			t.Errorf("%s %s: a problem of type %q", c.method, c.path, ct)
		}
	}
	r.host.SetDown(true)
	for _, c := range [][2]string{{"POST", "/session"}, {"POST", "/messages"}, {"GET", "/messages"}, {"GET", "/stream"}} {
		res := r.call(t, c[0], c[1], token, map[bool]string{true: says("x"), false: "{}"}[c[1] == "/messages"], nil)
		if res.StatusCode != 503 || res.Header.Get("Retry-After") != "2" {
			t.Errorf("%s %s while the host is down: %d, Retry-After %q; want 503, 2", c[0], c[1], res.StatusCode, res.Header.Get("Retry-After"))
		}
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	r := openRoom(t, wide)
	token, who := r.join(t)
	for i := range 7 {
		r.host.Say(who, channels.Human, "Daniel", fmt.Sprint(i))
		r.host.Skip(who)
	}
	var got []string
	after := ""
	for range 10 {
		var p linePage
		r.call(t, "GET", "/messages?limit=3&token="+token+"&after="+after, "", "", &p)
		for _, l := range p.Items {
			got = append(got, l.Text)
		}
		if after = p.Next; after == "" {
			break
		}
	}
	if want := []string{"0", "1", "2", "3", "4", "5", "6"}; !slices.Equal(got, want) {
		t.Errorf("pages give %q, want %q", got, want)
	}
}
