package crm_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
)

func TestCleanFileName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"offer.pdf": "offer.pdf", "../../etc/passwd": "passwd", `C:\Users\a\Angebot für Müller.docx`: "Angebot für Müller.docx", "": "file", "..": "file", "/": "file",
		"a\x00b.txt": "ab.txt", "\u202efdp.exe": "fdp.exe", "con": "_con", "COM1.txt": "_COM1.txt", "a\r\nb: c.txt": "a  b c.txt", " .hidden. ": "hidden", "\xff\xfe": "file",
		"見積書.xlsx": "見積書.xlsx", "a/b/": "file",
	} {
		if got := crm.CleanFileName(name); got != want {
			t.Errorf("%q became %q, want %q", name, got, want)
		}
	}
	long := crm.CleanFileName(strings.Repeat("é", 500) + ".pdf")
	if n := utf8.RuneCountInString(long); n != 200 || !strings.HasSuffix(long, ".pdf") {
		t.Errorf("a long name became %d characters, %q", n, long[len(long)-10:])
	}
}

// Whatever comes in, the name that comes out leads nowhere and stays what it is when it is cleaned again, and a program
// never gets past under a name that is cleaned afterwards.
func FuzzCheckFile(f *testing.F) {
	for _, name := range []string{"a.exe.", "a.ex\x00e", "a.exe ", "\u202egpj.exe", "a.p\u00addf", "nul.exe:x", strings.Repeat("a", 300) + ".exe", "x.exe/"} {
		f.Add(name, []byte("words"))
	}
	f.Add("a.txt", []byte("MZ\x00"))
	f.Fuzz(func(t *testing.T, name string, head []byte) {
		clean, ctype, err := crm.CheckFile(name, "", head)
		if err != nil {
			if tandem.KindOf(err) != tandem.Invalid {
				t.Errorf("%q: %v", name, err)
			}
			return
		}
		if clean == "" || strings.ContainsAny(clean, "/\\\x00\r\n\"") || clean == "." || clean == ".." || !utf8.ValidString(clean) || utf8.RuneCountInString(clean) > 200 || ctype == "" {
			t.Errorf("%q became %q (%s)", name, clean, ctype)
		}
		if again := crm.CleanFileName(clean); again != clean {
			t.Errorf("%q became %q and then %q", name, clean, again)
		}
		for _, end := range []string{".exe", ".sh", ".js", ".docm"} {
			if strings.HasSuffix(strings.ToLower(clean), end) {
				t.Errorf("%q was taken as %q", name, clean)
			}
		}
	})
}
