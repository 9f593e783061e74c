package seal

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a string that prints, logs and encodes as "***". Reveal is the one way out,
// so that every use of the plain text can be found. It must never be a map key: JSON
// writes those without asking.
type Secret string

const mask = "***"

// Reveal returns the plain text.
func (s Secret) Reveal() string { return string(s) }

// Format prints the mask for every verb and flag.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, mask) }

// String returns the mask.
func (s Secret) String() string { return mask }

// GoString returns the mask.
func (s Secret) GoString() string { return mask }

// MarshalJSON returns the mask as a JSON string.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + mask + `"`), nil }

// MarshalText returns the mask, for encoders other than JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(mask), nil }

// LogValue returns the mask.
func (s Secret) LogValue() slog.Value { return slog.StringValue(mask) }
