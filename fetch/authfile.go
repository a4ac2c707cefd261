package fetch

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"distfs/locator"

	"oras.land/oras-go/v2/registry/remote/auth"
)

// maxAuthFile bounds a file of credentials, in bytes.
const maxAuthFile = 4 << 20

// An authPath is where a file of credentials may be.
type authPath struct {
	name  string
	other bool // podman's, which may be another user's: what may not be read is not there
}

// authPaths are the files that credentials are looked for in, in their order:
// $REGISTRY_AUTH_FILE; docker's $DOCKER_CONFIG/config.json, else
// ~/.docker/config.json; podman's $XDG_RUNTIME_DIR/containers/auth.json; and
// $XDG_CONFIG_HOME/containers/auth.json, else ~/.config/containers/auth.json.
// Options.DockerConfig takes the place of all.
func authPaths(opts *Options) []authPath {
	if opts.DockerConfig != "" {
		return []authPath{{name: opts.DockerConfig}}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = ""
	}
	var paths []authPath
	add := func(other bool, dir string, rest ...string) {
		if dir != "" {
			paths = append(paths, authPath{filepath.Join(append([]string{dir}, rest...)...), other})
		}
	}
	add(false, os.Getenv("REGISTRY_AUTH_FILE"))
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		add(false, dir, "config.json")
	} else {
		add(false, home, ".docker", "config.json")
	}
	add(true, os.Getenv("XDG_RUNTIME_DIR"), "containers", "auth.json")
	if dir := os.Getenv("XDG_CONFIG_HOME"); dir != "" {
		add(true, dir, "containers", "auth.json")
	} else {
		add(true, home, ".config", "containers", "auth.json")
	}
	return paths
}

// An authFile is what a file of credentials said when it was read.
type authFile struct {
	name    string
	auths   map[string]authEntry
	helpers map[string]string // by key
	store   string            // the helper for all hosts
}

// An authEntry is what a file has for a key. An empty one says that a helper
// has it.
type authEntry struct {
	Auth          string `json:"auth"` // base64 of USER:PASSWORD
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// readAuthFile reads a file of credentials. One that is not there is an empty
// one. No error bears anything of what a file says.
func readAuthFile(p authPath) (*authFile, error) {
	f := &authFile{name: p.name}
	file, err := os.Open(p.name)
	switch {
	case errors.Is(err, iofs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), p.other && errors.Is(err, iofs.ErrPermission):
		return f, nil
	case err != nil:
		return nil, fmt.Errorf("credentials: %w", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxAuthFile+1))
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	if len(b) > maxAuthFile {
		return nil, noCredentials("%s has more than %d bytes", p.name, maxAuthFile)
	}
	if err := f.parse(b); err != nil {
		return nil, err
	}
	return f, nil
}

// parse reads the JSON of docker and podman. A file of nothing is an empty one.
func (f *authFile) parse(b []byte) error {
	if strings.TrimSpace(string(b)) == "" {
		return nil
	}
	var said struct {
		Auths   map[string]authEntry `json:"auths"`
		Helpers map[string]string    `json:"credHelpers"`
		Store   string               `json:"credsStore"`
	}
	if err := json.Unmarshal(b, &said); err != nil {
		return noCredentials("%s is no JSON object of docker's or podman's", f.name) // err may quote a password
	}
	f.auths, f.helpers, f.store = said.Auths, said.Helpers, said.Store
	return nil
}

// credential is what the entry says.
func (e authEntry) credential(key string) (auth.Credential, error) {
	cred := auth.Credential{Username: e.Username, Password: e.Password, RefreshToken: e.IdentityToken, AccessToken: e.RegistryToken}
	if e.Auth == "" {
		return cred, nil
	}
	b, err := base64.StdEncoding.DecodeString(e.Auth)
	user, password, ok := strings.Cut(string(b), ":")
	if err != nil || !ok {
		return auth.EmptyCredential, noCredentials("%s: auth is not the base64 of USER:PASSWORD", key)
	}
	cred.Username, cred.Password = user, strings.TrimRight(password, "\x00")
	return cred, nil
}

// match returns the longest key that covers loc, or "". A key of another
// namespace of the host is none. addr is the host as it is asked.
func (f *authFile) match(loc locator.Locator, addr string) string {
	for name := loc.String(); name != "." && name != loc.Host; name = path.Dir(name) {
		if key := f.find(name, "", "/"); key != "" {
			return key
		}
	}
	names := []string{loc.Host}
	if loc.Host == dockerHost {
		if f.has(dockerServer) {
			return dockerServer
		}
		names = append(names, "index.docker.io", addr)
	}
	for _, name := range names {
		if key := f.find(name, "", "/", "/v1", "/v1/", "/v2", "/v2/"); key != "" {
			return key
		}
	}
	return ""
}

// find returns the key that is name, as a URL or not, with one of the endings.
func (f *authFile) find(name string, endings ...string) string {
	for _, scheme := range []string{"", "https://", "http://"} {
		for _, ending := range endings {
			if key := scheme + name + ending; f.has(key) {
				return key
			}
		}
	}
	return ""
}

func (f *authFile) has(key string) bool {
	_, helper := f.helpers[key]
	_, entry := f.auths[key]
	return helper || entry
}

// Docker Hub's host, and what docker calls it in its configuration.
const (
	dockerHost   = "docker.io"
	dockerServer = "https://index.docker.io/v1/"
)

// A fileStamp tells one state of a file from a later one.
type fileStamp struct {
	inode uint64
	size  int64
	mtime time.Time
}

func stampOf(name string) fileStamp {
	info, err := os.Stat(name)
	if err != nil {
		return fileStamp{}
	}
	s := fileStamp{size: info.Size(), mtime: info.ModTime()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode = sys.Ino
	}
	return s
}

// noCredentials is why there are none, of the kind iofs.ErrPermission.
func noCredentials(format string, args ...any) error {
	return &kindError{fmt.Errorf("credentials: "+format, args...), iofs.ErrPermission}
}
