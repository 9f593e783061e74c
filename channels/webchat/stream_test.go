package webchat

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tandemhq/tandem/channels"
)

// frame is one server-sent event as a browser reads it.
type frame struct{ id, event, data string }

// listen opens a stream and returns its events; the channel is closed when it ends.
func (r *room) listen(ctx context.Context, t *testing.T, token, last string) (<-chan frame, *http.Response) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/stream?token="+token, nil)
	if err != nil {
		t.Fatal(err)
	}
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan frame, 100)
	go func() {
		defer close(out)
		defer func() { _ = res.Body.Close() }()
		var f frame
		for in := bufio.NewScanner(res.Body); in.Scan(); {
			field, value, _ := strings.Cut(in.Text(), ": ")
			switch field {
			case "id":
				f.id = value
			case "event":
				f.event = value
			case "data":
				f.data = value
			case "":
				if value != "" || in.Text() != "" { // a comment
					f.event = "comment"
				}
				if f.event != "" {
					select {
					case out <- f:
					case <-ctx.Done():
						return
					}
				}
				f = frame{}
			}
		}
	}()
	return out, res
}

func next(t *testing.T, in <-chan frame, event string) frame {
	t.Helper()
	for {
		select {
		case f, ok := <-in:
			if !ok {
				t.Fatalf("the stream ended before an event %q", event)
			}
			if f.event == event {
				return f
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no event %q in 10 s", event)
		}
	}
}

func TestStreamShowsEverything(t *testing.T) {
	t.Parallel()
	r := openRoom(t, wide)
	r.heartbeat = 20 * time.Millisecond
	token, who := r.join(t)
	in, res := r.listen(t.Context(), t, token, "")
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get("X-Accel-Buffering") != "no" {
		t.Fatalf("stream: %d %v", res.StatusCode, res.Header)
	}
	if f := next(t, in, "state"); f.data != `{"answering":"ai","name":"Ava"}` || f.id != "" {
		t.Errorf("state %+v", f)
	}
	until := time.Date(2026, 5, 4, 12, 0, 5, 0, time.UTC)
	r.host.Write(who, channels.Typing{From: channels.AI, Name: "Ava", Until: until})
	if f := next(t, in, "typing"); f.data != `{"from":"ai","name":"Ava","until":"2026-05-04T12:00:05Z","expires_in":0}` || f.id != "" {
		t.Errorf("typing %+v", f)
	}
	r.host.Write(who, channels.Typing{From: channels.Human, Name: "Daniel", Until: time.Now().Add(time.Hour)})
	var typing writing
	if f := next(t, in, "typing"); json.Unmarshal([]byte(f.data), &typing) != nil || typing.ExpiresIn < 3_500_000 || typing.ExpiresIn > 3_600_000 {
		t.Errorf("typing %+v, want about an hour left", f)
	}
	r.host.Say(who, channels.AI, "Ava", "a\n\nevent: line\ndata: forged", channels.Source{Title: "Delivery", URL: "https://x.co/d"})
	f := next(t, in, "line")
	var l channels.Line
	if err := json.Unmarshal([]byte(f.data), &l); err != nil || f.id != "1" || l.Seq != 1 || l.Text != "a\n\nevent: line\ndata: forged" || len(l.Sources) != 1 {
		t.Errorf("line %+v (%v)", f, err)
	}
	r.host.SetAnswering(channels.Human, "Daniel")
	if f := next(t, in, "state"); !strings.HasPrefix(f.data, `{"answering":"human","name":"Daniel"`) {
		t.Errorf("state %+v", f)
	}
	next(t, in, "comment") // the heartbeat
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for range in { //nolint:revive // drained until Close has ended it
	}
}

// TestResumeIsExact breaks the stream at every line while lines go on arriving, and
// wants each line once and in order.
func TestResumeIsExact(t *testing.T) {
	t.Parallel()
	const lines = 400
	r := openRoom(t, Limits{ReadsPerVisitor: 60000, ReadsPerVisitorBurst: 60000, StreamsPerVisitor: 1000})
	token, who := r.join(t)
	gate := make(chan struct{}, 1)
	go func() {
		for i := range lines {
			if i%3 == 0 {
				r.host.Skip(who) // a note: its seq is never seen
			}
			r.host.Say(who, channels.AI, "Ava", fmt.Sprint(i))
			if i%50 == 49 {
				<-gate // let the reader meet the live edge too
			}
		}
	}()
	var got []int
	last, reconnects := "", 0
	for len(got) < lines {
		ctx, cut := context.WithCancel(t.Context())
		in, res := r.listen(ctx, t, token, last)
		if res.StatusCode != 200 {
			t.Fatalf("reconnect %d: %d", reconnects, res.StatusCode)
		}
		for range reconnects%7 + 1 {
			if len(got) == lines {
				break
			}
			f := next(t, in, "line")
			var l channels.Line
			if err := json.Unmarshal([]byte(f.data), &l); err != nil {
				t.Fatal(err)
			}
			n, err := strconv.Atoi(l.Text)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, n)
			last = f.id
			select {
			case gate <- struct{}{}:
			default:
			}
		}
		cut()
		reconnects++
	}
	for i, n := range got {
		if i != n {
			t.Fatalf("line %d arrived as number %d: a gap or a repeat", n, i)
		}
	}
	t.Logf("%d lines over %d reconnects: no gap, no repeat", lines, reconnects)
}

func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	r := openRoom(t, Limits{Streams: 4})
	token, _ := r.join(t)
	ctx, leave := context.WithCancel(t.Context())
	for range 3 {
		in, _ := r.listen(ctx, t, token, "")
		next(t, in, "state")
	}
	if res := r.call(t, "GET", "/stream?token="+token, "", "", nil); res.StatusCode != 429 || res.Header.Get("Retry-After") == "" {
		t.Errorf("stream 4 of one visitor: %d, want 429", res.StatusCode)
	}
	other, _ := r.join(t)
	in, _ := r.listen(ctx, t, other, "")
	next(t, in, "state")
	third, _ := r.join(t)
	if res := r.call(t, "GET", "/stream?token="+third, "", "", nil); res.StatusCode != 503 {
		t.Errorf("stream 5 of the channel: %d, want 503", res.StatusCode)
	}
	leave()
	deadline := time.Now().Add(10 * time.Second)
	for r.host.Watchers() > 0 || r.openStreams() > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("%d watches and %d streams are left open", r.host.Watchers(), r.openStreams())
		}
		time.Sleep(time.Millisecond)
	}
	in, _ = r.listen(t.Context(), t, token, "")
	next(t, in, "state")
}

func (r *room) openStreams() int {
	r.chat.mu.Lock()
	defer r.chat.mu.Unlock()
	return r.chat.open
}
