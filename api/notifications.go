package api

import (
	"context"
	"net/http"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/team"
)

type notificationsInput struct {
	Paging
	Unread bool `query:"unread" doc:"Only those not read yet."`
}

type notificationCounts struct {
	Unread int `json:"unread" doc:"1000 means that many or more."`
}

// notificationRoutes are what a member is told of; each sees only what is meant for this member.
func (s *server) notificationRoutes() {
	read(s, route{method: http.MethodGet, path: "/notifications", summary: "List your notifications, newest first"},
		func(ctx context.Context, tx pgx.Tx, in *notificationsInput) (tandem.Page[team.Notification], error) {
			return team.Notifications(ctx, tx, in.query(nil), in.Unread)
		})
	read(s, route{method: http.MethodGet, path: "/notifications/counts", summary: "Count your unread notifications"},
		func(ctx context.Context, tx pgx.Tx, _ *struct{}) (notificationCounts, error) {
			n, err := team.Unread(ctx, tx)
			return notificationCounts{n}, err
		})
	write(s, route{method: http.MethodPost, path: "/notifications/{id}/read", summary: "Mark a notification as read"},
		func(ctx context.Context, tx pgx.Tx, in *ByID) (team.Notification, error) {
			return onID(*in, func(id tandem.ID) (team.Notification, error) { return team.ReadNotification(ctx, tx, id) })
		})
	act(s, route{method: http.MethodPost, path: "/notifications/read-all", summary: "Mark all your notifications as read"},
		func(ctx context.Context, tx pgx.Tx, _ *struct{}) error { return team.ReadNotifications(ctx, tx) })
}
