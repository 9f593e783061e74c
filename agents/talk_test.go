package agents_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents"
	"github.com/tandemhq/tandem/agents/agenttest"
	"github.com/tandemhq/tandem/agents/llm"
	"github.com/tandemhq/tandem/agents/rules"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/channels/webhook"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/team"
)

// side is one of two hubs that talk to each other.
type side struct {
	*world
	r     *agents.Runner
	self  *customer // the other hub, as this one sees it
	in    func(text string)
	facts []events.Fact
}

// talker says something new of n characters whenever it is asked.
func talker(rng *rand.Rand, n int) llm.Model {
	words := strings.Fields("we would gladly hear more about your plans and how the service could fit what our customers ask of us every day in this season")
	return agenttest.NewScripted().Otherwise(func(ctx context.Context, req llm.Request) (llm.Response, error) {
		var b strings.Builder
		for b.Len() < n {
			fmt.Fprintf(&b, "%s%d ", words[rng.IntN(len(words))], rng.IntN(1000))
		}
		return agenttest.Replies(strings.TrimSpace(b.String()))(ctx, req)
	})
}

// twoHubs are two Tandems with a database each, whose channels post what they send into the other as a message of a
// customer: over the webhook channel and its parser, or as chat visitors of each other.
func twoHubs(t *testing.T, dbs [2]*pg.DB, mark string, model func(i int) llm.Model, overWebhook bool) [2]*side {
	t.Helper()
	var out [2]*side
	for i := range out {
		w := newWorldIn(t, dbs[i], mark, team.Budget{})
		out[i] = &side{world: w, r: w.runner()}
		w.fallback = model(i)
	}
	for i, s := range out {
		if !overWebhook {
			s.self = s.customer(nil)
			s.in = func(text string) { s.facts = append(s.facts, s.self.says(text)) }
			continue
		}
		s.self = &customer{w: s.world, name: "bot"}
		s.in = func(text string) {
			body, err := json.Marshal(map[string]any{"message": text, "external_id": string(tandem.NewID()), "contact": map[string]string{"name": "The other hub", "email": "hub@other.example"}})
			must(t, err)
			msg, err := webhook.Parse(body)
			must(t, err)
			msg.Org, msg.Channel = s.org, s.chan1
			s.tx(func(ctx context.Context, tx pgx.Tx) error {
				s.self.Accepted, err = inbox.Ingest(ctx, tx, msg)
				return err
			})
			s.self.conv = s.self.Conversation
			s.facts = append(s.facts, events.Fact{ID: tandem.NewID(), Org: s.org, Topic: "message.received", Record: s.self.Message})
		}
		other := out[1-i]
		srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			raw, _ := io.ReadAll(r.Body)
			var d struct{ Data struct{ Text string } }
			must(t, json.Unmarshal(raw, &d))
			other.in(d.Data.Text)
			rw.WriteHeader(http.StatusOK)
		}))
		t.Cleanup(srv.Close)
		hook, err := webhook.Kind.Open(context.Background(), channels.Config{Settings: json.RawMessage(`{"reply_url":"` + srv.URL + `"}`), HTTP: srv.Client()})
		must(t, err)
		s.provider = hook
	}
	return out
}

// talk lets two hubs answer each other until both are silent. It returns how many answers each
// wrote, without the line that tells of a handoff.
func talk(t *testing.T, hubs [2]*side, overWebhook bool) (answers [2]int, handoffs int) {
	t.Helper()
	hubs[0].in("Hello, I would like to know more about what you do, and whether it fits us. Could you tell me about it?")
	read := [2]int{}
	for range 60 {
		quiet := true
		for i, s := range hubs {
			facts := s.facts
			s.facts = nil
			for _, f := range facts {
				quiet = false
				s.wake(s.r, f)
			}
			if s.self.conv == "" {
				continue
			}
			s.deliver(s.self)
			if !overWebhook {
				sent := s.journal.of(s.self.conv)
				for _, m := range sent[read[i]:] {
					hubs[1-i].in(m.Text)
				}
				read[i] = len(sent)
			}
		}
		if quiet {
			for i, s := range hubs {
				if s.self.conv == "" {
					continue
				}
				for _, m := range s.wrote(s.self) {
					if !m.Handoff {
						answers[i]++
					}
				}
				if s.conversation(s.self).Handoff != nil {
					handoffs++
				}
			}
			return answers, handoffs
		}
	}
	t.Fatal("the two do not stop")
	return answers, handoffs
}

