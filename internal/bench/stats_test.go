package bench

import (
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	t.Parallel()
	var hundred []time.Duration
	for i := 100; i > 0; i-- {
		hundred = append(hundred, time.Duration(i))
	}
	for _, c := range []struct {
		values []time.Duration
		p      float64
		want   time.Duration
	}{
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
		{hundred, 0, 1},
		{[]time.Duration{7}, 0.99, 7},
		{[]time.Duration{3, 1, 2}, 0.99, 3},
		{nil, 0.5, 0},
	} {
		if got := Percentile(c.values, c.p); got != c.want {
			t.Errorf("percentile %v of %d values: %v, want %v", c.p, len(c.values), got, c.want)
		}
	}
}

func TestRatioIsTheMedianOfRatiosAndNotTheRatioOfMedians(t *testing.T) {
	t.Parallel()
	// In the third repetition the machine was slow for both: the ratio must not see it.
	got, limit := []float64{80, 300, 10}, []float64{100, 200, 10}
	if r := Median(Ratios(got, limit)); r != 1 {
		t.Errorf("median of ratios: %v, want 1", r)
	}
	if r := Median(got) / Median(limit); r == 1 {
		t.Error("the example does not tell the two apart")
	}
	if r := Ratios([]float64{1, 2}, []float64{0, 4}); len(r) != 1 || r[0] != 0.5 {
		t.Errorf("ratios with a limit of nothing: %v", r)
	}
	if m := Median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Errorf("median of four: %v", m)
	}
	if m := Median(nil); m != 0 {
		t.Errorf("median of none: %v", m)
	}
}

func TestNoisyLimitIsNotJudged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		limit []float64
		noisy bool
	}{
		{[]float64{100, 150, 199}, false},
		{[]float64{100, 150, 201}, true},
		{[]float64{100, 0}, true},
		{nil, true},
	} {
		if got := IsNoisy(c.limit); got != c.noisy {
			t.Errorf("%v: noisy %v, want %v", c.limit, got, c.noisy)
		}
	}
	res := Result{Rows: []Row{AtLeast("G1", "x", 0.5, []float64{0.1}, []float64{1, 3}, "")}}
	if !res.Held() || res.Rows[0].Held {
		t.Errorf("a missed goal beside a noisy limit fails the run: %+v", res.Rows[0])
	}
	res.Rows = append(res.Rows, AtLeast("G1", "x", 0.5, []float64{0.1}, []float64{1, 1}, ""))
	if res.Held() {
		t.Error("a missed goal beside a steady limit does not fail the run")
	}
}

func TestGoals(t *testing.T) {
	t.Parallel()
	steady := []float64{1, 1, 1}
	for name, c := range map[string]struct {
		row  Row
		held bool
	}{
		"at least, reached":  {AtLeast("G", "x", 0.5, []float64{0.4, 0.5, 0.6}, steady, ""), true},
		"at least, missed":   {AtLeast("G", "x", 0.51, []float64{0.4, 0.5, 0.6}, steady, ""), false},
		"at most, reached":   {AtMost("G", "x", 2, []float64{1, 2, 3}, steady, ""), true},
		"at most, missed":    {AtMost("G", "x", 1.9, []float64{1, 2, 3}, steady, ""), false},
		"within, reached":    {Within("G", "x", 2, []time.Duration{1, 2, 3}, ""), true},
		"within, missed":     {Within("G", "x", 1, []time.Duration{1, 2, 3}, ""), false},
		"nothing measured":   {AtMost("G", "x", 2, nil, steady, ""), false},
		"no time measured":   {Within("G", "x", 2, nil, ""), false},
		"at least, all none": {AtLeast("G", "x", 0, nil, steady, ""), false},
	} {
		if c.row.Held != c.held {
			t.Errorf("%s: %+v", name, c.row)
		}
	}
}
