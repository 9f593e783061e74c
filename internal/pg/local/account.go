package local

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is who the server runs as when we are root.
type account struct {
	name     string
	uid, gid int
}

func (a *account) credential() *syscall.Credential {
	return &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
}

// serverAccount is the owner of an existing cluster, so that one made by a person before still starts under root, or
// else postgres, or else nobody.
func serverAccount(dataDir string) (*account, error) {
	if uid, ok := ownerOf(dataDir); ok && uid != 0 {
		if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
			return toAccount(u)
		}
		return nil, fmt.Errorf("%s belongs to uid %d, which has no account on this machine: PostgreSQL cannot run as it", dataDir, uid)
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return toAccount(u)
		}
	}
	return nil, errors.New("PostgreSQL refuses to run as root and this machine has neither an account postgres nor nobody: run Tandem as another user")
}

func toAccount(u *user.User) (*account, error) {
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, fmt.Errorf("read the uid of account %s: %w", u.Username, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, fmt.Errorf("read the group of account %s: %w", u.Username, err)
	}
	return &account{name: u.Username, uid: uid, gid: gid}, nil
}

// ownerOf is the uid that owns path, false when path is absent.
func ownerOf(path string) (uid int, ok bool) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}

// reachable checks that every parent of dir may be passed through by an account that is not ours.
func reachable(dir, accountName string) error {
	for d := filepath.Dir(dir); ; d = filepath.Dir(d) {
		info, err := os.Stat(d)
		if err != nil {
			return plainPathError("look at "+d, err)
		}
		if info.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("%s bars the account %s, which runs PostgreSQL when Tandem is started as root: run Tandem as another user, use a data directory such as /var/lib/tandem, or allow passage with chmod o+x %s", d, accountName, d)
		}
		if d == filepath.Dir(d) {
			return nil
		}
	}
}

// enoughSpace refuses a disk on which PostgreSQL would fail soon, in the middle of something.
func enoughSpace(dir string, fresh bool) error {
	need := uint64(64)
	if fresh {
		need = 200 // an empty cluster is 40 MB, its first log segments and a little data the rest
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return nil // a file system that does not tell
	}
	if free := uint64(st.Bavail) * uint64(st.Bsize) >> 20; free < need {
		return fmt.Errorf("the disk that holds %s has %d MB free and PostgreSQL needs at least %d MB: free some space", dir, free, need)
	}
	return nil
}
