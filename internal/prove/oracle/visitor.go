package oracle

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Visitor is somebody in the web chat, known by a token. The oracle watches the stream; Say may be called by whoever
// has the Visitor.
type Visitor struct {
	Chat  string `json:"chat"`  // http://tandem/chat/KEY
	IP    string `json:"ip"`    // what X-Forwarded-For says; empty: nothing
	Token string `json:"token"` // the visitor's
}

var chatClient = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

// Enter opens a session as somebody new.
func Enter(ctx context.Context, chat, ip string) (*Visitor, error) {
	v := &Visitor{Chat: strings.TrimSuffix(chat, "/"), IP: ip}
	res, err := v.post(ctx, "/session", []byte("{}"))
	if err != nil {
		return nil, fmt.Errorf("enter the chat: %w", err)
	}
	defer res.Body.Close()
	var s struct{ Token string }
	if err := json.NewDecoder(res.Body).Decode(&s); err != nil || s.Token == "" {
		return nil, fmt.Errorf("enter the chat: %s", res.Status)
	}
	v.Token = s.Token
	return v, nil
}

func (v *Visitor) post(ctx context.Context, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.Chat+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	v.head(req)
	req.Header.Set("Content-Type", "application/json")
	return chatClient.Do(req)
}

func (v *Visitor) head(req *http.Request) {
	if v.Token != "" {
		req.Header.Set("Authorization", "Bearer "+v.Token)
	}
	if v.IP != "" {
		req.Header.Set("X-Forwarded-For", v.IP)
	}
}

// Say posts one message once. id is a UUID: the same id again is the same message. A status of 0 says that no complete
// answer came; retryAfter is what a 429 or 503 asked for.
func (v *Visitor) Say(ctx context.Context, id, text string) (message string, seq int64, status int, retryAfter time.Duration) {
	body, err := json.Marshal(map[string]string{"id": id, "text": text})
	if err != nil {
		return "", 0, 0, 0
	}
	res, err := v.post(ctx, "/messages", body)
	if err != nil {
		return "", 0, 0, 0
	}
	defer res.Body.Close()
	var got struct {
		ID  string
		Seq int64
	}
	if err := json.NewDecoder(res.Body).Decode(&got); err != nil && res.StatusCode/100 == 2 {
		return "", 0, 0, 0 // cut in the middle: as good as none
	}
	s, _ := strconv.Atoi(res.Header.Get("Retry-After")) // absent: 0
	return got.ID, got.Seq, res.StatusCode, time.Duration(s) * time.Second
}

const (
	streamFirst = 100 * time.Millisecond
	streamMost  = 600 * time.Millisecond
)

// watch keeps the visitor's stream open, as a browser does: it comes back after each end, and tells the last line that
// it has seen. Every line goes into the journal.
func (v *Visitor) watch(ctx context.Context, j *Journal) {
	last := int64(0)
	for wait := streamFirst; ctx.Err() == nil; {
		if v.stream(ctx, j, &last) {
			wait = streamFirst
		}
		sleep(ctx, ctx, wait)
		wait = min(2*wait, streamMost)
	}
}

// stream reads one connection to its end; it reports whether it was accepted.
func (v *Visitor) stream(ctx context.Context, j *Journal, last *int64) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.Chat+"/stream", nil)
	if err != nil {
		return false
	}
	v.head(req)
	if *last > 0 {
		req.Header.Set("Last-Event-ID", strconv.FormatInt(*last, 10))
	}
	res, err := streams.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		_, _ = io.Copy(io.Discard, res.Body)
		return false
	}
	event := ""
	for lines := bufio.NewReader(res.Body); ; {
		text, err := lines.ReadString('\n')
		if err != nil {
			return true // what has no end of line is not whole, and comes again
		}
		text = strings.TrimSuffix(text, "\n")
		switch {
		case text == "":
			event = ""
		case strings.HasPrefix(text, "event: "):
			event = text[len("event: "):]
		case strings.HasPrefix(text, "data: ") && event == "line":
			var l struct {
				Seq            int64
				ID, From, Text string
			}
			if json.Unmarshal([]byte(text[len("data: "):]), &l) == nil {
				j.add(Entry{Provider: Visitors, Kind: Line, Key: l.ID, Thread: v.Token, Seq: l.Seq, From: l.From, Text: l.Text})
				*last = l.Seq
			}
		}
	}
}

// Streams have no timeout: they are endless.
var streams = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, ResponseHeaderTimeout: 10 * time.Second}}
