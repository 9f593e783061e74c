package crm_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/team"
)

func TestOneOpenLeadHoweverManyEnquire(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	c := h.contact("sara@example.com", "Sara Weber")
	ids, made := make([]tandem.ID, 32), make([]bool, 32)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			<-start
			err := h.try(h.sys, func(ctx context.Context, tx pgx.Tx) error {
				l, created, err := crm.Leads.OpenOrFind(ctx, tx, crm.NewLead{Contact: c.ID, Title: "Fleet", Tags: []string{"a", "b"}[i%2 : i%2+1]})
				ids[i], made[i] = l.ID, created
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	created := 0
	for i, id := range ids {
		if id != ids[0] {
			t.Fatalf("two leads: %s and %s", ids[0], id)
		}
		if made[i] {
			created++
		}
	}
	if n := h.count("SELECT count(*) FROM leads"); n != 1 || created != 1 {
		t.Errorf("%d leads, %d callers were told that they opened it; want 1 and 1", n, created)
	}
	l, _ := h.lead(crm.NewLead{Contact: c.ID})
	slices.Sort(l.Tags)
	if !slices.Equal(l.Tags, []string{"a", "b"}) {
		t.Errorf("tags %v: a further enquiry's tags are lost", l.Tags)
	}
}

func TestALeadOpensWhereItShouldAndJoins(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	var second crm.Board
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
		second, err = crm.SeedBoard(ctx, tx, "Partners", []crm.BoardStage{{Name: "Lost", Kind: "lost"}, {Name: "Talk"}})
		return err
	})
	if !h.board.IsDefault || second.IsDefault {
		t.Errorf("default: %v, %v; want the first board only", h.board.IsDefault, second.IsDefault)
	}
	c := h.contact("sara@example.com", "Sara Weber")
	l, created := h.lead(crm.NewLead{Contact: c.ID, Source: "webhook", Custom: map[string]any{"seats": 5}})
	if !created || l.Title != "Enquiry from Sara Weber" || l.Stage.Name != "New" || l.BoardID != h.board.ID || l.Contact.Name != "Sara Weber" ||
		l.Value != nil || l.Assignee != nil || l.Priority != "normal" || l.Temperature != "cold" || l.Qualification == nil {
		t.Fatalf("%+v", l)
	}
	p, created := h.lead(crm.NewLead{Contact: c.ID, BoardName: "PARTNERS"})
	if !created || p.BoardID != second.ID || p.Stage.Name != "Talk" {
		t.Errorf("by board name: %+v", p)
	}
	j, created := h.lead(crm.NewLead{Contact: c.ID, Source: "other", Value: &crm.Money{Minor: 3_800_000, Currency: "EUR"}, Custom: map[string]any{"seats": 9, "x": "y\x00"}})
	if created || j.ID != l.ID || j.Source != "webhook" || j.Value == nil || *j.Value != (crm.Money{Minor: 3_800_000, Currency: "EUR"}) ||
		j.Custom["seats"] != float64(5) || j.Custom["x"] != "y" {
		t.Errorf("a further enquiry: %+v", j)
	}
	again, _ := h.lead(crm.NewLead{Contact: c.ID, Source: "other"})
	if again.Version != j.Version {
		t.Errorf("an enquiry that says nothing new made version %d of %d", again.Version, j.Version)
	}
	for name, in := range map[string]crm.NewLead{
		"board name": {Contact: c.ID, BoardName: "Nope"}, "foreign board": {Contact: c.ID, Board: tandem.NewID()},
		"malformed board": {Contact: c.ID, Board: "x"}, "priority": {Contact: c.ID, Priority: "mega"},
		"negative value": {Contact: c.ID, Value: &crm.Money{Minor: -1, Currency: "EUR"}}, "currency": {Contact: c.ID, Value: &crm.Money{Minor: 1, Currency: "euro"}},
	} {
		err := h.try(h.sys, func(ctx context.Context, tx pgx.Tx) error {
			_, _, err := crm.Leads.OpenOrFind(ctx, tx, in)
			return err
		})
		want(t, err, tandem.Invalid, name)
	}
}

