package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem/internal/hub"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/tandemtest"
)

const leadPath = "/api/v1/inbound/lead"

type accepted struct {
	Contact, Lead, Conversation, Message struct{ ID string }
	Duplicate                            bool
}

// The same lead again is the same lead, however it says that it is the same.
func TestLeadTwice(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	c := newContract(t, h)
	o := h.NewOrg("leads")
	lead := func(message, external string) string {
		return fmt.Sprintf(`{"message":%q,"external_id":%q,"contact":{"email":"ada@example.com"}}`, message, external)
	}
	post := func(status int, body string, header ...string) (got accepted) {
		t.Helper()
		a := c.do("post-inbound-lead", "", "", o.Key, body, header...)
		if a.Status != status {
			t.Fatalf("status %d, want %d: %s", a.Status, status, a.Body)
		}
		if status < 300 {
			a.Into(t, &got)
		}
		return got
	}
	same := func(a, b accepted) {
		t.Helper()
		if a.Duplicate || !b.Duplicate {
			t.Error("only the second answer is a duplicate")
		}
		b.Duplicate = false
		if a != b || a.Message.ID == "" {
			t.Errorf("the ids differ: %+v and %+v", a, b)
		}
	}
	same(post(201, lead("hello", "e1")), post(200, lead("hello", "e1")))
	same(post(201, lead("hello", ""), "Idempotency-Key", "i1"), post(200, lead("hello", ""), "Idempotency-Key", "i1"))
	post(422, lead("goodbye", ""), "Idempotency-Key", "i1")
	if a, b := post(201, lead("no key", "")), post(201, lead("no key", "")); a.Message == b.Message || a.Contact != b.Contact || a.Lead != b.Lead {
		t.Errorf("without a key they are two messages of one contact and lead: %+v, %+v", a, b)
	}
	other := h.NewOrg("others")
	a := h.Want(201, http.MethodPost, leadPath, other.Key, lead("hello", "e1"))
	if strings.Contains(string(a.Body), `"duplicate":true`) {
		t.Error("another organization's external_id counted as ours")
	}
}

// REL-22: fifty at once under one key are one row and fifty equal answers.
func TestFiftyAtOnceUnderOneKey(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	o := h.NewOrg("fifty")
	conversation := post(h, o.Key, 0)
	h.Want(http.StatusOK, http.MethodPost, "/api/v1/conversations/"+conversation+"/claim", o.Key, `{}`)
	for _, target := range []struct{ path, body, count string }{
		{leadPath, `{"message":"once","contact":{"email":"once@example.com"}}`, `SELECT count(*) FROM messages WHERE org_id = $1 AND text = 'once'`},
		{"/api/v1/conversations/" + conversation + "/messages", `{"text":"one reply"}`, `SELECT count(*) FROM messages WHERE org_id = $1 AND text = 'one reply'`},
	} {
		answers := make([]tandemtest.Answer, 50)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() {
				answers[i] = h.Do(http.MethodPost, target.path, o.Key, target.body, "Idempotency-Key", "the same")
			})
		}
		wg.Wait()
		ids := map[string]int{}
		for _, a := range answers {
			var got struct {
				ID      string
				Message struct{ ID string }
			}
			if a.Status != http.StatusOK && a.Status != http.StatusCreated {
				t.Errorf("%s: status %d: %s", target.path, a.Status, a.Body)
				continue
			}
			a.Into(t, &got)
			ids[got.ID+got.Message.ID]++
		}
		var rows int
		h.In(o.ID, func(ctx context.Context, tx pgx.Tx) error { return tx.QueryRow(ctx, target.count, o.ID).Scan(&rows) })
		if len(ids) != 1 || rows != 1 {
			t.Errorf("%s: %d ids, %d rows, want one of each", target.path, len(ids), rows)
		}
		proof.Figure(t, "REL-22", "%s: 50 requests under one key, %d row, %d different answers", strings.ReplaceAll(target.path, conversation, "{id}"), rows, len(ids))
	}
}

// Who posts too much waits exactly as long as told.
func TestLeadLimit(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, func(c *hub.Config) { c.InboundPerMinute = 3 })
	c := newContract(t, h)
	o, other := h.NewOrg("busy"), h.NewOrg("calm")
	var refused tandemtest.Answer
	for i := range 4 {
		a := c.do("post-inbound-lead", "", "", o.Key, fmt.Sprintf(`{"message":"m%d","contact":{"email":"a@example.com"}}`, i))
		if i < 3 && a.Status != http.StatusCreated {
			t.Fatalf("lead %d: status %d: %s", i, a.Status, a.Body)
		}
		refused = a
	}
	if refused.Status != http.StatusTooManyRequests {
		t.Fatalf("the fourth lead of three a minute: status %d", refused.Status)
	}
	var wait int
	if _, err := fmt.Sscan(refused.Header.Get("Retry-After"), &wait); err != nil || wait < 1 || wait > 20 {
		t.Errorf("Retry-After is %q, want 1 to 20 seconds", refused.Header.Get("Retry-After"))
	}
	post(h, other.Key, 1) // another key is not affected
}

