// Package prove is the proving ground: it runs Tandem as its users do, as processes of their own on real PostgreSQL and
// NATS, sends messages with a journal of what was accepted, and compares journals and database afterwards. Only tests
// import it.
//
//	site := prove.NewSite(t, prove.SiteOptions{})   // a data directory made by `tandem init`
//	p := site.Serve("--lease", "2s")                // ready when it returns
//	p.Kill()                                        // kill -9
//	p = site.Serve()                                // the same address, the same data
//
// What runs is a program built once per test binary from cmd/tandem, or the one that TANDEM_PROVE_BIN names. Everything
// that a function starts ends with the test.
package prove

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// EnvBin names a tandem program to use instead of building one, such as bin/tandem.
const EnvBin = "TANDEM_PROVE_BIN"

// Patience bounds what should take a moment, on a machine that is busy.
const Patience = time.Minute

// Binary returns the path of the tandem program, which it builds on the first call unless TANDEM_PROVE_BIN names one.
func Binary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv(EnvBin); path != "" {
		return path
	}
	return Build(t, "cmd/tandem")
}

var (
	buildMu sync.Mutex
	built   = map[string]string{}
)

// Build builds the command in folder pkg of this module, such as "tools/oracle", and returns the program's path. A
// second call returns the first one's program. Builds are named by nothing but their folder, in a directory that is
// this test binary's own and removed by CleanUp.
func Build(t testing.TB, pkg string) string {
	t.Helper()
	buildMu.Lock()
	defer buildMu.Unlock()
	if path := built[pkg]; path != "" {
		return path
	}
	root := moduleRoot(t)
	dir, err := os.MkdirTemp("", "tandem-prove-bin-")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, filepath.Base(pkg))
	cmd := exec.Command("go", "build", "-o", path, "./"+pkg)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build ./%s: %v\n%s", pkg, err, out)
	}
	built[pkg] = path
	return path
}

// CleanUp removes what Build built. A TestMain calls it after its tests.
func CleanUp() {
	buildMu.Lock()
	defer buildMu.Unlock()
	for pkg, path := range built {
		_ = os.RemoveAll(filepath.Dir(path)) // a leftover in the temporary folder harms nobody
		delete(built, pkg)
	}
}

func moduleRoot(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOMOD").Output()
	file := strings.TrimSpace(string(out))
	if err != nil || file == "" || file == os.DevNull {
		t.Fatalf("find the module's folder: %v", err)
	}
	return filepath.Dir(file)
}

// FreeAddr is an address of the loopback that nobody listened on a moment ago, for what keeps its address over restarts.
func FreeAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// Until polls ok every 10 ms and fails the test when it is not true within the time.
func Until(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Dir makes an empty directory that PostgreSQL's account may enter when the tests run as root. It is removed with the
// test, once nothing runs in it.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tandem-prove-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		Until(t, Patience, "nothing runs in "+dir, func() bool { return len(RunningIn(dir)) == 0 })
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove %s: %v", dir, err)
		}
	})
	return dir
}

// RunningIn lists the command lines of processes that name dir. Where there is no /proc, it sees none.
func RunningIn(dir string) (found []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if line := strings.ReplaceAll(string(b), "\x00", " "); err == nil && strings.Contains(line, dir) {
			found = append(found, fmt.Sprintf("%s: %s", filepath.Base(filepath.Dir(file)), line))
		}
	}
	return found
}
