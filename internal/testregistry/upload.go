package testregistry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Upload is the kind of requests for an upload session; its id is the Ref.
const Upload Kind = "upload" // /v2/…/blobs/uploads/…

// A session is an upload on its way. It is guarded by the registry's mu.
type session struct {
	repo  string
	bytes []byte
	said  int64 // how many bytes it had by the last Location
	state int   // goes up with each answer; a write under an older one is refused
	short bool  // a chunk was shorter than allowed, and must have been the last
}

// errGone is the error of a session that was forgotten.
var errGone = errors.New("no such session")

// uploadOf returns the repository and the session that a path is about.
func uploadOf(path string) (repo, id string, ok bool) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	i := strings.LastIndex(rest, "/blobs/uploads")
	if !ok || i <= 0 {
		return "", "", false
	}
	return rest[:i], strings.TrimPrefix(rest[i+len("/blobs/uploads"):], "/"), true
}

// write answers what changes something: uploads and PUTs of manifests.
func (r *Registry) write(q *Request, req *http.Request, early *Fault) *answer {
	if early != nil && early.Act == LoseSession {
		r.ForgetUploads()
	}
	if early != nil && early.Act == Refuse {
		a := plain(early.Code, "application/json", early.Body)
		a.merge(early.Header)
		return a
	}
	switch {
	case q.Kind == Manifest && q.Method == http.MethodPut:
		return r.putManifest(q, req)
	case q.Kind != Upload:
	case q.Method == http.MethodPost:
		return r.startUpload(q)
	case q.Method == http.MethodGet:
		return r.uploadStatus(q)
	case q.Method == http.MethodPatch || q.Method == http.MethodPut:
		return r.takeUpload(q, req, early)
	}
	return refusal(http.StatusMethodNotAllowed, "UNSUPPORTED")
}

