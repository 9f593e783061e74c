package oracle_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/smtp"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tandemhq/tandem/agents/llm"
	"github.com/tandemhq/tandem/internal/egress"
	"github.com/tandemhq/tandem/internal/prove/oracle"
)

func start(t *testing.T) (oracle.Client, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journal")
	s, err := oracle.Start(oracle.Options{Journal: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return oracle.Client{Addresses: s.Addresses}, path
}

func order(t *testing.T, c oracle.Client, f oracle.Fault) {
	t.Helper()
	if err := errors.Join(c.NoFaults(t.Context()), c.Fault(t.Context(), f)); err != nil {
		t.Fatal(err)
	}
}

func kinds(t *testing.T, c oracle.Client, after int64, provider string) (found []string, last int64) {
	t.Helper()
	entries, err := c.Journal(t.Context(), after, provider, "")
	if err != nil {
		t.Fatal(err)
	}
	last = after
	for _, e := range entries {
		found = append(found, strings.TrimSpace(e.Kind+" "+e.Key))
		if e.N <= last {
			t.Errorf("entry %d comes after %d", e.N, last)
		}
		last = e.N
	}
	return found, last
}

func want(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: the journal has %q, want %q", what, got, want)
	}
}

// A mail through the library's client, at every point of failure: the journal says whether it was taken, and the client
// is told, or not, as the point has it.
func TestSMTPSink(t *testing.T) {
	t.Parallel()
	c, path := start(t)
	send := func(id string) error {
		body := "Message-ID: <" + id + ">\r\nSubject: Hi\r\n\r\n.A line that begins with a dot\r\n"
		return smtp.SendMail(c.SMTP, nil, "us@example.com", []string{"you@example.com"}, []byte(body))
	}
	var last int64
	var got []string
	for _, tc := range []struct {
		point  string
		fails  bool
		expect []string
	}{
		{"", false, []string{"took a", "answered a"}},
		{oracle.Reset, true, []string{"failed"}},
		{oracle.Before, true, []string{"failed"}},
		{oracle.Middle, true, []string{"failed"}},
		{oracle.AfterTaking, true, []string{"took a", "failed a"}},
		{oracle.BeforeAnswering, false, []string{"took a", "failed a", "answered a"}},
		{oracle.Slow, false, []string{"failed", "took a", "answered a"}},
	} {
		if tc.point != "" {
			order(t, c, oracle.Fault{Provider: oracle.SMTP, Point: tc.point, Rate: 1, DelayMS: 50})
		}
		began := time.Now()
		if err := send("a"); (err != nil) != tc.fails {
			t.Errorf("%s: %v", tc.point, err)
		}
		if took := time.Since(began); (tc.point == oracle.Slow || tc.point == oracle.BeforeAnswering) && took < 50*time.Millisecond {
			t.Errorf("%s took only %s", tc.point, took)
		}
		got, last = kinds(t, c, last, oracle.SMTP)
		want(t, "smtp "+tc.point, got, tc.expect...)
	}
	raw, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(raw, []byte(`A line that begins with a dot`)) || !bytes.Contains(raw, []byte(`"kind":"in"`)) {
		t.Errorf("the file has not every byte: %v", err)
	}
}

// The product's own client of models at every deed of the model.
func TestModelServer(t *testing.T) {
	t.Parallel()
	c, _ := start(t)
	allow, err := egress.ParseAllow("127.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	m, err := llm.Open(llm.Settings{
		Provider: "compatible", BaseURL: c.Addresses.Model, Model: "oracle", APIKey: "sk-proof", Timeout: 5 * time.Second, MaxAttempts: 1,
		AllowPrivate: []egress.Allow{allow},
	})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(text string) (llm.Response, error) {
		return m.Next(t.Context(), llm.Request{
			System: "Be brief.", Messages: []llm.Message{{Role: llm.User, From: "contact", Text: text}},
			Tools: []llm.ToolSpec{{Name: "add_note", About: "a note"}},
		})
	}
	for text, expect := range map[string]string{
		"Hello [#m1]":                   oracle.AnswerTo("m1"),
		"[#old] said, now [#m2]":        oracle.AnswerTo("m2"),
		"[think 20] [#m3]":              oracle.AnswerTo("m3"),
		"I want a person [handoff]":     "request_handoff",
		"Write it down [tool add_note]": "add_note",
	} {
		r, err := ask(text)
		got := r.Text
		if len(r.Calls) == 1 {
			got = r.Calls[0].Name
		}
		if err != nil || got != expect {
			t.Errorf("%q: %q, %v; want %q", text, got, err, expect)
		}
	}
	for deed, code := range map[string]string{
		"hang": llm.CodeDeadline, "cut": llm.CodeNetwork, "garbage": llm.CodeMalformed, "empty": llm.CodeEmpty,
		"429": llm.CodeThrottled, "500": llm.CodeProvider, "401": llm.CodeAuth, "flood 9000": llm.CodeTooLarge,
	} {
		_, err := ask("[" + deed + "]")
		if e := llm.AsError(err); e == nil || e.Code != code {
			t.Errorf("%s: %v, want %s", deed, err, code)
		}
	}
	if err := c.Model(t.Context(), oracle.Script{Do: "500"}); err != nil {
		t.Fatal(err)
	}
	if _, err := ask("hello"); err == nil {
		t.Error("the script was not followed")
	}
	if err := c.Model(t.Context(), oracle.Script{Do: "dance"}); err == nil {
		t.Error("a script that does not exist was taken")
	}
}

