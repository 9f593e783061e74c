package tools

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents"
	"github.com/tandemhq/tandem/crm"
)

type taskArgs struct {
	Title    string `json:"title" max:"200" about:"What has to be done, in a few words."`
	Details  string `json:"details,omitempty" max:"2000" about:"What whoever does it must know."`
	Days     int    `json:"days,omitempty" min:"0" max:"365" about:"In how many days it is due; left out or 0, it has no date."`
	Priority string `json:"priority,omitempty" enum:"low,normal,high,urgent"`
}

// Whoever is responsible for the lead does it; without anybody, it waits for somebody to take it.
var createTask = agents.NewTool("create_task", "Make a task for your colleagues about this customer, such as calling back. It promises the customer nothing.",
	agents.TierWrite,
	func(ctx context.Context, tx pgx.Tx, t *agents.Turn, a taskArgs) (agents.Result, error) {
		task := crm.Task{Title: a.Title, Description: a.Details, Priority: a.Priority}
		task.LeadID, task.ContactID = about(t)
		if t.Lead != "" {
			lead, err := crm.Leads.Get(ctx, tx, t.Lead)
			if err != nil {
				return agents.Result{}, err
			}
			if lead.Assignee != nil {
				task.AssigneeID = &lead.Assignee.ID
			}
		}
		if a.Days > 0 {
			var due time.Time
			if err := tx.QueryRow(ctx, `SELECT now() + make_interval(days => @days)`, pgx.StrictNamedArgs{"days": a.Days}).Scan(&due); err != nil {
				return agents.Result{}, tandem.Wrap(tandem.Internal, err, "The task could not be dated.")
			}
			task.DueAt = &due
		}
		if _, err := crm.Tasks.Create(ctx, tx, task); err != nil {
			return agents.Result{}, err
		}
		return ok("The task is made."), nil
	})
