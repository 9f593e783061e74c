package prove_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/tandemhq/tandem/internal/prove"
	"github.com/tandemhq/tandem/internal/prove/oracle"
)

// journals are three journals that agree: two people with two messages each, one in the chat, one over a form, all
// answered.
type journals struct {
	sent  []prove.Sent
	books prove.Books
	seen  []oracle.Entry
}

func agreed() journals {
	var j journals
	n := int64(0)
	entry := func(e oracle.Entry) {
		n++
		e.N = n
		j.seen = append(j.seen, e)
	}
	for _, who := range []string{"form", "chat"} {
		channel := map[string]string{"form": "webhook", "chat": "webchat"}[who]
		for i := range 2 {
			id := fmt.Sprintf("%s-%d", who, i)
			in := prove.Message{
				ID: "in-" + id, Conversation: who, Channel: channel, Seq: int64(2*i + 1), Inbound: true, External: id, Sender: "contact",
				Text: "Hello [#" + id + "]", Status: "received",
			}
			out := prove.Message{
				ID: "out-" + id, Conversation: who, Channel: channel, Seq: int64(2*i + 2), Sender: "ai", Text: oracle.AnswerTo(id), Status: "sent",
				Provider: "p-" + id, Fence: 1,
			}
			j.books.Messages = append(j.books.Messages, in, out)
			j.sent = append(j.sent, prove.Sent{ID: id, Who: who, Chat: who == "chat", Index: i, Message: in.ID, Tries: 1})
			if who == "form" {
				entry(oracle.Entry{Provider: oracle.Webhook, Kind: oracle.Took, Key: out.Provider, Thread: who, Text: out.Text})
				continue
			}
			for _, m := range []prove.Message{in, out} {
				entry(oracle.Entry{Provider: oracle.Visitors, Kind: oracle.Line, Key: m.ID, Thread: who, Seq: m.Seq, Text: m.Text})
			}
		}
		j.books.Conversations = append(j.books.Conversations, prove.Conversation{ID: who, LastInbound: 3, Answered: 3, OwnerKind: "ai"})
		j.books.Dispatches = append(j.books.Dispatches, prove.Dispatch{Message: "out-" + who + "-0", Conversation: who, At: time.Unix(100, 0)})
	}
	j.books.Takeovers = []prove.Takeover{{Conversation: "form", At: time.Unix(200, 0)}}
	return j
}

// The checker sees every kind of harm: each doctored journal has exactly one, and is told from the others.
func TestCheckSeesEveryKind(t *testing.T) {
	t.Parallel()
	j := agreed()
	v := prove.Check(j.sent, j.books, j.seen)
	if wrong := v.Wrong(); len(wrong) > 0 || v.Accepted != 4 || v.Stored != 4 || v.Answers != 4 || !j.books.Drained() {
		t.Fatalf("journals that agree: %q %+v", wrong, v)
	}
	for name, tc := range map[string]struct {
		doctor func(j *journals)
		list   func(v prove.Verdict) []string
	}{
		"accepted and not stored": {
			func(j *journals) { j.sent = append(j.sent, prove.Sent{ID: "gone", Who: "form", Message: "none"}) },
			func(v prove.Verdict) []string { return v.Lost },
		},
		"stored under another id than the answer said": {
			func(j *journals) { j.sent[0].Message = "in-form-1" },
			func(v prove.Verdict) []string { return v.Lost },
		},
		"sent and not seen by the receiver": {
			func(j *journals) { j.seen = j.seen[1:] },
			func(v prove.Verdict) []string { return v.Lost },
		},
		"sent and not seen by the visitor": {
			func(j *journals) { j.seen = j.seen[:len(j.seen)-1] },
			func(v prove.Verdict) []string { return v.Lost },
		},
		"stored twice": {
			func(j *journals) {
				m := j.books.Messages[0]
				m.ID, m.Seq = "copy", 9
				j.books.Messages = append(j.books.Messages, m)
			},
			func(v prove.Verdict) []string { return v.DoubledRows },
		},
		"answered twice over the form": {
			func(j *journals) {
				m := j.books.Messages[1]
				m.ID, m.Provider, m.Seq = "copy", "p-copy", 9
				j.books.Messages = append(j.books.Messages, m)
				j.seen = append(j.seen, oracle.Entry{N: 90, Provider: oracle.Webhook, Kind: oracle.Took, Key: "p-copy", Text: m.Text})
			},
			func(v prove.Verdict) []string { return v.DoubledEffect },
		},
		"a line shown twice": {
			func(j *journals) { j.seen = append(j.seen, j.seen[len(j.seen)-1]) },
			func(v prove.Verdict) []string { return v.DoubledEffect },
		},
		"messages of one sender swapped": {
			func(j *journals) { j.sent[0].Index, j.sent[1].Index = 1, 0 },
			func(v prove.Verdict) []string { return v.Disordered },
		},
		"one sender in two conversations": {
			func(j *journals) { j.sent[2].Who = "form" },
			func(v prove.Verdict) []string { return v.Disordered },
		},
		"answers that arrive in another order": {
			func(j *journals) { j.seen[0], j.seen[1] = j.seen[1], j.seen[0] },
			func(v prove.Verdict) []string { return v.Disordered },
		},
		"let out after a takeover": {
			func(j *journals) { j.books.Dispatches[0].At = time.Unix(300, 0) },
			func(v prove.Verdict) []string { return v.AfterTakeover },
		},
		"taken outside although it was held back": {
			func(j *journals) { j.books.Messages[1].Status = "cancelled" },
			func(v prove.Verdict) []string { return v.Phantom },
		},
		"shown to a visitor although it was held back": {
			func(j *journals) { j.books.Messages[len(j.books.Messages)-1].Status = "cancelled" },
			func(v prove.Verdict) []string { return v.Phantom },
		},
		"taken outside and nobody's": {
			func(j *journals) {
				j.seen = append(j.seen, oracle.Entry{Provider: oracle.Webhook, Kind: oracle.Took, Key: "p-else"})
			},
			func(v prove.Verdict) []string { return v.Phantom },
		},
		"never answered": {
			func(j *journals) { j.books.Conversations[0].Answered = 1 },
			func(v prove.Verdict) []string { return v.Unanswered },
		},
		"never gone out": {
			func(j *journals) { j.books.Conversations[0].Undone = 1 },
			func(v prove.Verdict) []string { return v.Undone },
		},
	} {
		j := agreed()
		tc.doctor(&j)
		v := prove.Check(j.sent, j.books, j.seen)
		if len(tc.list(v)) != 1 || len(v.Wrong()) != 1 {
			t.Errorf("%s: %q", name, v.Wrong())
		}
	}
	j = agreed()
	j.seen = append(j.seen, j.seen[0]) // the same webhook-id again: documented, the receiver knows it
	j.books.Conversations[1].Unknown = 1
	j.books.Conversations[0].Answered, j.books.Conversations[0].OwnerKind = 1, "human"
	if v := prove.Check(j.sent, j.books, j.seen); len(v.Wrong()) > 0 || v.Repeats != 1 || len(v.Unknown) != 1 {
		t.Errorf("what is allowed: %+v", v)
	}
}
