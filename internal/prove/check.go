package prove

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tandemhq/tandem/internal/prove/oracle"
)

// Verdict is what a comparison of the three journals found: the driver's, the database's and the oracle's. Every list
// names its cases; a list that is empty is a promise kept.
type Verdict struct {
	Lost          []string // accepted, and not stored as the answer said; or sent by us, and never seen outside
	DoubledRows   []string // one message, several rows
	DoubledEffect []string // one answer, seen outside as two
	Disordered    []string // conversations whose order is another one inside or outside
	AfterTakeover []string // a machine's message that went out although its commit came after a person's takeover
	Phantom       []string // seen outside, and not a message that we say went out
	Unanswered    []string // somebody waits, and nobody but a machine is asked to answer
	Undone        []string // conversations with messages that have not gone out
	Unknown       []string // conversations with messages of which nobody knows

	Accepted, Stored, Answers, Seen int // counts for the figure
	Repeats                         int // deliveries that the receiver knew by their id already: at least once, as documented
	Handoffs                        int // conversations that wait for a person
}

// Wrong lists everything that is not as promised; Unknown is not among it, for a kill may leave some.
func (v Verdict) Wrong() (wrong []string) {
	for _, kind := range []struct {
		name  string
		cases []string
	}{
		{"lost", v.Lost},
		{"doubled rows", v.DoubledRows},
		{"doubled effects", v.DoubledEffect},
		{"disordered", v.Disordered},
		{"sent after a takeover", v.AfterTakeover},
		{"phantoms", v.Phantom},
		{"unanswered", v.Unanswered},
		{"undone", v.Undone},
	} {
		if n := len(kind.cases); n > 0 {
			wrong = append(wrong, fmt.Sprintf("%d %s, such as %s", n, kind.name, strings.Join(kind.cases[:min(n, 3)], "; ")))
		}
	}
	return wrong
}

// Drained tells whether nothing is left to do: everybody is answered or waits for a person, and everything has gone out.
func (b Books) Drained() bool {
	return !slices.ContainsFunc(b.Conversations, func(c Conversation) bool { return c.unanswered() || c.Undone > 0 })
}

func (c Conversation) unanswered() bool {
	return c.LastInbound > c.Answered && !c.Handoff && c.OwnerKind != "human"
}

// Check compares what the driver got accepted, what the database holds, and what the oracle saw. It wants to be called
// when the books are drained and the visitors have had a moment to read.
func Check(sent []Sent, b Books, seen []oracle.Entry) Verdict {
	c := &checker{sent: sent, books: b, seen: seen, byID: map[string]Message{}}
	for _, m := range b.Messages {
		c.byID[m.ID] = m
	}
	c.inbound()
	c.outside()
	c.takeovers()
	for _, conv := range b.Conversations {
		if conv.unanswered() {
			c.v.Unanswered = append(c.v.Unanswered, fmt.Sprintf("conversation %s answered to %d of %d", conv.ID, conv.Answered, conv.LastInbound))
		}
		if conv.Undone > 0 {
			c.v.Undone = append(c.v.Undone, conv.ID)
		}
		if conv.Unknown > 0 {
			c.v.Unknown = append(c.v.Unknown, conv.ID)
		}
		if conv.Handoff {
			c.v.Handoffs++
		}
	}
	return c.v
}

type checker struct {
	sent  []Sent
	books Books
	seen  []oracle.Entry
	byID  map[string]Message
	v     Verdict
}

// inbound compares the driver's journal with the rows: each accepted message once, under the id that the answer named, in
// the order of its sender.
func (c *checker) inbound() {
	c.v.Accepted = len(c.sent)
	rows := map[string][]Message{} // by the name in the text, which no unique index sees
	for _, m := range c.books.Messages {
		if m.Inbound {
			c.v.Stored++
			if id := oracle.Named(m.Text); id != "" {
				rows[id] = append(rows[id], m)
			}
		}
	}
	for id, all := range rows {
		if len(all) > 1 {
			c.v.DoubledRows = append(c.v.DoubledRows, fmt.Sprintf("message %s has %d rows", id, len(all)))
		}
	}
	type place struct {
		index int
		seq   int64
	}
	order := map[string][]place{}
	home := map[string]string{}
	for _, s := range c.sent {
		m, ok := c.byID[s.Message]
		if !ok || !m.Inbound || oracle.Named(m.Text) != s.ID || !strings.HasSuffix(m.External, s.ID) {
			c.v.Lost = append(c.v.Lost, fmt.Sprintf("message %s, accepted as %s after %d tries", s.ID, s.Message, s.Tries))
			continue
		}
		if was := home[s.Who]; was != "" && was != m.Conversation {
			c.v.Disordered = append(c.v.Disordered, fmt.Sprintf("%s is in two conversations", s.Who))
		}
		home[s.Who] = m.Conversation
		order[s.Who] = append(order[s.Who], place{s.Index, m.Seq})
	}
	for who, places := range order {
		slices.SortFunc(places, func(a, b place) int { return a.index - b.index })
		if !slices.IsSortedFunc(places, func(a, b place) int { return int(a.seq - b.seq) }) {
			c.v.Disordered = append(c.v.Disordered, "what came from "+who)
		}
	}
}

