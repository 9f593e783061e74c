//go:build prove

// Package scale proves that Tandem runs as several processes on one PostgreSQL and one NATS cluster.
package scale

import (
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/prove"
)

func TestMain(m *testing.M) {
	code := m.Run()
	prove.CleanUp()
	os.Exit(code)
}

// newSite is an installation on an external PostgreSQL and a three-node NATS cluster.
func newSite(t *testing.T) (*prove.Site, *prove.NATS) {
	t.Helper()
	nats := prove.NewNATS(t, 3)
	site := prove.NewSite(t, prove.SiteOptions{
		Cluster: prove.NewCluster(t, prove.WatchSettings), NATSURL: nats.URL, Args: []string{"--nats-replicas", "3", "--lease", "5s"},
	})
	site.AddRules()
	return site, nats
}

// The whole story with the roles split over three processes: a visitor is answered by an AI member, asks for a person,
// and the person who accepts answers; the visitor sees it.
func TestStoryOverSplitRoles(t *testing.T) {
	site, _ := newSite(t)
	site.Serve("--roles", "api")
	site.ServeBeside("--roles", "agents,channels")
	site.ServeBeside("--roles", "jobs")
	began := time.Now()

	v := newVisitor(t, site.URL, site.WidgetKey)
	v.say(t, "Hello, what do you offer?")
	v.sees(t, "ai")
	answered := time.Since(began)
	v.say(t, "Can I talk to a person, please?")
	person := &member{url: site.URL, key: site.APIKey}
	var waiting struct {
		Items []struct {
			ID           string
			Conversation struct{ ID string }
		}
	}
	prove.Until(t, prove.Patience, "a handoff waits", func() bool {
		person.call(t, http.StatusOK, http.MethodGet, "/api/v1/handoffs", "", &waiting)
		return len(waiting.Items) == 1
	})
	person.call(t, http.StatusOK, http.MethodPost, "/api/v1/handoffs/"+waiting.Items[0].ID+"/accept", `{}`, nil)
	person.call(t, http.StatusCreated, http.MethodPost, "/api/v1/conversations/"+waiting.Items[0].Conversation.ID+"/messages", `{"text":"Here I am."}`, nil)
	v.sees(t, "human")
	proof.Figure(t, "SCALE", "roles split over three processes and three NATS nodes: answered after %d ms, the whole story in %.1f s",
		answered.Milliseconds(), time.Since(began).Seconds())
}
