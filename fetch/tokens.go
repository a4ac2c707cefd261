package fetch

import (
	"context"
	"sync"

	"oras.land/oras-go/v2/registry/remote/auth"
)

const (
	maxTokens = 64       // kept for a key of the configuration
	maxToken  = 16 << 10 // bytes; no server takes a larger header
)

// tokens are an auth.Cache that a registry can't fill: each challenge may name
// another scope.
type tokens struct {
	mu    sync.Mutex
	cache auth.Cache
	kept  map[string]bool // guarded by mu
}

func newTokens() *tokens {
	return &tokens{cache: auth.NewCache(), kept: make(map[string]bool)}
}

func (t *tokens) current() auth.Cache {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cache
}

// GetScheme is auth.Cache's.
func (t *tokens) GetScheme(ctx context.Context, registry string) (auth.Scheme, error) {
	return t.current().GetScheme(ctx, registry)
}

// GetToken is auth.Cache's.
func (t *tokens) GetToken(ctx context.Context, registry string, scheme auth.Scheme, key string) (string, error) {
	return t.current().GetToken(ctx, registry, scheme, key)
}

// Set is auth.Cache's: concurrent calls for a key share one fetch. When there
// are too many keys, all are forgotten.
func (t *tokens) Set(ctx context.Context, registry string, scheme auth.Scheme, key string, fetch func(context.Context) (string, error)) (string, error) {
	t.mu.Lock()
	if !t.kept[key] && len(t.kept) >= maxTokens {
		t.cache, t.kept = auth.NewCache(), make(map[string]bool)
	}
	t.kept[key] = true
	cache := t.cache
	t.mu.Unlock()
	return cache.Set(ctx, registry, scheme, key, func(ctx context.Context) (string, error) {
		token, err := fetch(ctx)
		if err == nil && len(token) > maxToken {
			return "", broken("%s: a token of %d bytes", registry, len(token))
		}
		return token, err
	})
}
