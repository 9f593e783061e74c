package report

import "math"

// Times is how long something took: median and 90th percentile, in seconds, of Count. They come from buckets whose bounds
// lie a factor of 1.41 apart, so a figure is off by at most that factor, and usually by less than a tenth.
type Times struct {
	Count  int64    `json:"count"`
	Median *float64 `json:"median_seconds" doc:"Null when there is nothing to tell."`
	P90    *float64 `json:"p90_seconds"`
}

// histogram counts by bucket.
type histogram map[int]int64

const shortest = 0.1 // seconds, the upper bound of bucket 0

// bound is the upper bound of a bucket in seconds.
func bound(bucket int) float64 { return shortest * math.Pow(2, float64(bucket)/2) }

func (h histogram) count() (n int64) {
	for _, c := range h {
		n += c
	}
	return n
}

// quantile is where the given part of the values lies below, in seconds, or nil of none. Inside a bucket values are taken
// to lie evenly on the scale of the bounds.
func (h histogram) quantile(part float64) *float64 {
	all := h.count()
	if all <= 0 {
		return nil
	}
	last := 0
	for b := range h {
		last = max(last, b)
	}
	rank, below := part*float64(all), 0.0
	for b := 0; b <= last; b++ {
		n := float64(h[b])
		if n <= 0 || below+n < rank && b < last {
			below += n
			continue
		}
		inside := min(max((rank-below)/n, 0), 1)
		s := shortest * inside
		if b > 0 {
			s = bound(b-1) * math.Pow(bound(b)/bound(b-1), inside)
		}
		s = math.Round(s*100) / 100
		return &s
	}
	return nil
}

func (h histogram) times() Times {
	return Times{Count: h.count(), Median: h.quantile(0.5), P90: h.quantile(0.9)}
}

func (h histogram) add(bucket int, n int64) { h[bucket] += n }