func TestMovingALead(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	c := h.contact("sara@example.com", "Sara")
	l, _ := h.lead(crm.NewLead{Contact: c.ID})
	stage := map[string]tandem.ID{}
	for _, s := range h.board.Stages {
		stage[s.Name] = s.ID
	}
	move := func(ctx context.Context, lead tandem.ID, to tandem.ID) (got crm.Lead, err error) {
		err = h.try(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
			got, err = crm.Leads.Move(ctx, tx, lead, crm.LeadMove{Stage: to})
			return err
		})
		return got, err
	}
	got, err := move(h.ai, l.ID, stage["Qualified"])
	if err != nil || got.Stage.Name != "Qualified" || got.Version != l.Version+1 || !got.StageChangedAt.After(l.StageChangedAt) {
		t.Fatalf("%+v, %v", got, err)
	}
	if again, err := move(h.ai, l.ID, stage["Qualified"]); err != nil || again.Version != got.Version {
		t.Errorf("a move to the same stage: version %d, %v", again.Version, err)
	}
	for _, to := range []string{"Won", "Lost"} {
		_, err = move(h.ai, l.ID, stage[to])
		want(t, err, tandem.Forbidden, "an AI member moves to "+to)
	}
	_, err = move(h.human, l.ID, tandem.NewID())
	want(t, err, tandem.Invalid, "an unknown stage")
	_, err = move(h.human, l.ID, "x")
	want(t, err, tandem.Invalid, "a malformed stage")
	if got, err = move(h.human, l.ID, stage["Won"]); err != nil || !got.Closed {
		t.Fatalf("a person closes the lead: %+v, %v", got, err)
	}
	_, err = move(h.ai, l.ID, stage["New"])
	want(t, err, tandem.Forbidden, "an AI member reopens a won lead")
	next, created := h.lead(crm.NewLead{Contact: c.ID})
	if !created || next.ID == l.ID {
		t.Error("after a won lead, an enquiry did not open another")
	}
	_, err = move(h.human, l.ID, stage["New"])
	want(t, err, tandem.Conflict, "reopening beside another open lead")
	says := h.says(l.ID)
	w := []string{"lead.created: Tandem opened the lead Enquiry from Sara", "lead.moved: Ava moved the lead to Qualified", "lead.moved: Sam moved the lead to Won"}
	if !slices.Equal(says, w) {
		t.Errorf("events\n%s\nwant\n%s", strings.Join(says, "\n"), strings.Join(w, "\n"))
	}
}

