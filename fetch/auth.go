package fetch

import (
	"context"
	"errors"
	iofs "io/fs"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"distfs/locator"

	"oras.land/oras-go/v2/registry/remote/auth"
)

// A keyring has the credentials for one registry, as docker and podman keep
// them, and a client for each key that it found them under: two namespaces of
// a host may have different ones.
//
// The files are read again as soon as one of them has changed, so that a later
// login counts from the next request on. A client is asked to forget its token,
// and a helper is run again, when the registry refused the token.
type keyring struct {
	addr    string // the registry's host, as in its URLs
	paths   []authPath
	http    *http.Client
	agent   string
	timeout time.Duration           // how long a helper may take
	asking  shared[auth.Credential] // the helpers that run

	mu      sync.Mutex
	stamps  []fileStamp             // of the files that were read
	files   []*authFile             // guarded by mu, as are the others
	clients map[string]*auth.Client // by where their credentials are
}

func newKeyring(addr string, client *http.Client, opts *Options) *keyring {
	return &keyring{addr: addr, paths: authPaths(opts), http: client, agent: opts.UserAgent, timeout: min(opts.Timeout, helperTimeout)}
}

// client returns the client for loc's namespace.
func (k *keyring) client(loc locator.Locator) (*auth.Client, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.load(); err != nil {
		return nil, err
	}
	places := k.places(loc)
	name := placesName(places)
	if c := k.clients[name]; c != nil {
		return c, nil
	}
	c := &auth.Client{
		Client:   k.http,
		Header:   http.Header{"User-Agent": {k.agent}},
		Cache:    &tokens{},
		ClientID: "distfs",
		Credential: func(ctx context.Context, _ string) (auth.Credential, error) {
			return k.credential(ctx, places)
		},
	}
	k.clients[name] = c
	return c, nil
}

// renew returns a client for loc that has no token which was fetched before c
// was refused.
func (k *keyring) renew(c *auth.Client, loc locator.Locator) (*auth.Client, error) {
	k.mu.Lock()
	for name, other := range k.clients {
		if other == c {
			delete(k.clients, name)
		}
	}
	k.mu.Unlock()
	return k.client(loc)
}

// load reads the files, where one of them has changed. The lock is held.
func (k *keyring) load() error {
	stamps := make([]fileStamp, len(k.paths))
	for i, p := range k.paths {
		stamps[i] = stampOf(p.name)
	}
	if k.clients != nil && slices.Equal(stamps, k.stamps) {
		return nil
	}
	files := make([]*authFile, len(k.paths))
	for i, p := range k.paths {
		var err error
		if files[i], err = readAuthFile(p); err != nil {
			return err
		}
	}
	k.stamps, k.files, k.clients = stamps, files, make(map[string]*auth.Client)
	return nil
}

// A place is where the credentials for a repository may be: an entry of a file,
// or a helper.
type place struct {
	file   string
	key    string // "" where only the helper for all hosts may know
	entry  authEntry
	helper string
	server string // what the helper is asked for
}

// places are where the credentials for loc may be: of each file, in their
// order, the longest matching key. A key that leads to a helper, or a file with
// one for all hosts, is passed over when the helper has nothing. The lock is
// held.
func (k *keyring) places(loc locator.Locator) []place {
	var list []place
	for _, f := range k.files {
		key := f.match(loc, k.addr)
		p := place{file: f.name, key: key, entry: f.auths[key], helper: f.helpers[key], server: key}
		if p.helper == "" && p.entry == (authEntry{}) {
			p.helper = f.store
		}
		if p.server == "" {
			p.server = loc.Host
			if loc.Host == dockerHost {
				p.server = dockerServer
			}
		}
		if p.helper != "" || p.entry != (authEntry{}) {
			list = append(list, p)
		}
	}
	return list
}

// hinted is err, which says with whose credentials loc's registry was asked if
// it was about that.
func (k *keyring) hinted(err error, loc locator.Locator) error {
	status, ok := errors.AsType[*StatusError](err)
	if !ok || !status.Is(iofs.ErrPermission) {
		return err
	}
	status.Hint = k.hint(loc)
	return err
}

func (k *keyring) hint(loc locator.Locator) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if list := k.places(loc); len(list) > 0 {
		return "with the credentials in " + list[0].file
	}
	login := "docker login"
	if k.addr != "registry-1."+dockerHost {
		login += " " + k.addr
	}
	return "asked without credentials; " + login + " stores some"
}

// placesName tells apart those who may have different credentials. It bears
// none of them.
func placesName(list []place) string {
	var b strings.Builder
	for _, p := range list {
		b.WriteString(p.file + "\x00" + p.key + "\x00")
	}
	return b.String()
}

// credential returns the first credentials that one of the places has; none is
// auth.EmptyCredential. All who ask a helper the same at the same time share its
// answer.
func (k *keyring) credential(ctx context.Context, places []place) (auth.Credential, error) {
	for _, p := range places {
		cred, err := k.ask(ctx, p)
		if err != nil || cred != auth.EmptyCredential {
			return cred, err
		}
	}
	return auth.EmptyCredential, nil
}

func (k *keyring) ask(ctx context.Context, p place) (cred auth.Credential, err error) {
	if p.helper == "" {
		cred, err = p.entry.credential(p.key)
	} else {
		cred, err = k.asking.do(ctx, p.helper+"\x00"+p.server, func() (auth.Credential, error) {
			return askHelper(ctx, p.helper, p.server, k.timeout)
		})
	}
	if err == nil && (cred.Username == "") != (cred.Password == "") {
		return auth.EmptyCredential, noCredentials("%s has a user or a password, and not both, for %s", p.file, p.server)
	}
	return cred, err
}
