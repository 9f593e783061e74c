package webchat

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/tandemhq/tandem/channels"
)

const (
	streamPage  = 100              // lines read at once
	streamWrite = 30 * time.Second // a browser that takes nothing for this long is gone
)

// state says who answers.
type state struct {
	Answering    string `json:"answering"` // ai, human or team
	Name         string `json:"name"`
	Conversation string `json:"conversation_id,omitempty"`
}

func (c *chat) state(t channels.Thread) state {
	s := state{Answering: t.Answering, Name: t.Name, Conversation: string(t.Conversation)}
	if s.Answering == "" {
		s.Answering = channels.Team
	}
	if s.Name == "" {
		s.Name = c.settings.Team
	}
	return s
}

// writing is a typing event. A browser's clock may be wrong, so it also gets the rest.
type writing struct {
	channels.Typing
	ExpiresIn int64 `json:"expires_in"` // milliseconds; 0: they stopped
}

// stream sends the visitor's lines after the last one seen, then every new one, who
// answers, and who writes. The watch begins before the first read and every hint leads
// to a read of the thread, so a line can neither be missed nor come twice.
func (c *chat) stream(w http.ResponseWriter, r *http.Request, h channels.Host) error {
	who, err := c.reader(r)
	if err != nil {
		return err
	}
	after, err := resumeFrom(r)
	if err != nil {
		return err
	}
	leave, err := c.enter(who)
	if err != nil {
		return err
	}
	defer leave()

	ctx := r.Context()
	changes, err := h.Watch(ctx, c.config.ID, who)
	if err != nil {
		return err
	}
	s := &sender{chat: c, host: h, who: who, after: after, w: w, rc: http.NewResponseController(w), r: r}
	first, err := h.Thread(ctx, c.config.ID, who, after, streamPage)
	if err != nil {
		return err // nothing is written yet, so this can still be a 503
	}
	head := w.Header()
	head.Set("Content-Type", "text/event-stream")
	head.Set("Cache-Control", "no-store")
	head.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	defer func() { _ = s.rc.SetWriteDeadline(time.Time{}) }() // the connection may serve another call
	err = s.frame("retry: 2000\n\n")
	if err == nil {
		err = s.lines(first)
	}
	// From here on an error can only end the stream; the browser comes back and resumes.
	beat := time.NewTicker(c.heartbeat)
	defer beat.Stop()
	for err == nil {
		select {
		case <-ctx.Done():
			return nil
		case <-c.closed:
			return nil
		case ch, ok := <-changes:
			if !ok {
				return nil
			}
			if ch.Lines {
				err = s.catchUp()
			}
			if err == nil && ch.Typing != nil {
				err = s.event(0, "typing", writing{*ch.Typing, max(0, time.Until(ch.Typing.Until).Milliseconds())})
			}
		case <-beat.C:
			// Hints travel at most once; the read makes up for one that was lost.
			if err = s.frame(": beat\n\n"); err == nil {
				err = s.catchUp()
			}
		}
	}
	c.config.Log().DebugContext(ctx, "web chat stream ended", "error", err)
	return nil
}

// resumeFrom is the last seq that the browser has: what EventSource remembers wins,
// because it is never older than the address it was opened with.
func resumeFrom(r *http.Request) (int64, error) {
	if s := r.Header.Get("Last-Event-ID"); s != "" {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 {
			return n, nil
		}
	}
	return natural(r, "after", 0)
}

// sender writes one visitor's stream.
type sender struct {
	chat  *chat
	host  channels.Host
	who   channels.Address
	after int64
	last  state
	w     http.ResponseWriter
	rc    *http.ResponseController
	r     *http.Request
}

// catchUp sends everything after the last line sent.
func (s *sender) catchUp() error {
	t, err := s.host.Thread(s.r.Context(), s.chat.config.ID, s.who, s.after, streamPage)
	if err != nil {
		return fmt.Errorf("read the thread: %w", err)
	}
	return s.lines(t)
}

// lines sends a page of the thread, and the pages behind it.
func (s *sender) lines(t channels.Thread) error {
	for {
		if st := s.chat.state(t); st != s.last {
			if err := s.event(0, "state", st); err != nil {
				return err
			}
			s.last = st
		}
		for _, l := range shown(s.who, t.Lines) {
			if l.Seq <= s.after {
				continue
			}
			if err := s.event(l.Seq, "line", l); err != nil {
				return err
			}
			s.after = l.Seq
		}
		if len(t.Lines) < streamPage {
			return nil
		}
		var err error
		if t, err = s.host.Thread(s.r.Context(), s.chat.config.ID, s.who, s.after, streamPage); err != nil {
			return fmt.Errorf("read the thread: %w", err)
		}
	}
}

// event writes one event; id 0 leaves the browser's last id as it is.
func (s *sender) event(id int64, name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode a stream event: %w", err)
	}
	f := "event: " + name + "\ndata: " + string(data) + "\n\n"
	if id > 0 {
		f = "id: " + strconv.FormatInt(id, 10) + "\n" + f
	}
	return s.frame(f)
}

// frame writes and flushes. The server's write deadline would cut a stream, so each
// frame gets its own.
func (s *sender) frame(f string) error {
	_ = s.rc.SetWriteDeadline(time.Now().Add(streamWrite)) // writers without deadlines, as in tests, are fine
	if _, err := s.w.Write([]byte(f)); err != nil {
		return fmt.Errorf("write the stream: %w", err)
	}
	if err := s.rc.Flush(); err != nil {
		return fmt.Errorf("flush the stream: %w", err)
	}
	return nil
}
