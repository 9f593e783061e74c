// Package web holds the built single-page app and the chat widget, and serves them.
package web

import (
	"embed"
	"io/fs"
	"net/http"
)

// dist is the output of `make web`. "all:" because plain dist would skip files
// that start with "_" or "."; the committed .gitkeep lets the program build without Node.
//
//go:embed all:dist
var dist embed.FS

// Handler serves the app: hashed files under /assets/ for ever, every other file with
// revalidation, and index.html for the app's own addresses. A missing file is 404,
// never index.html. When the app was not built it answers 503 and says what to run.
func Handler() http.Handler {
	sub, err := fs.Sub(dist, "dist")
	if err != nil {
		panic("web: the embedded folder dist is missing: " + err.Error()) // the compiler put it there
	}
	return newSite(sub)
}
