package soak

import (
	"math"
	"testing"
	"time"
)

func TestSlope(t *testing.T) {
	t.Parallel()
	var grows, still []look
	for i := range 10 {
		at := time.Duration(i) * 10 * time.Second
		grows = append(grows, look{at: at, rss: int64(100+i) << 20}) // 1 MB in 10 s
		still = append(still, look{at: at, rss: 100 << 20})
	}
	if s := slope(grows); math.Abs(s-6) > 1e-9 {
		t.Errorf("slope %v, want 6 MB/min", s)
	}
	if s := slope(still); s != 0 {
		t.Errorf("slope of the same again and again: %v", s)
	}
	if s := slope(grows[:1]); s != 0 {
		t.Errorf("slope of one look: %v", s)
	}
}
