package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/inbox"
)

type conversationsInput struct {
	Paging
	View      string `query:"view" enum:"mine,needs_you,ai,unowned,all" default:"all" doc:"Whose conversations."`
	State     string `query:"state" enum:"open,waiting,snoozed,resolved,spam" doc:"Only conversations in this state."`
	ChannelID string `query:"channel_id" maxLength:"64"`
	ContactID string `query:"contact_id" maxLength:"64"`
	LeadID    string `query:"lead_id" maxLength:"64"`

	ChannelKind   string    `query:"channel_kind" maxLength:"40" doc:"Only on channels of this kind, such as webchat."`
	OwnerID       string    `query:"owner_id" maxLength:"64" doc:"Only what this member owns."`
	AccountID     string    `query:"account_id" maxLength:"64" doc:"Only with contacts of this account."`
	TeamID        string    `query:"team_id" maxLength:"64" doc:"Only where a handoff to this team waits."`
	Reason        string    `query:"reason" enum:"customer_asked,missing_knowledge,unsupported_request,policy,tool_failure,pending_clarification,budget,qualified_lead,sentiment,high_value,out_of_hours" doc:"Only where a handoff for this reason waits."`
	Tag           string    `query:"tag" maxLength:"60" doc:"Only with this tag, whatever the case."`
	Priority      string    `query:"priority" enum:"low,normal,high,urgent"`
	Unread        bool      `query:"unread" doc:"Only with something that nobody has read."`
	Unanswered    bool      `query:"unanswered" doc:"Only where the contact waits for an answer; active_before then says for how long at least."`
	ActiveAfter   time.Time `query:"active_after" doc:"Only with a last message at or after this time."`
	ActiveBefore  time.Time `query:"active_before" doc:"Only with a last message before this time."`
	CreatedAfter  time.Time `query:"created_after" doc:"Only those begun at or after this time."`
	CreatedBefore time.Time `query:"created_before" doc:"Only those begun before this time."`
	Search        string    `query:"search" maxLength:"200" doc:"The beginning of a contact's name or address, or, among the 10,000 conversations with the latest messages, of a subject or a preview."`
	Sort          string    `query:"sort" enum:"unanswered,-created_at,created_at" doc:"The newest activity first when left out; unanswered: only those that wait for an answer, the longest first."`
}

func (in *conversationsInput) of() inbox.ConversationQuery {
	q := inbox.ConversationQuery{
		Query: in.query(nil), View: in.View, State: in.State, Channel: tandem.ID(in.ChannelID), Contact: tandem.ID(in.ContactID), Lead: tandem.ID(in.LeadID),
		Kind: in.ChannelKind, Owner: tandem.ID(in.OwnerID), Account: tandem.ID(in.AccountID), Team: tandem.ID(in.TeamID), Reason: in.Reason,
		Tag: in.Tag, Priority: in.Priority, Unread: in.Unread, Unanswered: in.Unanswered,
		ActiveAfter: given(in.ActiveAfter), ActiveBefore: given(in.ActiveBefore), CreatedAfter: given(in.CreatedAfter), CreatedBefore: given(in.CreatedBefore),
	}
	q.Search, q.Sort = in.Search, in.Sort
	return q
}

// given is a time that was asked for, nil when none was.
func given(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return &at
}

type labelInput struct {
	ByID
	IfMatch string `header:"If-Match" maxLength:"100" doc:"The version you saw, as an entity tag."`
	Body    struct {
		Subject  *string   `json:"subject,omitempty" maxLength:"300"`
		Priority *string   `json:"priority,omitempty" enum:"low,normal,high,urgent"`
		Tags     *[]string `json:"tags,omitempty" maxItems:"20" doc:"All tags; what is not listed is removed. They are kept in small letters."`
	}
}

type mergeInput struct {
	ByID
	Body struct {
		FromID string `json:"from_id" maxLength:"64" doc:"The conversation that becomes a part of this one: with the same contact, on the same channel."`
	}
}

type splitInput struct {
	ByID
	Body struct {
		FromSeq    int64    `json:"from_seq,omitempty" minimum:"1" doc:"Messages from this seq on leave. Give exactly one of the three."`
		MessageIDs []string `json:"message_ids,omitempty" maxItems:"200" nullable:"false" doc:"These messages leave."`
		MergeID    string   `json:"merge_id,omitempty" maxLength:"64" doc:"What this merge brought goes back to where it was."`
	}
}

func (in *splitInput) of() inbox.Split {
	s := inbox.Split{From: in.Body.FromSeq, Merge: tandem.ID(in.Body.MergeID)}
	for _, id := range in.Body.MessageIDs {
		s.Messages = append(s.Messages, tandem.ID(id))
	}
	return s
}

// merges is what a conversation is made of; there are few of them, so it has no pages.
type merges struct {
	Items []inbox.Merged `json:"items"`
}

