package channels_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
)

func TestCheckNamesWhatBreaksTheContract(t *testing.T) {
	t.Parallel()
	good := channels.Inbound{Org: "o", Channel: "c", ID: "1", From: "ann@example.com", FromKind: channels.IdentityEmail, Text: "hi"}
	for name, c := range map[string]struct {
		change func(*channels.Inbound)
		want   []string
	}{
		"nothing":        {func(*channels.Inbound) {}, nil},
		"everything":     {func(in *channels.Inbound) { *in = channels.Inbound{} }, []string{"org", "channel", "id", "from", "from_kind"}},
		"long id":        {func(in *channels.Inbound) { in.ID = channels.ExternalID(strings.Repeat("é", channels.MaxID+1)) }, []string{"id"}},
		"id at the edge": {func(in *channels.Inbound) { in.ID = channels.ExternalID(strings.Repeat("é", channels.MaxID)) }, nil},
		"long address":   {func(in *channels.Inbound) { in.From = channels.Address(strings.Repeat("x", channels.MaxAddress+1)) }, []string{"from"}},
		"NUL":            {func(in *channels.Inbound) { in.Text = "a\x00b" }, []string{"text"}},
		"not UTF-8":      {func(in *channels.Inbound) { in.Contact.Name = "\xff" }, []string{"contact.name"}},
		"long text":      {func(in *channels.Inbound) { in.Text = strings.Repeat("x", channels.MaxText+1) }, []string{"text"}},
		"large raw":      {func(in *channels.Inbound) { in.Raw = make([]byte, channels.MaxRaw+1) }, []string{"raw"}},
		"unknown kind":   {func(in *channels.Inbound) { in.FromKind = "fax" }, []string{"from_kind"}},
	} {
		in := good
		c.change(&in)
		err := in.Check()
		var e *tandem.Error
		var got []string
		if errors.As(err, &e) {
			for _, f := range e.Fields {
				got = append(got, f.Field)
			}
		}
		if !slices.Equal(got, c.want) || (err != nil) != (len(c.want) > 0) {
			t.Errorf("%s: names %q (%v), want %q", name, got, err, c.want)
		}
	}
}

func TestUnclassifiedSendErrorsAreAmbiguous(t *testing.T) {
	t.Parallel()
	if channels.AsSendError(nil) != nil {
		t.Error("no error became one")
	}
	if e := channels.AsSendError(errors.New("boom")); e.Outcome != channels.Ambiguous {
		t.Errorf("an error that nobody classified is %s, want ambiguous", e.Outcome)
	}
	inner := &channels.SendError{Outcome: channels.NotSent, RetryAfter: time.Second, Err: errors.New("dial")}
	if e := channels.AsSendError(fmt.Errorf("courier: %w", inner)); e != inner {
		t.Errorf("a wrapped error became %v", e)
	}
}
