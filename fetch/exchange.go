package fetch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"syscall"

	"distfs/locator"

	"oras.land/oras-go/v2/registry/remote/auth"
)

// do sends req, which has no body, with the credentials for loc and follows its
// redirects.
func (r *registry) do(req *http.Request, loc locator.Locator) (*http.Response, error) {
	resp, err := r.exchange(req, loc)
	if err != nil {
		return nil, err
	}
	if refused(resp) {
		resp.Body.Close()
		return nil, r.keys.hinted(statusError(resp), loc)
	}
	return r.bare.follow(req, resp)
}

// exchange sends req with the credentials for loc. Where it was refused with a
// token that had been fetched before, it is sent once more with fresh
// credentials; HTTPS that a loopback host does not speak is met once with HTTP.
func (r *registry) exchange(req *http.Request, loc locator.Locator) (*http.Response, error) {
	client, err := r.keys.client(loc)
	if err != nil {
		return nil, err
	}
	ctx, used := noteUse(req.Context())
	resp, err := r.send(client, req.WithContext(ctx))
	if err == nil && refused(resp) && used.old() {
		resp.Body.Close()
		if client, err = r.keys.renew(client, loc); err != nil {
			return nil, err
		}
		ctx, _ = noteUse(req.Context())
		if again, rerr := rewound(req); rerr == nil {
			resp, err = r.send(client, again.WithContext(ctx))
		} else {
			return nil, rerr
		}
	}
	switch {
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return nil, r.keys.hinted(&StatusError{Method: req.Method, URL: bareURL(req.URL), Code: http.StatusUnauthorized}, loc)
	case err != nil:
		return nil, r.keys.hinted(kind(req.Context(), trimURL(err)), loc)
	}
	return resp, nil
}

// rewound is req with its body, if it has one, from the beginning again.
func rewound(req *http.Request) (*http.Request, error) {
	if req.GetBody == nil {
		return req, nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	again := req.Clone(req.Context())
	again.Body = body
	return again, nil
}

// refused says whether resp is about who asks. ECR says 403 to an old token.
func refused(resp *http.Response) bool {
	return resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden
}

// send sends req, and finds out whether a loopback host speaks HTTPS.
func (r *registry) send(client *auth.Client, req *http.Request) (*http.Response, error) {
	resp, err := client.Do(req)
	r.mu.Lock()
	if err == nil {
		r.scheme = req.URL.Scheme
	}
	fall := err != nil && r.to.Fallback && r.scheme != "https" && req.URL.Scheme == "https" &&
		(errors.Is(err, http.ErrSchemeMismatch) || errors.Is(err, syscall.ECONNREFUSED))
	r.mu.Unlock()
	if errors.Is(err, http.ErrSchemeMismatch) && !fall {
		err = fmt.Errorf("%w (if it is to be asked without TLS: plain_http = true for [host.%q] in the configuration)", err, r.to.Addr)
	}
	if !fall {
		return resp, err
	}
	if req, err = rewound(req); err != nil {
		return nil, err
	}
	req.URL.Scheme = "http"
	resp, err = client.Do(req)
	if err == nil {
		r.mu.Lock()
		r.scheme = "http"
		r.mu.Unlock()
	}
	return resp, err
}

type writingKey struct{}

// writing has requests under the context ask for a token that may push, too, and
// may pull from another repository, "" none.
func writing(ctx context.Context, from string) context.Context {
	return context.WithValue(ctx, writingKey{}, from)
}

type sessionKey struct{}

// isSession says whether req asks an upload session, which may be anywhere on its
// host. Requests for a token that are made for it have its context, too.
func isSession(req *http.Request) bool {
	place, _ := req.Context().Value(sessionKey{}).(string)
	return place == req.URL.String()
}

// scoped has a request under the context ask for a token for the repository path.
func (r *registry) scoped(ctx context.Context, path string) context.Context {
	from, push := ctx.Value(writingKey{}).(string)
	if !push {
		return auth.WithScopesForHost(ctx, r.to.Addr, auth.ScopeRepository(path, auth.ActionPull))
	}
	scopes := []string{auth.ScopeRepository(path, auth.ActionPull, auth.ActionPush)}
	if from != "" {
		scopes = append(scopes, auth.ScopeRepository(from, auth.ActionPull))
	}
	return auth.WithScopesForHost(ctx, r.to.Addr, scopes...)
}
