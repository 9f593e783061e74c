package agents

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents/llm"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/mutant"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/seal"
	"github.com/tandemhq/tandem/team"
)

// work is one run under way: the turn, the model it thinks with and what it may still spend.
type work struct {
	*Turn
	r      *Runner
	model  llm.Model
	budget *budget
	idx    int // of the next step
	faults int // of the model, in a row
	refuse int // endings that were refused

	actor   tandem.Actor // the AI member, as every call of the turn acts
	profile team.AIProfile
	key     seal.Secret // until the model is open
	persona string
	openErr error // why there is no model
	crashed bool  // its trigger has cost several workers
}

// fault is a failure of the model. It ends the turn with a handoff of reason "tool_failure".
type fault struct{ err error }

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

const (
	maxFaults   = 2                // model faults in a row until a person is asked
	maxRefusals = 3                // refused endings until a person is asked
	maxPause    = 5 * time.Second  // between two tries of a model
	stepTime    = 15 * time.Second // for one transaction of a turn
	embedTime   = 10 * time.Second // for the vector of a query; without it words alone are searched
)

// loop lets the model think and act until the turn ends. Its errors are *breach, *fault,
// inbox.ErrSuperseded, inbox.ErrFenceMoved, the end of ctx, or a failure of the database.
func (w *work) loop(ctx context.Context, req llm.Request) (Ending, error) {
	recorded := 0
	for {
		if err := ended(ctx); err != nil {
			return "", err
		}
		w.r.fault("turn.thinking")
		resp, err := w.think(ctx, req, recorded)
		if err != nil {
			return "", err
		}
		recorded = len(req.Messages)
		w.r.fault("turn.answered")
		if resp == nil { // a fault that may be tried again
			continue
		}
		w.faults = 0
		calls := resp.Calls
		w.Confidence = resp.Confidence
		if len(calls) == 0 {
			calls = []llm.Call{plainReply(*resp)}
			resp.Text = ""
		}
		req.Messages = append(req.Messages, llm.Message{Role: llm.Assistant, Text: clip(resp.Text, maxRecorded), Calls: repeatable(calls)})
		for _, c := range calls {
			res, text, err := w.act(ctx, c)
			if err != nil {
				return "", err
			}
			if res.Ends != "" {
				return res.Ends, nil
			}
			req.Messages = append(req.Messages, llm.Message{Role: llm.Tool, CallID: c.ID, Name: c.Name, Text: text})
		}
	}
}

// repeatable are the calls as the model gets to see them again: arguments that are refused for their
// size or form are left out.
func repeatable(calls []llm.Call) []llm.Call {
	out := make([]llm.Call, len(calls))
	for i, c := range calls {
		if len(c.Args) > maxArgs || !json.Valid(c.Args) {
			c.Args = json.RawMessage(`{}`)
		}
		out[i] = c
	}
	return out
}

// plainReply is what a model means that writes an answer instead of calling reply.
func plainReply(resp llm.Response) llm.Call {
	args, err := json.Marshal(map[string]any{"text": resp.Text})
	if err != nil {
		args = json.RawMessage(`{}`) // a string always encodes
	}
	return llm.Call{ID: "text_" + string(tandem.NewID()), Name: replyTool, Args: args}
}

// The tools that end a turn, by name: a fault of the model is answered in their place.
const (
	replyTool   = "reply"
	handoffTool = "request_handoff"
)

var endings = map[string]Ending{replyTool: Replied, handoffTool: HandedOff}

// think makes one model call and records it. It returns nil after a fault that is worth another try.
func (w *work) think(ctx context.Context, req llm.Request, recorded int) (*llm.Response, error) {
	began := time.Now()
	resp, err := next(ctx, w.model, req)
	if err == nil && strings.TrimSpace(resp.Text) == "" && len(resp.Calls) == 0 {
		err = &llm.Error{Code: llm.CodeEmpty, Retryable: true}
	}
	s := Step{
		Idx: w.idx, Kind: "model", Name: w.model.Name(), Input: asJSON(map[string]any{"messages": recordedMessages(req.Messages[recorded:])}),
		Output: asJSON(nil), Chunks: noChunks, LatencyMS: since(began),
		InputTokens: max(resp.Usage.InputTokens, 0), OutputTokens: max(resp.Usage.OutputTokens, 0), CostMicros: max(resp.Usage.CostMicros, 0),
	}
	if recorded == 0 {
		s.Input = asJSON(map[string]any{"system": req.System, "messages": recordedMessages(req.Messages)})
	}
	if err != nil {
		s.Error = clip(err.Error(), 1000)
	} else {
		s.Output = asJSON(map[string]any{"text": clip(resp.Text, maxRecorded), "calls": recordedCalls(resp.Calls), "stop": resp.Stop, "model": resp.Model})
	}
	if rerr := w.record(ctx, s); rerr != nil {
		return nil, rerr
	}
	if end := ended(ctx); end != nil {
		return nil, end
	}
	if berr := w.budget.spend(s.InputTokens + s.OutputTokens); berr != nil {
		return nil, berr
	}
	if err == nil {
		return &resp, nil
	}
	return nil, w.again(ctx, err)
}

