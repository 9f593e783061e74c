package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
)

// program builds Tandem as it is now. It is not bin/tandem: that one holds the web app, which proves nothing here.
func (g *ground) program(ctx context.Context) (string, error) {
	dir, err := g.room.Folder("program")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "tandem")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", bin, "./cmd/tandem")
	g.room.Prepare(".")(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return bin, nil
}
