package inbox

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
)

func (w *world) label(a tandem.Actor, conv tandem.ID, l Labels) (Conversation, error) {
	return w.act(a, func(ctx context.Context, tx pgx.Tx) (Conversation, error) { return Label(ctx, tx, conv, l) })
}

func (w *world) chosen(q ConversationQuery) (ids []tandem.ID) {
	w.Helper()
	for {
		page := w.list(w.owner, q)
		for _, c := range page.Items {
			ids = append(ids, c.ID)
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			return ids
		}
	}
}

// Each filter chooses what it says and nothing else, alone and with others, page by page in the order asked for.
func TestFiltersChoose(t *testing.T) {
	w := newWorld(t)
	kim := w.people(1, "agent")[0]
	var convs []tandem.ID
	for range 5 {
		convs = append(convs, w.conversation())
	}
	letter := w.ingest(w.letter("bolt@example.com", "", "Bolts, please."))
	convs = append(convs, letter.Conversation)
	var account crm.Account
	w.do(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) (err error) {
		if account, err = crm.Accounts.Create(ctx, tx, crm.Account{Name: "Engines"}); err != nil {
			return err
		}
		_, err = crm.Contacts.Patch(ctx, tx, letter.Contact, []byte(`{"account_id":"`+string(account.ID)+`","first_name":"Zoë","email":"Zoe@Example.com"}`), nil)
		return err
	})
	if _, err := w.claim(kim, convs[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := w.reply(kim, convs[1], Draft{Text: "Ten days."}); err != nil {
		t.Fatal(err)
	}
	urgent, low, subject := "urgent", "low", "Forty racks"
	if c, err := w.label(kim, convs[2], Labels{Priority: &urgent, Tags: []string{" VIP ", "vip", "b2b"}}); err != nil || !slices.Equal(c.Tags, []string{"vip", "b2b"}) || c.Version != 2 {
		t.Fatalf("%+v, %v", c, err)
	}
	if _, err := w.label(kim, convs[3], Labels{Priority: &low, Subject: &subject, Tags: []string{"vip"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.handoff(kim, convs[4], HandoffRequest{Reason: "sentiment", To: Target{Team: w.sales}}); err != nil {
		t.Fatal(err)
	}
	merged := w.ingest(w.letter("bolt@example.com", "other", "More bolts")).Conversation
	if _, err := w.merge(kim, letter.Conversation, merged); err != nil {
		t.Fatal(err)
	}
	later, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	sorted := func(s string) tandem.Query { return tandem.Query{Sort: s, Limit: 2} }
	for name, tt := range map[string]struct {
		q    ConversationQuery
		want []tandem.ID
	}{
		"all":               {ConversationQuery{Query: tandem.Query{Limit: 2}}, []tandem.ID{convs[5], convs[1], convs[4], convs[3], convs[2], convs[0]}},
		"owner":             {ConversationQuery{Owner: kim.Member}, []tandem.ID{convs[1], convs[0]}},
		"kind":              {ConversationQuery{Kind: "fake", Priority: "urgent"}, []tandem.ID{convs[2]}},
		"no such kind":      {ConversationQuery{Kind: "pigeon"}, nil},
		"account":           {ConversationQuery{Account: account.ID}, []tandem.ID{convs[5]}},
		"team":              {ConversationQuery{Team: w.sales}, []tandem.ID{convs[4]}},
		"reason":            {ConversationQuery{Reason: "sentiment"}, []tandem.ID{convs[4]}},
		"other reason":      {ConversationQuery{Reason: "policy"}, nil},
		"tag":               {ConversationQuery{Tag: "Vip"}, []tandem.ID{convs[3], convs[2]}},
		"tag and priority":  {ConversationQuery{Tag: "vip", Priority: "low"}, []tandem.ID{convs[3]}},
		"unread":            {ConversationQuery{Unread: true, Channel: w.form}, []tandem.ID{convs[5]}},
		"longest wait":      {ConversationQuery{Query: sorted("unanswered")}, []tandem.ID{convs[0], convs[2], convs[3], convs[5]}},
		"oldest first":      {ConversationQuery{Query: sorted("created_at")}, convs},
		"begun later":       {ConversationQuery{CreatedAfter: &later}, nil},
		"long quiet":        {ConversationQuery{ActiveBefore: &past}, nil},
		"subject":           {ConversationQuery{Query: tandem.Query{Search: "FORTY"}}, []tandem.ID{convs[3]}},
		"preview":           {ConversationQuery{Query: tandem.Query{Search: "more bol"}}, []tandem.ID{convs[5]}},
		"address":           {ConversationQuery{Query: tandem.Query{Search: "zoe@"}}, []tandem.ID{convs[5]}},
		"no wildcard":       {ConversationQuery{Query: tandem.Query{Search: "%"}}, nil},
		"unanswered, owned": {ConversationQuery{Unanswered: true, Owner: kim.Member}, []tandem.ID{convs[0]}},
	} {
		if got := w.chosen(tt.q); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
	one := int64(1)
	want(t, second(w.label(kim, convs[2], Labels{Priority: &low, Version: &one})), tandem.Conflict)
	want(t, second(w.label(w.external("Xen"), convs[2], Labels{Priority: &low})), tandem.Conflict)
	want(t, second(w.label(kim, merged, Labels{Priority: &low})), tandem.Conflict)
	if n := count(w.topics(convs[2]), "conversation.updated"); n != 1 {
		t.Errorf("%d updates recorded", n)
	}
}

// Whoever was asked, as a member, in a team or by a skill, sees what waits, the soonest deadline first; owners see it all.
func TestPendingHandoffs(t *testing.T) {
	w := newWorld(t)
	crew := w.people(3, "agent")
	kim, lee, noor := crew[0], crew[1], crew[2]
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO team_members (org_id, team_id, member_id) VALUES ($1, $2, $3)`, w.org, w.sales, lee.Member); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE members SET skills = '{dutch}' WHERE id = ANY ($1)`, []string{string(lee.Member), string(noor.Member)})
		return err
	})
	ask := func(to Target, ttl time.Duration) tandem.ID {
		h, err := w.handoff(w.owner, w.conversation(), HandoffRequest{Reason: "policy", To: to, TTL: ttl})
		if err != nil {
			t.Fatal(err)
		}
		return h.ID
	}
	member, team, skill := ask(Target{Member: kim.Member}, 3*time.Hour), ask(Target{Team: w.sales}, 2*time.Hour), ask(Target{Skill: "dutch"}, time.Hour)
	gone := ask(Target{Member: kim.Member}, time.Minute)
	if _, err := w.accept(kim, gone); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		who  tandem.Actor
		want []tandem.ID
	}{{kim, []tandem.ID{member}}, {lee, []tandem.ID{skill, team}}, {noor, []tandem.ID{skill}}, {w.owner, []tandem.ID{skill, team, member}}} {
		var got []tandem.ID
		for q := (tandem.Query{Limit: 1}); ; {
			var page tandem.Page[Handoff]
			w.do(w.as(tt.who), func(ctx context.Context, tx pgx.Tx) (err error) { page, err = PendingHandoffs(ctx, tx, q); return err })
			for _, h := range page.Items {
				got = append(got, h.ID)
			}
			if q.Cursor = page.Next; q.Cursor == "" {
				break
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s sees %v, want %v", tt.who.Name, got, tt.want)
		}
	}
}
