package inbox

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/bus"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/internal/events"
)

// live runs the bus and the drain, so that facts travel as they do in the product.
func (w *world) live() (*bus.Bus, *events.Fanout) {
	w.Helper()
	b, err := bus.Open(w.Context(), bus.Options{Dir: w.TempDir(), Logger: quiet})
	if err != nil {
		w.Fatal(err)
	}
	f, err := events.NewFanout(b.Listen)
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	d := &events.Drain{DB: w.db, Publish: b.Publish, State: b.State, Logger: quiet}
	wg.Go(func() { _ = d.Run(ctx) })
	wg.Go(func() { _ = b.Run(ctx) })
	w.Cleanup(func() {
		cancel()
		wg.Wait()
		_ = f.Close()
		_ = b.Close(context.Background())
	})
	return b, f
}

// next waits for a change that ok accepts.
func next(t *testing.T, changes <-chan channels.Change, what string, ok func(channels.Change) bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case c, open := <-changes:
			if !open {
				t.Fatalf("%s: the watch ended", what)
			}
			if ok(c) {
				return
			}
		case <-deadline:
			t.Fatalf("%s: nothing came", what)
		}
	}
}

func TestVisitorSeesOnlyWhatIsTheirs(t *testing.T) {
	w := newWorld(t)
	b, f := w.live()
	in := w.inbox(f)
	in.o.Signal = b.Signal
	bt := w.batcher(BatchOptions{})
	in.o.Deliver = bt.Deliver
	h := &Host{in: in, org: w.org, channel: w.chat}
	ctx := t.Context()

	th, err := h.Thread(ctx, w.chat, "v1", 0, 0)
	if err != nil || th.Conversation != "" || len(th.Lines) != 0 || th.Answering != channels.AI || th.Name != "Ava" {
		t.Fatalf("before the first message: %+v, %v", th, err)
	}
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	mine, err := h.Watch(watch, w.chat, "v1")
	if err != nil {
		t.Fatal(err)
	}
	msg := w.inbound("v1", "Hello")
	msg.Channel = w.form // an adapter cannot speak for another channel
	got, err := h.Deliver(ctx, msg)
	if err != nil {
		t.Fatal(err)
	}
	if c := w.get(got.Conversation); c.Channel.ID != w.chat {
		t.Errorf("delivered to channel %s", c.Channel.Name)
	}
	next(t, mine, "own message", func(c channels.Change) bool { return c.Lines })

	w.do(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) error {
		_, err := Note(ctx, tx, got.Conversation, Draft{Text: "secret"})
		return err
	})
	w.answer(w.ava, got.Conversation, "What Ava wanted to say when Sam took over")
	if _, err := w.reply(w.owner, got.Conversation, Draft{Text: "Good morning"}); err != nil {
		t.Fatal(err)
	}
	if th, err = h.Thread(ctx, w.chat, "v1", 0, 0); err != nil || len(th.Lines) != 1 {
		t.Errorf("a queued message shows: %+v, %v", th.Lines, err)
	}
	began := time.Now()
	w.deliver(w.courier())
	next(t, mine, "answer", func(c channels.Change) bool { return c.Lines })
	t.Logf("figure: from the courier to the visitor's watch, over the bus: %v", time.Since(began).Round(time.Millisecond))
	if th, err = h.Thread(ctx, w.chat, "v1", 0, 0); err != nil || len(th.Lines) != 2 || th.Answering != channels.Human || th.Name != "Sam" {
		t.Fatalf("%+v, %v", th, err)
	}
	if l := th.Lines[0]; l.From != channels.Visitor || l.ClientID != msg.ID || l.Seq != 1 {
		t.Errorf("first line %+v", l)
	}
	if l := th.Lines[1]; l.From != channels.Human || l.Text != "Good morning" || l.Seq != 4 {
		t.Errorf("second line %+v", l)
	}
	if th, err = h.Thread(ctx, w.chat, "v2", 0, 0); err != nil || th.Conversation != "" || len(th.Lines) != 0 {
		t.Errorf("another visitor sees %+v, %v", th, err)
	}

	ref := tandem.MemberRef{ID: w.owner.Member, Kind: tandem.Human, Name: "Sam"}
	until := time.Now().Add(time.Minute)
	if err := SignalTyping(ctx, b.Signal, w.org, got.Conversation, &ref, until); err != nil {
		t.Fatal(err)
	}
	next(t, mine, "typing", func(c channels.Change) bool {
		return c.Typing != nil && c.Typing.From == channels.Human && c.Typing.Name == "Sam"
	})
	notes, stop := f.Subscribe(w.org, 16)
	defer stop()
	if err := h.Typing(ctx, w.chat, "v1"); err != nil {
		t.Fatal(err)
	}
	for n := range notes {
		var body map[string]any
		if n.Signal == "typing" && json.Unmarshal(n.Body, &body) == nil && body["member"] == "contact" && body["conversation_id"] == string(got.Conversation) {
			break
		}
	}
	want(t, second(h.Thread(ctx, w.form, "v1", 0, 0)), tandem.NotFound)
	cancel()
	for range mine { // ends with its ctx
	}
}

// hookChannel answers HTTP calls and counts how often it was opened and run.
type hookChannel struct {
	fakeChannel
	settings string
	failing  bool
	ran      chan string
}

