// Package channeltest is the conformance suite of the channels contract: every
// adapter runs it. Its Host keeps conversations in memory, as strictly as the real
// one: it refuses what the contract forbids and removes duplicates by id.
package channeltest

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
)

// Host is a channels.Host that keeps everything in memory. Use it from several goroutines.
type Host struct {
	mu         sync.Mutex
	down       bool
	forget     int // how many next answers of Deliver are lost after they took effect
	calls      int
	delivered  []channels.Inbound
	accepted   map[channels.ExternalID]stored
	quarantine map[channels.ExternalID][]byte
	statuses   []StatusReport
	typed      map[channels.Address]int
	threads    map[channels.Address]*thread
	answering  string
	name       string
}

type stored struct {
	in  channels.Inbound
	got channels.Accepted
}

type thread struct {
	id      tandem.ID
	contact tandem.ID
	next    int64
	lines   []channels.Line
	watch   map[chan channels.Change]bool
}

// StatusReport is one call of Status.
type StatusReport struct {
	Channel        tandem.ID
	ID             channels.ExternalID
	Status, Detail string
}

var _ channels.Host = (*Host)(nil)

// NewHost returns a Host whose first answers come from "Ava", an AI member.
func NewHost() *Host {
	return &Host{
		accepted: map[channels.ExternalID]stored{}, quarantine: map[channels.ExternalID][]byte{},
		typed: map[channels.Address]int{}, threads: map[channels.Address]*thread{},
		answering: channels.AI, name: "Ava",
	}
}

// SetDown makes every call fail as Unavailable, as when Postgres is away.
func (h *Host) SetDown(down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = down
}

// LoseAnswers makes the next n deliveries take effect and yet answer Unavailable, as
// when the connection breaks between the commit and its answer.
func (h *Host) LoseAnswers(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forget = n
}

func (h *Host) up(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return tandem.Wrap(tandem.Unavailable, err, "The call ended too early.")
	}
	if h.down {
		e := tandem.Errorf(tandem.Unavailable, "The database is away. Try again shortly.")
		e.RetryAfter = 2 * time.Second
		return e
	}
	return nil
}

// Deliver implements channels.Host.
func (h *Host) Deliver(ctx context.Context, in channels.Inbound) (channels.Accepted, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls++
	if err := h.up(ctx); err != nil {
		return channels.Accepted{}, err
	}
	if err := in.Check(); err != nil {
		return channels.Accepted{}, err
	}
	if old, ok := h.accepted[in.ID]; ok {
		if in.StrictBody && !bytes.Equal(old.in.Raw, in.Raw) {
			return channels.Accepted{}, tandem.InvalidFields(tandem.FieldError{Field: "id", Message: "This key was used for another request."})
		}
		got := old.got
		got.Duplicate = true
		return got, nil
	}
	t := h.thread(in.From)
	if t.id == "" {
		t.id = tandem.NewID()
	}
	line := h.add(t, channels.Line{
		From: channels.Visitor, Name: in.Contact.Name, Text: in.Text, ClientID: in.ID, At: time.Now().UTC(),
	})
	got := channels.Accepted{Contact: t.contact, Conversation: t.id, Message: line.ID, Seq: line.Seq}
	h.accepted[in.ID] = stored{in, got}
	h.delivered = append(h.delivered, in)
	if h.forget > 0 {
		h.forget--
		return channels.Accepted{}, tandem.Errorf(tandem.Unavailable, "The connection broke. Try again shortly.")
	}
	return got, nil
}

// Quarantine implements channels.Host.
func (h *Host) Quarantine(ctx context.Context, _ tandem.ID, id channels.ExternalID, raw []byte, _ string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.up(ctx); err != nil {
		return err
	}
	if len(raw) > channels.MaxRaw {
		return tandem.InvalidFields(tandem.FieldError{Field: "raw", Message: "This is too large."})
	}
	h.quarantine[id] = bytes.Clone(raw)
	return nil
}

