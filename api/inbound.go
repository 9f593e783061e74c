package api

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels/webhook"
	"github.com/tandemhq/tandem/inbox"
)

type leadInput struct {
	Key     string `header:"Idempotency-Key" maxLength:"200" doc:"The same key with the same body again answers with the same ids."`
	RawBody []byte `contentType:"application/json"`
}

// leadBody documents what webhook.Parse reads; TestExamples sends its example.
type leadBody struct {
	Title      string         `json:"title,omitempty" maxLength:"300" doc:"A title or a message is needed."`
	Message    string         `json:"message,omitempty" doc:"What the contact wrote."`
	Source     string         `json:"source,omitempty" doc:"Where the lead came from." example:"website"`
	Value      int64          `json:"value,omitempty" minimum:"0" doc:"In the currency's minor unit, such as cents."`
	Currency   string         `json:"currency,omitempty" pattern:"^[A-Z]{3}$" example:"EUR"`
	Priority   string         `json:"priority,omitempty" enum:"low,normal,high,urgent"`
	Tags       []string       `json:"tags,omitempty" nullable:"false"`
	Custom     map[string]any `json:"custom,omitempty"`
	Board      string         `json:"board,omitempty" doc:"A board's id or name; the channel's board when left out."`
	ExternalID string         `json:"external_id,omitempty" maxLength:"200" doc:"Your own id of this message: the same id again is a success that changes nothing."`
	Contact    inboundContact `json:"contact"`
}

type inboundContact struct {
	Name      string `json:"name,omitempty"`
	FirstName string `json:"first_name,omitempty"`
	LastName  string `json:"last_name,omitempty"`
	Email     string `json:"email,omitempty" doc:"An e-mail address or a phone number is needed."`
	Phone     string `json:"phone,omitempty"`
	Company   string `json:"company,omitempty"`
}

type idShape struct {
	ID tandem.ID `json:"id"`
}

type leadAccepted struct {
	Contact      idShape `json:"contact"`
	Lead         idShape `json:"lead"`
	Conversation idShape `json:"conversation"`
	Message      idShape `json:"message"`
	Duplicate    bool    `json:"duplicate" doc:"It had been accepted before."`
}

type leadOutput struct {
	Status int
	Body   leadAccepted
}

// inboundRoutes is the door for lead forms and other systems. The body is parsed by the
// webhook channel, which names every wrong field; the answer comes after the commit.
func (s *server) inboundRoutes() {
	r := route{method: http.MethodPost, path: "/inbound/lead", permission: "inbound:write", summary: "Hand in a lead", ownKey: true, status: http.StatusCreated}
	op := s.operation(r)
	schema := s.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[leadBody](), true, "InboundLead")
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{}}
	op.SkipValidateBody = true // the parser names wrong fields better than a schema can
	again := s.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[leadAccepted](), true, "LeadAccepted")
	op.Responses = map[string]*huma.Response{"200": {
		Description: "It had been accepted before; the ids are the first answer's.",
		Content:     map[string]*huma.MediaType{"application/json": {Schema: again}},
	}}
	doors := &leadDoors{m: map[tandem.ID]leadDoor{}}
	huma.Register(s.huma, op, func(ctx context.Context, in *leadInput) (*leadOutput, error) {
		out, err := s.acceptLead(ctx, doors, in)
		if err != nil {
			p := problemOf(ctx, err)
			logFailure(ctx, s.log, p, err)
			return nil, p
		}
		return out, nil
	})
	op.RequestBody.Content["application/json"] = &huma.MediaType{Schema: schema} // huma describes a raw body as bytes
}

// leadDoors remembers for less than a second which channel takes an organization's leads.
// That there is none is never remembered.
type leadDoors struct {
	mu sync.Mutex
	m  map[tandem.ID]leadDoor
}

type leadDoor struct {
	channel tandem.ID
	until   time.Time
}

const (
	leadDoorFor = 900 * time.Millisecond
	maxDoors    = 10_000 // organizations
)

func (d *leadDoors) of(org tandem.ID) tandem.ID {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.m[org]; time.Now().Before(e.until) {
		return e.channel
	}
	return ""
}

// put remembers what a query that began at asked has found.
func (d *leadDoors) put(org, channel tandem.ID, asked time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.m) >= maxDoors {
		clear(d.m) // the next requests ask again
	}
	d.m[org] = leadDoor{channel, asked.Add(leadDoorFor)}
}

// leadChannel returns the channel that takes the organization's leads.
func (s *server) leadChannel(ctx context.Context, doors *leadDoors, org tandem.ID) (id tandem.ID, err error) {
	if id = doors.of(org); id != "" {
		return id, nil
	}
	asked := time.Now()
	err = s.DB.Read(ctx, func(ctx context.Context, tx pgx.Tx) error {
		id, err = inbox.ChannelOfKind(ctx, tx, webhook.Kind.Name)
		return err
	})
	if err == nil {
		doors.put(org, id, asked)
	}
	return id, err
}

const leadPath = basePath + "/inbound/lead"

// spared refuses leads that would not be taken, before anything of them is read: in a flood the refusals are what has to be cheap.
func (s *server) spared(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == leadPath {
			if a, err := tandem.ActorFrom(r.Context()); err == nil && a.May("inbound:write") {
				if err := s.leadRoom(a); err != nil {
					writeProblem(w, r, s.log, err)
					return
				}
			}
		}
		next.ServeHTTP(w, r)
	})
}

// leadRoom spends one of the leads that a member may hand in, if there is room for it.
func (s *server) leadRoom(a tandem.Actor) error {
	if err := s.Room(a.Org); err != nil {
		return err
	}
	if wait := s.inbound.take(string(a.Org)+string(a.Member), time.Now()); wait > 0 {
		return &tandem.Error{Kind: tandem.Throttled, Msg: "Too many leads at once. Try again a little later.", RetryAfter: wait}
	}
	return nil
}

func (s *server) acceptLead(ctx context.Context, doors *leadDoors, in *leadInput) (*leadOutput, error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return nil, err
	}
	msg, err := webhook.Parse(in.RawBody)
	if err == nil && in.Key != "" {
		msg, err = webhook.WithKey(msg, in.Key)
	}
	if errors.Is(err, webhook.ErrMalformed) {
		return nil, newProblem(http.StatusBadRequest, "malformed", tandem.Message(err))
	}
	if err != nil {
		return nil, err
	}
	msg.Org = a.Org
	if msg.Channel, err = s.leadChannel(ctx, doors, a.Org); err != nil {
		return nil, err
	}
	got, err := s.Deliver(ctx, msg)
	if err != nil {
		return nil, err
	}
	out := &leadOutput{Status: http.StatusCreated, Body: leadAccepted{
		Contact: idShape{got.Contact}, Lead: idShape{got.Lead}, Conversation: idShape{got.Conversation}, Message: idShape{got.Message}, Duplicate: got.Duplicate,
	}}
	if got.Duplicate {
		out.Status = http.StatusOK
	}
	return out, nil
}
