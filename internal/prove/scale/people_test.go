//go:build prove

package scale

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/prove"
)

var client = &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

// ask makes one request and reads its answer into out, which may be nil.
func ask(ctx context.Context, method, url, body string, out any, header ...string) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err // cut in the middle: as good as none
	}
	if out != nil && res.StatusCode/100 == 2 {
		if err := json.NewDecoder(bytes.NewReader(b)).Decode(out); err != nil {
			return 0, err
		}
	}
	return res.StatusCode, nil
}

// member is a person of the team, who works over the API.
type member struct{ url, key string }

func (m *member) call(t *testing.T, want int, method, path, body string, out any) {
	t.Helper()
	status, err := ask(t.Context(), method, m.url+path, body, out, "X-API-Key", m.key)
	if err != nil || status != want {
		t.Fatalf("%s %s: status %d, %v; want %d", method, path, status, err, want)
	}
}

// visitor writes in the chat over any of several processes.
type visitor struct {
	urls  []string
	chat  string // path of the channel
	from  string // an address of its own, so that no limit counts all visitors as one
	token string
}

func newVisitor(t *testing.T, url, widgetKey string) *visitor {
	t.Helper()
	v := &visitor{urls: []string{url}, chat: "/chat/" + widgetKey, from: fmt.Sprintf("198.51.%d.%d", rand.IntN(256), rand.IntN(256))}
	if err := v.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return v
}

var errRefused = errors.New("refused for good")

// insist repeats a request at another process until it is taken.
func (v *visitor) insist(ctx context.Context, method, path, body string, out any) error {
	for try := 0; ; try++ {
		url := v.urls[try%len(v.urls)]
		status, err := ask(ctx, method, url+v.chat+path, body, out, "Authorization", "Bearer "+v.token, "X-Forwarded-For", v.from)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("%s %s: the last answer was %d, %v: %w", method, path, status, err, ctx.Err())
		case err == nil && status/100 == 2:
			return nil
		case err == nil && status/100 == 4 && status != http.StatusTooManyRequests:
			return fmt.Errorf("%s %s: status %d: %w", method, path, status, errRefused)
		}
		time.Sleep(20 * time.Millisecond) // it is down or starting
	}
}

func (v *visitor) open(ctx context.Context) error {
	var session struct{ Token string }
	if err := v.insist(ctx, http.MethodPost, "/session", "{}", &session); err != nil {
		return err
	}
	v.token = session.Token
	return nil
}

// write sends a message under an id of its own, which its text names, until it is accepted. It returns that id and the
// message's own.
func (v *visitor) write(ctx context.Context, text string) (id, message string, err error) {
	id = string(tandem.NewID())
	body, _ := json.Marshal(map[string]string{"id": id, "text": text + " [#" + id + "]"}) // texts always encode
	var line struct{ ID string }
	err = v.insist(ctx, http.MethodPost, "/messages", string(body), &line)
	return id, line.ID, err
}

func (v *visitor) say(t *testing.T, text string) {
	t.Helper()
	if _, _, err := v.write(t.Context(), text); err != nil {
		t.Fatal(err)
	}
}

// sees waits until somebody of the given kind has answered.
func (v *visitor) sees(t *testing.T, from string) {
	t.Helper()
	prove.Until(t, prove.Patience, "the visitor sees a line of "+from, func() bool {
		var thread struct{ Items []struct{ From string } }
		if err := v.insist(t.Context(), http.MethodGet, "/messages?after=0", "", &thread); err != nil {
			t.Fatal(err)
		}
		for _, l := range thread.Items {
			if l.From == from {
				return true
			}
		}
		return false
	})
}
