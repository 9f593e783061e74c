// Command oracle runs the outside world for proofs as a process of its own: see package oracle. It prints its addresses
// as one JSON line and ends on SIGTERM, or when its standard input does.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/tandemhq/tandem/internal/prove/oracle"
)

func main() {
	journal := flag.String("journal", "oracle.jsonl", "file that the journal is appended to")
	brief := flag.String("brief", "", "providers whose bytes are only counted, such as model,visitor")
	flag.Parse()
	if err := run(*journal, strings.Split(*brief, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(1)
	}
}

func run(journal string, brief []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := oracle.Start(oracle.Options{Journal: journal, Brief: brief})
	if err != nil {
		return err
	}
	defer s.Close()
	if err := json.NewEncoder(os.Stdout).Encode(s.Addresses); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // whoever started it has ended, however
		stop()
	}()
	<-ctx.Done()
	return nil
}
