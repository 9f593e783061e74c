package local

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// maxSocketPath is what fits into a unix socket address everywhere: 107 bytes on Linux, 103 on macOS.
const maxSocketPath = 103

// socketDir is where the cluster in dir has its socket. The answer depends on dir alone, so that another process can
// find it; a path too long for a socket address moves to the temporary directory.
func socketDir(dir string) string {
	sock := filepath.Join(dir, "sock")
	if len(sock)+len("/.s.PGSQL.5432.lock") <= maxSocketPath {
		return sock
	}
	sum := fnv.New32a()
	sum.Write([]byte(dir))
	return filepath.Join(os.TempDir(), fmt.Sprintf("tandem-pg-%x", sum.Sum32()))
}

// prepareDir makes the directories, takes the lock and settles which account the server runs under.
func (s *Server) prepareDir() error {
	dir := s.opt.Dir
	// Parents that we make are open to pass through, for the server may run under another account than ours.
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return plainPathError("make the folder for the private PostgreSQL cluster", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return plainPathError("make the folder for the private PostgreSQL cluster", err)
	}
	if owner, ok := ownerOf(s.dataDir()); ok && os.Geteuid() != 0 && owner != os.Geteuid() {
		return fmt.Errorf("%s belongs to another account (uid %d), perhaps because Tandem ran as root before: use that account or another data directory", s.dataDir(), owner)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "tandem.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return plainPathError("lock the private PostgreSQL cluster", err)
	}
	// The kernel drops the lock when we die, so a killed process leaves nothing stale.
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("another Tandem process is using %s: stop it or choose another data directory", dir)
		}
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	s.lock = lock
	if err := s.handOver(); err != nil {
		lock.Close()
		return err
	}
	return nil
}

// handOver makes the socket directory and, when we are root, gives both directories to the account that runs the
// server, since PostgreSQL refuses to run as root.
func (s *Server) handOver() error {
	if err := os.Mkdir(s.sock, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return plainPathError("make the folder of the database socket", err)
	}
	if os.Geteuid() != 0 {
		if owner, ok := ownerOf(s.sock); ok && owner != os.Geteuid() {
			return fmt.Errorf("%s belongs to another account (uid %d): remove it or choose a shorter data directory", s.sock, owner)
		}
		return nil
	}
	acc, err := serverAccount(s.dataDir())
	if err != nil {
		return err
	}
	s.account = acc
	for _, d := range []string{s.opt.Dir, s.sock} {
		if err := os.Chown(d, acc.uid, acc.gid); err != nil {
			return fmt.Errorf("%s cannot be given to account %s (%w): in a container without that account, run Tandem as a user other than root", d, acc.name, err)
		}
	}
	return reachable(s.opt.Dir, acc.name)
}

// chooseBinaries sets s.bin to binaries that can run the cluster and returns its major version, "" for a new cluster.
func (s *Server) chooseBinaries() (version string, err error) {
	content, err := os.ReadFile(filepath.Join(s.dataDir(), "PG_VERSION"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", plainPathError("read the private PostgreSQL cluster's version", err)
	}
	version = strings.TrimSpace(string(content))
	if s.bin = s.opt.BinDir; s.bin != "" {
		return version, nil
	}
	s.bin, err = FindBin(version)
	return version, err
}

// initdb makes the cluster beside its place and renames it, so that a crash in the middle leaves no half cluster.
func (s *Server) initdb(ctx context.Context) error {
	fresh := s.dataDir() + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return plainPathError("remove a half-made PostgreSQL cluster", err)
	}
	// ICU collation: with plain C, lower() and ILIKE know only ASCII letters. Checksums, for a disk that lies.
	args := []string{
		"-D", fresh, "-U", Super, "-E", "UTF8", "-k", "-A", "peer", "--no-instructions",
		"--locale=C", "--locale-provider=icu", "--icu-locale=und",
	}
	if s.opt.Fast {
		args = append(args, "--no-sync")
	}
	if out, err := s.command(ctx, "initdb", args...).CombinedOutput(); err != nil {
		text := strings.Join(strings.Fields(string(out)), " ")
		if strings.Contains(text, "No space left on device") {
			return fmt.Errorf("the PostgreSQL cluster could not be made because the disk that holds %s is full", s.opt.Dir)
		}
		return fmt.Errorf("the PostgreSQL cluster could not be made (%w): %s", err, lastRunes(text, 600))
	}
	if err := os.Rename(fresh, s.dataDir()); err != nil {
		return plainPathError("move the new PostgreSQL cluster to its place", err)
	}
	return nil
}

// writeAccess lets in exactly this process's account (and the server's own), as the three roles, over the socket.
// It is written at each start, for the account may change between starts.
func (s *Server) writeAccess() error {
	me, err := user.Current()
	if err != nil {
		return fmt.Errorf("the account with uid %d has no name on this machine, which PostgreSQL needs: add one to /etc/passwd (%w)", os.Geteuid(), err)
	}
	names := []string{me.Username}
	if s.account != nil && s.account.name != me.Username {
		names = append(names, s.account.name)
	}
	var ident strings.Builder
	for _, name := range names {
		for _, role := range []string{Super, Owner, App} {
			fmt.Fprintf(&ident, "tandem %s %s\n", strconv.Quote(name), role)
		}
	}
	files := map[string]string{
		"pg_hba.conf":   "local all all peer map=tandem\n",
		"pg_ident.conf": ident.String(),
	}
	for name, body := range files {
		// Both exist since initdb; overwriting keeps their owner, whom the server needs.
		if err := os.WriteFile(filepath.Join(s.dataDir(), name), []byte(body), 0o600); err != nil {
			return plainPathError("write the private PostgreSQL cluster's access rules", err)
		}
	}
	return nil
}

// settings are the server's command line settings: defaults for a demo machine or a small office, then the caller's.
func (s *Server) settings() map[string]string {
	set := map[string]string{
		"listen_addresses":        "",
		"unix_socket_directories": s.sock,
		"unix_socket_permissions": "0700",
		"port":                    "5432",
		"logging_collector":       "off",
		"log_destination":         "stderr",
		"log_checkpoints":         "off",
		"log_timezone":            "UTC",
		"timezone":                "UTC",
		"shared_buffers":          "128MB",
		"max_connections":         "80",
		"synchronous_commit":      "on",
		"autovacuum_naptime":      "5s",  // until a new database's tables are counted, each is planned as if it had one row
		"random_page_cost":        "1.1", // solid state disks
		"jit":                     "off", // our queries are short
	}
	if smallSharedMemory() { // a container's 64 MB would break parallel queries
		set["dynamic_shared_memory_type"] = "mmap"
	}
	if s.opt.Fast {
		set["fsync"], set["full_page_writes"] = "off", "off" // commits still survive the death of the server
	}
	for name, value := range s.opt.Settings {
		set[name] = value
	}
	return set
}

// plainPathError turns the common failures of a path into a sentence about it.
func plainPathError(doing string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("cannot %s because the disk is full: %w", doing, err)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("cannot %s because this account may not: %w", doing, err)
	}
	return fmt.Errorf("cannot %s: %w", doing, err)
}