// again waits before another try of the model, or gives up.
func (w *work) again(ctx context.Context, err error) error {
	w.faults++
	e := llm.AsError(err)
	hopeless := e != nil && (e.Code == llm.CodeSettings || e.Code == llm.CodeAuth)
	if w.faults >= maxFaults || hopeless {
		return &fault{err}
	}
	wait := 200 * time.Millisecond
	if e != nil && e.RetryAfter > 0 {
		wait = min(e.RetryAfter, maxPause)
	}
	select {
	case <-ctx.Done():
		return ended(ctx)
	case <-time.After(wait):
		return nil
	}
}

// next calls the model. It survives the model's panics, and does not wait for one that ignores the end
// of ctx: what such a model says later is dropped.
func next(ctx context.Context, m llm.Model, req llm.Request) (llm.Response, error) {
	type answer struct {
		resp llm.Response
		err  error
	}
	out := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if p := recover(); p != nil {
				a = answer{err: &llm.Error{Code: llm.CodeMalformed, Err: fmt.Errorf("panic: %v", p)}}
			}
			out <- a
		}()
		a.resp, a.err = m.Next(ctx, req)
	}()
	select {
	case a := <-out:
		return a.resp, a.err
	case <-ctx.Done():
		return llm.Response{}, &llm.Error{Code: llm.CodeCanceled, Err: context.Cause(ctx)}
	}
}

// ended says why ctx is over: the cause that our own code gave, or a spent time budget.
func ended(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	cause := context.Cause(ctx)
	if errors.Is(cause, context.DeadlineExceeded) {
		return &breach{"the time allowed for a turn is over"}
	}
	return cause
}

// act makes one tool call: in one transaction the fence is compared, the tool runs and the call is
// recorded. A refusal undoes what the tool did, is recorded by itself, and comes back as text for
// the model.
func (w *work) act(ctx context.Context, c llm.Call) (Result, string, error) {
	if err := ended(ctx); err != nil {
		return Result{}, "", err
	}
	if err := w.budget.call(); err != nil {
		return Result{}, "", err
	}
	began := time.Now()
	tool, refusal := w.tool(c)
	if refusal == nil && tool.Embeds != nil {
		ectx, cancel := context.WithTimeout(ctx, embedTime)
		w.Embedder = Ahead(ectx, w.r.Embedder, tool.Embeds(c.Args))
		cancel()
	}
	s := Step{Idx: w.idx, Kind: "tool", Name: c.Name, Input: asRecord(c.Args), Output: asJSON(nil), Chunks: noChunks}
	if refusal == nil {
		res, err := w.effect(ctx, tool, c, s, began)
		if tandem.KindOf(err) == tandem.Unavailable {
			res, err = w.effectOnce(ctx, tool, c, s, began)
		}
		if err == nil {
			w.idx++
			for _, h := range res.Hits {
				w.Retrieved[h.Chunk] = h
			}
			return res, res.Text, nil
		}
		refusal = err
	}
	text, err := w.refusal(ctx, refusal, c.Name)
	s.Output, s.Chunks, s.LatencyMS = asJSON(text), noChunks, since(began)
	s.Error = clip(refusal.Error(), 1000)
	if rerr := w.record(ctx, s); rerr != nil {
		return Result{}, "", rerr
	}
	return Result{}, text, err
}

// effect runs the tool and records the call, in one transaction.
func (w *work) effect(ctx context.Context, tool Tool, c llm.Call, s Step, began time.Time) (res Result, err error) {
	err = w.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := w.hold(ctx, tx); err != nil {
			return err
		}
		if res, err = run(ctx, tx, tool, w.Turn, c.Args); err != nil {
			return err
		}
		s.Output, s.Chunks, s.LatencyMS = asJSON(res.Text), chunksOf(res.Hits), since(began)
		return w.step(ctx, tx, s)
	})
	return res, err
}

// effectOnce is effect after the connection was lost, perhaps after the commit: a call that is recorded
// has happened and is not made again.
func (w *work) effectOnce(ctx context.Context, tool Tool, c llm.Call, s Step, began time.Time) (Result, error) {
	var output []byte
	var failure string
	err := w.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, sqlStoredStep, pgx.StrictNamedArgs{"org": w.Org, "run": w.Run, "idx": s.Idx}).Scan(&output, &failure)
	})
	if pg.NoRows(err) {
		return w.effect(ctx, tool, c, s, began)
	}
	if err != nil {
		return Result{}, err
	}
	res := Result{Ends: endings[tool.Name]}
	_ = json.Unmarshal(output, &res.Text) // a success is recorded as its text
	return res, nil
}