// Status implements channels.Host.
func (h *Host) Status(ctx context.Context, channel tandem.ID, id channels.ExternalID, status, detail string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.up(ctx); err != nil {
		return err
	}
	h.statuses = append(h.statuses, StatusReport{channel, id, status, detail})
	return nil
}

// Thread implements channels.Host.
func (h *Host) Thread(ctx context.Context, _ tandem.ID, from channels.Address, after int64, limit int) (channels.Thread, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.up(ctx); err != nil {
		return channels.Thread{}, err
	}
	if limit <= 0 {
		limit = 200
	}
	t := h.thread(from)
	out := channels.Thread{Conversation: t.id, Answering: h.answering, Name: h.name}
	for _, l := range t.lines {
		if l.Seq > after && len(out.Lines) < limit {
			out.Lines = append(out.Lines, l)
		}
	}
	return out, nil
}

// Watch implements channels.Host.
func (h *Host) Watch(ctx context.Context, _ tandem.ID, from channels.Address) (<-chan channels.Change, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.up(ctx); err != nil {
		return nil, err
	}
	ch := make(chan channels.Change, 1)
	t := h.thread(from)
	t.watch[ch] = true
	context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(t.watch, ch)
		close(ch)
	})
	return ch, nil
}

// Typing implements channels.Host.
func (h *Host) Typing(ctx context.Context, _ tandem.ID, from channels.Address) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.up(ctx); err != nil {
		return err
	}
	h.typed[from]++
	return nil
}

func (h *Host) thread(from channels.Address) *thread {
	t := h.threads[from]
	if t == nil {
		t = &thread{contact: tandem.NewID(), next: 1, watch: map[chan channels.Change]bool{}}
		h.threads[from] = t
	}
	return t
}

func (h *Host) add(t *thread, l channels.Line) channels.Line {
	l.Seq, l.ID = t.next, tandem.NewID()
	t.next++
	t.lines = append(t.lines, l)
	tell(t, channels.Change{Lines: true})
	return l
}

// tell merges what a slow reader has not taken yet, as the contract allows.
func tell(t *thread, c channels.Change) {
	for ch := range t.watch {
		select {
		case old := <-ch:
			merged := c
			merged.Lines = merged.Lines || old.Lines
			if merged.Typing == nil {
				merged.Typing = old.Typing
			}
			ch <- merged
		case ch <- c:
		}
	}
}

// Say adds a line of the team to the thread of from.
func (h *Host) Say(from channels.Address, voice, name, text string, sources ...channels.Source) channels.Line {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.add(h.thread(from), channels.Line{From: voice, Name: name, Text: text, At: time.Now().UTC(), Sources: sources})
}

// Skip uses up one seq without a line, as an internal note does.
func (h *Host) Skip(from channels.Address) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.thread(from)
	t.next++
	tell(t, channels.Change{Lines: true})
}

// SetAnswering changes who answers everybody.
func (h *Host) SetAnswering(answering, name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answering, h.name = answering, name
	for _, t := range h.threads {
		tell(t, channels.Change{Lines: true})
	}
}

// Write shows from that somebody of the team is typing.
func (h *Host) Write(from channels.Address, typing channels.Typing) {
	h.mu.Lock()
	defer h.mu.Unlock()
	tell(h.thread(from), channels.Change{Typing: &typing})
}

// Delivered returns every message taken, once each, in order.
func (h *Host) Delivered() []channels.Inbound {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]channels.Inbound(nil), h.delivered...)
}

// Quarantined returns the raw bytes kept under id.
func (h *Host) Quarantined(id channels.ExternalID) ([]byte, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	raw, ok := h.quarantine[id]
	return raw, ok
}

// Statuses returns every Status call, in order.
func (h *Host) Statuses() []StatusReport {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]StatusReport(nil), h.statuses...)
}

// Typed returns how often from was reported to be typing.
func (h *Host) Typed(from channels.Address) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.typed[from]
}

// Calls returns how often Deliver was called.
func (h *Host) Calls() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls
}

// Watchers returns how many watches are open, over all threads.
func (h *Host) Watchers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, t := range h.threads {
		n += len(t.watch)
	}
	return n
}
