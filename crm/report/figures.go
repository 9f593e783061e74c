package report

import (
	"time"

	"github.com/tandemhq/tandem"
)

// Dashboard is the answer to a [Question].
type Dashboard struct {
	From          string              `json:"from" doc:"The first day."`
	To            string              `json:"to" doc:"The last day, which counts whole."`
	Zone          string              `json:"tz" doc:"Whose days they are."`
	Currency      string              `json:"currency" doc:"The organization's; amounts are shown in their own."`
	Days          []DayFigures        `json:"days" nullable:"false" doc:"One entry for each day."`
	Pipeline      Pipeline            `json:"pipeline"`
	Leads         LeadFigures         `json:"leads"`
	Conversations ConversationFigures `json:"conversations"`
	Response      ResponseTimes       `json:"response"`
	Members       []MemberFigures     `json:"members" nullable:"false" doc:"Active members and those who did something in the period, those with the most replies first."`
	Handoffs      HandoffFigures      `json:"handoffs"`
}

// DayFigures is what happened on one day.
type DayFigures struct {
	Date        string `json:"date"`
	Leads       int64  `json:"leads" doc:"Leads that were opened, on all boards."`
	Opened      int64  `json:"opened" doc:"Conversations that began."`
	Resolved    int64  `json:"resolved"`
	Received    int64  `json:"received" doc:"Messages from contacts."`
	SentPeople  int64  `json:"sent_people" doc:"Messages that people sent."`
	SentAI      int64  `json:"sent_ai" doc:"Messages that AI members sent, external ones included."`
	SentByOther int64  `json:"sent_other" doc:"Messages that Tandem itself sent."`
}

// LeadFigures is where leads came from.
type LeadFigures struct {
	New      int64           `json:"new"`
	Won      int64           `json:"won" doc:"Closed as won in the period and still so."`
	Lost     int64           `json:"lost"`
	BySource []SourceFigures `json:"by_source" nullable:"false" doc:"At most 50, those with the most first; the others are added up in one with the name null."`
}

// SourceFigures is where some leads came from.
type SourceFigures struct {
	Name *string `json:"source" doc:"Empty where nobody said."`
	New  int64   `json:"new"`
	Won  int64   `json:"won"`
	Lost int64   `json:"lost"`
}

// ConversationFigures is what happened to conversations, and how they are now.
type ConversationFigures struct {
	Opened   int64            `json:"opened"`
	Reopened int64            `json:"reopened" doc:"Closed ones that began again."`
	Resolved int64            `json:"resolved"`
	Received int64            `json:"received"`
	Sent     int64            `json:"sent"`
	Now      ConversationsNow `json:"now"`
	Channels []ChannelFigures `json:"by_channel_kind" nullable:"false"`
}

// ConversationsNow is how conversations are at this moment.
type ConversationsNow struct {
	Open    int64 `json:"open"`
	Waiting int64 `json:"waiting"`
	Snoozed int64 `json:"snoozed"`
	Unowned int64 `json:"unowned" doc:"Open ones that nobody owns; 1000 means that many or more."`
}

// ChannelFigures is a kind of channel.
type ChannelFigures struct {
	Kind     string `json:"kind"`
	Open     int64  `json:"open" doc:"Open now."`
	Waiting  int64  `json:"waiting" doc:"Waiting now."`
	Opened   int64  `json:"opened"`
	Reopened int64  `json:"reopened"`
	Resolved int64  `json:"resolved"`
	Received int64  `json:"received"`
	Sent     int64  `json:"sent"`
}

// ResponseTimes is how long contacts waited.
type ResponseTimes struct {
	First      ByAnswerer `json:"first" doc:"To the first answer since a conversation began or began again."`
	Later      ByAnswerer `json:"later" doc:"To each answer after that."`
	Resolution ByAnswerer `json:"resolution" doc:"From the beginning of a conversation until it was resolved, by who resolved it."`
}

// ByAnswerer is a time of people beside AI members.
type ByAnswerer struct {
	All    Times `json:"all"`
	People Times `json:"people"`
	AI     Times `json:"ai"`
}

// MemberFigures is what one member did.
type MemberFigures struct {
	tandem.MemberRef
	Replies       int64    `json:"replies"`
	Conversations int64    `json:"conversations" doc:"In which the member answered; one that was closed and began again counts anew."`
	Resolved      int64    `json:"resolved"`
	Requested     int64    `json:"handoffs_requested"`
	Accepted      int64    `json:"handoffs_accepted"`
	FirstResponse *float64 `json:"first_response_seconds" doc:"The median; null when there is none."`
	Tokens        int64    `json:"tokens" doc:"Of AI members: what their models read and wrote."`
	CostMicros    int64    `json:"cost_micros" doc:"Of AI members: in millionths of the organization's currency."`
}

// HandoffFigures is what waits for people, and what became of the rest.
type HandoffFigures struct {
	Waiting   WaitingHandoffs `json:"waiting"`
	Requested int64           `json:"requested"`
	Accepted  int64           `json:"accepted"`
	Rejected  int64           `json:"rejected"`
	Cancelled int64           `json:"cancelled"`
	Expired   int64           `json:"expired"`
	ToAccept  Times           `json:"to_accept" doc:"From asking until somebody accepted."`
}

// WaitingHandoffs is the handoffs that wait now.
type WaitingHandoffs struct {
	Count    int64           `json:"count"`
	Deadline *time.Time      `json:"oldest_deadline" doc:"The first deadline; null when none waits."`
	ByReason []WaitingReason `json:"by_reason" nullable:"false"`
}

// WaitingReason is why some handoffs wait.
type WaitingReason struct {
	Reason string `json:"reason"`
	Count  int64  `json:"count"`
}
