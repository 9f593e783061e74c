package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// promiseLine is a row of a table in docs/promises.md: the command, the promise, the figure.
var promiseLine = regexp.MustCompile("(?m)^\\| `make prove ONLY=([A-Z0-9-]+)` \\|((?:[^\n|\\\\]|\\\\.)*)\\|((?:[^\n|\\\\]|\\\\.)*)\\|$")

// writePromises puts the measured figures of prove.json into docs/promises.md. Rows whose goal was never run stay.
func writePromises(o options) error {
	report, err := loadReport(o)
	if err != nil {
		return err
	}
	page, err := os.ReadFile(o.file)
	if err != nil {
		return fmt.Errorf("read the promises: %w", err)
	}
	if err := os.WriteFile(o.file, []byte(refreshed(string(page), report)), 0o644); err != nil {
		return fmt.Errorf("write the promises: %w", err)
	}
	return nil
}

// refreshed is the page with the report's figures.
func refreshed(page string, report Report) string {
	return promiseLine.ReplaceAllStringFunc(page, func(line string) string {
		m := promiseLine.FindStringSubmatch(line)
		i := slices.IndexFunc(report.Goals, func(r Row) bool { return r.ID == m[1] })
		if i < 0 {
			return line
		}
		row := report.Goals[i]
		figure := row.result()
		if !row.Held {
			figure = "**Not held.** " + figure
		}
		return fmt.Sprintf("| `make prove ONLY=%s` |%s| %s |", m[1], m[2], cell(figure))
	})
}

// promised are the goals that the page names, in its order.
func promised(page string) (ids []string) {
	for _, m := range promiseLine.FindAllStringSubmatch(page, -1) {
		ids = append(ids, strings.TrimSpace(m[1]))
	}
	return ids
}
