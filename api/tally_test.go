package api

import (
	"testing"
	"time"
)

// Refusals are told once a second, all of them.
func TestRefusalsAreToldTogether(t *testing.T) {
	t.Parallel()
	var c tally
	at, told := time.Unix(1000, 0), int64(0)
	lines := 0
	for i := range 3500 {
		if n := c.due(at.Add(time.Duration(i) * time.Millisecond)); n > 0 {
			told, lines = told+n, lines+1
		}
	}
	if lines != 4 || told != 3001 {
		t.Errorf("%d lines tell of %d refusals, want 4 and 3,001: the rest waits for the next second", lines, told)
	}
}
