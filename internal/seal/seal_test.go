package seal_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/seal"
)

func sealer(t *testing.T, fill byte, older ...[]byte) *seal.Sealer {
	t.Helper()
	s, err := seal.Open(bytes.Repeat([]byte{fill}, seal.KeySize), older...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSealedValueOpensOnlyInItsOwnCell(t *testing.T) {
	t.Parallel()
	s := sealer(t, 1)
	org, row := tandem.NewID(), tandem.NewID()
	plain := []byte("sk-canary-0123456789")
	sealed := s.Seal(org, "members", "secret", row, plain)
	if bytes.Contains(sealed, plain) {
		t.Fatal("the sealed value shows the plain text")
	}
	got, err := s.Unseal(org, "members", "secret", row, sealed)
	if err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("Unseal = %q, %v", got, err)
	}
	moved := map[string]func() ([]byte, error){
		"other row":    func() ([]byte, error) { return s.Unseal(org, "members", "secret", tandem.NewID(), sealed) },
		"other org":    func() ([]byte, error) { return s.Unseal(tandem.NewID(), "members", "secret", row, sealed) },
		"other column": func() ([]byte, error) { return s.Unseal(org, "members", "ai", row, sealed) },
		"other table":  func() ([]byte, error) { return s.Unseal(org, "channels", "secret", row, sealed) },
		// The same bytes in a row, cut at another place.
		"shifted cut": func() ([]byte, error) { return s.Unseal(org, "member", "ssecret", row, sealed) },
		"other key":   func() ([]byte, error) { return sealer(t, 2).Unseal(org, "members", "secret", row, sealed) },
		"empty":       func() ([]byte, error) { return s.Unseal(org, "members", "secret", row, nil) },
		"cut short":   func() ([]byte, error) { return s.Unseal(org, "members", "secret", row, sealed[:16]) },
	}
	for name, open := range moved {
		if got, err := open(); err == nil {
			t.Errorf("%s: opened as %q", name, got)
		}
	}
	for i := range sealed {
		bent := bytes.Clone(sealed)
		bent[i] ^= 1
		if _, err := s.Unseal(org, "members", "secret", row, bent); err == nil {
			t.Errorf("a value with byte %d changed still opens", i)
		}
	}
	if bytes.Equal(sealed, s.Seal(org, "members", "secret", row, plain)) {
		t.Error("sealing twice gives the same bytes: the nonce repeats")
	}
}

func TestOldKeysStillOpen(t *testing.T) {
	t.Parallel()
	org, row := tandem.NewID(), tandem.NewID()
	old := sealer(t, 1)
	sealed, mac := old.Seal(org, "t", "c", row, []byte("x")), old.Sign("visitor", []byte("v"))
	both := sealer(t, 2, bytes.Repeat([]byte{1}, seal.KeySize))
	if got, err := both.Unseal(org, "t", "c", row, sealed); err != nil || string(got) != "x" {
		t.Errorf("after a key change: %q, %v", got, err)
	}
	if !both.Verify("visitor", []byte("v"), mac) {
		t.Error("a signature of the old key no longer holds")
	}
	if _, err := old.Unseal(org, "t", "c", row, both.Seal(org, "t", "c", row, []byte("y"))); err == nil {
		t.Error("the old key opens what the new one sealed")
	}
}

func TestSignaturesHoldForOneLabelOnly(t *testing.T) {
	t.Parallel()
	s := sealer(t, 1)
	mac := s.Sign("visitor", []byte("v1"))
	if !s.Verify("visitor", []byte("v1"), mac) {
		t.Error("a fresh signature does not hold")
	}
	for name, ok := range map[string]bool{
		"other label": s.Verify("webhook", []byte("v1"), mac), "other bytes": s.Verify("visitor", []byte("v2"), mac),
		"cut": s.Verify("visitor", []byte("v1"), mac[:31]), "none": s.Verify("visitor", []byte("v1"), nil),
		"other key": sealer(t, 3).Verify("visitor", []byte("v1"), mac),
	} {
		if ok {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestOpenRefusesOtherKeySizes(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := seal.Open(make([]byte, n)); tandem.KindOf(err) != tandem.Invalid {
			t.Errorf("a key of %d bytes: %v", n, err)
		}
	}
}

func TestAllProcessesThatStartAtOnceGetOneKey(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys", "master")
	macs := make([][]byte, 16)
	var wg sync.WaitGroup
	for i := range macs {
		wg.Go(func() {
			s, err := seal.LoadOrCreate(path)
			if err != nil {
				t.Error(err)
				return
			}
			macs[i] = s.Sign("test", []byte("x"))
		})
	}
	wg.Wait()
	for _, m := range macs[1:] {
		if !bytes.Equal(m, macs[0]) {
			t.Fatal("two processes have different keys")
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".key-*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestBadKeyFilesAreRefusedAndKept(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]struct {
		content string
		mode    os.FileMode
	}{
		"empty": {"", 0o600}, "short": {"abcd\n", 0o600}, "no hex": {strings.Repeat("z", 64), 0o600},
		"too long": {strings.Repeat("ab", 40), 0o600}, "readable by others": {strings.Repeat("ab", 32), 0o644},
	} {
		path := filepath.Join(t.TempDir(), "master")
		if err := os.WriteFile(path, []byte(file.content), file.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := seal.LoadOrCreate(path); tandem.KindOf(err) != tandem.Invalid {
			t.Errorf("%s: %v", name, err)
		}
		if b, _ := os.ReadFile(path); string(b) != file.content {
			t.Errorf("%s: the file was overwritten", name)
		}
	}
}

func TestSecretNeverPrintsItself(t *testing.T) {
	t.Parallel()
	const canary = "sk-canary-42"
	s := seal.Secret(canary)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", s, "in", struct{ K seal.Secret }{s})
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", s, "in", struct{ K seal.Secret }{s})
	j, err := json.Marshal(map[string]any{"k": s, "p": &s})
	if err != nil {
		t.Fatal(err)
	}
	all := log.String() + string(j)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10s", "%T %[1]v"} {
		all += fmt.Sprintf(verb, s) + fmt.Sprintf(verb, struct{ K seal.Secret }{s}) + fmt.Sprintf(verb, []seal.Secret{s})
	}
	if strings.Contains(all, canary) || strings.Contains(strings.ToLower(all), fmt.Sprintf("%x", canary)) {
		t.Errorf("shown: %s", all)
	}
	if s.Reveal() != canary {
		t.Error("Reveal does not return the secret")
	}
}
