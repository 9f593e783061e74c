package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net"
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

const testSecret = "whsec_dGhlIHNlY3JldCBvZiB0aGUgdGVzdHM="

// config is what every channel here is opened with.
var config = channeltest.Kit{Secret: testSecret}.Config(nil)

var kit = channeltest.Kit{
	Kind: Kind, Settings: `{"reply_url":"https://example.com/replies"}`, Secret: testSecret,
	BadSettings: map[string]string{
		`{"reply_url":"ftp://example.com"}`:        "settings.reply_url",
		`{"reply_url":"https://u:p@example.com/"}`: "settings.reply_url",
		`{"reply_url":"example.com"}`:              "settings.reply_url",
		`{"reply_url":7}`:                          "settings.reply_url",
	},
	TooLong: strings.Repeat("é", MaxMessage+1),
	Offer:   offer,
	Sends: []channeltest.Send{
		{Name: "taken", Open: provider(status(202)), OK: true},
		{Name: "bad request", Open: provider(status(400)), Want: channels.Refused},
		{Name: "gone", Open: provider(status(410)), Want: channels.Refused},
		{Name: "moved", Open: provider(status(301)), Want: channels.Refused},
		{Name: "throttled", Open: provider(status(429)), Want: channels.NotSent},
		{Name: "server error", Open: provider(status(500)), Want: channels.NotSent},
		{Name: "nobody listens", Open: nobody, Want: channels.NotSent},
		{Name: "cut after the request", Open: provider(cut), Want: channels.Ambiguous},
		{Name: "no answer in time", Open: provider(hang), Want: channels.Ambiguous},
		{Name: "no reply address", Open: mute, Want: channels.Refused},
	},
}

func TestConformance(t *testing.T) {
	t.Parallel()
	channeltest.Run(t, kit)
}

// offer does what the api does with a lead: parse, complete, deliver, answer.
func offer(t *testing.T, _ channels.Channel, h channels.Host, m channeltest.Message) channeltest.Said {
	t.Helper()
	text := quote(m.Text)
	in, err := Parse([]byte(`{"external_id":"` + m.ID + `","message":` + text + `,"contact":{"email":"` + m.From + `@example.com"}}`))
	if err == nil {
		c := config
		in.Org, in.Channel = c.Org, c.ID
		_, err = h.Deliver(t.Context(), in)
	}
	switch {
	case err == nil:
		return channeltest.Taken
	case tandem.KindOf(err) == tandem.Invalid:
		return channeltest.Refused
	}
	return channeltest.Later
}

// quote writes s as a JSON string and leaves bytes that are not UTF-8 as they are.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteString(`\` + string(c))
		case c < 0x20:
			b.WriteString(`\u00` + string("0123456789abcdef"[c>>4]) + string("0123456789abcdef"[c&15]))
		default:
			b.WriteByte(c)
		}
	}
	return b.String() + `"`
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if code == http.StatusMovedPermanently {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(code)
	}
}

func cut(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	panic(http.ErrAbortHandler)
}

func hang(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// provider opens a channel whose reply address behaves as answer says and checks every
// request as a receiver would.
func provider(answer http.HandlerFunc) func(*testing.T) (channels.Channel, func() map[channels.ExternalID]int) {
	return func(t *testing.T) (channels.Channel, func() map[channels.ExternalID]int) {
		t.Helper()
		var mu sync.Mutex
		seen := map[channels.ExternalID]int{}
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return // the sender left
			}
			verify(t, r.Header, body)
			mu.Lock()
			seen[channels.ExternalID(r.Header.Get("webhook-id"))]++
			mu.Unlock()
			answer(w, r)
		}))
		t.Cleanup(s.Close)
		return opened(t, s.URL+"/replies"), func() map[channels.ExternalID]int {
			mu.Lock()
			defer mu.Unlock()
			return maps.Clone(seen)
		}
	}
}

// verify is written from the Standard Webhooks text, apart from the code under test.
func verify(t *testing.T, head http.Header, body []byte) {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(testSecret, "whsec_"))
	if err != nil {
		t.Error(err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(head.Get("webhook-id") + "." + head.Get("webhook-timestamp") + "." + string(body)))
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); head.Get("webhook-signature") != want {
		t.Errorf("signature %q, want %q", head.Get("webhook-signature"), want)
	}
	at, err := strconv.ParseInt(head.Get("webhook-timestamp"), 10, 64)
	if err != nil || time.Since(time.Unix(at, 0)).Abs() > time.Minute {
		t.Errorf("timestamp %q is not now", head.Get("webhook-timestamp"))
	}
	var got delivery
	if err := json.Unmarshal(body, &got); err != nil || got.Type != "message.created" || got.Data.Text != "Hello Ann" || got.Data.To != "ann@example.com" {
		t.Errorf("body %s (%v)", body, err)
	}
}