// TestTwoTandemsStop is AI-5 for machines that talk to machines: two hubs whose webhook channels post into each other, and
// two AI members that visit each other's chat, stop after at most three answers each, with a handoff.
func TestTwoTandemsStop(t *testing.T) {
	t.Parallel()
	rng := proof.Rand(t)
	dbs := [2]*pg.DB{pgtest.New(t), pgtest.New(t)}
	for i, k := range []struct {
		name    string
		model   func(i int) llm.Model
		webhook bool
		most    int // answers of one side
	}{
		{"language models over webhooks", func(int) llm.Model { return talker(rng, 240) }, true, 3},
		{"language models in each other's chat", func(int) llm.Model { return talker(rng, 120) }, false, 3},
		{"the built-in model over webhooks", func(int) llm.Model { return rules.Model{} }, true, 3},
		{"an automatic answer", func(i int) llm.Model {
			if i == 0 {
				return talker(rng, 200)
			}
			return agenttest.NewScripted().Otherwise(agenttest.Replies("I am out of the office until Monday."))
		}, true, 3},
		{"short and always new", func(int) llm.Model { return talker(rng, 20) }, false, agents.DefaultMessagesPerHour},
	} {
		answers, handoffs := talk(t, twoHubs(t, dbs, fmt.Sprintf("Hub%d", i), k.model, k.webhook), k.webhook)
		proof.Figure(t, "AI-5", "%s: stopped after %d and %d answers, %d handoffs", k.name, answers[0], answers[1], handoffs)
		if most := max(answers[0], answers[1]); most > k.most || most < 1 || handoffs == 0 {
			t.Errorf("%s: %v answers, want at most %d; %d handoffs", k.name, answers, k.most, handoffs)
		}
	}
}

// TestFloodIsBounded is AI-5 for a customer who never stops: the budget of an hour holds however many messages come.
func TestFloodIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.runner()
	script := agenttest.NewScripted().Otherwise(agenttest.Replies("Certainly."))
	c := w.customer(script)
	const flood = 100
	for i := range flood {
		f := c.says(fmt.Sprintf("And what about number %d?", i))
		if i%5 == 0 { // as the bus would: some facts are handled late, all of them some time
			continue
		}
		w.wake(r, f)
	}
	w.wake(r, c.last)
	lines, asked := len(w.wrote(c)), len(script.Requests())
	conv := w.conversation(c)
	proof.Figure(t, "AI-5", "a flood of %d messages: %d answers and one line that hands over, %d calls of the model", flood, lines-1, asked)
	if lines != agents.DefaultMessagesPerHour+1 || asked > 4*agents.DefaultMessagesPerHour || conv.Handoff == nil || conv.Handoff.Reason != "budget" {
		t.Errorf("%d lines, %d model calls, handoff %+v", lines, asked, conv.Handoff)
	}
}

// TestBudgetsOfADay: what all AI members of an organization spend together is bounded, by cost and by tokens.
func TestBudgetsOfADay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.runner()
	usage := llm.Usage{InputTokens: 900, OutputTokens: 100, CostMicros: 5}
	w.fallback = agenttest.NewScripted().Otherwise(func(context.Context, llm.Request) (llm.Response, error) {
		return llm.Response{Text: "Hello.", Usage: usage}, nil
	})
	set := func(settings string) {
		w.tx(func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `DELETE FROM ai_spending WHERE org_id = $1`, w.org); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `UPDATE organizations SET settings = $2 WHERE id = $1`, w.org, settings)
			return err
		})
	}
	for _, k := range []struct{ settings, states string }{
		{`{}`, "done done"},
		{`{"ai_tokens_per_day": 1500}`, "done done budget"},
		{`{"ai_cost_micros_per_day": 5}`, "done budget"},
		{`{"ai_cost_micros_per_day": "none", "ai_tokens_per_day": -1}`, "done done"},
	} {
		set(k.settings)
		got := []string{}
		for range len(strings.Fields(k.states)) {
			c := w.customer(nil)
			w.wake(r, c.says("Hi"))
			got = append(got, states(w.runs(c)))
			if last := got[len(got)-1]; last == "budget" && (w.conversation(c).Handoff == nil || len(w.wrote(c)) != 1) {
				t.Errorf("%s: a spent budget is silent", k.settings)
			}
		}
		if s := strings.Join(got, " "); s != k.states {
			t.Errorf("%s: runs %s, want %s", k.settings, s, k.states)
		}
	}
	set(`{}`)
	row := w.customer(nil)
	row.says("Hi")
	w.tx(func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE conversations SET ai_streak = 3 WHERE org_id = $1 AND id = $2`, w.org, row.conv)
		return err
	})
	w.wake(r, row.last)
	if s := states(w.runs(row)); s != "budget" || w.conversation(row).Handoff == nil {
		t.Errorf("three messages in a row without an answer: run %s, want a handoff", s)
	}
	member := newWorldIn(t, w.db, "Globex", team.Budget{TokensPerDay: 1000})
	member.fallback = w.fallback
	mr := member.runner()
	for _, want := range []string{"done", "budget"} {
		c := member.customer(nil)
		member.wake(mr, c.says("Hi"))
		if s := states(member.runs(c)); s != want {
			t.Errorf("tokens of a day: run %s, want %s", s, want)
		}
	}
}
