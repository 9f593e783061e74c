package api

import (
	"context"
	"net/http"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/timers"
)

// RedeliverTimer names the kind of timer that asks a process that runs consumer to try a dead letter again.
func RedeliverTimer(consumer string) string { return "redeliver." + consumer }

type lettersInput struct {
	Paging
}

// letterRoutes are about facts that a part of Tandem could not work off. None is dropped: each waits here for a person.
func (s *server) letterRoutes() {
	const root, one = "/dead-letters", "/dead-letters/{id}"
	read(s, route{method: http.MethodGet, path: root, permission: "dead_letter:read", summary: "List what could not be worked off, newest first"},
		func(ctx context.Context, tx pgx.Tx, in *lettersInput) (tandem.Page[events.Letter], error) {
			return events.Letters(ctx, tx, in.query(nil))
		})
	read(s, route{method: http.MethodGet, path: one, permission: "dead_letter:read", summary: "Get one of them"},
		func(ctx context.Context, tx pgx.Tx, in *ByID) (events.Letter, error) {
			return onID(*in, func(id tandem.ID) (events.Letter, error) { return events.GetLetter(ctx, tx, id) })
		})
	write(s, route{method: http.MethodPost, path: one + "/requeue", permission: "dead_letter:write", summary: "Try it once more; when that works it is gone", status: http.StatusAccepted},
		func(ctx context.Context, tx pgx.Tx, in *nothing) (events.Letter, error) {
			return onID(in.ByID, func(id tandem.ID) (events.Letter, error) {
				l, err := events.Requeue(ctx, tx, id)
				if err != nil {
					return l, err
				}
				return l, timers.Set(ctx, tx, RedeliverTimer(l.Consumer), id, 0)
			})
		})
	act(s, route{method: http.MethodDelete, path: one, permission: "dead_letter:write", summary: "Discard it; the log keeps what it was"},
		func(ctx context.Context, tx pgx.Tx, in *ByID) error {
			_, err := onID(*in, func(id tandem.ID) (events.Letter, error) { return events.Discard(ctx, tx, id) })
			return err
		})
}
