package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/egress"
	"github.com/tandemhq/tandem/internal/hub"
	"github.com/tandemhq/tandem/team"
)

type demoCmd struct {
	place
	Quiet bool `help:"No simulated customers."`
}

// demoFile is DIR/demo.json: all that somebody needs to use the demo.
type demoFile struct {
	URL         string    `json:"url"`
	Org         tandem.ID `json:"org"`
	Email       string    `json:"email"`
	Password    string    `json:"password"`
	APIKey      string    `json:"api_key"`
	WidgetKey   string    `json:"widget_key"`
	HumanMember tandem.ID `json:"human_member"`
	AIMember    tandem.ID `json:"ai_member"`
}

func (c demoCmd) Run(ctx context.Context, io stdio) error {
	conf, err := c.config(io.err)
	if err != nil {
		return err
	}
	var play atomic.Pointer[customers]
	var key atomic.Value
	key.Store("")
	conf.Demo = shop(func() string { return key.Load().(string) }, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := play.Load(); p != nil {
			p.ServeHTTP(w, r)
			return
		}
		w.WriteHeader(http.StatusNoContent) // nobody plays: the reply has arrived all the same
	}))
	conf.OnListen = func(addr net.Addr, c *hub.Config) { c.AllowPrivate = append(c.AllowPrivate, onlyOurselves(addr)...) }
	h, err := hub.Start(ctx, conf)
	if err != nil {
		return unlessAsked(ctx, err)
	}
	demo, err := prepareDemo(ctx, h)
	if err != nil {
		return unlessAsked(ctx, errors.Join(err, untilDone(cancelled(), h)))
	}
	key.Store(demo.WidgetKey)
	fmt.Fprintf(io.out, `
  Tandem    %s
  login     %s
  password  %s
  shop      %s/demo   (a page with the chat widget)
  keys      %s

`, demo.URL, demo.Email, demo.Password, demo.URL, filepath.Join(h.Config.Data, demoName))
	if !c.Quiet {
		p := newCustomers(demo.URL, demo.WidgetKey, demo.APIKey, conf.Logger)
		play.Store(p)
		pctx, stop := context.WithCancel(ctx)
		defer stop()
		go p.run(pctx)
	}
	return untilDone(ctx, h)
}

// onlyOurselves lets the demo's lead form reach the page that plays its customers.
func onlyOurselves(addr net.Addr) []egress.Allow {
	_, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil
	}
	return []egress.Allow{
		{Net: netip.MustParsePrefix("127.0.0.1/32"), Port: uint16(n)},
		{Net: netip.MustParsePrefix("::1/128"), Port: uint16(n)},
	}
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

const demoName = "demo.json"

// prepareDemo finds the demo organization of an earlier start, or makes it.
func prepareDemo(ctx context.Context, h *hub.Hub) (demoFile, error) {
	path := filepath.Join(h.Config.Data, demoName)
	var demo demoFile
	if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &demo) == nil {
		if _, err := team.ActorByKey(ctx, h.DB, demo.APIKey); err != nil {
			demo = demoFile{} // it belongs to a database that is gone
		}
	}
	if demo.Org == "" {
		var err error
		if demo, err = seedDemo(ctx, h); err != nil {
			return demo, fmt.Errorf("prepare the demo organization: %w", err)
		}
	}
	demo.URL = h.URL()
	if err := pointLeadForm(ctx, h, demo); err != nil {
		return demo, err
	}
	b, err := json.MarshalIndent(demo, "", "  ")
	if err != nil {
		return demo, err
	}
	// Written aside and renamed, so that whoever waits for the file never reads half of it.
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return demo, tandem.Wrap(tandem.Unavailable, err, "%s cannot be written.", path)
	}
	return demo, os.Rename(path+".new", path)
}

// password makes a login that can be typed: four groups of four letters, 75 bits.
func password() string {
	const letters = "abcdefghijkmnpqrstuvwxyz"
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	out := ""
	for i, x := range b {
		if i > 0 && i%4 == 0 {
			out += "-"
		}
		out += string(letters[int(x)%len(letters)])
	}
	return out
}
