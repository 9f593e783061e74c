// Package seal keeps secrets at rest: AES-256-GCM bound to the place a secret is stored
// in, signatures under labeled sub-keys, and a string type that never prints itself.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/tandemhq/tandem"
)

// KeySize is the length of a master key in bytes.
const KeySize = 32

const (
	format   = 1 // first byte of every sealed value
	idSize   = 4
	nonceLen = 12
	header   = 1 + idSize
)

// Sealer seals under one master key and unseals under it and any older ones.
// It is safe for concurrent use.
type Sealer struct {
	keys []key // the first one seals and signs
}

type key struct {
	id     [idSize]byte
	aead   cipher.AEAD
	master []byte
}

// Open makes a Sealer from a 32-byte master key. Values sealed under one of the older
// keys can still be opened, so that a key can be replaced while Tandem runs.
func Open(master []byte, older ...[]byte) (*Sealer, error) {
	s := &Sealer{}
	for _, m := range append([][]byte{master}, older...) {
		k, err := newKey(m)
		if err != nil {
			return nil, err
		}
		s.keys = append(s.keys, k)
	}
	return s, nil
}

func newKey(master []byte) (key, error) {
	if len(master) != KeySize {
		return key{}, tandem.Errorf(tandem.Invalid, "The secret key must be %d bytes long; this one has %d.", KeySize, len(master))
	}
	k := key{master: append([]byte(nil), master...)}
	id, err := k.sub("tandem key id", idSize)
	if err != nil {
		return key{}, err
	}
	copy(k.id[:], id)
	enc, err := k.sub("tandem seal", 32)
	if err != nil {
		return key{}, err
	}
	block, err := aes.NewCipher(enc)
	if err != nil {
		return key{}, fmt.Errorf("make cipher: %w", err)
	}
	if k.aead, err = cipher.NewGCM(block); err != nil {
		return key{}, fmt.Errorf("make cipher: %w", err)
	}
	return k, nil
}

// sub derives the sub-key of n bytes for one purpose.
func (k key) sub(purpose string, n int) ([]byte, error) {
	b, err := hkdf.Key(sha256.New, k.master, nil, purpose, n)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return b, nil
}

// place is the additional data that ties a ciphertext to its cell. Each part carries its
// length, so that no two different places can spell the same bytes.
func place(org tandem.ID, table, column string, row tandem.ID) []byte {
	var b []byte
	for _, part := range []string{string(org), table, column, string(row)} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	return b
}

// Seal encrypts plain for one cell: the column of the row of the table of the organization.
// The answer begins with a format byte and the id of the key.
func (s *Sealer) Seal(org tandem.ID, table, column string, row tandem.ID, plain []byte) []byte {
	k := s.keys[0]
	out := make([]byte, 0, header+nonceLen+len(plain)+k.aead.Overhead())
	out = append(out, format)
	out = append(out, k.id[:]...)
	nonce := make([]byte, nonceLen)
	if _, err := rand.Read(nonce); err != nil {
		panic("seal: the system's random source failed: " + err.Error()) // crypto/rand never fails on supported systems
	}
	out = append(out, nonce...)
	return k.aead.Seal(out, nonce, plain, place(org, table, column, row))
}

// Unseal decrypts what Seal made for the same cell. Anything else, such as a value moved
// from another row or organization, or one sealed under an unknown key, is an Internal error.
func (s *Sealer) Unseal(org tandem.ID, table, column string, row tandem.ID, sealed []byte) ([]byte, error) {
	if len(sealed) < header+nonceLen || sealed[0] != format {
		return nil, fmt.Errorf("unseal %s.%s of %s: not a sealed value", table, column, row)
	}
	for _, k := range s.keys {
		if string(k.id[:]) != string(sealed[1:header]) {
			continue
		}
		nonce, body := sealed[header:header+nonceLen], sealed[header+nonceLen:]
		plain, err := k.aead.Open(nil, nonce, body, place(org, table, column, row))
		if err != nil {
			return nil, fmt.Errorf("unseal %s.%s of %s: %w", table, column, row, err)
		}
		return plain, nil
	}
	return nil, fmt.Errorf("unseal %s.%s of %s: sealed under a key that is not loaded", table, column, row)
}

// Sign returns the HMAC-SHA256 of b under the sub-key named label. Labels keep a signature
// made for one purpose from being taken for another.
func (s *Sealer) Sign(label string, b []byte) []byte { return s.keys[0].sign(label, b) }

func (k key) sign(label string, b []byte) []byte {
	sub, err := k.sub("tandem sign "+label, 32)
	if err != nil {
		panic("seal: " + err.Error()) // only a length above 8,160 bytes can fail
	}
	m := hmac.New(sha256.New, sub)
	m.Write(b)
	return m.Sum(nil)
}

// Verify reports, in constant time, whether mac is the signature of b under label and
// any of the loaded keys.
func (s *Sealer) Verify(label string, b, mac []byte) bool {
	ok := false
	for _, k := range s.keys {
		if hmac.Equal(k.sign(label, b), mac) {
			ok = true
		}
	}
	return ok
}
