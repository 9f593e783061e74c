package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/team"
)

// cookieName has the __Host- prefix: browsers then accept it only with Secure, for the
// whole host and for no other (RFC 6265bis). They treat http://localhost as secure.
const cookieName = "__Host-tandem"

// authenticated finds the actor behind a request, if it names one. Routes decide whether
// they need one; wrong credentials are refused at once, whatever the route.
func (s *server) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, ok, err := s.actor(r)
		if err != nil {
			if tandem.KindOf(err) == tandem.Unauthenticated && r.URL.Path == basePath+"/auth/login" {
				next.ServeHTTP(w, r) // an old cookie must not bar the way to a new one
				return
			}
			writeProblem(w, r, s.log, err)
			return
		}
		if ok {
			a.Chain = tandem.ID(requestID(r.Context()))
			r = r.WithContext(tandem.WithActor(r.Context(), a))
		}
		next.ServeHTTP(w, r)
	})
}

func (s *server) actor(r *http.Request) (a tandem.Actor, ok bool, err error) {
	if key := apiKey(r); key != "" {
		a, err = team.ActorByKey(r.Context(), s.DB, key)
		return a, err == nil, err
	}
	if c, cerr := r.Cookie(cookieName); cerr == nil && c.Value != "" {
		a, _, err = team.ActorBySession(r.Context(), s.DB, c.Value)
		return a, err == nil, err
	}
	return a, false, nil
}

func apiKey(r *http.Request) string {
	if k := r.Header.Get("X-API-Key"); k != "" {
		return k
	}
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	return ""
}

// permitted refuses a typed route before its body is read.
func (s *server) permitted(ctx huma.Context, next func(huma.Context)) {
	permission, _ := ctx.Operation().Metadata[string(permissionKey)].(string)
	if permission != public {
		a, err := tandem.ActorFrom(ctx.Context())
		if err == nil && permission != "" {
			err = a.Require(permission)
		}
		if err != nil {
			p := problemOf(ctx.Context(), err)
			for k, v := range p.GetHeaders() {
				ctx.SetHeader(k, v[0])
			}
			ctx.SetHeader("Content-Type", p.ContentType(""))
			ctx.SetStatus(p.Status)
			_ = s.huma.Marshal(ctx.BodyWriter(), "application/json", p)
			return
		}
	}
	next(ctx)
}

// meShape is who is signed in and what they may do.
type meShape struct {
	Member      memberShape `json:"member"`
	User        *userShape  `json:"user,omitempty"`
	Org         orgShape    `json:"org"`
	Permissions []string    `json:"permissions" nullable:"false"`
}

type userShape struct {
	Email string `json:"email"`
}

type orgShape struct {
	ID       tandem.ID `json:"id"`
	Name     string    `json:"name"`
	Currency string    `json:"currency"`
}

type memberShape struct {
	ID    tandem.ID        `json:"id"`
	Kind  tandem.ActorKind `json:"kind" enum:"human,ai,external"`
	Name  string           `json:"name"`
	Title string           `json:"title"`
	Role  string           `json:"role"`
}

func shapeMe(me team.Me) meShape {
	out := meShape{
		Member: memberShape{me.Member.ID, me.Member.Kind, me.Member.Name, me.Member.Title, me.Member.Role},
		Org:    orgShape{me.Org.ID, me.Org.Name, me.Org.Currency},
	}
	if me.Member.Email != "" {
		out.User = &userShape{me.Member.Email}
	}
	out.Permissions = slices.Clone(me.Permissions)
	slices.Sort(out.Permissions)
	return out
}

type loginInput struct {
	UserAgent string `header:"User-Agent"`
	Body      struct {
		Email    string `json:"email" minLength:"3" maxLength:"254"`
		Password string `json:"password" minLength:"1" maxLength:"1000"`
	}
	ip string
}

// Resolve implements huma.Resolver: the limit on failed logins counts addresses.
func (in *loginInput) Resolve(ctx huma.Context) []error {
	in.ip = clientIP(ctx.RemoteAddr())
	return nil
}

type loginOutput struct {
	Cookie http.Cookie `header:"Set-Cookie"`
	Body   meShape
}

func (s *server) authRoutes() {
	handle(s, route{method: http.MethodPost, path: "/auth/login", permission: public, summary: "Sign in with e-mail and password", maxBody: 8 << 10},
		func(ctx context.Context, in *loginInput) (*loginOutput, error) {
			// Nobody acts yet, but what follows is caused by this request.
			ctx = tandem.WithActor(ctx, tandem.Actor{Chain: tandem.ID(requestID(ctx))})
			token, _, me, err := team.Login(ctx, s.DB, team.Credentials{Email: in.Body.Email, Password: in.Body.Password, UserAgent: in.UserAgent, IP: in.ip})
			if err != nil {
				return nil, err
			}
			return &loginOutput{Cookie: sessionCookie(token, team.SessionMaxAge), Body: shapeMe(me)}, nil
		})
	handle(s, route{method: http.MethodPost, path: "/auth/logout", permission: "", summary: "Sign out", status: http.StatusNoContent},
		func(ctx context.Context, in *struct {
			Session string `cookie:"__Host-tandem"`
		},
		) (*struct {
			Cookie http.Cookie `header:"Set-Cookie"`
		}, error,
		) {
			if in.Session != "" {
				if err := team.Logout(ctx, s.DB, in.Session); err != nil {
					return nil, err
				}
			}
			return &struct {
				Cookie http.Cookie `header:"Set-Cookie"`
			}{sessionCookie("", -1)}, nil
		})
	handle(s, route{method: http.MethodGet, path: "/me", permission: "", summary: "Who is signed in"},
		func(ctx context.Context, _ *struct{}) (*body[meShape], error) {
			me, err := team.MeOf(ctx, s.DB)
			return &body[meShape]{shapeMe(me)}, err
		})
}

func sessionCookie(token string, age time.Duration) http.Cookie {
	c := http.Cookie{Name: cookieName, Value: token, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: int(age.Seconds())}
	if age < 0 {
		c.MaxAge = -1
	}
	return c
}
