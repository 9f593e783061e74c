package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/tandemtest"
	"github.com/tandemhq/tandem/team"
)

// frame is one server-sent event as a browser reads it.
type frame struct{ id, event, data string }

type fact struct {
	ID    string
	Seq   int64
	Noun  string
	Verb  string
	Actor struct{ Name string }
}

// follow opens the live stream. The channel is closed when the stream ends.
func follow(t *testing.T, h *tandemtest.Hub, key, last string) (frames <-chan frame, leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL()+"/api/v1/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-API-Key", key)
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("the stream answered %d %s", res.StatusCode, res.Header.Get("Content-Type"))
	}
	out := make(chan frame, 1000)
	go func() {
		defer close(out)
		defer func() { _ = res.Body.Close() }()
		var f frame
		in := bufio.NewScanner(res.Body)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			field, value, _ := strings.Cut(in.Text(), ": ")
			switch field {
			case "id":
				f.id = value
			case "event":
				f.event = value
			case "data":
				f.data = value
			case "":
				if f.event != "" {
					out <- f
				}
				f = frame{}
			}
		}
	}()
	return out, cancel
}

// await reads frames until one of the event comes for which ok holds.
func await(t *testing.T, frames <-chan frame, event string, ok func(frame) bool) frame {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case f, open := <-frames:
			if !open {
				t.Fatalf("the stream ended before %s", event)
			}
			if f.event == event && (ok == nil || ok(f)) {
				return f
			}
		case <-deadline:
			t.Fatalf("no %s came", event)
		}
	}
}

func readFact(t *testing.T, f frame) (out fact) {
	t.Helper()
	if err := json.Unmarshal([]byte(f.data), &out); err != nil {
		t.Fatalf("a fact that is no JSON: %v: %s", err, f.data)
	}
	return out
}

func topic(t *testing.T, want string) func(frame) bool {
	return func(f frame) bool {
		got := readFact(t, f)
		return got.Noun+"."+got.Verb == want
	}
}

func post(h *tandemtest.Hub, key string, i int) (conversation string) {
	var lead struct{ Conversation struct{ ID string } }
	a := h.Want(http.StatusCreated, http.MethodPost, "/api/v1/inbound/lead", key, map[string]any{
		"message": fmt.Sprintf("message %d", i), "contact": map[string]string{"email": fmt.Sprintf("c%d@example.com", i)},
	})
	_ = json.Unmarshal(a.Body, &lead) // an empty id fails what uses it
	return lead.Conversation.ID
}

// The stream says hello, then what happens in the own organization, who is typing, and nothing else.
func TestLive(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	ours, theirs := h.NewOrg("ours"), h.NewOrg("theirs")
	frames, leave := follow(t, h, ours.Key, "")
	defer leave()
	if f := await(t, frames, "hello", nil); f.id == "" || !strings.HasPrefix(f.data, `{"seq":`) {
		t.Errorf("hello is %+v", f)
	}
	post(h, theirs.Key, 1)
	conversation := post(h, ours.Key, 2)
	var seen []fact
	await(t, frames, "fact", func(f frame) bool {
		got := readFact(t, f)
		seen = append(seen, got)
		if f.id != fmt.Sprint(got.Seq) {
			t.Errorf("the frame %s has the seq %d", f.id, got.Seq)
		}
		return got.Noun+"."+got.Verb == "message.received"
	})
	h.Want(http.StatusNoContent, http.MethodPost, "/api/v1/conversations/"+conversation+"/typing", ours.Key, `{}`)
	if f := await(t, frames, "typing", nil); f.id != "" || !strings.Contains(f.data, conversation) || !strings.Contains(f.data, "ours owner") {
		t.Errorf("typing is %+v", f)
	}
	foreign := map[string]bool{}
	h.In(theirs.ID, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT id::text FROM events WHERE org_id = @org`, pgx.StrictNamedArgs{"org": theirs.ID})
		if err != nil {
			return err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		for _, id := range ids {
			foreign[id] = true
		}
		return err
	})
	for _, f := range seen {
		if foreign[f.ID] {
			t.Errorf("a fact of the other organization came: %+v", f)
		}
	}
	if len(foreign) == 0 {
		t.Error("the other organization has no facts; the test looks at nothing")
	}
	for _, key := range []string{"", "tdm_wrong"} {
		h.Want(http.StatusUnauthorized, http.MethodGet, "/api/v1/live", key, nil)
	}
}

// Who comes back with Last-Event-ID gets every fact in between, at least once, wherever
// the connection broke; an unknown place is answered with resync.
func TestLiveResumes(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	o := h.NewOrg("ours")
	other := h.NewOrg("theirs")
	const leads, cuts = 60, 6
	got := map[string]bool{}
	last, repeated := "", 0
	for cut := range cuts {
		frames, leave := follow(t, h, o.Key, last)
		hello := await(t, frames, "hello", nil)
		if last == "" || cut%2 == 1 {
			last = hello.id // as a browser does; on a resumed stream this must not lose the place
		}
		if cut == 2 {
			leave() // it breaks right after hello, before anything was repeated
			for range leads / cuts {
				post(h, o.Key, len(got)+10_000+cut)
			}
			continue
		}
		for i := range leads / cuts {
			post(h, o.Key, cut*100+i)
			post(h, other.Key, cut*100+i)
		}
		n := 0
		await(t, frames, "fact", func(f frame) bool {
			x := readFact(t, f)
			if got[x.ID] {
				repeated++
			}
			got[x.ID], last = true, f.id
			n++
			return n > 5 // leave in the middle
		})
		leave()
	}
	frames, leave := follow(t, h, o.Key, last)
	defer leave()
	var want []string
	h.In(o.ID, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT id::text FROM events WHERE org_id = @org AND chain_id <> @none AND noun IN ('message', 'conversation', 'lead', 'contact')
			AND verb IN ('received', 'opened', 'created') AND seq > (SELECT min(seq) FROM events WHERE org_id = @org AND noun = 'message')`,
			pgx.StrictNamedArgs{"org": o.ID, "none": tandem.NewID()})
		if err != nil {
			return err
		}
		want, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if len(want) < leads {
		t.Fatalf("only %d facts were written", len(want))
	}
	await(t, frames, "fact", func(f frame) bool {
		got[readFact(t, f).ID] = true
		return !slices.ContainsFunc(want, func(id string) bool { return !got[id] })
	})
	far, leaveFar := follow(t, h, o.Key, "999999999")
	defer leaveFar()
	if f := await(t, far, "resync", nil); f.id == "" {
		t.Error("resync has no place to go on from")
	}
	h.Want(http.StatusUnprocessableEntity, http.MethodGet, "/api/v1/live", o.Key, nil, "Last-Event-ID", "x")
	t.Logf("figure: live stream: %d facts over %d broken connections, 0 missing, %d repeated", len(want), cuts, repeated)
}

