package testregistry

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Auth is how the registry wants to know who asks.
type Auth int

// The ways.
const (
	NoAuth     Auth = iota
	BearerAuth      // a token of the token server, with the scope repository:NAME:pull, or pull,push for who writes
	BasicAuth       // User and Password
)

// A grant is what a token is good for. It is guarded by the registry's mu.
type grant struct {
	scopes  []string // repository:NAME:ACTIONS
	uses    int
	expired bool
}

// authorize returns nil if q may go on, else how it is refused.
func (r *Registry) authorize(q *Request) *answer {
	given := q.Header.Get("Authorization")
	switch r.opts.Auth {
	case BearerAuth:
		return r.authorizeToken(q, strings.TrimPrefix(given, "Bearer "))
	case BasicAuth:
		if given != basic(r.opts.User, r.opts.Password) {
			return unauthorized(`Basic realm="testregistry"`)
		}
	}
	return nil
}

func (r *Registry) authorizeToken(q *Request, token string) *answer {
	scope := ""
	if q.Repo != "" {
		scope = "repository:" + q.Repo + ":pull"
	}
	actions := []string{"pull"}
	if scope != "" && (q.Kind == Upload || q.Method != http.MethodGet && q.Method != http.MethodHead) {
		actions = append(actions, "push")
		scope += ",push"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.tokens[token]
	if g == nil {
		return unauthorized(r.challenge(scope, ""))
	}
	g.uses++
	if g.expired || r.opts.TokenUses > 0 && g.uses > r.opts.TokenUses {
		if r.opts.ExpiredStatus != 0 && r.opts.ExpiredStatus != http.StatusUnauthorized {
			return refusal(r.opts.ExpiredStatus, "DENIED")
		}
		return unauthorized(r.challenge(scope, "invalid_token"))
	}
	if scope != "" && !slices.ContainsFunc(g.scopes, func(s string) bool { return covers(s, q.Repo, actions) }) {
		return unauthorized(r.challenge(scope, "insufficient_scope"))
	}
	return nil
}

// covers says whether a scope lets one do all of these to repo.
func covers(scope, repo string, actions []string) bool {
	given, ok := strings.CutPrefix(scope, "repository:"+repo+":")
	may := strings.Split(given, ",")
	return ok && !slices.ContainsFunc(actions, func(one string) bool { return !slices.Contains(may, one) })
}

// mayPull says whether q's token lets it pull from repo, too. r.mu is held.
func (r *Registry) mayPull(q *Request, repo string) bool {
	g := r.tokens[strings.TrimPrefix(q.Header.Get("Authorization"), "Bearer ")]
	return r.opts.Auth != BearerAuth || g != nil && slices.ContainsFunc(g.scopes, func(s string) bool { return covers(s, repo, []string{"pull"}) })
}

func (r *Registry) challenge(scope, why string) string {
	realm, service := r.opts.Realm, r.opts.Service
	if realm == "" {
		realm = r.scheme() + "://" + r.token.addr + "/token"
	}
	if service == "" {
		service = r.reg.addr
	}
	c := fmt.Sprintf("Bearer realm=%q,service=%q", realm, service)
	if scope != "" {
		c += fmt.Sprintf(",scope=%q", scope)
	}
	if why != "" {
		c += fmt.Sprintf(",error=%q", why)
	}
	return c
}

func unauthorized(challenge string) *answer {
	a := refusal(http.StatusUnauthorized, "UNAUTHORIZED")
	a.header.Set("WWW-Authenticate", challenge)
	return a
}

// ExpireTokens makes every token that was handed out so far an expired one.
func (r *Registry) ExpireTokens() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.tokens {
		g.expired = true
	}
}

// serveToken answers as a token server: GET with Basic, or an OAuth 2 form.
func (r *Registry) serveToken(w http.ResponseWriter, req *http.Request) {
	r.respond(w, req, r.begin(req, Token, "", ""), func(q *Request, _ *Fault) *answer {
		form := req.URL.Query()
		allowed := r.opts.User == "" || q.Header.Get("Authorization") == basic(r.opts.User, r.opts.Password)
		if q.Method == http.MethodPost {
			if err := req.ParseForm(); err != nil {
				return refusal(http.StatusBadRequest, "UNSUPPORTED")
			}
			form = req.PostForm
			r.update(func() { q.Body = form.Encode() })
			allowed = r.opts.User == "" || r.formAllowed(form)
		}
		if !allowed {
			return refusal(http.StatusUnauthorized, "UNAUTHORIZED")
		}
		if want := r.opts.Service; want != "" && form.Get("service") != want {
			return refusal(http.StatusBadRequest, "UNSUPPORTED")
		}
		return r.grant(form["scope"])
	})
}

func (r *Registry) formAllowed(form url.Values) bool {
	if form.Get("grant_type") == "refresh_token" {
		return r.opts.IdentityToken != "" && form.Get("refresh_token") == r.opts.IdentityToken
	}
	return form.Get("username") == r.opts.User && form.Get("password") == r.opts.Password
}

// grant answers with a new token for the scopes.
func (r *Registry) grant(scopes []string) *answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.issued++
	token := fmt.Sprintf("token-%d", r.issued)
	g := &grant{}
	for _, s := range scopes { // one parameter may name several
		g.scopes = append(g.scopes, strings.Fields(s)...)
	}
	r.tokens[token] = g
	b, err := json.Marshal(map[string]any{"token": token, "access_token": token, "expires_in": 300})
	if err != nil {
		return refusal(http.StatusInternalServerError, "UNKNOWN")
	}
	return plain(http.StatusOK, "application/json", string(b))
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}
