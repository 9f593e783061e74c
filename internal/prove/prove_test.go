package prove_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tandemhq/tandem/bus/bustest"
	"github.com/tandemhq/tandem/internal/prove"
)

func TestMain(m *testing.M) {
	code := m.Run()
	prove.CleanUp()
	os.Exit(code)
}

// The launcher itself: a site is made, serves, is killed, comes back on its address, freezes, and ends in order.
func TestSite(t *testing.T) {
	t.Parallel()
	s := prove.NewSite(t, prove.SiteOptions{})
	if !strings.HasPrefix(s.WidgetKey, "pk_") || s.Org == "" || s.Ava == "" || s.Chat == "" || s.Form == "" {
		t.Fatalf("site: %+v", s)
	}
	member := s.AddRules() // while nothing runs
	p := s.Serve()
	s.ReplyTo("http://127.0.0.1:9/", "whsec_c2VjcmV0")
	var answers string
	if err := s.DB(t).QueryRow(t.Context(), `SELECT ai_member_id FROM channels WHERE id = $1`, s.Form).Scan(&answers); err != nil || answers != string(member) {
		t.Errorf("the form is answered by %s, %v; want %s", answers, err, member)
	}
	p.Kill()
	if p.Running() || p.Ready() {
		t.Error("it runs after kill -9")
	}
	p = s.Begin()
	t.Logf("figure: start after kill -9: ready after %d ms", p.WaitReady(prove.Patience).Milliseconds())
	p.Stop()
	ready := make(chan bool)
	go func() { ready <- p.Ready() }()
	if <-ready {
		t.Error("a frozen process says that it is ready")
	}
	p.Cont()
	prove.Until(t, prove.Patience, "it goes on", p.Ready)
	if code, took := p.Terminate(15 * time.Second); code != 0 {
		t.Errorf("exit code %d after %s", code, took)
	}
}

// Two processes on one external database and bus.
func TestSiteOfTwoProcesses(t *testing.T) {
	t.Parallel()
	s := prove.NewSite(t, prove.SiteOptions{Cluster: prove.NewCluster(t, nil), NATSURL: bustest.Server(t)})
	s.Serve("--roles", "api,jobs")
	if second := s.ServeBeside(); !second.Ready() {
		t.Error("the second process is not ready")
	}
}
