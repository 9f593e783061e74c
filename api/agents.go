package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents"
)

type runsInput struct {
	Paging
	ConversationID string `query:"conversation_id" maxLength:"64"`
	MemberID       string `query:"member_id" maxLength:"64"`
}

type documentInput struct {
	Body struct {
		Title string `json:"title" minLength:"1" maxLength:"300"`
		Body  string `json:"body" minLength:"1" maxLength:"1000000" doc:"Plain text or Markdown."`
		URL   string `json:"url,omitempty" format:"uri" maxLength:"2000" doc:"Where the public may read it; shown as the source of an answer."`
	}
}

type documentPatch struct {
	ByID
	IfMatch string `header:"If-Match" doc:"The version you saw, as an entity tag."`
	Body    struct {
		Title *string `json:"title,omitempty" minLength:"1" maxLength:"300"`
		Body  *string `json:"body,omitempty" minLength:"1" maxLength:"1000000"`
		URL   *string `json:"url,omitempty" maxLength:"2000"`
	}
}

type searchInput struct {
	Q     string `query:"q" required:"true" minLength:"1" maxLength:"500"`
	Limit int    `query:"limit" minimum:"1" maximum:"50" default:"8"`
}

func (s *server) runRoutes() {
	read(s, route{method: http.MethodGet, path: "/runs", permission: "run:read", summary: "List runs of AI members, newest first"},
		func(ctx context.Context, tx pgx.Tx, in *runsInput) (tandem.Page[agents.Run], error) {
			return agents.ListRuns(ctx, tx, agents.RunQuery{
				Conversation: tandem.ID(in.ConversationID), Member: tandem.ID(in.MemberID), Cursor: in.Cursor, Limit: in.Limit,
			})
		})
	read(s, route{method: http.MethodGet, path: "/runs/{id}", permission: "run:read", summary: "Get a run with every step: why an AI member answered as it did"},
		func(ctx context.Context, tx pgx.Tx, in *ByID) (agents.Run, error) {
			return onID(*in, func(id tandem.ID) (agents.Run, error) { return agents.GetRun(ctx, tx, id) })
		})
}

func (s *server) knowledgeRoutes() {
	const root, one, perm, big = "/knowledge", "/knowledge/{id}", "knowledge:write", 4 << 20
	read(s, route{method: http.MethodGet, path: root, permission: "knowledge:read", summary: "List knowledge documents, newest first"},
		func(ctx context.Context, tx pgx.Tx, in *Paging) (tandem.Page[agents.Document], error) {
			return agents.Documents.List(ctx, tx, in.query(nil))
		})
	handle(s, route{method: http.MethodGet, path: root + "/search", permission: "knowledge:read", summary: "Search the knowledge base as AI members do"}, s.searchKnowledge)
	read(s, route{method: http.MethodGet, path: one, permission: "knowledge:read", summary: "Get a knowledge document"},
		func(ctx context.Context, tx pgx.Tx, in *ByID) (agents.Document, error) {
			return onID(*in, func(id tandem.ID) (agents.Document, error) { return agents.Documents.Get(ctx, tx, id) })
		})
	write(s, route{method: http.MethodPost, path: root, permission: perm, summary: "Add a knowledge document; it is found a moment later", status: http.StatusCreated, maxBody: big},
		func(ctx context.Context, tx pgx.Tx, in *documentInput) (agents.Document, error) {
			return agents.Documents.Create(ctx, tx, agents.Document{Title: in.Body.Title, Body: in.Body.Body, URL: in.Body.URL})
		})
	write(s, route{method: http.MethodPatch, path: one, permission: perm, summary: "Change a knowledge document", maxBody: big},
		func(ctx context.Context, tx pgx.Tx, in *documentPatch) (agents.Document, error) {
			version, err := ifMatch(in.IfMatch)
			if err != nil {
				return agents.Document{}, err
			}
			patch, err := json.Marshal(in.Body)
			if err != nil {
				return agents.Document{}, err
			}
			return onID(in.ByID, func(id tandem.ID) (agents.Document, error) {
				return agents.Documents.Patch(ctx, tx, id, patch, version)
			})
		})
	act(s, route{method: http.MethodDelete, path: one, permission: perm, summary: "Remove a knowledge document from answers"},
		func(ctx context.Context, tx pgx.Tx, in *versioned) error {
			version, err := ifMatch(in.IfMatch)
			if err != nil {
				return err
			}
			id, err := in.id()
			if err != nil {
				return err
			}
			return agents.Documents.Archive(ctx, tx, id, version)
		})
}

// searchKnowledge asks for the query's vector before it opens a transaction: the embedder may be far away.
func (s *server) searchKnowledge(ctx context.Context, in *searchInput) (*body[tandem.Page[agents.Hit]], error) {
	ahead := agents.Ahead(ctx, s.Embedder, in.Q)
	out := &body[tandem.Page[agents.Hit]]{}
	err := s.DB.Read(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		out.Body.Items, err = agents.Search(ctx, tx, ahead, in.Q, in.Limit)
		return err
	})
	return out, err
}