// startUpload opens a session, unless the blob can be mounted.
func (r *Registry) startUpload(q *Request) *answer {
	query, err := url.ParseQuery(q.Query)
	if err != nil {
		return refusal(http.StatusBadRequest, "UNSUPPORTED")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if dgst, from := digest.Digest(query.Get("mount")), r.repos[query.Get("from")]; dgst != "" && from != nil && !r.opts.NoMount && r.mayPull(q, query.Get("from")) {
		if o := from.blobs[dgst]; o != nil {
			r.repository(q.Repo).blobs[dgst] = o
			return r.created(q.Repo, "blobs", dgst)
		}
	}
	r.issued++
	id := fmt.Sprintf("u%d", r.issued)
	r.uploads[id] = &session{repo: q.Repo}
	a := r.uploadAnswer(http.StatusAccepted, id)
	if r.opts.ChunkMin > 0 {
		a.header.Set("OCI-Chunk-Min-Length", strconv.FormatInt(r.opts.ChunkMin, 10))
	}
	return a
}

// uploadAnswer says how far a session is, and where it goes on. r.mu is held.
func (r *Registry) uploadAnswer(status int, id string) *answer {
	s := r.uploads[id]
	s.state++
	s.said = int64(len(s.bytes))
	a := newAnswer(status)
	a.header.Set("Location", fmt.Sprintf("/v2/%s/blobs/uploads/%s?_state=%d", s.repo, id, s.state))
	a.header.Set("Range", fmt.Sprintf("0-%d", max(len(s.bytes)-1, 0))) // as distribution says it of none, too
	a.header.Set("Docker-Upload-UUID", id)
	return a
}

func (r *Registry) created(repo, kind string, dgst digest.Digest) *answer {
	a := newAnswer(http.StatusCreated)
	a.header.Set("Location", fmt.Sprintf("/v2/%s/%s/%s", repo, kind, dgst))
	r.sayDigest(a, dgst)
	return a
}

func (r *Registry) uploadStatus(q *Request) *answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, err := r.session(q)
	if err != nil {
		return refusal(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
	}
	if r.opts.StrictUploads && int64(len(s.bytes)) != s.said {
		return refusal(http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID")
	}
	return r.uploadAnswer(http.StatusNoContent, q.Ref)
}

// session returns q's. r.mu is held.
func (r *Registry) session(q *Request) (*session, error) {
	s := r.uploads[q.Ref]
	if s == nil || s.repo != q.Repo {
		return nil, errGone
	}
	return s, nil
}

// takeUpload takes the body of a PATCH or PUT, and with a PUT the blob is whole.
func (r *Registry) takeUpload(q *Request, req *http.Request, early *Fault) *answer {
	query, err := url.ParseQuery(q.Query)
	if err != nil {
		return refusal(http.StatusBadRequest, "UNSUPPORTED")
	}
	if a := r.checkUpload(q, query); a != nil {
		return a
	}
	body := io.Reader(req.Body)
	if early != nil && early.Act == CutUpload {
		body = io.LimitReader(req.Body, early.At)
	}
	broke := r.takeBody(q, body)
	if early != nil && early.Act == CutUpload {
		reset(req)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s, err := r.session(q)
	if err != nil || broke != nil {
		return refusal(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
	}
	if q.Method == http.MethodPatch {
		s.short = req.ContentLength >= 0 && req.ContentLength < r.opts.ChunkMin
		return r.uploadAnswer(http.StatusAccepted, q.Ref)
	}
	dgst := digest.Digest(query.Get("digest"))
	if dgst.Validate() != nil || dgst.Algorithm().FromBytes(s.bytes) != dgst {
		delete(r.uploads, q.Ref)
		return refusal(http.StatusBadRequest, "DIGEST_INVALID")
	}
	r.repository(q.Repo).blobs[dgst] = &object{size: int64(len(s.bytes)), open: from(s.bytes)}
	delete(r.uploads, q.Ref)
	return r.created(q.Repo, "blobs", dgst)
}

// checkUpload holds a write against where its session is; nil is in order.
func (r *Registry) checkUpload(q *Request, query url.Values) *answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, err := r.session(q)
	if err != nil {
		return refusal(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
	}
	out := query.Get("_state") != strconv.Itoa(s.state) || s.short && q.Method == http.MethodPatch
	if span := q.Header.Get("Content-Range"); span != "" {
		first, _, _ := strings.Cut(span, "-")
		out = out || first != strconv.Itoa(len(s.bytes))
	}
	if out {
		return refusal(http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID")
	}
	return nil
}

// takeBody appends a body to its session, piece by piece: what came before a
// cut stays.
func (r *Registry) takeBody(q *Request, body io.Reader) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := body.Read(buf)
		gone := false
		r.update(func() {
			q.Got += int64(n)
			s := r.uploads[q.Ref]
			if gone = s == nil; !gone {
				s.bytes = append(s.bytes, buf[:n]...)
			}
		})
		switch {
		case gone:
			return errGone
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// putManifest takes a manifest, if the repository has what it names.
func (r *Registry) putManifest(q *Request, req *http.Request) *answer {
	b, err := io.ReadAll(io.LimitReader(req.Body, 4<<20+1))
	if err != nil || len(b) > 4<<20 {
		return refusal(http.StatusRequestEntityTooLarge, "MANIFEST_INVALID")
	}
	r.update(func() { q.Got = int64(len(b)) })
	dgst, tag := digest.FromBytes(b), q.Ref
	if want := digest.Digest(q.Ref); want.Validate() == nil {
		if dgst = want.Algorithm().FromBytes(b); dgst != want {
			return refusal(http.StatusBadRequest, "DIGEST_INVALID")
		}
		tag = ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rep := r.repository(q.Repo)
	for _, named := range names(b) {
		if rep.blobs[named] == nil && rep.manifests[named] == nil {
			return refusal(http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN")
		}
	}
	rep.manifests[dgst] = &object{mediaType: req.Header.Get("Content-Type"), size: int64(len(b)), open: from(bytes.Clone(b))}
	if tag != "" {
		rep.tags[tag] = dgst
	}
	return r.created(q.Repo, "manifests", dgst)
}

// ForgetUploads ends all upload sessions, as a registry that was restarted.
func (r *Registry) ForgetUploads() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.uploads)
}

// Uploads returns how many upload sessions are open.
func (r *Registry) Uploads() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.uploads)
}

// Bytes returns the blob or manifest that a digest, or a tag, names in repo; nil
// if there is none.
func (r *Registry) Bytes(repo, ref string) []byte {
	o := r.blob(repo, ref)
	if o == nil {
		o, _, _ = r.manifest(repo, ref)
	}
	if o == nil {
		return nil
	}
	b := make([]byte, o.size)
	if _, err := io.ReadFull(o.open(0), b); err != nil {
		return nil
	}
	return b
}
