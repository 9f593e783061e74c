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
	day       = 24 * time.Hour
	usualDays = 30
	mostDays  = 366
)

// period is a question's days, as moments.
type period struct {
	zone      *time.Location
	firstDate time.Time // the first day of the calendar, as midnight of UTC
	first     time.Time // when it begins
	end       time.Time // when it is over
	days      int
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
	date := func(field, text string) time.Time { // midnight of UTC stands for a day of the calendar
		t, err := time.Parse(dateLayout, text)
		if err != nil || t.Year() < 1970 || t.Year() > 9000 {
			bad(field, "Give a date such as 2026-03-01.")
		}
		return t
	}
	first, last := time.Time{}, dateOf(now.In(p.zone))
	if q.To != "" {
		last = date("to", q.To)
	}
	switch {
	case q.Days < 0 || q.Days > mostDays:
		bad("days", "This is between 1 and 366.")
	case q.From != "" && q.Days != 0:
		bad("days", "Give either from or days.")
	case q.From != "":
		first = date("from", q.From)
	default:
		days := q.Days
		if days == 0 {
			days = usualDays
		}
		first = last.AddDate(0, 0, 1-days)
	}
	if len(wrong) == 0 {
		p.firstDate, p.days = first, int(last.Sub(first)/day)+1
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
	p.first, p.end = midnight(first, p.zone), midnight(last.Add(day), p.zone)
	return p, nil
}

// dateOf is the day of the calendar that t is in, as midnight of UTC.
func dateOf(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
}

// midnight is the moment at which a day of the calendar begins in a zone. Where the clock skips midnight it is the moment
// at which it does.
func midnight(date time.Time, zone *time.Location) time.Time {
	t := time.Date(date.Year(), date.Month(), date.Day(), 0, 0, 0, 0, zone)
	if t.Day() != date.Day() {
		_, t = t.ZoneBounds()
	}
	return t
}

// date is the day with that number, from 0, as people write it.
func (p period) date(i int) string { return p.firstDate.AddDate(0, 0, i).Format(dateLayout) }

// index is which of the days t is in, from 0.
func (p period) index(t time.Time) int { return int(dateOf(t.In(p.zone)).Sub(p.firstDate) / day) }

// wholeDays is the part of the period that whole days of UTC cover; empty (equal) when there is none. The hours before
// and behind it complete it.
func (p period) wholeDays() (from, to time.Time) {
	from = p.first.UTC().Truncate(day)
	if from.Before(p.first) {
		from = from.Add(day)
	}
	if to = p.end.UTC().Truncate(day); !from.Before(to) {
		return p.end, p.end
	}
	return from, to
}

// wholeMonths is the part between two midnights of UTC that whole months cover; empty (equal) when there is none.
func wholeMonths(from, to time.Time) (months, upto time.Time) {
	first := func(t time.Time) time.Time { return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC) }
	from, to = from.UTC(), to.UTC()
	if months = first(from); months.Before(from) {
		months = months.AddDate(0, 1, 0)
	}
	if upto = first(to); !months.Before(upto) {
		return to, to
	}
	return months, upto
}
