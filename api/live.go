package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/team"
)

const (
	heartbeat     = 15 * time.Second
	liveBuffer    = 256
	replayMax     = 10_000
	replayPage    = 500
	writeDeadline = 10 * time.Second
	maxHeld       = 32 // frames of a reader that is behind, in one write
	// A transaction that began earlier may commit a lower seq later. A resumed stream
	// therefore also repeats what is this much older than where the reader stopped;
	// readers apply facts idempotently by id.
	lateBy   = 10 * time.Second
	lateSeqs = 5_000
	// An answer of the doors may be a second old, so a revocation is looked for a little later.
	revokedAfter = 1100 * time.Millisecond
)

// seenBy is the permission that each noun's facts need; of a record that crm lists, it is the one to read it. A noun that
// is not here is for nobody.
var seenBy = func() map[string]string {
	m := map[string]string{
		"message": "conversation:read", "conversation": "conversation:read", "handoff": "conversation:read", "inbound": "conversation:read",
		"channel":   "channel:read",
		"knowledge": "knowledge:read", "run": "run:read", "member": "member:read", "team": "member:read",
		"organization": "member:read", "session": "member:write", "key": "member:write",
	}
	for _, r := range crm.All {
		m[r.Noun] = r.Noun + ":read"
	}
	return m
}()

// live streams the organization's facts to one member as server-sent events
// (WHATWG HTML, "Server-sent events"). Delivery is at least once.
func (s *server) live(w http.ResponseWriter, r *http.Request) {
	var o opening
	var err error
	aside(func() { o, err = s.open(r) })
	if err != nil {
		writeProblem(w, r, s.log, err)
		return
	}
	defer o.stop()
	st := &stream{w: w, rc: http.NewResponseController(w), reader: o.reader}
	st.open()
	s.metrics.streams.Inc()
	defer s.metrics.streams.Dec()
	if err := s.follow(tandem.WithActor(r.Context(), o.reader), st, r, o); err != nil {
		s.log.DebugContext(r.Context(), "live stream ended", "err", err, "request_id", requestID(r.Context()))
	}
}

// aside runs fn on a goroutine of its own and waits for it. A stream waits for hours on a stack that stays as large as it
// ever had to be; what goes deep, into the database or an encoder, goes there on one that is given back.
func aside(fn func()) {
	done := make(chan any)
	go func() {
		defer func() { done <- recover() }()
		fn()
	}()
	if p := <-done; p != nil {
		panic(p)
	}
}

// opening is what a stream begins with.
type opening struct {
	reader     tandem.Actor
	notes      <-chan *events.Note
	stop       func()
	last, head int64 // where the reader stopped, -1: nowhere; and where the log is
}

func (s *server) open(r *http.Request) (o opening, err error) {
	a, ok, err := s.actor(r)
	if err == nil && !ok {
		_, err = tandem.ActorFrom(r.Context())
	}
	if err == nil {
		err = a.Require("conversation:read")
	}
	if err != nil {
		return o, err
	}
	a.Chain = tandem.ID(requestID(r.Context()))
	o.reader = a
	if o.last, err = lastEventID(r); err != nil {
		return o, err
	}
	o.notes, o.stop = s.Fanout.Subscribe(a.Org, liveBuffer)
	if o.head, err = s.head(tandem.WithActor(r.Context(), a)); err != nil {
		o.stop()
	}
	return o, err
}

