// Package oracle is the outside world of Tandem in one process that outlives every kill of Tandem: web chat visitors, a
// webhook receiver, an OpenAI-compatible model server, a mail server and a WhatsApp Cloud API. All of them write one
// journal with one counter, so that what the world saw can be put in order, and all of them can be told to fail at named
// points. tools/oracle is the process, Client talks to it.
package oracle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// The providers, as journal entries and faults name them.
const (
	Visitors = "visitor" // people in the web chat
	Webhook  = "webhook" // takes answers at a channel's reply_url
	Model    = "model"   // /v1/chat/completions
	SMTP     = "smtp"
	Cloud    = "cloud" // WhatsApp Cloud API
)

// Addresses is where an oracle listens; tools/oracle prints it as one JSON line.
type Addresses struct {
	Control string `json:"control"` // http://host:port of this package's control API
	Webhook string `json:"webhook"` // http://host:port; any path takes a delivery
	Model   string `json:"model"`   // the base URL that an AI member is given: http://host:port/v1
	SMTP    string `json:"smtp"`    // host:port
	Cloud   string `json:"cloud"`   // http://host:port; /v23.0/PHONE/messages and so on
}

// Server is a running oracle.
type Server struct {
	Addresses Addresses
	Journal   *Journal

	faults   *faults
	model    *model
	cloud    *cloud
	mu       sync.Mutex
	visitors []*Visitor
	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	servers  []*http.Server
	smtp     net.Listener
}

// Options is how an oracle runs.
type Options struct {
	Journal string   // file that the journal is appended to
	Brief   []string // providers whose bytes are journaled as counts only, because they are many
}

// Start listens on free ports of the loopback.
func Start(o Options) (_ *Server, err error) {
	j, err := openJournal(o.Journal, o.Brief)
	if err != nil {
		return nil, err
	}
	s := &Server{Journal: j, faults: newFaults(j)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	s.model = &model{j: j, faults: s.faults, ctx: s.ctx}
	s.cloud = newCloud(s.ctx, j, s.faults)
	sink := &sink{j: j, faults: s.faults, ctx: s.ctx}
	for _, h := range []struct {
		provider, suffix string
		handler          http.Handler
		addr             *string
	}{
		{"", "", s.control(), &s.Addresses.Control},
		{Webhook, "", sink, &s.Addresses.Webhook},
		{Model, "/v1", s.model, &s.Addresses.Model},
		{Cloud, "", s.cloud, &s.Addresses.Cloud},
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("listen: %w", err)
		}
		*h.addr = "http://" + ln.Addr().String() + h.suffix
		if h.provider != "" {
			ln = &tapped{Listener: ln, j: j, provider: h.provider}
		}
		// Cut connections are this program's business; its log would only repeat them.
		srv := &http.Server{Handler: h.handler, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
		s.servers = append(s.servers, srv)
		s.wg.Go(func() { _ = srv.Serve(ln) })
	}
	s.cloud.base = s.Addresses.Cloud
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	s.smtp, s.Addresses.SMTP = ln, ln.Addr().String()
	mail := &mailbox{j: j, faults: s.faults, ctx: s.ctx}
	s.wg.Go(func() { mail.serve(&tapped{Listener: ln, j: j, provider: SMTP}, &s.wg) })
	return s, nil
}

// Close ends everything and the journal.
func (s *Server) Close() {
	s.cancel()
	for _, srv := range s.servers {
		_ = srv.Close()
	}
	if s.smtp != nil {
		_ = s.smtp.Close()
	}
	s.wg.Wait()
	_ = s.Journal.close() // every entry has been written already
}

// control is the API by which tests steer the oracle:
//
//	GET    /journal?after=N&provider=P&kind=K   entries, one JSON line each
//	POST   /marks {"key","text"}                 an entry of the test's own; answers it
//	POST   /faults Fault   DELETE /faults        from now on; none any more
//	POST   /visitors {"chat","ip"}               somebody opens the chat at http://tandem/chat/KEY and watches it
//	POST   /model Script                         what the model does when the conversation does not say
//	POST   /cloud/hook Hook                      where statuses and messages are posted to
//	POST   /cloud/say {"from","id","text"}       somebody writes on WhatsApp; answers the hook's status
func (s *Server) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /journal", s.Journal.serve)
	mux.HandleFunc("POST /marks", take(func(_ context.Context, m struct{ Key, Text string }) (any, error) {
		return s.Journal.add(Entry{Kind: Mark, Key: m.Key, Text: m.Text}), nil
	}))
	mux.HandleFunc("POST /faults", take(func(_ context.Context, f Fault) (any, error) { return nil, s.faults.set(f) }))
	mux.HandleFunc("DELETE /faults", take(func(context.Context, struct{}) (any, error) { s.faults.clear(); return nil, nil }))
	mux.HandleFunc("POST /model", take(func(_ context.Context, sc Script) (any, error) { return nil, s.model.set(sc) }))
	mux.HandleFunc("POST /visitors", take(func(ctx context.Context, in struct{ Chat, IP string }) (any, error) {
		v, err := Enter(ctx, in.Chat, in.IP)
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		s.visitors = append(s.visitors, v)
		s.mu.Unlock()
		s.wg.Go(func() { v.watch(s.ctx, s.Journal) })
		return v, nil
	}))
	mux.HandleFunc("POST /cloud/hook", take(func(_ context.Context, h Hook) (any, error) { s.cloud.point(h); return nil, nil }))
	mux.HandleFunc("POST /cloud/say", take(func(ctx context.Context, in Said) (any, error) { return s.cloud.say(ctx, in) }))
	return mux
}

// take reads a JSON body, which may be empty, and answers what fn returns.
func take[In any](fn func(ctx context.Context, in In) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in In
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil && !errors.Is(err, io.EOF) {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		out, err := fn(r.Context(), in)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out) // whoever asked is gone otherwise
	}
}

// sleep waits, and returns early when the oracle or the caller ends.
func sleep(ctx, caller context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-caller.Done():
	}
}
