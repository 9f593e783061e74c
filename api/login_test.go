package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem/internal/hub"
	"github.com/tandemhq/tandem/internal/tandemtest"
)

func signIn(h *tandemtest.Hub, email, password string, header ...string) tandemtest.Answer {
	return h.Do(http.MethodPost, "/api/v1/auth/login", "", map[string]string{"email": email, "password": password}, header...)
}

// A session is a cookie that no other host, script or plain connection gets to see, and it ends with the logout.
func TestSession(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	o := h.NewOrg("session")
	a := signIn(h, o.Email, o.Password)
	if a.Status != http.StatusOK {
		t.Fatalf("login: %d %s", a.Status, a.Body)
	}
	set := a.Header.Get("Set-Cookie")
	cookie, err := http.ParseSetCookie(set)
	if err != nil {
		t.Fatal(err)
	}
	if cookie.Name != "__Host-tandem" || !cookie.Secure || !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" || cookie.Domain != "" || cookie.MaxAge <= 0 || len(cookie.Value) < 43 {
		t.Errorf("the cookie is %s", set)
	}
	if strings.Contains(string(a.Body), cookie.Value) {
		t.Error("the body has the session's token")
	}
	carried := cookie.Name + "=" + cookie.Value
	h.Want(http.StatusOK, http.MethodGet, "/api/v1/me", "", nil, "Cookie", carried)
	if again := signIn(h, o.Email, o.Password, "Cookie", carried); again.Header.Get("Set-Cookie") == set {
		t.Error("a second login gave the same token")
	}
	var kept int
	h.In(o.ID, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*) FROM sessions WHERE encode(token_hash, 'escape') = $1`, cookie.Value).Scan(&kept)
	})
	if kept != 0 {
		t.Error("the database has the token itself")
	}

	// Another site's page cannot use the cookie, whatever it sends (SEC-12).
	for _, foreign := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "same-site"}} {
		for _, path := range []string{"/api/v1/auth/logout", "/api/v1/auth/login", "/api/v1/knowledge"} {
			a := h.Want(http.StatusForbidden, http.MethodPost, path, "", `{"title":"x","body":"x","email":"a@b.c","password":"x"}`, append([]string{"Cookie", carried}, foreign...)...)
			if err := problemIsWhole(a); err != nil {
				t.Error(err)
			}
		}
	}
	h.Want(http.StatusOK, http.MethodGet, "/api/v1/me", "", nil, "Cookie", carried, "Sec-Fetch-Site", "same-origin")

	out := h.Want(http.StatusNoContent, http.MethodPost, "/api/v1/auth/logout", "", nil, "Cookie", carried, "Sec-Fetch-Site", "same-origin")
	if c, err := http.ParseSetCookie(out.Header.Get("Set-Cookie")); err != nil || c.MaxAge != -1 || c.Value != "" || !c.Secure {
		t.Errorf("logout leaves the cookie: %q", out.Header.Get("Set-Cookie"))
	}
	gone := h.Want(http.StatusUnauthorized, http.MethodGet, "/api/v1/me", "", nil, "Cookie", carried)
	if err := problemIsWhole(gone); err != nil {
		t.Error(err)
	}
	if a := signIn(h, o.Email, o.Password, "Cookie", carried); a.Status != http.StatusOK {
		t.Errorf("an old cookie bars the way to a new one: %d", a.Status)
	}
	h.In(o.ID, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE api_keys SET expires_at = now() - interval '1 second'`)
		return err
	})
	h.Eventually(10*time.Second, "an expired key is refused", func() bool {
		return h.Do(http.MethodGet, "/api/v1/me", o.Key, nil).Status == http.StatusUnauthorized
	})
}

// A wrong password and an unknown user are told the same; after ten the account has to wait.
func TestLoginThrottle(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	h := tandemtest.Start(t, func(c *hub.Config) { c.TrustedProxies = trusted })
	o, other := h.NewOrg("victim"), h.NewOrg("neighbor")
	from := func(ip string) []string { return []string{"X-Forwarded-For", ip} }
	wrong := signIn(h, o.Email, "not this", from("198.51.100.1")...)
	unknown := signIn(h, "nobody@example.com", "not this", from("198.51.100.1")...)
	strip := func(a tandemtest.Answer) string {
		return strings.ReplaceAll(string(a.Body), a.Header.Get("X-Request-Id"), "")
	}
	if wrong.Status != http.StatusUnauthorized || strip(wrong) != strip(unknown) {
		t.Errorf("wrong password: %s, unknown user: %s", wrong.Body, unknown.Body)
	}
	// Every attempt says that it comes from elsewhere, by a header that the client wrote itself:
	// only what the proxy added at the right counts.
	for i := range 8 {
		if a := signIn(h, fmt.Sprintf("nobody%d@example.com", i), "not this", from(fmt.Sprintf("203.0.113.%d, 198.51.100.1", i))...); a.Status != http.StatusUnauthorized {
			t.Fatalf("attempt %d: %d", i, a.Status)
		}
	}
	a := signIn(h, other.Email, other.Password, from("203.0.113.99, 198.51.100.1")...)
	if a.Status != http.StatusTooManyRequests || problemIsWhole(a) != nil {
		t.Errorf("the eleventh attempt of one address: %d %s", a.Status, a.Body)
	}
	if a := signIn(h, other.Email, other.Password, from("198.51.100.2")...); a.Status != http.StatusOK {
		t.Errorf("another address: %d %s", a.Status, a.Body)
	}
	for i := range 10 {
		signIn(h, o.Email, "not this", from(fmt.Sprintf("192.0.2.%d", i))...)
	}
	if a := signIn(h, o.Email, o.Password, from("192.0.2.200")...); a.Status != http.StatusTooManyRequests {
		t.Errorf("the account after ten failures: %d", a.Status)
	}
}

// From a peer that is no proxy of ours the header means nothing.
func TestForwardedHeaderOfStrangers(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	o := h.NewOrg("spoofed")
	for i := range 10 {
		if a := signIn(h, fmt.Sprintf("nobody%d@example.com", i), "not this", "X-Forwarded-For", fmt.Sprintf("203.0.113.%d", i)); a.Status != http.StatusUnauthorized {
			t.Fatalf("attempt %d: %d", i, a.Status)
		}
	}
	if a := signIn(h, o.Email, o.Password, "X-Forwarded-For", "203.0.113.200"); a.Status != http.StatusTooManyRequests {
		t.Errorf("a spoofed header opened the limit again: %d", a.Status)
	}
}
