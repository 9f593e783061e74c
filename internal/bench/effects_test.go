package bench

import (
	"strings"
	"testing"
	"time"

	"github.com/tandemhq/tandem"
)

func TestEffectsThatDifferAreNamed(t *testing.T) {
	t.Parallel()
	good := Effects{Accepted: 10, Stored: 10, Inbound: 10, Messages: 10, Events: 10, Told: 10}
	if err := good.Check(0); err != nil {
		t.Errorf("all is there: %v", err)
	}
	maybe := Effects{Accepted: 10, Stored: 10, Inbound: 11, Messages: 11, Events: 11, Told: 11}
	if err := maybe.Check(1); err != nil {
		t.Errorf("one request without an answer was stored: %v", err)
	}
	for name, c := range map[string]struct {
		change func(f *Effects)
		says   string
	}{
		"lost":            {func(f *Effects) { f.Stored, f.Inbound, f.Messages, f.Events, f.Told = 9, 9, 9, 9, 9 }, "1 of 10 accepted leads"},
		"doubled":         {func(f *Effects) { f.Inbound, f.Messages, f.Events, f.Told = 11, 11, 11, 11 }, "11 messages of 10"},
		"message doubled": {func(f *Effects) { f.Messages, f.Events, f.Told = 11, 11, 11 }, "10 inbound rows of 11"},
		"fact missing":    {func(f *Effects) { f.Events, f.Told = 9, 9 }, "9 facts tell of 9"},
		"fact twice":      {func(f *Effects) { f.Events = 11 }, "11 facts tell of 10"},
		"outbox lost one": {func(f *Effects) { f.Unsealed = 1 }, "1 facts are neither"},
		"counter wrong":   {func(f *Effects) { f.Wrong = 3 }, "3 conversations count wrongly"},
	} {
		f := good
		c.change(&f)
		if err := f.Check(0); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFirstID(t *testing.T) {
	t.Parallel()
	at := time.Now()
	first := firstID(at)
	if _, err := tandem.ParseID(string(first)); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if id := tandem.NewIDAt(at); id < first {
			t.Fatalf("%s of the same moment is before %s", id, first)
		}
		if id := tandem.NewIDAt(at.Add(-time.Millisecond)); id >= first {
			t.Fatalf("%s of earlier is not before %s", id, first)
		}
	}
}
