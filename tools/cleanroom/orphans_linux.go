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
func AdoptOrphans() {
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0)
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
	parents, names := map[int]int{}, map[int]string{}
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
		if open < 0 || len(fields) < 2 || fields[0] == "Z" {
			continue
		}
		parents[pid], _ = strconv.Atoi(fields[1])
		names[pid] = string(stat[open+1 : end])
	}
	found := map[int]string{}
	for pid := range parents {
		for p := parents[pid]; p > 1; p = parents[p] {
			if p == root {
				found[pid] = names[pid]
				break
			}
		}
	}
	return found
}
