package local

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// MinMajor is the oldest PostgreSQL that Tandem runs on.
const MinMajor = 15

// binPlaces are where packages put the server's programs, which are seldom on the PATH.
var binPlaces = []string{
	"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/libexec/postgresql*",
	"/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin", "/opt/homebrew/opt/postgresql/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin", "/usr/local/pgsql/bin",
}

// FindBin returns the folder with initdb and postgres: that of TANDEM_PG_BIN when set, else the newest on the machine,
// preferring one with pgvector. major asks for the exact version that an existing cluster needs; "" takes any from
// MinMajor on.
func FindBin(major string) (string, error) {
	if dir := os.Getenv("TANDEM_PG_BIN"); dir != "" {
		if majorOf(dir) == 0 {
			return "", fmt.Errorf("TANDEM_PG_BIN is %s, but there are no PostgreSQL server programs", dir)
		}
		return dir, nil
	}
	var found []string
	for _, dir := range candidates() {
		got := majorOf(dir)
		if got >= MinMajor && (major == "" || strconv.Itoa(got) == major) {
			found = append(found, dir)
		}
	}
	if len(found) == 0 && major != "" {
		return "", fmt.Errorf("the data directory was made by PostgreSQL %s, which is no longer installed: install postgresql-%s, or dump and restore the data", major, major)
	}
	if len(found) == 0 {
		return "", errors.New("no PostgreSQL server (version 15 or later) was found: run scripts/setup, or install postgresql and pgvector")
	}
	sort.SliceStable(found, func(i, j int) bool {
		if a, b := hasVector(found[i]), hasVector(found[j]); a != b {
			return a
		}
		return majorOf(found[i]) > majorOf(found[j])
	})
	return found[0], nil
}

func candidates() []string {
	var dirs []string
	for _, pattern := range binPlaces {
		match, _ := filepath.Glob(pattern) // only a malformed pattern is an error
		dirs = append(dirs, match...)
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil { // initdb looks for its files beside the real one
			path = real
		}
		dirs = append(dirs, filepath.Dir(path))
	}
	return dirs
}

// majorOf is the version of the server in dir, 0 when there is none that can make a cluster.
func majorOf(dir string) int {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return 0
	}
	out, err := exec.Command(filepath.Join(dir, "postgres"), "-V").Output()
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(out)) // postgres (PostgreSQL) 15.18 (Debian ...)
	if len(fields) < 3 {
		return 0
	}
	number, _, _ := strings.Cut(fields[2], ".")
	major, _ := strconv.Atoi(strings.TrimRight(number, "abcdefghijklmnopqrstuvwxyz")) // 18beta1 is "18"
	return major
}

// hasVector tells whether the pgvector extension is installed for the server in dir.
func hasVector(dir string) bool {
	out, err := exec.Command(filepath.Join(dir, "pg_config"), "--sharedir").Output()
	share := strings.TrimSpace(string(out))
	if err != nil { // Debian's server package has no pg_config of its own
		share = strings.Replace(strings.TrimSuffix(dir, "/bin"), "/usr/lib/postgresql/", "/usr/share/postgresql/", 1)
	}
	_, err = os.Stat(filepath.Join(share, "extension", "vector.control"))
	return err == nil
}
