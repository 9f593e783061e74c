package channels

import (
	"errors"
	"fmt"
	"time"
)

// Outcome is what is known about a send that did not succeed. The zero value is the
// careful one.
type Outcome uint8

const (
	// Ambiguous: the provider may have taken the message, such as a timeout after it
	// was written. Never repeated, unless the channel is a [Deduper].
	Ambiguous Outcome = iota
	// NotSent: the provider certainly has not taken it, such as a failed dial.
	// The same message is tried again later.
	NotSent
	// Refused: the provider will never take it. The message fails and a person is told why.
	Refused
)

// String returns the outcome's stable snake_case name.
func (o Outcome) String() string {
	switch o {
	case NotSent:
		return "not_sent"
	case Refused:
		return "refused"
	}
	return "ambiguous"
}

// SendError is every error of [Channel.Send].
type SendError struct {
	Outcome    Outcome
	RetryAfter time.Duration // NotSent: not before this; 0: the caller's own backoff
	Err        error         // for Refused its outermost tandem.Error text is shown to the team
}

func (e *SendError) Error() string {
	return fmt.Sprintf("send %s: %v", e.Outcome, e.Err)
}

func (e *SendError) Unwrap() error { return e.Err }

// AsSendError returns the SendError in err's chain. Any other error, such as one
// from an adapter that forgot to classify it, is Ambiguous. It returns nil for nil.
func AsSendError(err error) *SendError {
	if err == nil {
		return nil
	}
	var e *SendError
	if errors.As(err, &e) {
		return e
	}
	return &SendError{Outcome: Ambiguous, Err: err}
}