// While Postgres is away nothing is accepted, and afterwards everything goes on by itself.
func TestPostgresAway(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	c := newContract(t, h)
	o := h.NewOrg("away")
	conversation := post(h, o.Key, 1)
	super, err := pgx.Connect(t.Context(), pgtest.URL(t, "postgres", pgtest.Super))
	if err != nil {
		t.Fatal(err)
	}
	defer super.Close(context.WithoutCancel(t.Context()))
	name := pgx.Identifier{h.Database}.Sanitize()
	gate := func(open bool) {
		t.Helper()
		if _, err := super.Exec(t.Context(), fmt.Sprintf(`ALTER DATABASE %s ALLOW_CONNECTIONS %t`, name, open)); err != nil {
			t.Fatal(err)
		}
		if _, err := super.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`, h.Database); err != nil {
			t.Fatal(err)
		}
	}
	gate(false)
	for op, body := range map[string]string{
		"post-inbound-lead": `{"message":"in the dark","contact":{"email":"dark@example.com"}}`, "get-conversations": "", "get-me": "",
		"post-conversations-id-messages": `{"text":"in the dark"}`, "get-live": "", "post-auth-login": `{"email":"` + o.Email + `","password":"` + o.Password + `"}`,
	} {
		if a := c.do(op, conversation, "", o.Key, orNilText(body)); a.Status != http.StatusServiceUnavailable {
			t.Errorf("%s while Postgres is away: status %d, want 503: %s", op, a.Status, a.Body)
		}
	}
	ready := h.Want(http.StatusServiceUnavailable, http.MethodGet, "/readyz", "", nil)
	if !strings.Contains(string(ready.Body), `"postgres":"failing"`) || ready.Header.Get("Retry-After") == "" {
		t.Errorf("readyz says %s", ready.Body)
	}
	h.Want(http.StatusOK, http.MethodGet, "/healthz", "", nil)
	visitor := h.Do(http.MethodPost, "/chat/"+o.WidgetKey+"/session", "", `{}`)
	if visitor.Status != http.StatusServiceUnavailable {
		t.Errorf("the widget while Postgres is away: status %d: %s", visitor.Status, visitor.Body)
	}
	gate(true)
	post(h, o.Key, 2)
	var dark int
	h.In(o.ID, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*) FROM messages WHERE text = 'in the dark'`).Scan(&dark)
	})
	if dark != 0 {
		t.Errorf("%d messages were stored that were answered with 503", dark)
	}
	h.Want(http.StatusOK, http.MethodGet, "/readyz", "", nil)
}

// Addresses that are nothing, methods that are not answered, and the doors of the chat.
func TestAddresses(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	o := h.NewOrg("doors")
	for _, c := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{http.MethodGet, "/api/v1/nothing", 404, ""},
		{http.MethodGet, "/api", 404, ""},
		{http.MethodGet, "/api/v2/me", 404, ""},
		{http.MethodPost, "/api/v1/me", 405, "GET"},
		{http.MethodDelete, "/api/v1/conversations", 405, "GET"},
		{http.MethodPut, "/api/v1/knowledge/x", 405, "GET, PATCH, DELETE"},
		{http.MethodPost, "/healthz", 405, "GET, HEAD"},
		{http.MethodPost, "/chat/widget.js", 405, "GET"},
		{http.MethodGet, "/chat", 404, ""},
		{http.MethodGet, "/chat/unknown-key/messages", 404, ""},
		{http.MethodPost, "/chat/" + o.WidgetKey + "/nothing", 404, ""},
		{http.MethodGet, "/demo", 0, ""},
	} {
		a := h.Do(c.method, c.path, "", nil)
		if c.status == 0 {
			continue // the app answers what it knows
		}
		if a.Status != c.status || a.Header.Get("Allow") != c.allow {
			t.Errorf("%s %s: %d, Allow %q, want %d, %q", c.method, c.path, a.Status, a.Header.Get("Allow"), c.status, c.allow)
		}
		if err := problemIsWhole(a); err != nil {
			t.Errorf("%s %s: %v", c.method, c.path, err)
		}
	}
	session := h.Want(http.StatusOK, http.MethodPost, "/chat/"+o.WidgetKey+"/session", "", `{}`, "Origin", "https://shop.example", "Sec-Fetch-Site", "cross-site")
	if session.Header.Get("Access-Control-Allow-Origin") != "*" || session.Header.Get("Set-Cookie") != "" {
		t.Error("the chat must be open to any page and set no cookie")
	}
	h.Want(http.StatusNoContent, http.MethodOptions, "/chat/"+o.WidgetKey+"/messages", "", nil, "Origin", "https://shop.example", "Access-Control-Request-Method", "POST")
	if a := h.Do(http.MethodGet, "/chat/unknown-key/messages", "", nil, "Origin", "https://shop.example"); a.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Error("a page cannot read why its key was refused")
	}
	if a := h.Do(http.MethodGet, "/api/v1/me", o.Key, nil, "Origin", "https://shop.example"); a.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("the API lets foreign pages read its answers")
	}
	text := string(h.Want(http.StatusOK, http.MethodGet, "/metrics", "", nil).Body)
	for _, name := range []string{"tandem_http_requests_total", "tandem_http_request_seconds_bucket", "tandem_live_streams", "tandem_outbox_rows", "tandem_outbox_oldest_seconds"} {
		if !strings.Contains(text, name) {
			t.Errorf("/metrics lacks %s", name)
		}
	}
	h.Do("BREW", "/api/v1/me", "", nil)
	if text := string(h.Want(http.StatusOK, http.MethodGet, "/metrics", "", nil).Body); strings.Contains(text, "BREW") {
		t.Error("a client can add time series by inventing methods")
	}
	var ready struct{ Status string }
	h.Want(http.StatusOK, http.MethodGet, "/readyz", "", nil).Into(t, &ready)
	if b, _ := json.Marshal(ready); ready.Status != "ready" {
		t.Errorf("readyz says %s", b)
	}
}
