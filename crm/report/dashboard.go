// Package report tells what an organization does: its pipeline, its conversations, how fast people and AI members answer.
//
// Numbers over time come from rollups, which a consumer of facts keeps by the hour and by the day (rollups.go), so that
// they cost the same whatever an organization has stored. What is asked of the present (the pipeline, waiting handoffs)
// is read from the records themselves, along an index.
package report

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

const (
	basicSQL = `
	SELECT o.currency,
	       (SELECT count(*) FROM (SELECT FROM conversations WHERE org_id = @org AND owner_id IS NULL AND state = 'open' LIMIT 1000) t) AS unowned
	FROM organizations o WHERE o.id = @org`

	hoursSQL = `
	SELECT hour, received, sent_people, sent_ai, sent_other, opened, resolved, leads FROM rollup_hours
	WHERE org_id = @org AND hour >= @first AND hour < @end`

	// Whole months of UTC by the month, whole days before and behind them by the day, and the rest by the hour. Each part
	// names all columns of the key up to the time, so that it is one walk along it.
	rollupsSQL = `
	SELECT measure, subject::text AS subject, label, bucket, sum(n)::bigint AS n FROM (
		SELECT measure, subject, label, bucket, n FROM rollups
		WHERE org_id = @org AND grain = 'hour' AND measure = ANY(@measures) AND at >= @first AND at < @from
		UNION ALL
		SELECT measure, subject, label, bucket, n FROM rollups
		WHERE org_id = @org AND grain = 'day' AND measure = ANY(@measures) AND at >= @from AND at < @months
		UNION ALL
		SELECT measure, subject, label, bucket, n FROM rollups
		WHERE org_id = @org AND grain = 'month' AND measure = ANY(@measures) AND at >= @months AND at < @upto
		UNION ALL
		SELECT measure, subject, label, bucket, n FROM rollups
		WHERE org_id = @org AND grain = 'day' AND measure = ANY(@measures) AND at >= @upto AND at < @to
		UNION ALL
		SELECT measure, subject, label, bucket, n FROM rollups
		WHERE org_id = @org AND grain = 'hour' AND measure = ANY(@measures) AND at >= @to AND at < @end
		UNION ALL
		SELECT measure, subject, label, bucket, n FROM rollups WHERE org_id = @org AND grain = 'ever' AND measure = 'state' AND at = 'epoch') r
	GROUP BY 1, 2, 3, 4`

	channelsSQL = `SELECT id::text, kind FROM channels WHERE org_id = @org`

	membersSQL = `SELECT id, kind, name, status = 'active' AS active FROM members WHERE org_id = @org`

	spentSQL = `
	SELECT member_id, sum(tokens)::bigint AS tokens, sum(cost_micros)::bigint AS cost FROM ai_spending
	WHERE org_id = @org AND hour >= @first AND hour < @end GROUP BY member_id`

	waitingSQL = `
	SELECT reason, count(*) AS n, min(deadline) AS deadline FROM handoffs WHERE org_id = @org AND state = 'requested' GROUP BY reason ORDER BY 2 DESC, 1`
)

// measures are what rollupsSQL adds up, beside state.
var measures = []string{
	"received", "sent", "opened", "reopened", "resolved", "resolution", "reply", "answered",
	"requested", "accepted", "rejected", "expired", "cancelled", "lead",
}

// sum is a row of rollupsSQL.
type sum struct {
	Measure, Subject, Label string
	Bucket                  int
	N                       int64
}

// reading is what the queries of a dashboard found, before it is put together.
type reading struct {
	period
	currency string
	unowned  int64
	sums     []sum
	days     []DayFigures
	channels map[string]string
	members  []memberRow
	spent    map[tandem.ID][2]int64
	waiting  WaitingHandoffs
}

type memberRow struct {
	ID     tandem.ID
	Kind   tandem.ActorKind
	Name   string
	Active bool
}

// Get answers a question. It needs report:read. A board that there is not is NotFound, a period or zone that there is not
// is Invalid.
func Get(ctx context.Context, tx pgx.Tx, q Question) (Dashboard, error) {
	var d Dashboard
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return d, err
	}
	if err := a.Require("report:read"); err != nil {
		return d, err
	}
	p, err := q.period(time.Now())
	if err != nil {
		return d, err
	}
	if d.Pipeline, err = boardOf(ctx, tx, a.Org, q.Board); err != nil {
		return d, err
	}
	r := reading{period: p, spent: map[tandem.ID][2]int64{}, channels: map[string]string{}, waiting: WaitingHandoffs{ByReason: []WaitingReason{}}}
	closed := map[string]SourceFigures{}
	b := &pgx.Batch{}
	r.queue(b, a.Org)
	d.Pipeline.queue(b, a.Org, p, closed)
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return d, fmt.Errorf("read the dashboard: %w", err)
	}
	d.From, d.To, d.Zone, d.Currency = p.date(0), p.date(p.days-1), p.zone.String(), r.currency
	d.Days, d.Handoffs.Waiting = r.days, r.waiting
	r.fill(&d, closed)
	d.Pipeline.addUp()
	return d, nil
}

