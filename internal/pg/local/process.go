package local

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// spawn starts a postmaster as our child. None of ours runs, so what is left of an older one's socket would only stand in
// the way: after a power cut its lock may be empty, or name a process that is somebody else now.
func (s *Server) spawn() error {
	_ = os.Remove(filepath.Join(s.sock, ".s.PGSQL.5432.lock"))
	if fileSize(s.logPath()) > 16<<20 {
		_ = os.Rename(s.logPath(), s.logPath()+".old") // one older log is kept
	}
	log, err := os.OpenFile(s.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return plainPathError("open the PostgreSQL log", err)
	}
	defer log.Close()
	args := []string{"-D", s.dataDir()}
	for name, value := range s.settings() {
		args = append(args, "-c", name+"="+value)
	}
	// We run postgres itself and not pg_ctl, so that its end, its output and its signals are ours.
	cmd := s.command(context.Background(), "postgres", args...)
	cmd.Stdout, cmd.Stderr = log, log
	if !s.opt.Detach {
		stopWithParent(cmd.SysProcAttr)
	}
	s.pid, s.adopted, s.exitErr = 0, false, nil
	exited := make(chan struct{})
	s.exited = exited
	started := make(chan error, 1)
	go func() {
		// The kernel's "parent died" signal fires when the thread that forked ends, so this one stays until the end.
		runtime.LockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		s.pid = cmd.Process.Pid
		started <- nil
		s.exitErr = cmd.Wait()
		close(exited)
	}()
	if err := <-started; err != nil {
		close(exited)
		return fmt.Errorf("PostgreSQL could not be started: %w", err)
	}
	return nil
}

// adopt takes over a running postmaster. It is not our child, so its end is seen by looking.
func (s *Server) adopt(pid int) {
	s.pid, s.adopted, s.exitErr = pid, true, nil
	exited := make(chan struct{})
	s.exited = exited
	go func() {
		for running(pid) {
			time.Sleep(50 * time.Millisecond)
		}
		close(exited)
	}()
}

// findPostmaster returns the process in postmaster.pid if that really is a server of dataDir on our socket, else 0.
// One that is ours but listens elsewhere (the directory was moved) is stopped. In a container process ids are soon
// reused: then the file is removed, for PostgreSQL would take the other program for itself and refuse to start.
func findPostmaster(dataDir, sock string) int {
	file := filepath.Join(dataDir, "postmaster.pid")
	content, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	if len(bytes.TrimSpace(content)) == 0 {
		// A power cut between the file's birth and its first sync. We hold the directory, so nobody is starting a server
		// here, and PostgreSQL would refuse to start until somebody removes the file.
		_ = os.Remove(file)
		return 0
	}
	lines := strings.Split(string(content), "\n")
	pid, _ := strconv.Atoi(strings.TrimSpace(lines[0]))
	if pid <= 1 || !running(pid) {
		return 0
	}
	commandLine, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err == nil && !bytes.Contains(commandLine, []byte(dataDir+"\x00")) {
		_ = os.Remove(file)
		return 0
	}
	if len(lines) > 4 && lines[4] != "" && lines[4] != sock { // line 5 is its socket directory
		_ = syscall.Kill(pid, syscall.SIGINT)
		for i := 0; running(pid) && i < 300; i++ {
			time.Sleep(100 * time.Millisecond)
		}
		return 0
	}
	return pid
}

// running is false for a zombie too: a container whose first process does not reap keeps dead orphans for ever.
func running(pid int) bool {
	if syscall.Kill(pid, 0) == syscall.ESRCH {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if os.IsNotExist(err) {
		_, noProc := os.Stat("/proc/self/stat")
		return noProc != nil // without /proc (macOS) the signal's answer is all there is
	}
	if err != nil {
		return true
	}
	i := bytes.LastIndexByte(stat, ')') // the name before it may hold anything
	return i < 0 || i+2 >= len(stat) || stat[i+2] != 'Z'
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// fatalSince is the last FATAL or PANIC message that the log gained after offset, with its detail.
func fatalSince(path string, offset int64) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return ""
	}
	content, _ := io.ReadAll(io.LimitReader(file, 1<<20))
	var found string
	for line := range strings.SplitSeq(string(content), "\n") {
		for _, mark := range []string{"FATAL:", "PANIC:"} {
			if _, text, ok := strings.Cut(line, mark); ok {
				found = strings.TrimSpace(text)
			}
		}
	}
	return found
}

func lastRunes(text string, n int) string {
	runes := []rune(text)
	if len(runes) > n {
		return "..." + string(runes[len(runes)-n:])
	}
	return text
}