// A stream as OpenAI writes it: every event is JSON, the deltas make the answer, [DONE] ends it.
func TestModelStream(t *testing.T) {
	t.Parallel()
	c, _ := start(t)
	res, err := http.Post(c.Addresses.Model+"/chat/completions", "application/json", //nolint:noctx // local
		strings.NewReader(`{"model":"x","stream":true,"messages":[{"role":"user","content":[{"type":"text","text":"[#m1]"}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	text, finish, done := "", "", false
	for line := range strings.Lines(string(body)) {
		data, ok := strings.CutPrefix(strings.TrimSpace(line), "data: ")
		if !ok {
			continue
		}
		if done = data == "[DONE]"; done {
			continue
		}
		var chunk struct {
			Choices []struct {
				Delta  struct{ Content string }
				Finish string `json:"finish_reason"`
			}
		}
		if err := json.Unmarshal([]byte(data), &chunk); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		text, finish = text+chunk.Choices[0].Delta.Content, chunk.Choices[0].Finish
	}
	if text != oracle.AnswerTo("m1") || finish != "stop" || !done {
		t.Errorf("text %q, finish %q, done %v", text, finish, done)
	}
}

func TestWebhookSink(t *testing.T) {
	t.Parallel()
	c, _ := start(t)
	client := &http.Client{Timeout: 5 * time.Second}
	post := func(id string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.Addresses.Webhook+"/replies", strings.NewReader(`{"data":{"message_id":"m","conversation_id":"c","text":"hello"}}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("webhook-id", id)
		res, err := client.Do(req)
		if err != nil {
			return 0
		}
		defer res.Body.Close()
		var got struct{ ID string }
		if json.NewDecoder(res.Body).Decode(&got) == nil && got.ID != id {
			t.Errorf("answered %q", got.ID)
		}
		return res.StatusCode
	}
	if got := post("a"); got != 200 {
		t.Errorf("status %d", got)
	}
	got, last := kinds(t, c, 0, oracle.Webhook)
	want(t, "webhook", got, "took a", "answered a")
	for point, expect := range map[string][]string{
		oracle.Before: {"failed"}, oracle.Reset: {"failed"}, oracle.Middle: {"failed"}, oracle.AfterTaking: {"took a", "failed a"},
	} {
		order(t, c, oracle.Fault{Provider: oracle.Webhook, Point: point, Rate: 1})
		if status := post("a"); status != 0 {
			t.Errorf("%s: status %d", point, status)
		}
		got, last = kinds(t, c, last, oracle.Webhook)
		for len(got) > len(expect) && got[0] == expect[0] && point != oracle.AfterTaking {
			got = got[1:] // Go's client repeats a request by itself when a kept connection ends before the first byte
		}
		want(t, "webhook "+point, got, expect...)
	}
	order(t, c, oracle.Fault{Provider: oracle.Webhook, Point: oracle.AfterTaking, Rate: 0.2, Seed: 7})
	if err := c.Fault(t.Context(), oracle.Fault{Provider: oracle.Webhook, Point: oracle.Before, Rate: 0.1, Seed: 8}); err != nil {
		t.Fatal(err)
	}
	cut := 0
	for i := range 200 {
		if post(fmt.Sprint(i)) == 0 {
			cut++
		}
	}
	if cut < 35 || cut > 90 {
		t.Errorf("%d of 200 were cut, want about 60", cut)
	}
}

func TestCloudAPI(t *testing.T) {
	t.Parallel()
	c, _ := start(t)
	type event struct{ status, text, callback string }
	heard := make(chan event, 10)
	refuse := make(chan bool, 1)
	refuse <- true
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mac := hmac.New(sha256.New, []byte("secret"))
		mac.Write(body)
		if err != nil || r.Header.Get("X-Hub-Signature-256") != "sha256="+hex.EncodeToString(mac.Sum(nil)) {
			t.Errorf("bad signature: %v", err)
		}
		select {
		case <-refuse:
			w.WriteHeader(http.StatusServiceUnavailable) // it must come again
			return
		default:
		}
		var in struct {
			Entry []struct {
				Changes []struct {
					Value struct {
						Statuses []struct {
							Status   string
							Callback string `json:"biz_opaque_callback_data"`
						}
						Messages []struct{ Text struct{ Body string } }
					}
				}
			}
		}
		if err := json.Unmarshal(body, &in); err != nil {
			t.Error(err)
			return
		}
		v := in.Entry[0].Changes[0].Value
		for _, s := range v.Statuses {
			heard <- event{status: s.Status, callback: s.Callback}
		}
		for _, m := range v.Messages {
			heard <- event{text: m.Text.Body}
		}
	}))
	defer hook.Close()
	if err := c.Hook(t.Context(), oracle.Hook{URL: hook.URL, Secret: "secret", Phone: "111", Statuses: []string{"sent", "delivered"}}); err != nil {
		t.Fatal(err)
	}
	call := func(method, url, kind string, body io.Reader) (int, map[string]any) {
		req, err := http.NewRequestWithContext(t.Context(), method, url, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer token")
		req.Header.Set("Content-Type", kind)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		raw, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		var out map[string]any
		if json.Unmarshal(raw, &out) != nil {
			out = map[string]any{"raw": string(raw)}
		}
		return res.StatusCode, out
	}
	status, out := call(http.MethodPost, c.Addresses.Cloud+"/v23.0/111/messages", "application/json",
		strings.NewReader(`{"messaging_product":"whatsapp","to":"491","type":"text","text":{"body":"hi"},"biz_opaque_callback_data":"ours"}`))
	if status != 200 || !strings.Contains(fmt.Sprint(out), "wamid.") {
		t.Fatalf("send: %d %v", status, out)
	}
	for _, expect := range []event{{status: "sent", callback: "ours"}, {status: "delivered", callback: "ours"}} {
		if got := <-heard; got != expect {
			t.Errorf("heard %+v, want %+v", got, expect)
		}
	}
	if code, err := c.Say(t.Context(), oracle.Said{From: "491", ID: "wamid.1", Text: "hello"}); code != 200 || err != nil {
		t.Errorf("say: %d, %v", code, err)
	}
	if got := <-heard; got.text != "hello" {
		t.Errorf("heard %+v", got)
	}
	got, _ := kinds(t, c, 0, oracle.Cloud)
	want(t, "cloud", got, "took ours", "answered ours")

	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	part, err := w.CreateFormFile("file", "a.txt")
	if err == nil {
		_, err = part.Write([]byte("content"))
	}
	if err := errors.Join(err, w.WriteField("messaging_product", "whatsapp"), w.Close()); err != nil {
		t.Fatal(err)
	}
	_, out = call(http.MethodPost, c.Addresses.Cloud+"/v23.0/111/media", w.FormDataContentType(), &form)
	_, out = call(http.MethodGet, c.Addresses.Cloud+"/v23.0/"+fmt.Sprint(out["id"]), "", nil)
	if _, out = call(http.MethodGet, fmt.Sprint(out["url"]), "", nil); out["raw"] != "content" {
		t.Errorf("media: %v", out)
	}
}
