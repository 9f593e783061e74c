package local

import (
	"fmt"
	"os"
	"path/filepath"
)

// Available says which server Start would run, such as "PostgreSQL 15 with pgvector in
// /usr/lib/postgresql/15/bin", or what is missing. It starts nothing.
func Available() (string, error) {
	dir, err := FindBin("")
	if err != nil {
		return "", err
	}
	major := majorOf(dir)
	if !hasVector(dir) {
		return "", fmt.Errorf("PostgreSQL %d in %s has no pgvector extension", major, dir)
	}
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return "", fmt.Errorf("PostgreSQL %d in %s lacks initdb: %w", major, dir, err)
	}
	return fmt.Sprintf("PostgreSQL %d with pgvector in %s", major, dir), nil
}
