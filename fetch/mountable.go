package fetch

import (
	"distfs/locator"

	"github.com/opencontainers/go-digest"
)

// maxRepos bounds how many repositories of a host are looked through for what
// can be mounted.
const maxRepos = 4096

// mountable returns the path of a repository of the same host that answered for
// dgst, "" if none is on record.
func (p *Pusher) mountable(dgst digest.Digest) string {
	for _, path := range p.repos() {
		if _, ok := p.f.answered(locator.Locator{Host: p.ref.Host, Path: path}, dgst); ok {
			return path
		}
	}
	return ""
}

// reposOf lists the other repositories of loc's host that are on record. What
// can't be read is passed over: it costs an upload.
func (f *Fetcher) reposOf(loc locator.Locator) []string {
	var paths []string
	next := []string{""}
	for len(next) > 0 && len(paths) < maxRepos {
		at := next[0]
		next = next[1:]
		prefix := loc.Host
		if at != "" {
			prefix += "/" + at
			if at != loc.Path {
				paths = append(paths, at)
			}
			at += "/"
		}
		names, err := f.store.Repos(prefix)
		if err != nil {
			continue
		}
		for _, name := range names {
			next = append(next, at+name)
		}
	}
	return paths
}
