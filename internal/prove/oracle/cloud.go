package oracle

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Hook is where the Cloud API posts its webhooks.
type Hook struct {
	URL      string   `json:"url"`
	Secret   string   `json:"secret"`   // the app secret that signs them
	Phone    string   `json:"phone"`    // phone_number_id
	Statuses []string `json:"statuses"` // sent for each message taken, such as sent, delivered, read; none: silence
}

// Said is a message that somebody writes on WhatsApp.
type Said struct {
	From string `json:"from"` // their number
	ID   string `json:"id"`   // wamid
	Text string `json:"text"`
}

// cloud is WhatsApp's Cloud API: it takes messages, keeps media, and posts webhooks.
type cloud struct {
	j      *Journal
	faults *faults
	ctx    context.Context
	base   string
	mux    *http.ServeMux

	mu    sync.Mutex
	hook  Hook
	media map[string]media
	n     int
}

type media struct {
	kind string
	body []byte
}

func newCloud(ctx context.Context, j *Journal, f *faults) *cloud {
	c := &cloud{j: j, faults: f, ctx: ctx, media: map[string]media{}, mux: http.NewServeMux()}
	c.mux.HandleFunc("POST /{version}/{phone}/messages", c.authorized(c.send))
	c.mux.HandleFunc("POST /{version}/{phone}/media", c.authorized(c.upload))
	c.mux.HandleFunc("GET /{version}/{media}", c.authorized(c.describe))
	c.mux.HandleFunc("GET /download/{media}", c.authorized(c.download))
	return c
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.mux.ServeHTTP(w, r) }

func (c *cloud) authorized(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if len(r.Header.Get("Authorization")) <= len("Bearer ") {
			graph(w, http.StatusUnauthorized, map[string]any{"error": map[string]any{"message": "Invalid OAuth access token.", "type": "OAuthException", "code": 190}})
			return
		}
		next(w, r)
	}
}

func graph(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

func (c *cloud) point(h Hook) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hook = h
}

func (c *cloud) next(prefix string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return fmt.Sprintf("%s%08d", prefix, c.n)
}