type threadInput struct {
	ByID
	Limit  int   `query:"limit" minimum:"1" maximum:"1000" default:"50"`
	Before int64 `query:"before" minimum:"0" doc:"Only messages older than this seq."`
	After  int64 `query:"after" minimum:"0" doc:"Only messages newer than this seq."`
}

type sendInput struct {
	ByID
	Key  string `header:"Idempotency-Key" maxLength:"200" doc:"The same key again is the same message."`
	Body struct {
		Kind  string `json:"kind,omitempty" enum:"message,note" default:"message" doc:"A note stays inside the team."`
		Text  string `json:"text" minLength:"1" maxLength:"20000"`
		Fence int64  `json:"fence,omitempty" minimum:"0" doc:"The fence you saw; 0 takes the conversation over where that is allowed."`
	}
}

type snoozeInput struct {
	ByID
	Body struct {
		Until time.Time `json:"until" doc:"In the future, within a year."`
	}
}

type reasonInput struct {
	ByID
	Body struct {
		Reason string `json:"reason,omitempty" maxLength:"1000"`
	}
}

type toAIInput struct {
	ByID
	Body struct {
		MemberID string `json:"member_id,omitempty" maxLength:"64" doc:"Which AI member; the channel's own when left out."`
	}
}

// nothing is the body of an action that needs none; an empty object is accepted, an absent body as well.
type nothing struct {
	ByID
	Body *struct{} `required:"false"`
}

