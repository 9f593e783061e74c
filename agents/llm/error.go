package llm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tandemhq/tandem"
)

// What went wrong with a model call (Error.Code).
const (
	CodeDeadline  = "deadline"  // our time for the call ran out
	CodeCanceled  = "canceled"  // the turn was canceled, by takeover or shutdown
	CodeThrottled = "throttled" // 429: too many calls or no quota left
	CodeAuth      = "auth"      // 401 or 403: the key does not hold
	CodeInput     = "input"     // another 4xx: the provider refuses this very request
	CodeProvider  = "provider"  // 5xx, or an error object in place of an answer
	CodeNetwork   = "network"   // no connection, a cut one, or an address that is not allowed
	CodeLength    = "length"    // the answer hit the token limit and is not whole
	CodeFiltered  = "filtered"  // the provider's content filter stopped the answer
	CodeMalformed = "malformed" // the body is not what the wire format says
	CodeTooLarge  = "too_large" // the body is over our limit
	CodeEmpty     = "empty"     // neither text nor a call
	CodeSettings  = "settings"  // the AI member's model settings cannot work
	CodeDimension = "dimension" // an embedding of another length than the column has
)

// Error is every failure of a Model or Embedder. Its text is for the log and the run record; it is
// never shown to a customer.
type Error struct {
	Status     int           // HTTP status of the last attempt, 0 when there was none
	Code       string        // one of the Code constants
	RetryAfter time.Duration // what the provider asked for, 0 when it did not say
	Retryable  bool          // the same request may succeed later
	Deadline   bool          // the deadline of the call or of ctx passed
	Err        error         // the cause
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("model: " + e.Code)
	if e.Status != 0 {
		fmt.Fprintf(&b, " (HTTP %d)", e.Status)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Is makes errors.Is(err, context.DeadlineExceeded) true for a passed deadline, and
// errors.Is(err, context.Canceled) for a canceled call, whatever the client library left of them.
func (e *Error) Is(target error) bool {
	return e.Deadline && target == context.DeadlineExceeded || e.Code == CodeCanceled && target == context.Canceled
}

// Kind maps the failure to the root package's kinds.
func (e *Error) Kind() tandem.Kind {
	switch e.Code {
	case CodeThrottled:
		return tandem.Throttled
	case CodeDeadline, CodeCanceled, CodeNetwork, CodeProvider:
		return tandem.Unavailable
	case CodeSettings, CodeAuth, CodeInput:
		return tandem.Invalid
	}
	return tandem.Internal
}

// AsError returns the *Error in err's chain, or nil.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}
