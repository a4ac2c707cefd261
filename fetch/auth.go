package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"distfs/locator"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
)

// helperTimeout is how long a credential helper may take.
const helperTimeout = 15 * time.Second

// A keyring has the credentials for one registry, as the docker client keeps
// them, and a client for each key that it found them under: two namespaces of
// a host may have different ones.
type keyring struct {
	addr   string // the registry's host, as in its URLs
	config string // the docker client's config.json
	http   *http.Client
	agent  string

	mu      sync.Mutex
	stamp   fileStamp               // of the configuration that clients were made from
	keys    map[string]bool         // in auths and credHelpers; guarded by mu
	helper  string                  // for all hosts; guarded by mu
	clients map[string]*auth.Client // by key; guarded by mu
}

// A fileStamp tells one state of a file from a later one.
type fileStamp struct {
	mtime time.Time
	size  int64
}

func newKeyring(addr string, client *http.Client, opts *Options) *keyring {
	return &keyring{addr: addr, config: dockerConfig(opts), http: client, agent: opts.UserAgent}
}

// dockerConfig finds config.json as the docker client does; "" is none.
func dockerConfig(opts *Options) string {
	if opts.DockerConfig != "" {
		return opts.DockerConfig
	}
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return filepath.Join(dir, "config.json")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".docker", "config.json")
}

// client returns the client for loc's namespace.
func (k *keyring) client(loc locator.Locator) (*auth.Client, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.clients == nil {
		if err := k.load(); err != nil {
			return nil, err
		}
	}
	key := k.match(loc)
	if c := k.clients[key]; c != nil {
		return c, nil
	}
	c := &auth.Client{
		Client:   k.http,
		Header:   http.Header{"User-Agent": {k.agent}},
		Cache:    newTokens(),
		ClientID: "distfs",
		Credential: func(ctx context.Context, _ string) (auth.Credential, error) {
			return k.credential(ctx, loc, key)
		},
	}
	k.clients[key] = c
	return c, nil
}

// holds says whether c was let in before: a refusal then may mean no more than
// that its token is too old.
func (k *keyring) holds(c *auth.Client) bool {
	_, err := c.Cache.GetScheme(context.Background(), k.addr)
	return err == nil
}

// renew is called when c was refused: its tokens go, and the configuration is
// read again, for somebody may have logged in since. It returns nil where
// another try would send the same again: c held no token before, and the
// configuration is as it was.
func (k *keyring) renew(c *auth.Client, held bool, loc locator.Locator) *auth.Client {
	k.mu.Lock()
	changed := stampOf(k.config) != k.stamp
	if changed {
		k.clients = nil
	}
	for key, other := range k.clients {
		if other == c && held {
			delete(k.clients, key)
		}
	}
	k.mu.Unlock()
	if !changed && !held {
		return nil
	}
	next, err := k.client(loc)
	if err != nil {
		return nil
	}
	return next
}

// load reads which keys the configuration has. A file that is not there is an
// empty one.
func (k *keyring) load() error {
	k.stamp = stampOf(k.config)
	k.clients = make(map[string]*auth.Client)
	k.keys = make(map[string]bool)
	k.helper = ""
	b, err := os.ReadFile(k.config)
	if errors.Is(err, os.ErrNotExist) || k.config == "" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	var file struct {
		Auths       map[string]json.RawMessage `json:"auths"`
		CredHelpers map[string]string          `json:"credHelpers"`
		CredsStore  string                     `json:"credsStore"`
	}
	if err := json.Unmarshal(b, &file); err != nil {
		return fmt.Errorf("credentials: %s is no JSON object of the docker client's: %w", k.config, err)
	}
	for key := range file.Auths {
		k.keys[key] = true
	}
	for key := range file.CredHelpers {
		k.keys[key] = true
	}
	k.helper = file.CredsStore
	return nil
}

// match returns the longest key that covers loc, or "". A key of another
// namespace of the host is none.
func (k *keyring) match(loc locator.Locator) string {
	for name := loc.String(); name != "."; name = path.Dir(name) {
		if key := k.find(name, "", "/"); key != "" {
			return key
		}
	}
	names := []string{loc.Host}
	if address := credentials.ServerAddressFromRegistry(loc.Host); address != loc.Host { // docker.io's
		if k.keys[address] {
			return address
		}
		names = append(names, "index.docker.io", k.addr)
	}
	for _, name := range names {
		if key := k.find(name, "", "/", "/v1", "/v1/", "/v2", "/v2/"); key != "" {
			return key
		}
	}
	return ""
}

// find returns the key that is name, as a URL or not, with one of the endings.
func (k *keyring) find(name string, endings ...string) string {
	for _, scheme := range []string{"", "https://", "http://"} {
		for _, ending := range endings {
			if key := scheme + name + ending; k.keys[key] {
				return key
			}
		}
	}
	return ""
}

// credential asks the configuration, and through it a helper, for key; without
// a key, the helper for all hosts, where there is one.
func (k *keyring) credential(ctx context.Context, loc locator.Locator, key string) (auth.Credential, error) {
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	store, err := k.store(key)
	if store == nil || err != nil {
		return auth.EmptyCredential, err
	}
	if key == "" {
		key = credentials.ServerAddressFromRegistry(loc.Host)
	}
	cred, err := store.Get(ctx, key)
	if err != nil {
		return auth.EmptyCredential, fmt.Errorf("credentials for %s: %w", key, err)
	}
	return cred, nil
}

func (k *keyring) store(key string) (credentials.Store, error) {
	k.mu.Lock()
	helper := k.helper
	k.mu.Unlock()
	switch {
	case key != "":
		store, err := credentials.NewStore(k.config, credentials.StoreOptions{})
		if err != nil {
			return nil, fmt.Errorf("credentials: %w", err)
		}
		return store, nil
	case helper != "":
		return credentials.NewNativeStore(helper), nil
	}
	return nil, nil //nolint:nilnil // anonymous is no error
}

func stampOf(file string) fileStamp {
	info, err := os.Stat(file)
	if err != nil {
		return fileStamp{}
	}
	return fileStamp{info.ModTime(), info.Size()}
}