func (c *hookChannel) Run(ctx context.Context, h channels.Host) error {
	c.ran <- c.settings
	if c.failing {
		return errors.New("cannot reach the provider")
	}
	<-ctx.Done()
	return nil
}

func (c *hookChannel) Webhook(channels.Host) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte(c.settings)) })
}

func TestSwitchboardFollowsTheRecord(t *testing.T) {
	w := newWorld(t)
	_, f := w.live()
	in := w.inbox(f)
	ran := make(chan string, 16)
	in.o.Kinds = append(in.o.Kinds, channels.Kind{Name: "hook", Open: func(_ context.Context, c channels.Config) (channels.Channel, error) {
		var s struct{ Word string }
		if err := json.Unmarshal(c.Settings, &s); err != nil || s.Word == "bad" {
			return nil, tandem.InvalidFields(tandem.FieldError{Field: "settings.word", Message: "Not this word."})
		}
		if c.Secret != nil && string(c.Secret) != "hunter2" {
			return nil, errors.New("wrong secret")
		}
		return &hookChannel{settings: s.Word, failing: s.Word == "failing", ran: ran}, nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = in.Switchboard.Run(ctx)
	}()
	var ch Channel
	w.do(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) (err error) {
		ch, err = in.Channels.Create(ctx, tx, NewChannel{Kind: "hook", Name: "Hook", Settings: json.RawMessage(`{"word":"one"}`), Secret: "hunter2"})
		return err
	})
	if !strings.HasPrefix(*ch.PublicKey, "pk_") || len(*ch.PublicKey) != 25 {
		t.Errorf("public key %q", *ch.PublicKey)
	}
	shown, err := json.Marshal(ch)
	if err != nil || strings.Contains(string(shown), "hunter2") || strings.Contains(string(shown), "secret") {
		t.Errorf("shown as %s", shown)
	}
	if got := <-ran; got != "one" {
		t.Errorf("ran %q", got)
	}
	call := func() string {
		t.Helper()
		hook, err := in.Switchboard.Webhook(ctx, *ch.PublicKey)
		if err != nil {
			return err.Error()
		}
		rec := httptest.NewRecorder()
		hook.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/", nil))
		return rec.Body.String()
	}
	if got := call(); got != "one" {
		t.Errorf("answers %q", got)
	}
	patch := func(p ChannelPatch) error {
		return w.db.Tx(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) error { return second(in.Channels.Patch(ctx, tx, ch.ID, p)) })
	}
	want(t, patch(ChannelPatch{Settings: json.RawMessage(`{"word":"bad"}`)}), tandem.Invalid)
	want(t, patch(ChannelPatch{Settings: json.RawMessage(`[]`)}), tandem.Invalid)
	want(t, patch(ChannelPatch{AIMember: ptr(string(w.owner.Member))}), tandem.Invalid)
	want(t, patch(ChannelPatch{Version: ptr(int64(99))}), tandem.Conflict)
	if err := patch(ChannelPatch{Settings: json.RawMessage(`{"word":"two"}`)}); err != nil {
		t.Fatal(err)
	}
	if got := <-ran; got != "two" {
		t.Errorf("ran %q", got)
	}
	w.until("the new settings answer", func() bool { return call() == "two" })
	if err := patch(ChannelPatch{Settings: json.RawMessage(`{"word":"failing"}`)}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // runs again after a pause
		if got := <-ran; got != "failing" {
			t.Errorf("ran %q", got)
		}
	}
	w.until("the error shows", func() bool {
		var c Channel
		w.do(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) (err error) {
			c, err = in.Channels.Get(ctx, tx, ch.ID)
			return err
		})
		return c.LastError != ""
	})
	if err := patch(ChannelPatch{Status: ptr("paused")}); err != nil {
		t.Fatal(err)
	}
	w.until("the paused channel is closed", func() bool {
		_, err := in.Switchboard.Get(ctx, w.org, ch.ID)
		return tandem.KindOf(err) == tandem.Unavailable
	})
	if _, err := in.Switchboard.Webhook(ctx, "pk_unknown"); tandem.KindOf(err) != tandem.NotFound {
		t.Errorf("unknown key: %v", err)
	}
	if _, err := in.Switchboard.Get(ctx, tandem.NewID(), w.chat); tandem.KindOf(err) != tandem.NotFound {
		t.Errorf("channel of another organization: %v", err)
	}
	want(t, w.db.Tx(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) error {
		return second(in.Channels.Create(ctx, tx, NewChannel{Kind: "pigeon", Name: "x"}))
	}), tandem.Invalid)
	cancel()
	<-done
}

// A line that is still on its way hides those behind it, so that a reader who asks for
// what comes after the last line they saw misses none.
func TestLinesBehindAnUnsentOneWait(t *testing.T) {
	w := newWorld(t)
	h := &Host{in: w.inbox(nil), org: w.org, channel: w.chat}
	conv := w.ingest(w.inbound("v", "Hello")).Conversation
	if _, err := w.reply(w.owner, conv, Draft{Text: "on its way"}); err != nil {
		t.Fatal(err)
	}
	w.ingest(w.inbound("v", "Are you there?"))
	lines := func() (n int) {
		th, err := h.Thread(t.Context(), w.chat, "v", 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		return len(th.Lines)
	}
	if n := lines(); n != 1 {
		t.Errorf("%d lines while one is on its way", n)
	}
	w.deliver(w.courier())
	if n := lines(); n != 3 {
		t.Errorf("%d lines after it went out", n)
	}
}