func TestPermissionsOfLeads(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	c := h.contact("sara@example.com", "Sara")
	l, _ := h.lead(crm.NewLead{Contact: c.ID})
	var vi team.Member
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) (err error) {
		vi, err = team.AddHuman(ctx, tx, team.NewHuman{Name: "Vi", Email: "vi@example.com", Password: "correct horse battery", Role: "viewer"})
		return err
	})
	viewer := h.as(vi.ID)
	title, hot := "New title", "hot"
	writes := map[string]func(ctx context.Context, tx pgx.Tx) error{
		"move": func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Leads.Move(ctx, tx, l.ID, crm.LeadMove{Stage: h.board.Stages[1].ID})
			return err
		},
		"assign": func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Leads.Assign(ctx, tx, l.ID, h.sam.ID)
			return err
		},
		"fields": func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Leads.SetFields(ctx, tx, l.ID, crm.LeadFields{Title: &title})
			return err
		},
		"archive": func(ctx context.Context, tx pgx.Tx) error { return crm.Leads.Archive(ctx, tx, l.ID, nil) },
		"open": func(ctx context.Context, tx pgx.Tx) error {
			_, _, err := crm.Leads.OpenOrFind(ctx, tx, crm.NewLead{Contact: c.ID})
			return err
		},
		"resolve": func(ctx context.Context, tx pgx.Tx) error {
			_, _, err := crm.Resolve(ctx, tx, crm.Identity{Kind: "email", Value: "x@example.com"}, crm.ContactFacts{})
			return err
		},
		"board": func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.SeedBoard(ctx, tx, "B", []crm.BoardStage{{Name: "A"}})
			return err
		},
		"qualify": func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Leads.SetQualification(ctx, tx, l.ID, crm.Qualification{Field: "need", Value: "x", Confidence: 1})
			return err
		},
	}
	for name, fn := range writes {
		want(t, h.try(viewer, fn), tandem.Forbidden, "a viewer may not "+name)
	}
	if n := h.count("SELECT count(*) FROM events WHERE actor_id = $1", vi.ID); n != 0 {
		t.Errorf("refused writes left %d events", n)
	}
	none := tandem.WithActor(t.Context(), tandem.Actor{Org: h.org.ID, Kind: tandem.Human, Name: "Nobody"})
	for name, fn := range map[string]func(ctx context.Context, tx pgx.Tx) error{
		"list leads": func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Leads.List(ctx, tx, tandem.Query{})
			return err
		},
		"get lead": func(ctx context.Context, tx pgx.Tx) error { _, err := crm.Leads.Get(ctx, tx, l.ID); return err },
		"list contacts": func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Contacts.List(ctx, tx, tandem.Query{})
			return err
		},
		"list boards": func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Boards.List(ctx, tx, tandem.Query{})
			return err
		},
		"list stages": func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Stages.List(ctx, tx, tandem.Query{})
			return err
		},
		"qualification": func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Leads.Qualification(ctx, tx, l.ID)
			return err
		},
	} {
		want(t, h.try(none, fn), tandem.Forbidden, name+" without a permission")
	}
	for name, fn := range map[string]func(ctx context.Context, tx pgx.Tx) error{
		"assign": writes["assign"], "make a board": writes["board"],
		"set the value": func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Leads.SetFields(ctx, tx, l.ID, crm.LeadFields{Value: &crm.Money{Minor: 1, Currency: "EUR"}})
			return err
		},
	} {
		want(t, h.try(h.ai, fn), tandem.Forbidden, "an AI member may not "+name)
	}
	var got crm.Lead
	h.tx(h.ai, func(ctx context.Context, tx pgx.Tx) (err error) {
		got, err = crm.Leads.SetFields(ctx, tx, l.ID, crm.LeadFields{Title: &title, Temperature: &hot, Tags: []string{"fleet"}})
		return err
	})
	if got.Title != title || got.Temperature != hot || !slices.Equal(got.Tags, []string{"fleet"}) || got.Priority != "normal" {
		t.Errorf("%+v", got)
	}
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
		got, err = crm.Leads.Assign(ctx, tx, l.ID, h.ava.ID)
		return err
	})
	if got.Assignee == nil || got.Assignee.Name != "Ava" || got.Assignee.Kind != tandem.AI {
		t.Errorf("assignee %+v", got.Assignee)
	}
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
		got, err = crm.Leads.Assign(ctx, tx, l.ID, "")
		return err
	})
	if got.Assignee != nil {
		t.Errorf("assignee %+v, want none", got.Assignee)
	}
	want(t, h.try(h.human, func(ctx context.Context, tx pgx.Tx) error {
		_, err := crm.Leads.Assign(ctx, tx, l.ID, tandem.NewID())
		return err
	}), tandem.Invalid, "an unknown assignee")
}