func opened(t *testing.T, address string) channels.Channel {
	t.Helper()
	c := config
	c.Settings = json.RawMessage(`{"reply_url":"` + address + `"}`)
	ch, err := Kind.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

func nobody(t *testing.T) (channels.Channel, func() map[channels.ExternalID]int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return opened(t, "http://"+l.Addr().String()), nil
}

func mute(t *testing.T) (channels.Channel, func() map[channels.ExternalID]int) {
	t.Helper()
	c := config
	c.Settings = nil
	ch, err := Kind.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return ch, nil
}

func TestRetryAfterIsRead(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]time.Duration{"7": 7 * time.Second, "-3": 0, "99999999": mostRetryAfter, "soon": 0} {
		ch, _ := provider(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", header)
			w.WriteHeader(http.StatusServiceUnavailable)
		})(t)
		_, err := ch.Send(t.Context(), channels.Outbound{ProviderID: "msg_1", Text: "Hello Ann", To: "ann@example.com"})
		if got := channels.AsSendError(err).RetryAfter; got != want {
			t.Errorf("Retry-After %q is read as %s, want %s", header, got, want)
		}
	}
}

func TestParseReadsEveryField(t *testing.T) {
	t.Parallel()
	body := []byte(`{"title":" Blue desks ","message":"We need 40.","source":"website","value":1250000,"currency":"eur","priority":"high",
		"tags":["b2b","desk","b2b",""],"custom":{"employees":120,"newsletter":true,"note":"x\u0000y","sizes":[1,"L"],"ratio":0.5,"none":null},
		"board":"Sales","external_id":"form-77","contact":{"name":"Ann Lee","first_name":"Ann","last_name":"Lee","email":"Ann@Example.com",
		"phone":"+49 (30) 901-820","company":"Lee GmbH"}}`)
	in, err := Parse(body)
	if err != nil {
		t.Fatal(err)
	}
	if in.ID != "form-77" || in.From != "ann@example.com" || in.FromKind != channels.IdentityEmail || in.Text != "We need 40." || in.StrictBody {
		t.Errorf("parsed %+v", in)
	}
	want := channels.ContactFacts{Name: "Ann Lee", FirstName: "Ann", LastName: "Lee", Email: "Ann@Example.com", Phone: "+49 (30) 901-820", Company: "Lee GmbH"}
	if in.Contact != want {
		t.Errorf("contact %+v, want %+v", in.Contact, want)
	}
	l := in.Lead
	if l.Title != "Blue desks" || l.Source != "website" || l.Board != "Sales" || *l.Value != 1250000 || l.Currency != "EUR" || l.Priority != "high" {
		t.Errorf("lead %+v", l)
	}
	if !slices.Equal(l.Tags, []string{"b2b", "desk"}) {
		t.Errorf("tags %q", l.Tags)
	}
	custom, err := json.Marshal(l.Custom)
	if want := `{"employees":120,"newsletter":true,"none":null,"note":"xy","ratio":0.5,"sizes":[1,"L"]}`; err != nil || string(custom) != want {
		t.Errorf("custom %s (%v), want %s", custom, err, want)
	}
	if string(in.Raw) != string(body) {
		t.Error("the body is not kept as it came")
	}
}

func TestParseFillsIn(t *testing.T) {
	t.Parallel()
	in, err := Parse([]byte(`{"title":"Call me","contact":{"phone":"0170 1234567"},"value":null,"currency":"EUR"}`))
	if err != nil {
		t.Fatal(err)
	}
	if in.Text != "Call me" || in.From != "01701234567" || in.FromKind != channels.IdentityPhone || in.Lead.Value != nil || in.Lead.Currency != "" {
		t.Errorf("parsed %+v with %+v", in, in.Lead)
	}
	if _, err := tandem.ParseID(string(in.ID)); err != nil {
		t.Errorf("without external_id the id is %q, want a fresh UUID", in.ID)
	}
}

func TestParseNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	const ok = `"contact":{"email":"a@b.co"}`
	for body, want := range map[string][]string{
		`{}`:                                                                    {"contact", "message"},
		`{"message":"x"}`:                                                       {"contact"},
		`{` + ok + `}`:                                                          {"message"},
		`{"message":" \u0000",` + ok + `}`:                                      {"message"},
		`{"message":7,` + ok + `}`:                                              {"message"},
		`{"message":"x","contact":7}`:                                           {"contact"},
		`{"message":"x","contact":{}}`:                                          {"contact"},
		`{"message":"x","contact":{"email":"a"}}`:                               {"contact.email"},
		`{"message":"x","contact":{"email":"a@b"}}`:                             {"contact.email"},
		`{"message":"x","contact":{"email":"A <a@b.co>"}}`:                      {"contact.email"},
		`{"message":"x","contact":{"email":"a@b.co\nBcc: c@d.ef"}}`:             {"contact.email"},
		`{"message":"x","contact":{"phone":"call me"}}`:                         {"contact.phone"},
		`{"message":"x","contact":{"phone":"1"}}`:                               {"contact.phone"},
		`{"message":"x","contact":{"email":"a@b.co","fax":"1"},"org_id":"x"}`:   {"contact.fax", "org_id"},
		`{"message":"x","value":1,` + ok + `}`:                                  {"currency"},
		`{"message":"x","value":-1,"currency":"EUR",` + ok + `}`:                {"value"},
		`{"message":"x","value":1.5,"currency":"EUR",` + ok + `}`:               {"value"},
		`{"message":"x","value":"1","currency":"EUR",` + ok + `}`:               {"value"},
		`{"message":"x","value":1e99,"currency":"EUR",` + ok + `}`:              {"value"},
		`{"message":"x","value":1,"currency":"EURO",` + ok + `}`:                {"currency"},
		`{"message":"x","priority":"asap",` + ok + `}`:                          {"priority"},
		`{"message":"x","tags":"a",` + ok + `}`:                                 {"tags"},
		`{"message":"x","tags":["a",1],` + ok + `}`:                             {"tags[1]"},
		`{"message":"x","custom":[],` + ok + `}`:                                {"custom"},
		`{"message":"x","custom":{"a":{"b":1}},` + ok + `}`:                     {"custom.a"},
		`{"message":"x","custom":{"a":[[1]]},` + ok + `}`:                       {"custom.a[0]"},
		`{"message":"x","custom":{"a":1e999},` + ok + `}`:                       {"custom.a"},
		`{"title":"` + strings.Repeat("x", 301) + `","message":"x",` + ok + `}`: {"title"},
	} {
		_, err := Parse([]byte(body))
		var got []string
		if e, ok := err.(*tandem.Error); ok { //nolint:errorlint // the outermost error is what is meant
			for _, f := range e.Fields {
				got = append(got, f.Field)
			}
		}
		slices.Sort(got)
		if tandem.KindOf(err) != tandem.Invalid || !slices.Equal(got, want) {
			t.Errorf("%.90s\n  names %q (%v), want %q", body, got, err, want)
		}
	}
	for _, body := range []string{``, `null`, `[]`, `"x"`, `{`, `{} {}`, "{\"message\":\"\xff\"}"} {
		if _, err := Parse([]byte(body)); err != ErrMalformed { //nolint:errorlint // returned as it is
			t.Errorf("%q: %v, want ErrMalformed", body, err)
		}
	}
}

func TestWithKey(t *testing.T) {
	t.Parallel()
	h, c := channeltest.NewHost(), config
	deliver := func(key, body string) (channels.Accepted, error) {
		in, err := Parse([]byte(body))
		if err == nil {
			in, err = WithKey(in, key)
		}
		if err != nil {
			return channels.Accepted{}, err
		}
		in.Org, in.Channel = c.Org, c.ID
		return h.Deliver(t.Context(), in)
	}
	const one, two = `{"message":"1","contact":{"email":"a@b.co"}}`, `{"message":"2","contact":{"email":"a@b.co"}}`
	first, err := deliver("k1", one)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := deliver("k1", one); err != nil || !again.Duplicate || again.Message != first.Message {
		t.Errorf("again: %+v, %v", again, err)
	}
	if _, err := deliver("k1", two); tandem.KindOf(err) != tandem.Invalid {
		t.Errorf("the key with another body: %v, want Invalid", err)
	}
	for _, key := range []string{"", "a\nb", "é", strings.Repeat("k", MaxKey+1)} {
		if _, err := deliver(key, one); tandem.KindOf(err) != tandem.Invalid {
			t.Errorf("key %q: %v, want Invalid", key, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"message":"x","contact":{"email":"a@b.co"},"custom":{"a":[1,"b"]},"tags":["x"]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		in, err := Parse(body)
		if err != nil {
			if tandem.KindOf(err) != tandem.Invalid {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		in.Org, in.Channel = "o", "c"
		if err := in.Check(); err != nil {
			t.Fatalf("%q is parsed against the contract: %v", body, err)
		}
		if _, err := json.Marshal(in.Lead.Custom); err != nil {
			t.Fatal(err)
		}
	})
}