func lastEventID(r *http.Request) (int64, error) {
	v := r.Header.Get("Last-Event-ID")
	if v == "" {
		v = r.URL.Query().Get("last_event_id")
	}
	if v == "" {
		return -1, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 {
		return 0, tandem.InvalidFields(tandem.FieldError{Field: "last_event_id", Message: "This is not an id of this stream. Leave it out to start now."})
	}
	return n, nil
}

// follow sends what was missed, then what happens. It is subscribed before it reads
// the log, so nothing falls between the two.
func (s *server) follow(ctx context.Context, st *stream, r *http.Request, o opening) error {
	// A reader that resumes keeps its place until it has what it missed: the id of hello
	// would move it past that if the connection broke now.
	place := o.head
	if o.last >= 0 {
		place = o.last
	}
	if err := st.send("hello", place, map[string]int64{"seq": o.head}); err != nil {
		return err
	}
	if o.last >= 0 {
		var err error
		aside(func() { err = s.replay(ctx, st, o.last, o.head) })
		if err != nil {
			return err
		}
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	var recheck <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-beat.C:
			if err := s.still(st, r); err != nil {
				return err
			}
			if err := st.comment("beat"); err != nil {
				return err
			}
		case <-recheck:
			recheck = nil
			if err := s.still(st, r); err != nil {
				return err
			}
		case n, ok := <-o.notes:
			if !ok {
				return nil
			}
			again, err := s.pass(ctx, st, waiting(n, o.notes))
			if err != nil {
				return err
			}
			if again {
				recheck = time.After(revokedAfter)
			}
		}
	}
}

// still ends the stream of a session or key that was revoked, has expired, or lost its permission.
func (s *server) still(st *stream, r *http.Request) error {
	var a tandem.Actor
	var ok bool
	var err error
	aside(func() { a, ok, err = s.actor(r) })
	if err == nil && !ok {
		err = tandem.Errorf(tandem.Unauthenticated, "The request has no credentials.")
	}
	if err == nil {
		err = a.Require("conversation:read")
	}
	if err != nil {
		return fmt.Errorf("credentials no longer hold: %w", err)
	}
	st.reader = a
	return nil
}

func aboutCredentials(topic string) bool {
	noun, verb, _ := strings.Cut(topic, ".")
	return verb != "created" && (noun == "session" || noun == "key" || noun == "member")
}

// waiting is n and what has come up behind it, up to factsAtOnce notes.
func waiting(n *events.Note, more <-chan *events.Note) []*events.Note {
	all := []*events.Note{n}
	for len(all) < factsAtOnce {
		select {
		case n, ok := <-more:
			if !ok {
				return all // whoever reads on finds it closed
			}
			all = append(all, n)
		default:
			return all
		}
	}
	return all
}

// pass shows notes, their facts read together and written together. It reports whether one of them may have ended the
// reader's rights.
func (s *server) pass(ctx context.Context, st *stream, notes []*events.Note) (recheck bool, err error) {
	ids := make([]tandem.ID, 0, len(notes))
	for _, n := range notes {
		if isFact(n) {
			ids = append(ids, n.Fact.ID)
		}
	}
	known, err := s.facts.get(ctx, ids)
	if err != nil {
		return false, err
	}
	for _, n := range notes {
		recheck = recheck || n.Lost || aboutCredentials(n.Fact.Topic)
		switch {
		case n.Lost:
			err = st.put("resync", 0, struct{}{})
		case n.Signal == "typing":
			err = st.put("typing", 0, json.RawMessage(n.Body))
		case isFact(n):
			if f := known[0]; st.shows(&f.row.Event) {
				err = st.hold(f.frame)
			}
			known = known[1:]
		}
		if err == nil && st.held >= maxHeld {
			err = st.flush()
		}
		if err != nil {
			return recheck, err
		}
	}
	return recheck, st.flush()
}

func isFact(n *events.Note) bool { return n.Fact.ID != "" && n.Fact.Topic != events.TopicOut }

func (s *server) head(ctx context.Context) (seq int64, err error) {
	err = s.DB.Read(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		seq, err = events.Newest(ctx, tx)
		return err
	})
	return seq, err
}