// send takes a message. The API knows no idempotency: the same body twice is two messages, and the key in the journal is
// the sender's own biz_opaque_callback_data.
func (c *cloud) send(w http.ResponseWriter, r *http.Request) {
	f := c.faults.roll(Cloud)
	if !f.begin(c.ctx, w, r) {
		return
	}
	var in struct {
		Product  string                `json:"messaging_product"`
		To       string                `json:"to"`
		Callback string                `json:"biz_opaque_callback_data"`
		Text     struct{ Body string } `json:"text"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, mostBody)).Decode(&in); err != nil || in.Product != "whatsapp" || in.To == "" {
		graph(w, http.StatusBadRequest, map[string]any{"error": map[string]any{"message": "(#100) Invalid parameter", "type": "OAuthException", "code": 100}})
		return
	}
	id := c.next("wamid.ORACLE")
	c.j.add(Entry{Provider: Cloud, Kind: Took, Key: in.Callback, Thread: in.To, From: r.PathValue("phone"), Text: in.Text.Body})
	go c.statuses(id, in.To, in.Callback)
	if !f.taken(c.ctx, w, r, in.Callback) {
		return
	}
	c.j.add(Entry{Provider: Cloud, Kind: Answered, Key: in.Callback})
	graph(w, http.StatusOK, map[string]any{
		"messaging_product": "whatsapp", "contacts": []any{map[string]string{"input": in.To, "wa_id": in.To}},
		"messages": []any{map[string]string{"id": id}},
	})
}

// statuses reports what became of a message, in order, each until the hook takes it.
func (c *cloud) statuses(id, to, callback string) {
	c.mu.Lock()
	hook := c.hook
	c.mu.Unlock()
	for _, s := range hook.Statuses {
		status := map[string]any{"id": id, "status": s, "timestamp": strconv.FormatInt(time.Now().Unix(), 10), "recipient_id": to}
		if callback != "" {
			status["biz_opaque_callback_data"] = callback
		}
		for wait := 200 * time.Millisecond; c.ctx.Err() == nil; wait = min(2*wait, 10*time.Second) {
			if code, err := c.post(c.ctx, hook, map[string]any{"statuses": []any{status}}); err == nil && code == http.StatusOK {
				break
			}
			sleep(c.ctx, c.ctx, wait)
		}
	}
}

// say posts a message of somebody's once and returns what the hook answered; who tests a repeat says it again.
func (c *cloud) say(ctx context.Context, in Said) (map[string]int, error) {
	c.mu.Lock()
	hook := c.hook
	c.mu.Unlock()
	if hook.URL == "" {
		return nil, errors.New("point the hook somewhere first")
	}
	code, err := c.post(ctx, hook, map[string]any{
		"contacts": []any{map[string]any{"wa_id": in.From, "profile": map[string]string{"name": "Somebody"}}},
		"messages": []any{map[string]any{
			"from": in.From, "id": in.ID, "timestamp": strconv.FormatInt(time.Now().Unix(), 10), "type": "text", "text": map[string]string{"body": in.Text},
		}},
	})
	if err != nil {
		return nil, err
	}
	return map[string]int{"status": code}, nil
}

var hookClient = &http.Client{Timeout: 10 * time.Second}

// post sends one webhook, signed over its raw bytes.
func (c *cloud) post(ctx context.Context, hook Hook, value map[string]any) (int, error) {
	value["messaging_product"] = "whatsapp"
	value["metadata"] = map[string]string{"display_phone_number": hook.Phone, "phone_number_id": hook.Phone}
	body, err := json.Marshal(map[string]any{
		"object": "whatsapp_business_account",
		"entry":  []any{map[string]any{"id": "0", "changes": []any{map[string]any{"field": "messages", "value": value}}}},
	})
	if err != nil {
		return 0, fmt.Errorf("encode a webhook: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, hook.URL, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	mac := hmac.New(sha256.New, []byte(hook.Secret))
	mac.Write(body)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	c.j.add(Entry{Provider: Cloud, Kind: Out, Bytes: string(body), Size: len(body)})
	res, err := hookClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)) // so that the connection can be used again
	return res.StatusCode, nil
}

func (c *cloud) upload(w http.ResponseWriter, r *http.Request) {
	f := c.faults.roll(Cloud)
	if !f.begin(c.ctx, w, r) {
		return
	}
	file, head, err := r.FormFile("file")
	if err != nil {
		graph(w, http.StatusBadRequest, map[string]any{"error": map[string]any{"message": "(#100) The parameter file is required.", "code": 100}})
		return
	}
	defer file.Close()
	body, err := io.ReadAll(io.LimitReader(file, 100<<20))
	if err != nil {
		hangUp(w, true)
		return
	}
	id := c.next("9")
	c.mu.Lock()
	c.media[id] = media{head.Header.Get("Content-Type"), body}
	c.mu.Unlock()
	if f.taken(c.ctx, w, r, id) {
		graph(w, http.StatusOK, map[string]string{"id": id})
	}
}

func (c *cloud) find(w http.ResponseWriter, r *http.Request) (media, bool) {
	c.mu.Lock()
	m, ok := c.media[r.PathValue("media")]
	c.mu.Unlock()
	if !ok {
		graph(w, http.StatusNotFound, map[string]any{"error": map[string]any{"message": "Unsupported get request.", "code": 100}})
	}
	return m, ok
}

func (c *cloud) describe(w http.ResponseWriter, r *http.Request) {
	if m, ok := c.find(w, r); ok {
		id, sum := r.PathValue("media"), sha256.Sum256(m.body)
		graph(w, http.StatusOK, map[string]any{
			"messaging_product": "whatsapp", "id": id, "url": c.base + "/download/" + id, "mime_type": m.kind,
			"sha256": hex.EncodeToString(sum[:]), "file_size": len(m.body),
		})
	}
}

func (c *cloud) download(w http.ResponseWriter, r *http.Request) {
	if m, ok := c.find(w, r); ok {
		w.Header().Set("Content-Type", m.kind)
		_, _ = w.Write(m.body) // the client may be gone
	}
}
