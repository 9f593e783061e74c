package tandem

import (
	"crypto/rand"
	"encoding/hex"
	"time"
)

// ID names one of our own rows: a UUIDv7 (RFC 9562) in its canonical text form.
// The empty ID means "none"; columns that may be empty use *ID.
type ID string

// NewID returns a fresh UUIDv7. Ids made later sort later, to the millisecond,
// and reveal their creation time: they are names, never secrets.
func NewID() ID { return NewIDAt(time.Now()) }

// NewIDAt is NewID with its timestamp part taken from t.
func NewIDAt(t time.Time) ID {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic("tandem: the system's random source failed: " + err.Error()) // crypto/rand never fails on supported systems
	}
	ms := uint64(t.UnixMilli())
	for i := range 6 {
		b[i] = byte(ms >> (40 - 8*i))
	}
	b[6] = b[6]&0x0f | 0x70
	b[8] = b[8]&0x3f | 0x80
	var s [36]byte
	hex.Encode(s[0:8], b[0:4])
	hex.Encode(s[9:13], b[4:6])
	hex.Encode(s[14:18], b[6:8])
	hex.Encode(s[19:23], b[8:10])
	hex.Encode(s[24:36], b[10:16])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return ID(s[:])
}

// ParseID checks that s is a UUID in canonical lower-case text form.
// Anything else is NotFound, because no row can have such a name.
func ParseID(s string) (ID, error) {
	if len(s) != 36 {
		return "", Errorf(NotFound, "There is nothing with the id %q.", Clip(s, 40))
	}
	for i := range len(s) {
		c := s[i]
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return "", Errorf(NotFound, "There is nothing with the id %q.", s)
			}
			continue
		}
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", Errorf(NotFound, "There is nothing with the id %q.", s)
		}
	}
	return ID(s), nil
}

func (id ID) String() string { return string(id) }

// Ptr returns nil for the empty ID, else a pointer to it, as nullable columns want it.
func (id ID) Ptr() *ID {
	if id == "" {
		return nil
	}
	return &id
}

// Deref returns the ID behind p, or the empty ID.
func Deref(p *ID) ID {
	if p == nil {
		return ""
	}
	return *p
}

// Clip is s, or its first n characters and an ellipsis when it has more: a hostile text fills no answer and no event.
func Clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}
