package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/tandemhq/tandem/internal/bench"
)

// BareCommand is the argument that makes the bench be the server that [ServeBare] is.
const BareCommand = "bare-stream"

// ServeBare is the least that an endless stream costs with net/http: a handler that says hello and then beats. It prints
// its address and ends with its standard input.
func ServeBare() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	s := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		rc := http.NewResponseController(w)
		frame := "event: hello\ndata: {}\n\n"
		beat := time.NewTicker(15 * time.Second)
		defer beat.Stop()
		for {
			if _, err := io.WriteString(w, frame); err != nil || rc.Flush() != nil {
				return
			}
			select {
			case <-r.Context().Done():
				return
			case <-beat.C:
				frame = ": beat\n\n"
			}
		}
	})}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = s.Close()
	}()
	if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// bareMemory is what one idle reader of the bare server costs, in bytes.
func bareMemory(ctx context.Context, readers int) (float64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, self, BareCommand)
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start the bare server: %w", err)
	}
	defer func() {
		in.Close()
		_ = cmd.Wait() // its figures are what counts
	}()
	line := make([]byte, 64)
	n, err := out.Read(line)
	if err != nil {
		return 0, fmt.Errorf("read the bare server's address: %w", err)
	}
	return perReader(ctx, "http://"+strings.TrimSpace(string(line[:n]))+"/", cmd.Process.Pid, readers, func(int) string { return "none" })
}

const settle = time.Second

// perReader is by how much the memory of a process grows with each idle reader.
func perReader(ctx context.Context, url string, pid, readers int, key func(n int) string) (float64, error) {
	one, err := join(ctx, url, 1, key) // what the first one needs, all have in common
	if err != nil {
		return 0, err
	}
	defer one.leave()
	time.Sleep(settle)
	before, err := bench.RSS(pid)
	if err != nil {
		return 0, err
	}
	all, err := join(ctx, url, readers, key)
	if err != nil {
		return 0, err
	}
	defer all.leave()
	time.Sleep(settle)
	after, err := bench.RSS(pid)
	return float64(after-before) / float64(readers), err
}
