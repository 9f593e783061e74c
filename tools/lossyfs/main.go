//go:build linux

// Command lossyfs shows the directory STORE at POINT through a file system whose power can be cut: at SIGTERM it
// unmounts and takes back every byte in STORE that no sync had made durable. SIGINT unmounts and keeps everything. A
// mount whose server was killed is removed with: umount -l POINT
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/tandemhq/tandem/internal/prove/lossyfs"
)

func main() {
	var o lossyfs.Options
	flag.BoolVar(&o.Lies, "lies", false, "confirm a sync without doing it")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: lossyfs [-lies] POINT STORE")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	if err := lossyfs.Serve(flag.Arg(0), flag.Arg(1), o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "lossyfs:", err)
		os.Exit(1)
	}
}
