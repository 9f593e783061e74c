package report

import (
	"strings"
	"time"
	_ "time/tzdata" // a small container has no time zones of its own

	"github.com/tandemhq/tandem"
)

// Question says what a dashboard is to show.
type Question struct {
	From  string    // the first day, such as 2026-03-01; empty: Days before To
	To    string    // the last day, which counts whole; empty: today
	Days  int       // instead of From: how many days, To included; 0 means 30
	Zone  string    // whose days, an IANA name such as Europe/Berlin; empty means UTC
	Board tandem.ID // whose pipeline; empty: the default board of leads
}

const (
	usualDays = 30
	mostDays  = 366
)

// period is a question's days, as moments.
type period struct {
	zone     *time.Location
	first    time.Time // midnight at which it begins
	end      time.Time // midnight at which it is over
	days     int
	lastDate string
}

const dateLayout = time.DateOnly

// period checks the question and finds its days as they are in its zone.
func (q Question) period(now time.Time) (p period, err error) {
	var wrong []tandem.FieldError
	bad := func(field, message string) { wrong = append(wrong, tandem.FieldError{Field: field, Message: message}) }
	p.zone = time.UTC
	if q.Zone != "" {
		zone, err := time.LoadLocation(q.Zone)
		if err != nil || strings.EqualFold(q.Zone, "local") {
			bad("tz", "This is not a time zone such as Europe/Berlin.")
		} else {
			p.zone = zone
		}
	}
	date := func(field, text string) time.Time {
		t, err := time.ParseInLocation(dateLayout, text, p.zone)
		if err != nil || t.Year() < 1970 || t.Year() > 9000 {
			bad(field, "Give a date such as 2026-03-01.")
		}
		return t
	}
	now = now.In(p.zone)
	last := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, p.zone)
	if q.To != "" {
		last = date("to", q.To)
	}
	switch {
	case q.Days < 0 || q.Days > mostDays:
		bad("days", "This is between 1 and 366.")
	case q.From != "" && q.Days != 0:
		bad("days", "Give either from or days.")
	case q.From != "":
		p.first = date("from", q.From)
	default:
		days := q.Days
		if days == 0 {
			days = usualDays
		}
		p.first = last.AddDate(0, 0, 1-days)
	}
	if len(wrong) == 0 {
		p.end = midnight(last, 1)
		p.first = midnight(p.first, 0)
		p.days = p.index(last) + 1
		p.lastDate = last.Format(dateLayout)
		switch {
		case p.days < 1:
			bad("from", "This is after the last day.")
		case p.days > mostDays:
			bad("from", "At most 366 days can be shown at once.")
		}
	}
	if len(wrong) > 0 {
		return p, tandem.InvalidFields(wrong...)
	}
	return p, nil
}

// midnight is the beginning of the day so many days after t's. Where the clock skips midnight it is the moment after.
func midnight(t time.Time, after int) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day()+after, 0, 0, 0, 0, t.Location())
}

// index is which of the days t is in, from 0. Days are counted by the calendar, for some have 23 hours or 25.
func (p period) index(t time.Time) int {
	t = t.In(p.zone)
	number := func(t time.Time) int64 {
		return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC).Unix() / (24 * 60 * 60)
	}
	return int(number(t) - number(p.first))
}

// wholeDays is the part of the period that whole days of UTC cover; empty (equal) when there is none. The hours before
// and behind it complete it.
func (p period) wholeDays() (from, to time.Time) {
	const day = 24 * time.Hour
	from = p.first.UTC().Truncate(day)
	if from.Before(p.first) {
		from = from.Add(day)
	}
	if to = p.end.UTC().Truncate(day); !from.Before(to) {
		return p.end, p.end
	}
	return from, to
}
