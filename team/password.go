package team

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"github.com/tandemhq/tandem"
)

// argon2id at the strength OWASP asks for at least: 19 MiB, two passes, one lane.
const (
	argonMemory = 19 * 1024 // KiB
	argonTime   = 2
	argonLanes  = 1
	argonKey    = 32
	saltLen     = 16

	minPassword = 12   // characters
	maxPassword = 1000 // bytes
	hashSlots   = 2    // hashes at once: each takes memory and a core
	maxWaiting  = 64   // callers that may wait for a slot
)

var (
	slots   = make(chan struct{}, hashSlots)
	waiting atomic.Int64
)

// hashSlot waits for leave to hash. Above 64 waiting callers it answers Unavailable at once.
func hashSlot(ctx context.Context) (release func(), err error) {
	if waiting.Add(1) > maxWaiting {
		waiting.Add(-1)
		return nil, &tandem.Error{Kind: tandem.Unavailable, Msg: "Too many people sign in at this moment. Try again in a few seconds.", RetryAfter: 5 * time.Second}
	}
	defer waiting.Add(-1)
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func checkPassword(field, password string) error {
	var msg string
	switch {
	case utf8.RuneCountInString(password) < minPassword:
		msg = fmt.Sprintf("A password needs at least %d characters.", minPassword)
	case len(password) > maxPassword:
		msg = fmt.Sprintf("A password may have at most %d bytes.", maxPassword)
	case strings.Count(password, password[:1]) == len(password):
		msg = "A password needs more than one different character."
	default:
		return nil
	}
	return tandem.InvalidFields(tandem.FieldError{Field: field, Message: msg})
}

// hashPassword returns the PHC string of password under a fresh salt.
func hashPassword(ctx context.Context, password string) (string, error) {
	release, err := hashSlot(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	salt := make([]byte, saltLen)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("make salt: %w", err)
	}
	key := argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonLanes, argonKey)
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonLanes, b64(salt), b64(key)), nil
}

// verifyPassword reports whether password is the one that hash was made of. It takes as
// long for a wrong password as for the right one.
func verifyPassword(ctx context.Context, password, hash string) (bool, error) {
	release, err := hashSlot(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	var version int
	var memory, passes uint32
	var lanes uint8
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[1] != "argon2id" {
		return false, fmt.Errorf("password hash: unknown format")
	}
	if _, err := fmt.Sscanf(parts[2], "v=%d", &version); err != nil || version != argon2.Version {
		return false, fmt.Errorf("password hash: unknown version")
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &passes, &lanes); err != nil || memory > 256*1024 || passes == 0 || passes > 16 || lanes == 0 {
		return false, fmt.Errorf("password hash: parameters out of bounds")
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil {
		return false, fmt.Errorf("password hash: %w", err)
	}
	want, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || len(want) == 0 {
		return false, fmt.Errorf("password hash: no key")
	}
	if len(password) > maxPassword {
		password = password[:maxPassword] // never valid at creation; bounds the work
	}
	got := argon2.IDKey([]byte(password), salt, passes, memory, lanes, uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1, nil
}

// nobody is the hash that a login of an unknown user is checked against, so that it
// takes as long as one of a known user.
var nobody = sync.OnceValue(func() string {
	hash, err := hashPassword(context.Background(), rand.Text())
	if err != nil { // only when 64 callers wait: the fixed hash costs the same
		return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", argon2.Version, argonMemory, argonTime, argonLanes)
	}
	return hash
})
