// Package migrations holds the schema: numbered SQL files, applied forward only
// by goose, in order. A file that has landed is never edited; a change is a new file.
package migrations

import "embed"

// FS holds every migration, named NNNNN_what.sql.
//
//go:embed *.sql
var FS embed.FS