func TestAPersonsQualificationIsLocked(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	l, _ := h.lead(crm.NewLead{Contact: h.contact("sara@example.com", "Sara").ID})
	set := func(ctx context.Context, q crm.Qualification) (got crm.Qualification, err error) {
		err = h.try(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
			got, err = crm.Leads.SetQualification(ctx, tx, l.ID, q)
			return err
		})
		return got, err
	}
	budget := crm.Qualification{Field: "budget", Value: "38,000 EUR a year", Confidence: 0.8, Quote: "we have 38k a year", Locked: true}
	got, err := set(h.ai, budget)
	if err != nil || got.Locked || got.Author == nil || got.Author.ID != h.ava.ID || got.Confidence < 0.79 || got.Quote != budget.Quote {
		t.Fatalf("by the AI member: %+v, %v", got, err)
	}
	if again, err := set(h.ai, budget); err != nil || !again.UpdatedAt.Equal(got.UpdatedAt) {
		t.Errorf("noting the same again: %+v, %v", again, err)
	}
	if got, err = set(h.human, crm.Qualification{Field: "budget", Value: "40,000 EUR", Confidence: 1}); err != nil || !got.Locked || got.Author.ID != h.sam.ID {
		t.Fatalf("by a person: %+v, %v", got, err)
	}
	_, err = set(h.ai, crm.Qualification{Field: "budget", Value: "1 EUR", Confidence: 1})
	want(t, err, tandem.Conflict, "an AI member overwrites a person")
	_, err = set(h.sys, crm.Qualification{Field: "budget", Value: "1 EUR", Confidence: 1})
	want(t, err, tandem.Conflict, "Tandem itself overwrites a person")
	if _, err = set(h.human, crm.Qualification{Field: "budget", Value: "41,000 EUR", Confidence: 1}); err != nil {
		t.Errorf("a person corrects a person: %v", err)
	}
	if _, err = set(h.ai, crm.Qualification{Field: "timeline", Value: "Q1", Confidence: 0.5}); err != nil {
		t.Errorf("another field: %v", err)
	}
	msg := tandem.NewID()
	for name, q := range map[string]crm.Qualification{
		"field": {Field: "mood", Value: "x", Confidence: 1}, "empty value": {Field: "need", Confidence: 1},
		"confidence": {Field: "need", Value: "x", Confidence: 1.5}, "unknown message": {Field: "need", Value: "x", Confidence: 1, MessageID: &msg},
	} {
		_, err = set(h.ai, q)
		want(t, err, tandem.Invalid, name)
	}
	var known map[string]crm.Qualification
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
		known, err = crm.Leads.Qualification(ctx, tx, l.ID)
		return err
	})
	if len(known) != 2 || known["budget"].Value != "41,000 EUR" || known["timeline"].Value != "Q1" {
		t.Errorf("known: %+v", known)
	}
	w := []string{
		"lead.created: Tandem opened the lead Enquiry from Sara", "lead.qualified: Ava noted the budget: 38,000 EUR a year",
		"lead.qualified: Sam noted the budget: 40,000 EUR", "lead.qualified: Sam noted the budget: 41,000 EUR", "lead.qualified: Ava noted the timeline: Q1",
	}
	if says := h.says(l.ID); !slices.Equal(says, w) {
		t.Errorf("events\n%s\nwant\n%s", strings.Join(says, "\n"), strings.Join(w, "\n"))
	}
}

// Whatever the order in which they arrive, a person's value stands at the end.
func TestHumanLockHoldsInARace(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	for round := range 10 {
		l, _ := h.lead(crm.NewLead{Contact: h.contact("c"+string(rune('a'+round))+"@example.com", "C").ID})
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				ctx, value := h.ai, "machine"
				if i == 4 {
					ctx, value = h.human, "person"
				}
				err := h.try(ctx, func(ctx context.Context, tx pgx.Tx) error {
					_, err := crm.Leads.SetQualification(ctx, tx, l.ID, crm.Qualification{Field: "need", Value: value, Confidence: float64(i) / 8})
					return err
				})
				if err != nil && (i == 4 || tandem.KindOf(err) != tandem.Conflict) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := h.count("SELECT count(*) FROM qualifications WHERE lead_id = $1 AND value = 'person' AND locked", l.ID); n != 1 {
			t.Fatalf("round %d: the person's value was overwritten", round)
		}
	}
}