// tool finds the tool that a call names, or the reason to refuse it.
func (w *work) tool(c llm.Call) (Tool, error) {
	for _, t := range w.r.Tools {
		if t.Name != c.Name {
			continue
		}
		if t.Tier > TierWrite {
			return Tool{}, tandem.Errorf(tandem.Forbidden, "The tool %q needs a person's approval.", t.Name)
		}
		if len(c.Args) > maxArgs {
			return Tool{}, tandem.Errorf(tandem.Invalid, "The arguments are %d bytes; at most %d are allowed.", len(c.Args), maxArgs)
		}
		return t, nil
	}
	return Tool{}, tandem.Errorf(tandem.NotFound, "There is no tool %q.", clip(clean(c.Name), 60))
}

// run calls the tool and turns a panic into an error.
func run(ctx context.Context, tx pgx.Tx, tool Tool, t *Turn, args json.RawMessage) (res Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("tool %s panicked: %v", tool.Name, p)
		}
	}()
	return tool.Run(ctx, tx, t, args)
}

// refusal says what the model reads about err. Its error is not nil when the turn cannot go on.
func (w *work) refusal(ctx context.Context, err error, tool string) (string, error) {
	text := "Refused: " + tandem.Message(err)
	var e *tandem.Error
	if errors.As(err, &e) {
		for _, f := range e.Fields {
			if !strings.Contains(text, f.Message) {
				text += " " + f.Field + ": " + f.Message
			}
		}
	}
	var b *breach
	switch {
	case errors.Is(err, inbox.ErrSuperseded), errors.Is(err, inbox.ErrFenceMoved), errors.As(err, &b):
		return text, err
	case tandem.KindOf(err) == tandem.Unavailable:
		return text, err
	case tandem.KindOf(err) == tandem.Internal && ctx.Err() == nil:
		w.r.log().ErrorContext(ctx, "tool failed", "tool", tool, "run", w.Run, "err", err)
	}
	if tool == replyTool || tool == handoffTool {
		if w.refuse++; w.refuse >= maxRefusals {
			return text, &fault{fmt.Errorf("%s was refused %d times: %w", tool, w.refuse, err)}
		}
	}
	return text, nil
}

const (
	// The lead before the conversation: the order in which every transaction takes these locks.
	sqlLockLead = `SELECT 1 FROM leads WHERE org_id = @org AND id = @lead FOR NO KEY UPDATE`

	sqlLookTurn = `SELECT fence, owner_id, lease_run, last_inbound_seq, handoff_id IS NOT NULL
FROM conversations WHERE org_id = @org AND id = @conversation`
	sqlLockTurn = sqlLookTurn + ` FOR NO KEY UPDATE`
)

// hold locks the conversation and checks that it is still this run's, and that the contact has not
// written again. This is the guard; a canceled context only spares the model some work.
func (w *work) hold(ctx context.Context, tx pgx.Tx) error {
	b := &pgx.Batch{}
	if w.Lead != "" {
		b.Queue(sqlLockLead, pgx.StrictNamedArgs{"org": w.Org, "lead": w.Lead})
	}
	var now standing
	b.Queue(sqlLockTurn, pgx.StrictNamedArgs{"org": w.Org, "conversation": w.Conversation}).QueryRow(now.scan)
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("lock conversation of run: %w", err)
	}
	return w.holds(now)
}

// look is hold without the locks: a hint that may be out of date at once.
func (w *work) look(ctx context.Context, tx pgx.Tx) error {
	var now standing
	if err := now.scan(tx.QueryRow(ctx, sqlLookTurn, pgx.StrictNamedArgs{"org": w.Org, "conversation": w.Conversation})); err != nil {
		return fmt.Errorf("look at conversation of run: %w", err)
	}
	return w.holds(now)
}

// standing is what decides whether a run goes on.
type standing struct {
	fence, newest int64
	owner, lease  *tandem.ID
	handoff       bool
}

func (s *standing) scan(row pgx.Row) error {
	return row.Scan(&s.fence, &s.owner, &s.lease, &s.newest, &s.handoff)
}

func (w *work) holds(now standing) error {
	switch {
	case mutant.Is("no-fence-check-in-turn"):
	case now.fence != w.Fence || tandem.Deref(now.owner) != w.Member.ID || tandem.Deref(now.lease) != w.Run || now.handoff:
		return inbox.ErrFenceMoved
	case now.newest > w.Trigger && !w.Last && !mutant.Is("superseded-answer-sent"):
		return inbox.ErrSuperseded
	}
	return nil
}

// tx runs one short transaction of the turn. It outlives the cancellation of ctx, so that a commit is
// never left in doubt by a courtesy; the fence inside decides.
func (w *work) tx(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepTime)
	defer cancel()
	return w.r.DB.Tx(ctx, fn)
}

// read is tx for what only reads.
func (w *work) read(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepTime)
	defer cancel()
	return w.r.DB.Read(ctx, fn)
}

// record stores a step in a transaction of its own.
func (w *work) record(ctx context.Context, s Step) error {
	err := w.tx(ctx, func(ctx context.Context, tx pgx.Tx) error { return w.step(ctx, tx, s) })
	if err == nil {
		w.idx++
	}
	return err
}
