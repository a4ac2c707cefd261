package testregistry

import (
	"net/http"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// parsePath takes a registry's path apart.
func parsePath(path string) (kind Kind, repo, ref string) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if ok && rest == "" {
		return Ping, "", ""
	}
	if repo, ok := tagsOf(path); ok {
		return Tags, repo, ""
	}
	if repo, id, ok := uploadOf(path); ok {
		return Upload, repo, id
	}
	for part, kind := range map[string]Kind{"/blobs/": Blob, "/manifests/": Manifest, "/referrers/": Referrers} {
		if i := strings.LastIndex(rest, part); ok && i > 0 {
			return kind, rest[:i], rest[i+len(part):]
		}
	}
	return Other, "", ""
}

// serveRegistry answers what comes to the registry itself.
func (r *Registry) serveRegistry(w http.ResponseWriter, req *http.Request) {
	kind, repo, ref := parsePath(req.URL.Path)
	r.respond(w, req, r.begin(req, kind, repo, ref), func(q *Request, early *Fault) *answer {
		if a := r.authorize(q); a != nil {
			return a
		}
		switch {
		case kind == Upload || q.Method != http.MethodGet && q.Method != http.MethodHead:
			return r.write(q, req, early)
		case kind == Ping:
			return plain(http.StatusOK, "application/json", "{}")
		case kind == Blob:
			return r.answerBlob(q)
		case kind == Manifest:
			return r.answerManifest(q)
		case kind == Tags:
			return r.answerTags(q)
		case kind == Referrers:
			return r.answerReferrers(q)
		}
		return refusal(http.StatusNotFound, "NOT_FOUND")
	})
}

// respond sends what usual says, as the faults that befall q bend it. One of them
// may be early: of what it does to q itself usual takes care.
func (r *Registry) respond(w http.ResponseWriter, req *http.Request, q *Request, usual func(q *Request, early *Fault) *answer) {
	defer r.end(q)
	var early *Fault
	befalling := r.befalling(q)
	for _, active := range befalling {
		if active.fault.Act >= Refuse {
			early = &active.fault
		}
	}
	a := usual(q, early)
	for _, active := range befalling {
		a.bend(req, &active.fault, func() {
			select {
			case <-active.released:
			case <-req.Context().Done():
				panic(http.ErrAbortHandler)
			}
		})
	}
	r.update(func() { q.Status = a.status })
	a.write(w, q.Method == http.MethodHead, func(n int) {
		r.update(func() { q.Sent += int64(n) })
	})
}

func (r *Registry) answerBlob(q *Request) *answer {
	o := r.blob(q.Repo, q.Ref)
	if o == nil {
		return refusal(http.StatusNotFound, "BLOB_UNKNOWN")
	}
	if r.opts.Redirect {
		a := plain(http.StatusTemporaryRedirect, "text/plain", "")
		a.header.Set("Location", r.sign(q.Repo, q.Ref))
		return a
	}
	return r.bytesOf(o, q)
}

// bytesOf answers with a blob or the range of it that q asks for.
func (r *Registry) bytesOf(o *object, q *Request) *answer {
	a := newAnswer(0)
	rng := q.Range
	if r.opts.NoRanges || q.Method == http.MethodHead {
		rng = ""
	}
	a.header.Set("Content-Type", "application/octet-stream")
	if !r.opts.NoRanges {
		a.header.Set("Accept-Ranges", "bytes")
	}
	r.sayDigest(a, digest.Digest(q.Ref))
	a.serve(o, rng)
	return a
}

func (r *Registry) sayDigest(a *answer, dgst digest.Digest) {
	if !r.opts.NoDigestHeader {
		a.header.Set("Docker-Content-Digest", dgst.String())
	}
}

func (r *Registry) answerManifest(q *Request) *answer {
	o, dgst, isBlob := r.manifest(q.Repo, q.Ref)
	switch {
	case o == nil && isBlob && r.opts.Distribution2 && q.Method == http.MethodHead:
		return refusal(http.StatusInternalServerError, "UNKNOWN")
	case o == nil || r.opts.Distribution2 && strings.HasPrefix(o.mediaType, "application/vnd.oci.") && !accepts(q.Header, o.mediaType):
		return refusal(http.StatusNotFound, "MANIFEST_UNKNOWN")
	}
	a := newAnswer(0)
	a.header.Set("Content-Type", o.mediaType)
	r.sayDigest(a, dgst)
	a.serve(o, "")
	return a
}

// accepts says whether one of the Accept headers names the media type itself.
func accepts(h http.Header, mediaType string) bool {
	return slices.ContainsFunc(h["Accept"], func(line string) bool {
		return slices.ContainsFunc(strings.Split(line, ","), func(one string) bool {
			one, _, _ = strings.Cut(one, ";")
			return strings.TrimSpace(one) == mediaType
		})
	})
}
