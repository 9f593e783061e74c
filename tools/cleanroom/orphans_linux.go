package cleanroom

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const prSetChildSubreaper = 36

// AdoptOrphans makes this process the parent of every descendant whose own parent ends, so that EndOrphans finds them.
// Those that end by themselves are collected as an init would: PostgreSQL does not start beside the number of a server
// that is dead and has not been collected.
func AdoptOrphans() {
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0)
	go func() {
		seen := map[int]bool{}
		for ; ; time.Sleep(collectEvery) {
			dead := zombies(os.Getpid())
			for pid := range dead {
				if seen[pid] { // twice: nobody here waits for it
					_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
				}
			}
			seen = dead
		}
	}()
}

const collectEvery = 50 * time.Millisecond

// zombies are the children of parent that have ended and not been collected.
func zombies(parent int) map[int]bool {
	found := map[int]bool{}
	for pid, p := range processes() {
		if p.dead && p.parent == parent {
			found[pid] = true
		}
	}
	return found
}

// EndOrphans ends whatever the steps left running and returns the names. It is called when no step and no server runs.
func EndOrphans() (names []string) {
	for try := 0; ; try++ {
		children := descendants(os.Getpid())
		if len(children) == 0 {
			return names
		}
		for pid, name := range children {
			if try == 0 {
				names = append(names, name)
			}
			sig := syscall.SIGTERM
			if try > 20 {
				sig = syscall.SIGKILL
			}
			_ = syscall.Kill(pid, sig)
		}
		time.Sleep(100 * time.Millisecond)
		for { // collect the dead
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
		if try > 100 {
			return append(names, "(something that cannot be ended)")
		}
	}
}

// descendants are the live processes below pid.
func descendants(root int) map[int]string {
	all, found := processes(), map[int]string{}
	for pid, p := range all {
		for up := p.parent; up > 1 && !p.dead; up = all[up].parent {
			if up == root {
				found[pid] = p.name
				break
			}
		}
	}
	return found
}

// process is one line of what runs on this machine.
type process struct {
	parent int
	name   string
	dead   bool // ended, and not collected by its parent
}

func processes() map[int]process {
	all := map[int]process{}
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
		fields := strings.Fields(string(stat[end+1:]))
		if open < 0 || len(fields) < 2 {
			continue
		}
		parent, _ := strconv.Atoi(fields[1]) // the kernel writes digits
		all[pid] = process{parent: parent, name: string(stat[open+1 : end]), dead: fields[0] == "Z"}
	}
	return all
}
