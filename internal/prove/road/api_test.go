//go:build prove

package road

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/tandemhq/tandem/internal/prove"
)

var apiClient = &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

// call asks a site's API as its owner; it returns the status, 0 without an answer.
func call(s *prove.Site, method, path string, in, out any) (status int, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequest(method, s.URL+"/api/v1"+path, bytes.NewReader(body)) //nolint:noctx // the client has a timeout
	if err != nil {
		return 0, err
	}
	req.Header.Set("X-API-Key", s.APIKey)
	req.Header.Set("Content-Type", "application/json")
	res, err := apiClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err
	}
	if res.StatusCode/100 != 2 {
		return res.StatusCode, fmt.Errorf("%s %s: %s: %s", method, path, res.Status, raw)
	}
	if out == nil {
		return res.StatusCode, nil
	}
	return res.StatusCode, json.Unmarshal(raw, out)
}

// must is call that has to succeed.
func must(t *testing.T, s *prove.Site, method, path string, in, out any) {
	t.Helper()
	if _, err := call(s, method, path, in, out); err != nil {
		t.Fatal(err)
	}
}

// opened is what a lead became.
type opened struct {
	Conversation, Message struct{ ID string }
}

// write posts one lead of somebody's.
func write(t *testing.T, s *prove.Site, who, id, text string) (o opened) {
	t.Helper()
	must(t, s, http.MethodPost, "/inbound/lead", lead(who, id, text), &o)
	return o
}

// lead is what somebody's lead looks like.
func lead(who, id, text string) map[string]any {
	return map[string]any{
		"title": "Lead", "message": text, "external_id": id, "contact": map[string]string{"name": "Somebody", "email": who + "@example.com"},
	}
}