// What a person notes is locked unless the person says otherwise, and nobody else may lock.
func TestWhoLocksAQualification(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	l, _ := h.lead(crm.NewLead{Contact: h.contact("sara@example.com", "Sara").ID})
	yes, no := true, false
	note := func(as context.Context, value string, lock *bool) (q crm.Qualification, err error) {
		err = h.try(as, func(ctx context.Context, tx pgx.Tx) (err error) {
			q, err = crm.Leads.SetQualification(ctx, tx, l.ID, crm.Qualification{Field: "budget", Value: value, Confidence: 0.5, Lock: lock})
			return err
		})
		return q, err
	}
	_, err := note(h.ai, "5,000", &yes)
	want(t, err, tandem.Forbidden, "an AI member locks")
	if q, err := note(h.human, "6,000", &no); err != nil || q.Locked {
		t.Errorf("a person leaves it open: %+v, %v", q, err)
	}
	if q, err := note(h.ai, "7,000", nil); err != nil || q.Value != "7,000" || q.Locked {
		t.Errorf("an AI member changes what was left open: %+v, %v", q, err)
	}
	for _, value := range []string{"7,000", "8,000"} {
		if q, err := note(h.human, value, nil); err != nil || !q.Locked {
			t.Errorf("a person notes %s: %+v, %v", value, q, err)
		}
	}
	_, err = note(h.ai, "9,000", nil)
	want(t, err, tandem.Conflict, "an AI member changes what is locked")
	if q, err := note(h.human, "8,000", &no); err != nil || q.Locked {
		t.Errorf("a person unlocks: %+v, %v", q, err)
	}
}

// A lost reason comes with a lost stage, can be told later, and goes when the lead reopens.
func TestWhyALeadIsLost(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	l, _ := h.lead(crm.NewLead{Contact: h.contact("sara@example.com", "Sara").ID})
	stage := map[string]tandem.ID{}
	for _, s := range h.board.Stages {
		stage[s.Name] = s.ID
	}
	move := func(as context.Context, m crm.LeadMove) (got crm.Lead, err error) {
		err = h.try(as, func(ctx context.Context, tx pgx.Tx) (err error) {
			got, err = crm.Leads.Move(ctx, tx, l.ID, m)
			return err
		})
		return got, err
	}
	_, err := move(h.human, crm.LeadMove{Stage: stage["Won"], LostReason: "Too dear"})
	want(t, err, tandem.Invalid, "a won lead with a lost reason")
	old := l.Version + 7
	_, err = move(h.human, crm.LeadMove{Stage: stage["Lost"], Version: &old})
	want(t, err, tandem.Conflict, "another version")
	lost, err := move(h.human, crm.LeadMove{Stage: stage["Lost"], Version: &l.Version})
	if err != nil || lost.LostReason != nil || !lost.Closed {
		t.Fatalf("lost without a reason: %+v, %v", lost, err)
	}
	_, err = move(h.ai, crm.LeadMove{Stage: stage["Lost"], LostReason: "Too dear"})
	want(t, err, tandem.Forbidden, "an AI member says why a lead is lost")
	for range 2 {
		got, err := move(h.human, crm.LeadMove{Stage: stage["Lost"], LostReason: " Too dear "})
		if err != nil || got.LostReason == nil || *got.LostReason != "Too dear" || got.Version != lost.Version+1 || !got.StageChangedAt.Equal(lost.StageChangedAt) {
			t.Fatalf("the reason told later: %+v, %v", got, err)
		}
	}
	got, err := move(h.human, crm.LeadMove{Stage: stage["New"]})
	if err != nil || got.LostReason != nil {
		t.Fatalf("reopened: %+v, %v", got, err)
	}
	says := h.says(l.ID)
	w := []string{"lead.created: Tandem opened the lead Enquiry from Sara", "lead.moved: Sam moved the lead to Lost", "lead.updated: Sam said why the lead is lost", "lead.moved: Sam moved the lead to New"}
	if !slices.Equal(says, w) {
		t.Errorf("events\n%s\nwant\n%s", strings.Join(says, "\n"), strings.Join(w, "\n"))
	}
}