// replay sends every fact after last, and those before it that may have been committed since.
// A place that is not in this log, or too far back, is answered with resync.
func (s *server) replay(ctx context.Context, st *stream, last, head int64) error {
	if last > head {
		return st.send("resync", head, struct{}{})
	}
	var since time.Time
	err := s.DB.Read(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := events.Since(ctx, tx, last-1, 1)
		if err == nil && len(rows) == 1 {
			since = rows[0].At.Add(-lateBy)
		}
		return err
	})
	if err != nil {
		return err
	}
	from := max(last-lateSeqs, 0)
	for sent := 0; ; {
		var rows []events.Row
		err := s.DB.Read(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
			rows, err = events.Since(ctx, tx, from, replayPage)
			return err
		})
		if err != nil {
			return err
		}
		for _, row := range rows {
			from = row.Seq
			if row.Seq <= last && row.At.Before(since) {
				continue
			}
			sent++
			if err := st.fact(row); err != nil {
				return err
			}
		}
		if sent > replayMax {
			return st.send("resync", head, struct{}{})
		}
		if len(rows) < replayPage {
			return nil
		}
	}
}

// factShape is an event as the stream shows it.
type factShape struct {
	tandem.Event
	Seq int64 `json:"seq"`
}

// stream writes server-sent events with a deadline per frame, so that a reader that
// stopped reading is dropped instead of holding the goroutine.
type stream struct {
	w      http.ResponseWriter
	rc     *http.ResponseController
	reader tandem.Actor // decides which facts are shown
	armed  time.Time    // when the write deadline was last moved
	held   int          // frames written since the last flush
}

func (st *stream) open() {
	h := st.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	st.w.WriteHeader(http.StatusOK)
	_ = st.rc.Flush()
}

// shows says whether the reader may see the fact. One of a notification is for its member alone, whatever anybody may do.
func (st *stream) shows(e *tandem.Event) bool {
	if e.Noun == "notification" {
		return st.reader.Member != "" && st.reader.Member == team.NotifiedBy(e)
	}
	permission, ok := seenBy[e.Noun]
	return ok && st.reader.May(permission)
}

func (st *stream) fact(row events.Row) error {
	if !st.shows(&row.Event) {
		return nil
	}
	frame, err := factFrame(row)
	if err != nil {
		return err
	}
	return st.write(frame)
}

// factFrame is a fact as every stream sends it.
func factFrame(row events.Row) ([]byte, error) {
	return frame("fact", row.Seq, factShape{row.Event, row.Seq})
}

func frame(event string, id int64, data any) ([]byte, error) {
	b, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", event, err)
	}
	var f bytes.Buffer
	f.Grow(len(b) + len(event) + 48)
	if id > 0 {
		fmt.Fprintf(&f, "id: %d\n", id)
	}
	fmt.Fprintf(&f, "event: %s\ndata: %s\n\n", event, b)
	return f.Bytes(), nil
}

func (st *stream) send(event string, id int64, data any) error {
	if err := st.put(event, id, data); err != nil {
		return err
	}
	return st.flush()
}

// put is send without the flush.
func (st *stream) put(event string, id int64, data any) error {
	var f []byte
	var err error
	aside(func() { f, err = frame(event, id, data) })
	if err != nil {
		return err
	}
	return st.hold(f)
}

func (st *stream) comment(text string) error { return st.write([]byte(": " + text + "\n\n")) }

func (st *stream) write(frame []byte) error {
	if err := st.hold(frame); err != nil {
		return err
	}
	return st.flush()
}

// hold writes a frame that flush sends, or what follows it.
func (st *stream) hold(frame []byte) error {
	// Moving the deadline costs as much as a small write, so it is moved once a second.
	if now := time.Now(); now.Sub(st.armed) > time.Second {
		if err := st.rc.SetWriteDeadline(now.Add(writeDeadline)); err != nil {
			return fmt.Errorf("set the frame's deadline: %w", err)
		}
		st.armed = now
	}
	st.held++
	_, err := st.w.Write(frame)
	return err
}

// flush sends what is held.
func (st *stream) flush() error {
	if st.held == 0 {
		return nil
	}
	st.held = 0
	return st.rc.Flush()
}