// queue asks for all that a dashboard shows beside its pipeline, as statements of one round trip.
func (r *reading) queue(b *pgx.Batch, org tandem.ID) {
	from, to := r.wholeDays()
	months, upto := wholeMonths(from, to)
	span := pgx.StrictNamedArgs{"org": org, "first": r.first, "end": r.end}
	only := pgx.StrictNamedArgs{"org": org}
	b.Queue(basicSQL, only).QueryRow(func(row pgx.Row) error {
		return row.Scan(&r.currency, &r.unowned)
	})
	r.days = make([]DayFigures, r.period.days)
	for i := range r.days {
		r.days[i].Date = r.date(i)
	}
	b.Queue(hoursSQL, span).Query(func(rows pgx.Rows) error {
		var hour time.Time
		var h DayFigures
		_, err := pgx.ForEachRow(rows, []any{&hour, &h.Received, &h.SentPeople, &h.SentAI, &h.SentByOther, &h.Opened, &h.Resolved, &h.Leads}, func() error {
			r.days[min(max(r.index(hour), 0), len(r.days)-1)].add(h)
			return nil
		})
		return err
	})
	b.Queue(rollupsSQL, pgx.StrictNamedArgs{"org": org, "measures": measures, "first": r.first, "from": from, "months": months, "upto": upto, "to": to, "end": r.end}).Query(func(rows pgx.Rows) error {
		var s sum
		_, err := pgx.ForEachRow(rows, []any{&s.Measure, &s.Subject, &s.Label, &s.Bucket, &s.N}, func() error {
			r.sums = append(r.sums, s)
			return nil
		})
		return err
	})
	b.Queue(channelsSQL, only).Query(func(rows pgx.Rows) error {
		var id, kind string
		_, err := pgx.ForEachRow(rows, []any{&id, &kind}, func() error {
			r.channels[id] = kind
			return nil
		})
		return err
	})
	b.Queue(membersSQL, only).Query(func(rows pgx.Rows) (err error) {
		r.members, err = pgx.CollectRows(rows, pgx.RowToStructByName[memberRow])
		return err
	})
	b.Queue(spentSQL, span).Query(func(rows pgx.Rows) error {
		var id tandem.ID
		var tokens, cost int64
		_, err := pgx.ForEachRow(rows, []any{&id, &tokens, &cost}, func() error {
			r.spent[id] = [2]int64{tokens, cost}
			return nil
		})
		return err
	})
	b.Queue(waitingSQL, only).Query(func(rows pgx.Rows) error {
		var reason WaitingReason
		var deadline time.Time
		_, err := pgx.ForEachRow(rows, []any{&reason.Reason, &reason.Count, &deadline}, func() error {
			r.waiting.ByReason = append(r.waiting.ByReason, reason)
			r.waiting.Count += reason.Count
			if first := r.waiting.Deadline; first == nil || deadline.Before(*first) {
				at := deadline
				r.waiting.Deadline = &at
			}
			return nil
		})
		return err
	})
}

func (d *DayFigures) add(h DayFigures) {
	d.Leads += h.Leads
	d.Opened += h.Opened
	d.Resolved += h.Resolved
	d.Received += h.Received
	d.SentPeople += h.SentPeople
	d.SentAI += h.SentAI
	d.SentByOther += h.SentByOther
}

// split collects a time of people and of AI members.
type split struct{ all, people, ai histogram }

func newSplit() split { return split{histogram{}, histogram{}, histogram{}} }

func (s split) add(kind tandem.ActorKind, bucket int, n int64) {
	s.all.add(bucket, n)
	switch kind {
	case tandem.Human:
		s.people.add(bucket, n)
	case tandem.AI, tandem.External:
		s.ai.add(bucket, n)
	}
}

func (s split) split() ByAnswerer { return ByAnswerer{s.all.times(), s.people.times(), s.ai.times()} }