// outside compares what receivers and visitors saw with what the database says went out.
func (c *checker) outside() {
	took := map[string]bool{}     // message ids that are known outside
	answer := map[string]string{} // answered message -> the message that answered it
	last := map[string]int64{}    // receiver and conversation -> seq
	see := func(m Message, where string) {
		if took[m.ID] {
			return
		}
		took[m.ID] = true
		c.v.Seen++
		if m.Seq <= last[where] {
			c.v.Disordered = append(c.v.Disordered, fmt.Sprintf("message %s went out after a later one", m.ID))
		}
		last[where] = m.Seq
		if m.Sender != "ai" {
			return
		}
		if to := oracle.Named(m.Text); to != "" {
			if was := answer[to]; was != "" && was != m.ID {
				c.v.DoubledEffect = append(c.v.DoubledEffect, fmt.Sprintf("%s was answered by %s and %s", to, was, m.ID))
			}
			answer[to] = m.ID
		}
	}
	byProvider := map[string]Message{}
	for _, m := range c.books.Messages {
		if m.Provider != "" {
			byProvider[m.Provider] = m
		}
	}
	lines := map[string]bool{}
	chats := map[string]bool{} // conversations that a visitor watches
	for _, e := range c.seen {
		switch e.Kind {
		case oracle.Took:
			m, ok := byProvider[e.Key]
			switch {
			case !ok:
				c.v.Phantom = append(c.v.Phantom, fmt.Sprintf("entry %d has the id %s, which is no message's", e.N, e.Key))
			case m.Text != e.Text:
				c.v.Phantom = append(c.v.Phantom, fmt.Sprintf("entry %d has another text than message %s", e.N, m.ID))
			case m.Status == "cancelled" || m.Status == "draft":
				c.v.Phantom = append(c.v.Phantom, fmt.Sprintf("message %s is %s and was taken in entry %d", m.ID, m.Status, e.N))
			case took[m.ID]:
				c.v.Repeats++
			default:
				see(m, e.Provider+m.Conversation)
			}
		case oracle.Line:
			m, ok := c.byID[e.Key]
			if !ok {
				c.v.Phantom = append(c.v.Phantom, fmt.Sprintf("entry %d shows the line %s, which is no message", e.N, e.Key))
				continue
			}
			chats[m.Conversation] = true
			if lines[e.Thread+e.Key] {
				c.v.DoubledEffect = append(c.v.DoubledEffect, fmt.Sprintf("line %s was shown twice", e.Key))
				continue
			}
			lines[e.Thread+e.Key] = true
			if !m.Inbound && m.Status == "cancelled" {
				c.v.Phantom = append(c.v.Phantom, fmt.Sprintf("line %s is cancelled and was shown in entry %d", m.ID, e.N))
			}
			see(m, e.Thread)
		}
	}
	for _, m := range c.books.Messages {
		if m.Inbound || m.Status != "sent" && m.Status != "delivered" && m.Status != "read" {
			continue
		}
		c.v.Answers++
		if !took[m.ID] && (m.Channel == "webhook" || chats[m.Conversation]) {
			c.v.Lost = append(c.v.Lost, fmt.Sprintf("message %s is %s and nobody saw it", m.ID, m.Status))
		}
	}
}

// takeovers wants that no dispatch of a machine's message committed after a person became the owner.
func (c *checker) takeovers() {
	first := map[string]time.Time{}
	for _, t := range c.books.Takeovers {
		if at, ok := first[t.Conversation]; !ok || t.At.Before(at) {
			first[t.Conversation] = t.At
		}
	}
	for _, d := range c.books.Dispatches {
		if at, ok := first[d.Conversation]; ok && !d.At.Before(at) {
			c.v.AfterTakeover = append(c.v.AfterTakeover, fmt.Sprintf("message %s, %s after the takeover", d.Message, d.At.Sub(at)))
		}
	}
}
