package oracle

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Client steers an oracle in another process.
type Client struct{ Addresses }

var controlClient = &http.Client{Timeout: 30 * time.Second}

// Journal returns the entries after number after, bytes left out; empty provider and kind take all.
func (c Client) Journal(ctx context.Context, after int64, provider, kind string) ([]Entry, error) {
	q := url.Values{"after": {strconv.FormatInt(after, 10)}, "provider": {provider}, "kind": {kind}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Control+"/journal?"+q.Encode(), nil)
	if err != nil {
		return nil, err
	}
	res, err := controlClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read the journal: %s", res.Status)
	}
	var found []Entry
	for dec := json.NewDecoder(res.Body); ; {
		var e Entry
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return nil, fmt.Errorf("read the journal: %w", err)
		}
		found = append(found, e)
	}
}

// Mark puts an entry of the caller's own into the journal and returns it: what is numbered higher came later.
func (c Client) Mark(ctx context.Context, key, text string) (e Entry, err error) {
	return e, c.do(ctx, http.MethodPost, "/marks", map[string]string{"key": key, "text": text}, &e)
}

// Fault makes calls fail from now on, beside the faults that were ordered before.
func (c Client) Fault(ctx context.Context, f Fault) error {
	return c.do(ctx, http.MethodPost, "/faults", f, nil)
}

// NoFaults ends all faults.
func (c Client) NoFaults(ctx context.Context) error {
	return c.do(ctx, http.MethodDelete, "/faults", struct{}{}, nil)
}

// Model says what the model does about conversations that do not say it themselves.
func (c Client) Model(ctx context.Context, s Script) error {
	return c.do(ctx, http.MethodPost, "/model", s, nil)
}

// Enter lets somebody open the chat at chat, such as http://127.0.0.1:8080/chat/pk_…, and watch it from now on.
func (c Client) Enter(ctx context.Context, chat, ip string) (*Visitor, error) {
	v := &Visitor{}
	return v, c.do(ctx, http.MethodPost, "/visitors", map[string]string{"chat": chat, "ip": ip}, v)
}

// Hook says where the Cloud API posts to.
func (c Client) Hook(ctx context.Context, h Hook) error {
	return c.do(ctx, http.MethodPost, "/cloud/hook", h, nil)
}

// Say lets somebody write on WhatsApp once; it returns what the hook answered.
func (c Client) Say(ctx context.Context, s Said) (status int, err error) {
	var out struct{ Status int }
	return out.Status, c.do(ctx, http.MethodPost, "/cloud/say", s, &out)
}

func (c Client) do(ctx context.Context, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("oracle %s: %w", path, err)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.Control+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := controlClient.Do(req)
	if err != nil {
		return fmt.Errorf("oracle %s: %w", path, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 1000)) // as much as there is of the reason
		return fmt.Errorf("oracle %s: %s: %s", path, res.Status, text)
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(res.Body).Decode(out); err != nil {
		return fmt.Errorf("oracle %s: %w", path, err)
	}
	return nil
}
