package fetch

import (
	"context"
	"sync"

	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"
)

const (
	maxTokens = 64       // kept for a key of the configuration
	maxToken  = 16 << 10 // bytes; no server takes a larger header
)

// tokens are the auth.Cache of one client, for one registry. A registry can't
// fill it, though each challenge may name another scope. However many requests
// were refused with the same token, one of them fetches the next.
type tokens struct {
	fetching shared[string]

	mu     sync.Mutex
	scheme auth.Scheme
	kept   map[string]string // by scope; guarded by mu, as is scheme
}

// A use is what one request had of the tokens.
type use struct {
	sent  string // the token that it was sent with
	fresh bool   // a token was fetched after that
}

type useKey struct{}

// noteUse has the tokens write down what a request under the context has of
// them. One request at a time may use it.
func noteUse(ctx context.Context) (context.Context, *use) {
	u := &use{}
	return context.WithValue(ctx, useKey{}, u), u
}

func useOf(ctx context.Context) *use {
	if u, ok := ctx.Value(useKey{}).(*use); ok {
		return u
	}
	return &use{}
}

// old says whether the request was refused with a token that was fetched for
// another one, earlier: it may have expired.
func (u *use) old() bool { return u.sent != "" && !u.fresh }

// GetScheme is auth.Cache's.
func (t *tokens) GetScheme(context.Context, string) (auth.Scheme, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.kept) == 0 {
		return auth.SchemeUnknown, errdef.ErrNotFound
	}
	return t.scheme, nil
}

// GetToken is auth.Cache's.
func (t *tokens) GetToken(ctx context.Context, _ string, scheme auth.Scheme, scope string) (string, error) {
	token := t.get(scheme, scope)
	if token == "" {
		return "", errdef.ErrNotFound
	}
	useOf(ctx).sent = token
	return token, nil
}

func (t *tokens) get(scheme auth.Scheme, scope string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if scheme != t.scheme {
		return ""
	}
	return t.kept[scope]
}

// Set is auth.Cache's. It fetches a token only if the request was refused with
// the one that is kept: another request may have renewed it meanwhile.
func (t *tokens) Set(ctx context.Context, registry string, scheme auth.Scheme, scope string, fetch func(context.Context) (string, error)) (string, error) {
	u := useOf(ctx)
	u.fresh = true
	return t.fetching.do(ctx, scheme.String()+" "+scope, func() (string, error) {
		if token := t.get(scheme, scope); token != "" && token != u.sent {
			return token, nil
		}
		token, err := fetch(ctx)
		if err != nil {
			return "", err
		}
		if len(token) > maxToken {
			return "", broken("%s: a token of %d bytes", registry, len(token))
		}
		t.put(scheme, scope, token)
		return token, nil
	})
}

// put keeps a token. When there are too many, all others are forgotten, and
// those of another scheme always.
func (t *tokens) put(scheme auth.Scheme, scope, token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.kept[scope]; t.kept == nil || scheme != t.scheme || !ok && len(t.kept) >= maxTokens {
		t.kept = make(map[string]string)
	}
	t.scheme = scheme
	t.kept[scope] = token
}