func (s *server) conversationRoutes() {
	const root, one = "/conversations", "/conversations/{id}"
	read(s, route{method: http.MethodGet, path: root, permission: "conversation:read", summary: "List conversations, newest activity first or the longest unanswered"},
		func(ctx context.Context, tx pgx.Tx, in *conversationsInput) (tandem.Page[inbox.Conversation], error) {
			return inbox.ListConversations(ctx, tx, in.of())
		})
	read(s, route{method: http.MethodGet, path: root + "/counts", permission: "conversation:read", summary: "Count conversations by view, each up to 1,000"},
		func(ctx context.Context, tx pgx.Tx, _ *struct{}) (inbox.Counts, error) {
			return inbox.CountConversations(ctx, tx)
		})
	read(s, route{method: http.MethodGet, path: one, permission: "conversation:read", summary: "Get a conversation"},
		func(ctx context.Context, tx pgx.Tx, in *ByID) (inbox.Conversation, error) {
			return onID(*in, func(id tandem.ID) (inbox.Conversation, error) { return inbox.GetConversation(ctx, tx, id) })
		})
	write(s, route{method: http.MethodPatch, path: one, permission: "conversation:claim", summary: "Change a conversation's subject, priority and tags"},
		func(ctx context.Context, tx pgx.Tx, in *labelInput) (inbox.Conversation, error) {
			l := inbox.Labels{Subject: in.Body.Subject, Priority: in.Body.Priority}
			if in.Body.Tags != nil {
				l.Tags = append([]string{}, *in.Body.Tags...)
			}
			var err error
			if l.Version, err = ifMatch(in.IfMatch); err != nil {
				return inbox.Conversation{}, err
			}
			return onID(in.ByID, func(id tandem.ID) (inbox.Conversation, error) { return inbox.Label(ctx, tx, id, l) })
		})
	write(s, route{method: http.MethodPost, path: one + "/merge", permission: "conversation:claim", summary: "Make another conversation a part of this one", status: http.StatusCreated},
		func(ctx context.Context, tx pgx.Tx, in *mergeInput) (inbox.Merged, error) {
			from, err := tandem.ParseID(in.Body.FromID)
			if err != nil {
				return inbox.Merged{}, tandem.InvalidFields(tandem.FieldError{Field: "from_id", Message: "This is not an id."})
			}
			return onID(in.ByID, func(id tandem.ID) (inbox.Merged, error) { return inbox.Merge(ctx, tx, id, from) })
		})
	write(s, route{method: http.MethodPost, path: one + "/split", permission: "conversation:claim", summary: "Split messages off into a conversation of their own, or undo a merge; answers with that conversation"},
		func(ctx context.Context, tx pgx.Tx, in *splitInput) (inbox.Conversation, error) {
			return onID(in.ByID, func(id tandem.ID) (inbox.Conversation, error) { return inbox.Divide(ctx, tx, id, in.of()) })
		})
	read(s, route{method: http.MethodGet, path: one + "/merges", permission: "conversation:read", summary: "List what is merged into a conversation, and where it is merged itself"},
		func(ctx context.Context, tx pgx.Tx, in *ByID) (merges, error) {
			return onID(*in, func(id tandem.ID) (merges, error) {
				list, err := inbox.Merges(ctx, tx, id)
				return merges{list}, err
			})
		})
	read(s, route{method: http.MethodGet, path: one + "/messages", permission: "conversation:read", summary: "Read a conversation's thread, newest page first"},
		func(ctx context.Context, tx pgx.Tx, in *threadInput) (tandem.Page[inbox.Message], error) {
			return onID(in.ByID, func(id tandem.ID) (tandem.Page[inbox.Message], error) {
				return inbox.Thread(ctx, tx, id, inbox.ThreadQuery{Before: in.Before, After: in.After, Limit: in.Limit})
			})
		})
	write(s, route{method: http.MethodPost, path: one + "/messages", permission: "conversation:reply", summary: "Reply, or add an internal note", ownKey: true, status: http.StatusCreated},
		func(ctx context.Context, tx pgx.Tx, in *sendInput) (inbox.Message, error) {
			return onID(in.ByID, func(id tandem.ID) (inbox.Message, error) {
				d := inbox.Draft{Text: in.Body.Text, ClientKey: in.Key, Fence: in.Body.Fence}
				if in.Body.Kind == "note" {
					return inbox.Note(ctx, tx, id, d)
				}
				return inbox.Reply(ctx, tx, id, d)
			})
		})

	ownership := func(path, permission, summary string, fn func(context.Context, pgx.Tx, tandem.ID) (inbox.Conversation, error)) {
		write(s, route{method: http.MethodPost, path: one + path, permission: permission, summary: summary},
			func(ctx context.Context, tx pgx.Tx, in *nothing) (inbox.Conversation, error) {
				return onID(in.ByID, func(id tandem.ID) (inbox.Conversation, error) { return fn(ctx, tx, id) })
			})
	}
	ownership("/claim", "conversation:claim", "Claim an unowned conversation", inbox.Claim)
	ownership("/release", "conversation:claim", "Give up a conversation; it is unowned then", inbox.Release)
	ownership("/resolve", "conversation:claim", "Resolve a conversation", inbox.Resolve)
	ownership("/reopen", "conversation:claim", "Reopen a conversation", inbox.Reopen)
	ownership("/spam", "conversation:claim", "Mark a conversation as spam: nothing of its contact opens it again", inbox.Spam)
	write(s, route{method: http.MethodPost, path: one + "/snooze", permission: "conversation:claim", summary: "Put a conversation aside until a time, or until its contact writes"},
		func(ctx context.Context, tx pgx.Tx, in *snoozeInput) (inbox.Conversation, error) {
			return onID(in.ByID, func(id tandem.ID) (inbox.Conversation, error) { return inbox.Snooze(ctx, tx, id, in.Body.Until) })
		})
	write(s, route{method: http.MethodPost, path: one + "/takeover", permission: "conversation:takeover", summary: "Take a conversation over from its owner"},
		func(ctx context.Context, tx pgx.Tx, in *reasonInput) (inbox.Conversation, error) {
			return onID(in.ByID, func(id tandem.ID) (inbox.Conversation, error) { return inbox.Takeover(ctx, tx, id, in.Body.Reason) })
		})
	write(s, route{method: http.MethodPost, path: one + "/hand-to-ai", permission: "conversation:claim", summary: "Give a conversation to an AI member"},
		func(ctx context.Context, tx pgx.Tx, in *toAIInput) (inbox.Conversation, error) {
			return onID(in.ByID, func(id tandem.ID) (inbox.Conversation, error) {
				return inbox.HandToAI(ctx, tx, id, tandem.ID(in.Body.MemberID))
			})
		})
	act(s, route{method: http.MethodPost, path: one + "/read", permission: "conversation:read", summary: "Mark a conversation read"},
		func(ctx context.Context, tx pgx.Tx, in *nothing) error {
			id, err := in.id()
			if err != nil {
				return err
			}
			return inbox.MarkRead(ctx, tx, id)
		})
	handle(s, route{method: http.MethodPost, path: one + "/typing", permission: "conversation:reply", summary: "Say that you are writing", status: http.StatusNoContent}, s.typing)
}

const typingLasts = 6 * time.Second

// typing is not kept: it goes to whoever watches the conversation now.
func (s *server) typing(ctx context.Context, in *nothing) (*struct{}, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return nil, err
	}
	// Whoever may not see the conversation must not learn from this that it exists.
	err = s.DB.Read(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := inbox.GetConversation(ctx, tx, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(map[string]any{
		"conversation_id": id,
		"member":          tandem.MemberRef{ID: a.Member, Kind: a.Kind, Name: a.Name},
		"until":           time.Now().Add(typingLasts).UTC(),
	})
	if err != nil {
		return nil, err
	}
	return nil, s.Signal(ctx, "sig."+string(a.Org)+".typing", b)
}

// onID runs fn with the id of the path, or answers as for a record that does not exist.
func onID[T any](in ByID, fn func(tandem.ID) (T, error)) (T, error) {
	id, err := in.id()
	if err != nil {
		var none T
		return none, err
	}
	return fn(id)
}
