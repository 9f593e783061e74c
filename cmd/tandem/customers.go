package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tandemhq/tandem"
)

// customers plays people who write to the demo organization, through the same doors as
// real ones: the chat widget's endpoints and the lead form's. They read what is answered
// and answer in turn.
type customers struct {
	url       string
	widgetKey string
	apiKey    string
	http      *http.Client
	log       *slog.Logger
	rng       *rand.Rand

	mu    sync.Mutex
	mails map[string]chan string // e-mail address -> replies to lead forms, as they arrive
}

const (
	firstPause    = 4 * time.Second  // between new customers, until the inbox looks lived in
	laterPause    = 75 * time.Second // afterwards
	livelyAfter   = 24
	mostTurns     = 10
	mailsKept     = 16
	answerAfter   = 3 * time.Second // plus up to as much again: people read before they write
	patience      = 45 * time.Second
	askEvery      = time.Second
	requestWithin = 10 * time.Second
)

func newCustomers(url, widgetKey, apiKey string, log *slog.Logger) *customers {
	return &customers{
		url: url, widgetKey: widgetKey, apiKey: apiKey, log: log, mails: map[string]chan string{},
		http: &http.Client{Timeout: requestWithin}, rng: rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1)), //nolint:gosec // a play, not a secret
	}
}

// run starts customers one after the other until ctx ends.
func (c *customers) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	order := c.rng.Perm(len(people))
	for n := 0; ; n++ {
		p := people[order[n%len(order)]]
		wg.Go(func() {
			if err := c.play(ctx, p, n); err != nil && ctx.Err() == nil {
				c.log.Debug("a simulated customer gave up", "err", err)
			}
		})
		pause := firstPause
		if n >= livelyAfter {
			pause = laterPause
		}
		if !wait(ctx, pause) {
			return
		}
	}
}

func (c *customers) play(ctx context.Context, p person, n int) error {
	if p.byForm {
		return c.byForm(ctx, p, n)
	}
	return c.byChat(ctx, p)
}

// byForm hands in a lead and goes on by answering what comes back to its address.
func (c *customers) byForm(ctx context.Context, p person, n int) error {
	email := p.email
	if n >= len(people) { // the same play again is somebody else
		email = fmt.Sprintf("%s+%d%s", p.email[:strings.Index(p.email, "@")], n, p.email[strings.Index(p.email, "@"):])
	}
	replies := make(chan string, mailsKept)
	c.mu.Lock()
	c.mails[email] = replies
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.mails, email)
		c.mu.Unlock()
	}()
	say := func(text string) error {
		lead := map[string]any{
			"title": p.title, "message": text, "source": "website", "external_id": string(tandem.NewID()),
			"contact": map[string]string{"name": p.name, "email": email, "company": p.company},
		}
		return c.post(ctx, c.url+"/api/v1/inbound/lead", c.apiKey, lead, nil)
	}
	if err := say(p.opening); err != nil {
		return err
	}
	told := p.script()
	for range mostTurns {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(patience):
			return nil
		case text := <-replies:
			answer := told.answer(text)
			if answer == "" || !wait(ctx, c.thinking()) {
				return nil
			}
			if err := say(answer); err != nil {
				return err
			}
		}
	}
	return nil
}

type chatLine struct {
	Seq  int64  `json:"seq"`
	From string `json:"from"`
	Text string `json:"text"`
}

// byChat talks in the widget: it sends, and looks for new lines every second.
func (c *customers) byChat(ctx context.Context, p person) error {
	base := c.url + "/chat/" + c.widgetKey
	var session struct{ Token string }
	if err := c.post(ctx, base+"/session", "", map[string]string{}, &session); err != nil {
		return err
	}
	say := func(text string) error {
		return c.post(ctx, base+"/messages", session.Token, map[string]string{"id": string(tandem.NewID()), "text": text}, nil)
	}
	if err := say(p.opening); err != nil {
		return err
	}
	told, after := p.script(), int64(0)
	for turn, silent := 0, time.Duration(0); turn < mostTurns && silent < patience; silent += askEvery {
		if !wait(ctx, askEvery) {
			return nil
		}
		var page struct{ Items []chatLine }
		if err := c.get(ctx, fmt.Sprintf("%s/messages?after=%d", base, after), session.Token, &page); err != nil {
			return err
		}
		heard := ""
		for _, l := range page.Items {
			after = max(after, l.Seq)
			if l.From == "ai" || l.From == "human" {
				heard = l.Text
			}
		}
		if heard == "" {
			continue
		}
		answer := told.answer(heard)
		if answer == "" || !wait(ctx, c.thinking()) {
			return nil
		}
		if err := say(answer); err != nil {
			return err
		}
		turn, silent = turn+1, 0
	}
	return nil
}

// ServeHTTP takes the replies that Tandem sends to a lead form's customers.
func (c *customers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var delivery struct {
		Data struct{ To, Text string }
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&delivery); err != nil {
		http.Error(w, "not a reply", http.StatusBadRequest)
		return
	}
	reply := delivery.Data
	c.mu.Lock()
	mailbox := c.mails[strings.ToLower(reply.To)]
	c.mu.Unlock()
	if mailbox != nil {
		select {
		case mailbox <- reply.Text:
		default: // a full mailbox belongs to somebody who left
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

func (c *customers) thinking() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return answerAfter + time.Duration(c.rng.Int64N(int64(answerAfter)))
}

func (c *customers) post(ctx context.Context, url, token string, in, out any) error {
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return c.do(ctx, http.MethodPost, url, token, bytes.NewReader(b), out)
}

func (c *customers) get(ctx context.Context, url, token string, out any) error {
	return c.do(ctx, http.MethodGet, url, token, nil, out)
}

func (c *customers) do(ctx context.Context, method, url, token string, in io.Reader, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, url, in)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode >= http.StatusMultipleChoices {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 500))
		return fmt.Errorf("%s %s: %s: %s", method, url, res.Status, text)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(out)
}

func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