// fill puts the sums in their places.
func (r *reading) fill(d *Dashboard, closed map[string]SourceFigures) {
	first, later, resolution, accept := newSplit(), newSplit(), newSplit(), histogram{}
	kinds := map[string]*ChannelFigures{}
	for _, kind := range r.channels {
		if kinds[kind] == nil {
			kinds[kind] = &ChannelFigures{Kind: kind}
		}
	}
	members := map[string]*MemberFigures{}
	times := map[string]histogram{}
	for _, m := range r.members {
		members[string(m.ID)] = &MemberFigures{MemberRef: tandem.MemberRef{ID: m.ID, Kind: m.Kind, Name: m.Name}, Tokens: r.spent[m.ID][0], CostMicros: r.spent[m.ID][1]}
		times[string(m.ID)] = histogram{}
	}
	sources := closed
	c, h := &d.Conversations, &d.Handoffs
	for _, s := range r.sums {
		ch, who := kinds[r.channels[s.Subject]], members[s.Subject]
		if ch == nil {
			ch = &ChannelFigures{}
		}
		if who == nil {
			who = &MemberFigures{}
		}
		switch s.Measure {
		case "received":
			c.Received, ch.Received = c.Received+s.N, ch.Received+s.N
		case "sent":
			c.Sent, ch.Sent = c.Sent+s.N, ch.Sent+s.N
		case "opened":
			c.Opened, ch.Opened = c.Opened+s.N, ch.Opened+s.N
		case "reopened":
			c.Reopened, ch.Reopened = c.Reopened+s.N, ch.Reopened+s.N
		case "resolved":
			c.Resolved, ch.Resolved = c.Resolved+s.N, ch.Resolved+s.N
		case "state":
			switch s.Label {
			case "open":
				c.Now.Open, ch.Open = c.Now.Open+s.N, ch.Open+s.N
			case "waiting":
				c.Now.Waiting, ch.Waiting = c.Now.Waiting+s.N, ch.Waiting+s.N
			case "snoozed":
				c.Now.Snoozed += s.N
			}
		case "resolution":
			resolution.add(who.Kind, s.Bucket, s.N)
			who.Resolved += s.N
		case "reply":
			who.Replies += s.N
			switch s.Label {
			case "first":
				first.add(who.Kind, s.Bucket, s.N)
				if own := times[s.Subject]; own != nil {
					own.add(s.Bucket, s.N)
				}
			case "later":
				later.add(who.Kind, s.Bucket, s.N)
			}
		case "answered":
			who.Conversations += s.N
		case "requested":
			h.Requested += s.N
			who.Requested += s.N
		case "accepted":
			h.Accepted += s.N
			who.Accepted += s.N
			accept.add(s.Bucket, s.N)
		case "rejected":
			h.Rejected += s.N
		case "expired":
			h.Expired += s.N
		case "cancelled":
			h.Cancelled += s.N
		case "lead":
			if s.Subject == string(d.Pipeline.BoardID) {
				one := sources[s.Label]
				one.New += s.N
				sources[s.Label] = one
			}
		}
	}
	c.Now.Unowned = r.unowned
	c.Channels = []ChannelFigures{}
	for _, ch := range kinds {
		c.Channels = append(c.Channels, *ch)
	}
	slices.SortFunc(c.Channels, func(x, y ChannelFigures) int { return strings.Compare(x.Kind, y.Kind) })
	d.Response = ResponseTimes{First: first.split(), Later: later.split(), Resolution: resolution.split()}
	h.ToAccept = accept.times()
	d.Leads.fill(sources)
	d.Members = []MemberFigures{}
	for _, m := range r.members {
		one := members[string(m.ID)]
		one.FirstResponse = times[string(m.ID)].quantile(0.5)
		idle := *one == MemberFigures{MemberRef: one.MemberRef}
		if m.Active || !idle {
			d.Members = append(d.Members, *one)
		}
	}
	slices.SortFunc(d.Members, func(x, y MemberFigures) int {
		if x.Replies != y.Replies {
			return int(y.Replies - x.Replies)
		}
		return strings.Compare(x.Name+string(x.ID), y.Name+string(y.ID))
	})
}

const mostSources = 50

func (l *LeadFigures) fill(sources map[string]SourceFigures) {
	l.BySource = []SourceFigures{}
	for name, s := range sources {
		l.New, l.Won, l.Lost = l.New+s.New, l.Won+s.Won, l.Lost+s.Lost
		if s.New != 0 || s.Won != 0 || s.Lost != 0 {
			s.Name = &name
			l.BySource = append(l.BySource, s)
		}
	}
	slices.SortFunc(l.BySource, func(x, y SourceFigures) int {
		if a, b := x.New+x.Won+x.Lost, y.New+y.Won+y.Lost; a != b {
			return int(b - a)
		}
		return strings.Compare(*x.Name, *y.Name)
	})
	if len(l.BySource) > mostSources {
		var rest SourceFigures
		for _, s := range l.BySource[mostSources:] {
			rest.New, rest.Won, rest.Lost = rest.New+s.New, rest.Won+s.Won, rest.Lost+s.Lost
		}
		l.BySource = append(l.BySource[:mostSources:mostSources], rest)
	}
}
