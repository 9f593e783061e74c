package main

import (
	"html/template"
	"net/http"
)

// shopPage is a page of the demo organization with the chat widget on it, as a company
// would put it on its own site.
var shopPage = template.Must(template.New("shop").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Lumen · Scheduling for teams on the move</title>
<style>
  :root { color-scheme: light dark; font: 16px/1.55 system-ui, sans-serif; }
  body { margin: 0; background: light-dark(#fafafa, #16171a); color: light-dark(#1c1d22, #ececf0); }
  main { max-width: 44rem; margin: 0 auto; padding: 12vh 1.5rem; }
  h1 { font-size: 2.4rem; line-height: 1.15; margin: 0 0 1rem; letter-spacing: -.02em; }
  p { color: light-dark(#4c4e58, #b4b6c0); margin: 0 0 1rem; }
  dl { display: grid; grid-template-columns: max-content 1fr; gap: .4rem 1.5rem; margin: 2rem 0; }
  dt { font-weight: 600; } dd { margin: 0; }
  small { color: light-dark(#5f616c, #9a9ca8); }
</style>
</head>
<body>
<main>
  <h1>Plan rooms, shifts and visits in one place.</h1>
  <p>Lumen is the made-up company of Tandem's demo. Ask its team something in the chat at the lower right.</p>
  <dl>
    <dt>Starter</dt><dd>up to 10 people</dd>
    <dt>Team</dt><dd>up to 50 people, several locations</dd>
    <dt>Company</dt><dd>any number, with an agreement of your own</dd>
  </dl>
  <small>The other side of this chat is the inbox: <a href="/">open it</a>.</small>
</main>
<script src="/chat/widget.js" data-key="{{.Key}}" data-title="Lumen" async></script>
</body>
</html>
`))

// shop serves the page at /demo and takes replies for the simulated customers at /demo/replies.
func shop(widgetKey func() string, replies http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /demo", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		if err := shopPage.Execute(w, struct{ Key string }{widgetKey()}); err != nil {
			return // the reader went away
		}
	})
	mux.Handle("POST /demo/replies", replies)
	return mux
}
