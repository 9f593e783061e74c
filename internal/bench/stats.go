package bench

import (
	"fmt"
	"slices"
	"time"
)

// Sample is what one cell of one repetition measured.
type Sample struct {
	Rate     float64 // successful operations per second
	P50, P99 time.Duration
	N        int // successful operations
	Failed   int
	Err      error // the first failure
}

// Percentile is the smallest of the values that at least p of them, 0 to 1, do not exceed. values is sorted in place; it
// is 0 of none.
func Percentile(values []time.Duration, p float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	i := int(float64(len(values))*p+0.999999) - 1
	return values[min(max(i, 0), len(values)-1)]
}

// Median of values, which stay as they are; the mean of the middle two of an even number, 0 of none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	m := len(s) / 2
	if len(s)%2 == 1 {
		return s[m]
	}
	return (s[m-1] + s[m]) / 2
}

// Ratios divides what was measured by what the limit reached in the same repetition. A repetition in which the limit
// reached nothing is left out.
func Ratios(got, limit []float64) []float64 {
	var out []float64
	for i := range min(len(got), len(limit)) {
		if limit[i] > 0 {
			out = append(out, got[i]/limit[i])
		}
	}
	return out
}

// mostSpread is how far a limit's best and worst repetition may be apart: beyond it the machine did other things too.
const mostSpread = 2

// IsNoisy says that the figures of the limit itself moved too much to compare with.
func IsNoisy(limit []float64) bool {
	if len(limit) == 0 {
		return true
	}
	low, high := slices.Min(limit), slices.Max(limit)
	return low <= 0 || high/low > mostSpread
}

// AtLeast makes the row of a goal whose figures, one per repetition, must reach want in the median.
func AtLeast(goal, name string, want float64, figures, limit []float64, note string) Row {
	m := Median(figures)
	return Row{
		Goal: goal, Name: name, Want: fmt.Sprintf("≥ %.2g", want), Got: fmt.Sprintf("%.2f", m), Range: span(figures), Note: note,
		Held: len(figures) > 0 && m >= want, Noisy: IsNoisy(limit),
	}
}

// AtMost makes the row of a goal whose figures, one per repetition, must not exceed want in the median.
func AtMost(goal, name string, want float64, figures, limit []float64, note string) Row {
	r := AtLeast(goal, name, want, figures, limit, note)
	r.Want, r.Held = fmt.Sprintf("≤ %.2g", want), len(figures) > 0 && Median(figures) <= want
	return r
}

// Within makes the row of a goal whose times, one per repetition, must not exceed want in the median. Nothing makes it
// noisy: it is judged as it is.
func Within(goal, name string, want time.Duration, figures []time.Duration, note string) Row {
	ms := make([]float64, len(figures))
	for i, f := range figures {
		ms[i] = Millis(f)
	}
	m := Median(ms)
	return Row{
		Goal: goal, Name: name, Want: fmt.Sprintf("≤ %g ms", Millis(want)), Got: fmt.Sprintf("%.1f ms", m), Range: span(ms), Note: note,
		Held: len(ms) > 0 && m <= Millis(want),
	}
}

// Millis is d in milliseconds.
func Millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func span(values []float64) string {
	if len(values) < 2 {
		return ""
	}
	return fmt.Sprintf("%.2f..%.2f", slices.Min(values), slices.Max(values))
}
