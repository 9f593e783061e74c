package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/inbox"
)

type channelInput struct {
	Body struct {
		Kind       string          `json:"kind" minLength:"1" maxLength:"40"`
		Name       string          `json:"name" minLength:"1" maxLength:"120"`
		Settings   json.RawMessage `json:"settings,omitempty" doc:"The channel kind's own settings."`
		Secret     string          `json:"secret,omitempty" maxLength:"4000" doc:"The channel kind's own secret. It is never shown again."`
		BoardID    string          `json:"board_id,omitempty" maxLength:"64"`
		AIMemberID string          `json:"ai_member_id,omitempty" maxLength:"64" doc:"The AI member that answers first."`
	}
}

type channelPatch struct {
	ByID
	IfMatch string `header:"If-Match" doc:"The version you saw, as an entity tag."`
	Body    struct {
		Name       *string         `json:"name,omitempty" minLength:"1" maxLength:"120"`
		Status     *string         `json:"status,omitempty" enum:"active,paused"`
		Settings   json.RawMessage `json:"settings,omitempty"`
		Secret     *string         `json:"secret,omitempty" maxLength:"4000"`
		BoardID    *string         `json:"board_id,omitempty" maxLength:"64" doc:"Empty: the default board."`
		AIMemberID *string         `json:"ai_member_id,omitempty" maxLength:"64" doc:"Empty: people answer."`
	}
}

func (s *server) channelRoutes() {
	const root, one = "/channels", "/channels/{id}"
	read(s, route{method: http.MethodGet, path: root, permission: "channel:read", summary: "List channels"},
		func(ctx context.Context, tx pgx.Tx, in *Paging) (tandem.Page[inbox.Channel], error) {
			return s.Inbox.Channels.List(ctx, tx, in.query(nil))
		})
	read(s, route{method: http.MethodGet, path: one, permission: "channel:read", summary: "Get a channel"},
		func(ctx context.Context, tx pgx.Tx, in *ByID) (inbox.Channel, error) {
			return onID(*in, func(id tandem.ID) (inbox.Channel, error) { return s.Inbox.Channels.Get(ctx, tx, id) })
		})
	write(s, route{method: http.MethodPost, path: root, permission: "channel:write", summary: "Add a channel", status: http.StatusCreated},
		func(ctx context.Context, tx pgx.Tx, in *channelInput) (inbox.Channel, error) {
			return s.Inbox.Channels.Create(ctx, tx, inbox.NewChannel{
				Kind: in.Body.Kind, Name: in.Body.Name, Settings: in.Body.Settings, Secret: in.Body.Secret,
				Board: tandem.ID(in.Body.BoardID), AIMember: tandem.ID(in.Body.AIMemberID),
			})
		})
	write(s, route{method: http.MethodPatch, path: one, permission: "channel:write", summary: "Change a channel"},
		func(ctx context.Context, tx pgx.Tx, in *channelPatch) (inbox.Channel, error) {
			version, err := ifMatch(in.IfMatch)
			if err != nil {
				return inbox.Channel{}, err
			}
			return onID(in.ByID, func(id tandem.ID) (inbox.Channel, error) {
				return s.Inbox.Channels.Patch(ctx, tx, id, inbox.ChannelPatch{
					Name: in.Body.Name, Status: in.Body.Status, Settings: in.Body.Settings, Secret: in.Body.Secret,
					Board: in.Body.BoardID, AIMember: in.Body.AIMemberID, Version: version,
				})
			})
		})
}

// mountChannels opens the doors of channels that speak HTTP: /chat/{key}/ for visitors'
// browsers. The key names the channel and proves nothing; the adapter decides the rest.
func (s *server) mountChannels(root chi.Router) {
	if s.Widget != nil {
		root.Method(http.MethodGet, "/chat/widget.js", s.Widget)
	}
	root.HandleFunc("/chat", s.notFound)
	root.HandleFunc("/chat/*", s.notFound)
	root.HandleFunc("/chat/{key}/*", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*") // the page of a shop may read why it was refused
		key := chi.URLParam(r, "key")
		h, err := s.Switchboard.Webhook(r.Context(), key)
		if err != nil {
			writeProblem(w, r, s.log, err)
			return
		}
		http.StripPrefix("/chat/"+key, h).ServeHTTP(w, r)
	})
}