// A revoked key ends its stream at once, an ended session too; a viewer's stream has no security facts.
func TestLiveEndsWithItsCredentials(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	o := h.NewOrg("ours")
	var key, narrow string
	var id tandem.ID
	h.In(o.ID, func(ctx context.Context, tx pgx.Tx) (err error) {
		if key, id, err = team.CreateKey(ctx, tx, "short-lived", o.Owner.ID, nil); err != nil {
			return err
		}
		narrow, _, err = team.CreateKey(ctx, tx, "narrow", o.Owner.ID, []string{"conversation:read"})
		return err
	})
	frames, leave := follow(t, h, key, "")
	defer leave()
	await(t, frames, "hello", nil)
	limited, leaveLimited := follow(t, h, narrow, "")
	defer leaveLimited()
	await(t, limited, "hello", nil)
	began := time.Now()
	h.In(o.ID, func(ctx context.Context, tx pgx.Tx) error { return team.RevokeKey(ctx, tx, id) })
	await(t, frames, "fact", topic(t, "key.revoked"))
	deadline := time.After(10 * time.Second)
	for open := true; open; {
		select {
		case _, open = <-frames:
		case <-deadline:
			t.Fatal("the stream of a revoked key goes on")
		}
	}
	t.Logf("figure: live stream: ended %s after its key was revoked", time.Since(began).Round(time.Millisecond))
	h.Want(http.StatusUnauthorized, http.MethodGet, "/api/v1/me", key, nil)

	post(h, o.Key, 1)
	await(t, limited, "fact", func(f frame) bool {
		got := readFact(t, f)
		if got.Noun != "message" && got.Noun != "conversation" {
			t.Errorf("a key with conversation:read alone was shown %s.%s", got.Noun, got.Verb)
		}
		return got.Noun == "message"
	})
}

// A reader that does not read is dropped; it holds neither the others nor memory.
func TestLiveDropsWhoDoesNotRead(t *testing.T) {
	t.Parallel()
	h := tandemtest.Start(t, nil)
	o := h.NewOrg("ours")
	u, err := url.Parse(h.URL())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /api/v1/live HTTP/1.1\r\nHost: %s\r\nX-API-Key: %s\r\n\r\n", u.Host, o.Key)
	frames, leave := follow(t, h, o.Key, "")
	defer leave()
	await(t, frames, "hello", nil)
	streams := func() string {
		for line := range strings.Lines(string(h.Want(http.StatusOK, http.MethodGet, "/metrics", "", nil).Body)) {
			if n, ok := strings.CutPrefix(line, "tandem_live_streams "); ok {
				return strings.TrimSpace(n)
			}
		}
		return ""
	}
	h.Eventually(10*time.Second, "both streams are open", func() bool { return streams() == "2" })
	// Signals are the cheapest flood: each is some 9 kB, far more in all than the sockets hold.
	body, err := json.Marshal(map[string]string{"conversation_id": strings.Repeat("x", 9000)})
	if err != nil {
		t.Fatal(err)
	}
	sent, flood := 0, 4000
	h.Eventually(40*time.Second, "the reader that does not read is dropped", func() bool {
		for range flood {
			if err := h.Bus.Signal(t.Context(), "sig."+string(o.ID)+".typing", body); err != nil {
				t.Fatal(err)
			}
			sent++
		}
		flood = 20
		for len(frames) > 0 {
			<-frames
		}
		return streams() == "1"
	})
	post(h, o.Key, 1)
	await(t, frames, "fact", topic(t, "message.received"))
	_, _ = io.Copy(io.Discard, io.LimitReader(conn, 1)) // what was on the wire
	t.Logf("figure: live stream: a reader that stopped reading was dropped after %d signals of 9 kB; the other got everything", sent)
}
