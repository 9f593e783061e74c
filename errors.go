package tandem

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what sort of failure an Error is. The set is closed: each surface
// (HTTP, the bus, the text a model reads) maps these eight in one table.
type Kind uint8

const (
	// Internal is everything not foreseen. Its text never reaches a person.
	Internal Kind = iota
	// Invalid: the input is wrong and the same input will be wrong again.
	Invalid
	// NotFound: no such thing, or none that this actor may know of.
	NotFound
	// Conflict: somebody else was first, or the state does not allow it.
	Conflict
	// Forbidden: known actor, missing permission.
	Forbidden
	// Unauthenticated: no actor, or credentials that do not hold.
	Unauthenticated
	// Throttled: too much; try again after RetryAfter.
	Throttled
	// Unavailable: something outside is away for a while; the same input may succeed later.
	Unavailable
)

var kindNames = [...]string{"internal", "invalid", "not_found", "conflict", "forbidden", "unauthenticated", "throttled", "unavailable"}

// String returns the kind's stable snake_case name.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "internal"
}

// FieldError names one wrong input field and says what to do about it.
type FieldError struct {
	Field   string `json:"field"`   // path as the caller wrote it, such as "contact.email"
	Message string `json:"message"` // a sentence for a person
}

// Error is a failure with two texts: Msg is for the person, Err is for the log.
type Error struct {
	Kind       Kind
	Msg        string        // a sentence that may be shown to a person
	Fields     []FieldError  // for Invalid: each wrong field
	Owner      *MemberRef    // for Conflict over ownership: who holds it now
	RetryAfter time.Duration // for Throttled and Unavailable: when to try again
	Err        error         // the cause, for the log only
}

// MemberRef is a member's name as other records show it.
type MemberRef struct {
	ID   ID        `json:"id"`
	Kind ActorKind `json:"kind"`
	Name string    `json:"name"`
}

func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %s: %v", e.Kind, e.Msg, e.Err)
	}
	return fmt.Sprintf("%s: %s", e.Kind, e.Msg)
}

func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error of kind k whose person-facing text is the formatted message.
func Errorf(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Msg: fmt.Sprintf(format, args...)}
}

// Wrap makes an Error of kind k around a cause that only the log shall see.
func Wrap(k Kind, cause error, format string, args ...any) *Error {
	return &Error{Kind: k, Msg: fmt.Sprintf(format, args...), Err: cause}
}

// InvalidFields makes an Invalid error that names each wrong field.
func InvalidFields(fields ...FieldError) *Error {
	msg := "The request has a field that is not right."
	if len(fields) == 1 {
		msg = fields[0].Field + ": " + fields[0].Message
	} else if len(fields) > 1 {
		msg = fmt.Sprintf("The request has %d fields that are not right.", len(fields))
	}
	return &Error{Kind: Invalid, Msg: msg, Fields: fields}
}

// FieldErrors returns the wrong fields that err names, or nil.
func FieldErrors(err error) []FieldError {
	var e *Error
	if errors.As(err, &e) {
		return e.Fields
	}
	return nil
}

// KindOf classifies err by the outermost Error in its chain; anything else is Internal.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// Message returns what a person may read about err.
func Message(err error) string {
	var e *Error
	if errors.As(err, &e) && e.Kind != Internal {
		return e.Msg
	}
	return "Something went wrong on our side."
}
