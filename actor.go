package tandem

import "context"

// ActorKind says what sort of being acts or speaks.
type ActorKind string

const (
	Human    ActorKind = "human"    // a person of the team
	AI       ActorKind = "ai"       // an AI member that runs inside Tandem
	External ActorKind = "external" // an AI member that joins over REST or MCP
	System   ActorKind = "system"   // Tandem itself: sweepers, channels, the reconciler
	Customer ActorKind = "contact"  // somebody who writes to us; never a member
)

// Actor is who is acting. It rides in the context; its absence is an error, not a guest.
type Actor struct {
	Org      ID
	Member   ID // empty for System and Customer
	Kind     ActorKind
	Name     string
	Role     string          // the role's name, such as "owner" or "agent"
	Grants   map[string]bool // permissions such as "conversation:reply"; System may do everything
	OnBehalf ID              // the member for whom an API key or AI acts, else empty
	Chain    ID              // causal chain: every event of one cause carries the same
}

// May reports whether the actor holds the permission, written "noun:verb".
func (a Actor) May(permission string) bool {
	return a.Kind == System || a.Grants[permission]
}

// Require returns a Forbidden error that names the permission when the actor lacks it.
func (a Actor) Require(permission string) error {
	if a.May(permission) {
		return nil
	}
	return Errorf(Forbidden, "You need the permission %q for this. An owner of your organization can grant it.", permission)
}

type actorKey struct{}

// WithActor returns ctx carrying a.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// ActorFrom fails closed: without an actor in ctx it returns an Unauthenticated error.
func ActorFrom(ctx context.Context) (Actor, error) {
	a, ok := ctx.Value(actorKey{}).(Actor)
	if !ok || a.Org == "" {
		return Actor{}, Errorf(Unauthenticated, "Sign in or send an API key.")
	}
	return a, nil
}

// AsSystem returns ctx with Tandem itself acting inside org, on the causal chain that
// ctx already carries, or on a new one.
func AsSystem(ctx context.Context, org ID) context.Context {
	a := Actor{Org: org, Kind: System, Name: "Tandem", Chain: ChainFrom(ctx)}
	return WithActor(ctx, a)
}

// ChainFrom returns the causal chain id in ctx, or a fresh one.
func ChainFrom(ctx context.Context) ID {
	if a, ok := ctx.Value(actorKey{}).(Actor); ok && a.Chain != "" {
		return a.Chain
	}
	return NewID()
}
