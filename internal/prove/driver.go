package prove

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/prove/oracle"
)

// Traffic is what a Driver sends: so many conversations of each sort, each a person who writes one message after the
// other and waits for its acceptance first.
type Traffic struct {
	Forms        int           // conversations over POST /api/v1/inbound/lead
	FormMessages int           // messages of each
	FormEvery    time.Duration // from one message's acceptance to the next message
	Chats        int           // conversations in the web chat
	ChatMessages int
	ChatEvery    time.Duration // a visitor may send 10 a minute and 5 at once
	Words        string        // put into every message, such as "[think 500]"
	Resend       time.Duration // wait before a refused message is sent again; 0: 50 ms
}

// Sent is one line of a driver's journal: a message that was accepted with a 2xx.
type Sent struct {
	ID      string // the driver's own; the message's text carries it as [#ID]
	Who     string // whose conversation: a mail address or a visitor's token
	Chat    bool
	Index   int // 0, 1, 2 … within the conversation
	Message string
	Tries   int
	At      time.Time // of the acceptance
}

// Driver sends traffic to a site, each message again until it is accepted.
type Driver struct {
	URL, APIKey string
	Oracle      oracle.Client
	Chat        string // the chat's address

	mu      sync.Mutex
	sent    []Sent
	refused []string // answers that no repeat mends, and repeats that got other ids
	again   int
	status  map[int]int
	wg      sync.WaitGroup
	stop    context.CancelFunc
}

// NewDriver makes a driver for a site; o is needed for chats only.
func NewDriver(s *Site, o oracle.Client) *Driver {
	return &Driver{URL: s.URL, APIKey: s.APIKey, Oracle: o, Chat: s.URL + "/chat/" + s.WidgetKey, status: map[int]int{}}
}

// Begin starts traffic. Visitors enter the chat before it returns, so a process must be running then.
func (d *Driver) Begin(t testing.TB, f Traffic) {
	t.Helper()
	if f.Resend == 0 {
		f.Resend = 50 * time.Millisecond
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.stop = cancel
	t.Cleanup(cancel)
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	for i := range f.Forms {
		who := fmt.Sprintf("person%d-%s@example.com", i, tandem.NewID())
		d.wg.Go(func() {
			d.person(ctx, f.FormMessages, f.FormEvery, f.Resend, func(n int, id string) (string, int, time.Duration) {
				return d.lead(client, who, id, f.text(id))
			}, Sent{Who: who})
		})
	}
	for i := range f.Chats {
		v, err := d.Oracle.Enter(t.Context(), d.Chat, fmt.Sprintf("10.%d.%d.%d", 1+i>>16, i>>8&255, i&255))
		if err != nil {
			t.Fatal(err)
		}
		d.wg.Go(func() {
			d.person(ctx, f.ChatMessages, f.ChatEvery, f.Resend, func(_ int, id string) (string, int, time.Duration) {
				message, _, status, after := v.Say(context.WithoutCancel(ctx), id, f.text(id))
				return message, status, after
			}, Sent{Who: v.Token, Chat: true})
		})
	}
}

func (f Traffic) text(id string) string {
	if f.Words == "" {
		return "Hello [#" + id + "]"
	}
	return f.Words + " [#" + id + "]"
}

// person sends one conversation's messages. When ctx ends, what was begun is still brought to acceptance, or it would be
// unknown whether it has to be there.
func (d *Driver) person(ctx context.Context, messages int, every, resend time.Duration, send func(n int, id string) (string, int, time.Duration), s Sent) {
	for n := range messages {
		if ctx.Err() != nil {
			return
		}
		s.ID, s.Index, s.Tries = string(tandem.NewID()), n, 0
		for limit := time.Now().Add(3 * time.Minute); ; {
			s.Tries++
			message, status, after := send(n, s.ID)
			if d.note(&s, message, status) {
				break
			}
			if time.Now().After(limit) {
				d.fault("message %s was not accepted within three minutes; the last status is %d", s.ID, status)
				return
			}
			time.Sleep(max(resend, after)) // it is down, starting, or too much came at once
		}
		select {
		case <-ctx.Done():
		case <-time.After(every):
		}
	}
}

// note writes down one answer; it reports whether the message is done with.
func (d *Driver) note(s *Sent, message string, status int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status[status]++
	if s.Tries > 1 {
		d.again++
	}
	switch {
	case status/100 == 2:
		s.Message, s.At = message, time.Now()
		d.sent = append(d.sent, *s)
		return true
	case status/100 == 4 && status != http.StatusTooManyRequests:
		d.refused = append(d.refused, fmt.Sprintf("message %s: status %d", s.ID, status))
		return true
	}
	return false
}

func (d *Driver) fault(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused = append(d.refused, fmt.Sprintf(format, args...))
}

// lead posts one lead once.
func (d *Driver) lead(client *http.Client, who, id, text string) (message string, status int, after time.Duration) {
	body, _ := json.Marshal(map[string]any{ // plain maps always encode
		"title": "Lead", "message": text, "external_id": id, "contact": map[string]string{"name": "Somebody", "email": who},
	})
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, d.URL+"/api/v1/inbound/lead", bytes.NewReader(body))
	if err != nil {
		return "", 0, 0
	}
	req.Header.Set("X-API-Key", d.APIKey)
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return "", 0, 0
	}
	defer res.Body.Close()
	var answer struct{ Message struct{ ID string } }
	if json.NewDecoder(res.Body).Decode(&answer) != nil && res.StatusCode/100 == 2 {
		return "", 0, 0 // cut in the middle: as good as none
	}
	s, _ := strconv.Atoi(res.Header.Get("Retry-After")) // absent: 0
	return answer.Message.ID, res.StatusCode, time.Duration(s) * time.Second
}

// Wait waits until everything was sent. A process must run, or come back in time.
func (d *Driver) Wait() { d.wg.Wait() }

// End sends nothing new and waits until what was begun is accepted.
func (d *Driver) End() {
	d.stop()
	d.wg.Wait()
}

// Accepted returns the journal: what got a 2xx, in the order of acceptance.
func (d *Driver) Accepted() []Sent {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]Sent(nil), d.sent...)
}

// Repeated is how many sends were repeats.
func (d *Driver) Repeated() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.again
}

// Refused lists what no repeat would mend: a 4xx, or a message that was never accepted.
func (d *Driver) Refused() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.refused...)
}

// Statuses counts the answers by status, 0 for none.
func (d *Driver) Statuses() map[int]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[int]int{}
	for s, n := range d.status {
		out[s] = n
	}
	return out
}
