// Package tandem holds the words that every other package shares: ids, actors,
// errors, events, queries and pages. It imports only the standard library, so
// any package may import it and it can never be part of a cycle.
package tandem
