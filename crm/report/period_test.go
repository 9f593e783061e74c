package report

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tandemhq/tandem"
)

func TestPeriods(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 30, 22, 30, 0, 0, time.UTC) // 31 March in Berlin
	for name, x := range map[string]struct {
		q           Question
		first, end  string // in UTC
		days        int
		whole, upto string // the whole days of UTC
		wrong       string
	}{
		"a month by itself": {q: Question{}, first: "2026-03-01T00:00:00Z", end: "2026-03-31T00:00:00Z", days: 30, whole: "2026-03-01T00:00:00Z", upto: "2026-03-31T00:00:00Z"},
		"summer time begins": {
			q: Question{Days: 3, Zone: "Europe/Berlin"}, first: "2026-03-28T23:00:00Z", end: "2026-03-31T22:00:00Z", days: 3,
			whole: "2026-03-29T00:00:00Z", upto: "2026-03-31T00:00:00Z",
		},
		"one day has no whole one":    {q: Question{From: "2026-03-02", To: "2026-03-02", Zone: "Asia/Tokyo"}, first: "2026-03-01T15:00:00Z", end: "2026-03-02T15:00:00Z", days: 1, whole: "2026-03-02T15:00:00Z", upto: "2026-03-02T15:00:00Z"},
		"a day without midnight":      {q: Question{From: "2024-09-08", To: "2024-09-08", Zone: "America/Santiago"}, first: "2024-09-08T04:00:00Z", end: "2024-09-09T03:00:00Z", days: 1, whole: "2024-09-09T03:00:00Z", upto: "2024-09-09T03:00:00Z"},
		"a leap year":                 {q: Question{From: "2024-01-01", To: "2024-12-31"}, first: "2024-01-01T00:00:00Z", end: "2025-01-01T00:00:00Z", days: 366, whole: "2024-01-01T00:00:00Z", upto: "2025-01-01T00:00:00Z"},
		"backwards":                   {q: Question{From: "2026-03-02", To: "2026-03-01"}, wrong: "from"},
		"too long":                    {q: Question{From: "2024-01-01", To: "2025-01-01"}, wrong: "from"},
		"both":                        {q: Question{From: "2024-01-01", Days: 4}, wrong: "days"},
		"no zone":                     {q: Question{Zone: "Europe/Atlantis"}, wrong: "tz"},
		"the machine's zone":          {q: Question{Zone: "Local"}, wrong: "tz"},
		"a path":                      {q: Question{Zone: "../../etc/passwd"}, wrong: "tz"},
		"no date":                     {q: Question{To: "2026-02-30"}, wrong: "to"},
		"days that nobody could wait": {q: Question{Days: 400}, wrong: "days"},
	} {
		p, err := x.q.period(now)
		if x.wrong != "" {
			if f := tandem.FieldErrors(err); len(f) != 1 || f[0].Field != x.wrong {
				t.Errorf("%s: %v, want %s to be wrong", name, err, x.wrong)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		whole, upto := p.wholeDays()
		got := []string{p.first.UTC().Format(time.RFC3339), p.end.UTC().Format(time.RFC3339), whole.UTC().Format(time.RFC3339), upto.UTC().Format(time.RFC3339)}
		if want := []string{x.first, x.end, x.whole, x.upto}; !slices.Equal(got, want) || p.days != x.days {
			t.Errorf("%s: %v, %d days; want %v, %d", name, got, p.days, want, x.days)
		}
		if months, upto := wholeMonths(whole, upto); months.Before(whole) || upto.Before(months) || upto.After(p.end) || months != upto && (months.Day() != 1 || upto.Day() != 1) {
			t.Errorf("%s: whole months from %s to %s", name, months, upto)
		}
		for i := range p.days {
			date := p.firstDate.AddDate(0, 0, i)
			if p.index(midnight(date, p.zone)) != i || p.index(midnight(date.Add(day), p.zone).Add(-time.Second)) != i {
				t.Errorf("%s: day %d is not where it should be", name, i)
			}
		}
	}
}

func TestWholeMonths(t *testing.T) {
	t.Parallel()
	date := func(text string) time.Time {
		d, err := time.Parse(dateLayout, text)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, x := range [][4]string{
		{"2026-01-01", "2026-04-01", "2026-01-01", "2026-04-01"},
		{"2026-01-02", "2026-03-31", "2026-02-01", "2026-03-01"},
		{"2025-12-31", "2026-01-01", "2026-01-01", "2026-01-01"},
		{"2026-01-02", "2026-02-27", "2026-02-27", "2026-02-27"},
	} {
		months, upto := wholeMonths(date(x[0]), date(x[1]))
		if got := [2]string{months.Format(dateLayout), upto.Format(dateLayout)}; got != [2]string{x[2], x[3]} {
			t.Errorf("from %s to %s: %v, want %v", x[0], x[1], got, x[2:])
		}
	}
}

// The estimate is never off by more than the width of a bucket.
func TestQuantiles(t *testing.T) {
	t.Parallel()
	if (histogram{}).quantile(0.5) != nil {
		t.Error("a median of nothing")
	}
	r := rand.New(rand.NewPCG(1, 2))
	worst := 1.0
	for range 200 {
		h := histogram{}
		var values []float64
		spread, middle := 0.2+2*r.Float64(), math.Exp(8*r.Float64())
		for range 1 + r.IntN(3000) {
			v := middle * math.Exp(spread*r.NormFloat64())
			values = append(values, v)
			b := 0
			if v > shortest {
				b = min(60, int(math.Ceil(2*math.Log(v/shortest)/math.Ln2)))
			}
			h.add(b, 1)
		}
		slices.Sort(values)
		for _, part := range []float64{0.5, 0.9} {
			want := values[int(math.Ceil(part*float64(len(values))))-1]
			if got := *h.quantile(part); want > 1 {
				worst = max(worst, got/want, want/got)
			}
		}
	}
	if worst > math.Sqrt2+0.02 {
		t.Errorf("off by a factor of %.2f", worst)
	}
	t.Logf("figure: medians and 90th percentiles from buckets are off by a factor of %.2f at most", worst)
}
