package oracle

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// What an Entry is.
const (
	In       = "in"       // bytes that the provider read
	Out      = "out"      // bytes that it wrote
	Took     = "took"     // it has taken a message for good: the effect that must not happen twice
	Answered = "answered" // it is about to say so
	Line     = "line"     // a visitor sees a line of the chat
	Call     = "call"     // the model is asked
	Failed   = "failed"   // a fault that was ordered happened here
	Mark     = "mark"     // a test's own
)

// Entry is one line of the journal.
type Entry struct {
	N        int64     `json:"n"` // 1, 2, 3 … over all providers
	At       time.Time `json:"at"`
	Provider string    `json:"provider,omitempty"`
	Kind     string    `json:"kind"`
	Conn     int64     `json:"conn,omitempty"`
	Key      string    `json:"key,omitempty"`    // the id by which the receiver tells messages apart; of a line: the message's id
	Thread   string    `json:"thread,omitempty"` // whom it belongs to: a conversation, a visitor, a mailbox, a phone
	Seq      int64     `json:"seq,omitempty"`    // of a line
	From     string    `json:"from,omitempty"`   // of a line: visitor, ai, human or system
	Text     string    `json:"text,omitempty"`
	Bytes    string    `json:"bytes,omitempty"`  // of In and Out, as they are
	Base64   []byte    `json:"base64,omitempty"` // the same when they are no text
	Size     int       `json:"size,omitempty"`   // of In and Out
}

// Journal is an append-only file with a counter.
type Journal struct {
	brief []string

	mu   sync.Mutex
	n    int64
	file *os.File
	out  *bufio.Writer
	path string
	kept []Entry // all but bytes, for those who ask
	err  error
}

func openJournal(path string, brief []string) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	return &Journal{file: f, out: bufio.NewWriter(f), path: path, brief: brief}, nil
}

// add appends an entry and returns it with its number. It is in the file when add returns: nobody kills the oracle, but
// people read along.
func (j *Journal) add(e Entry) Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.n++
	e.N, e.At = j.n, time.Now()
	b, err := json.Marshal(e)
	if err == nil {
		_, err = j.out.Write(append(b, '\n'))
	}
	if err == nil {
		err = j.out.Flush()
	}
	if err != nil && j.err == nil {
		j.err = fmt.Errorf("write the journal: %w", err)
	}
	if e.Kind != In && e.Kind != Out {
		j.kept = append(j.kept, e)
	}
	return e
}

// bytes notes what went over a connection.
func (j *Journal) bytes(provider, kind string, conn int64, b []byte) {
	e := Entry{Provider: provider, Kind: kind, Conn: conn, Size: len(b)}
	switch {
	case slices.Contains(j.brief, provider):
	case utf8.Valid(b):
		e.Bytes = string(b)
	default:
		e.Base64 = b
	}
	j.add(e)
}

// Entries returns what happened after entry number after, bytes left out; empty provider and kind take all.
func (j *Journal) Entries(after int64, provider, kind string) ([]Entry, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var found []Entry
	for _, e := range j.kept {
		if e.N > after && (provider == "" || e.Provider == provider) && (kind == "" || e.Kind == kind) {
			found = append(found, e)
		}
	}
	return found, j.err
}

func (j *Journal) serve(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	after, _ := strconv.ParseInt(q.Get("after"), 10, 64) // none: from the beginning
	found, err := j.Entries(after, q.Get("provider"), q.Get("kind"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	enc := json.NewEncoder(w)
	for _, e := range found {
		if enc.Encode(e) != nil {
			return // whoever asked is gone
		}
	}
}

func (j *Journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.file.Close()
}

// tapped is a listener whose connections are journaled byte by byte.
type tapped struct {
	net.Listener
	j        *Journal
	provider string
}

var conns atomic.Int64

func (t *tapped) Accept() (net.Conn, error) {
	c, err := t.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &tap{Conn: c, j: t.j, provider: t.provider, id: conns.Add(1)}, nil
}

type tap struct {
	net.Conn
	j        *Journal
	provider string
	id       int64
}

func (t *tap) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	if n > 0 {
		t.j.bytes(t.provider, In, t.id, b[:n])
	}
	return n, err
}

func (t *tap) Write(b []byte) (int, error) {
	n, err := t.Conn.Write(b)
	if n > 0 {
		t.j.bytes(t.provider, Out, t.id, b[:n])
	}
	return n, err
}

// reset makes the close an RST, so that the other side learns of an error and not of an end.
func reset(c net.Conn) {
	if t, ok := c.(*tap); ok {
		c = t.Conn
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // it may be closed already
	}
	_ = c.Close()
}
