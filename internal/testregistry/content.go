package testregistry

import (
	"bytes"
	"io"

	"github.com/opencontainers/go-digest"
)

// A repository is what one name holds. Its maps are guarded by the registry's mu.
type repository struct {
	blobs     map[digest.Digest]*object
	manifests map[digest.Digest]*object
	tags      map[string]digest.Digest
}

// An object is a blob or a manifest. It never changes.
type object struct {
	mediaType string // "" for a blob
	size      int64
	open      func(off int64) io.Reader
}

// AddBlob puts b into repo and returns its sha256 digest. The caller must not change b afterwards.
func (r *Registry) AddBlob(repo string, b []byte) digest.Digest {
	dgst := digest.FromBytes(b)
	r.AddBlobFunc(repo, dgst, int64(len(b)), from(b))
	return dgst
}

// AddBlobFunc puts a blob into repo under dgst, which need not be right. What
// open returns must yield the bytes from off to the blob's end; it may be called
// by many goroutines at once.
func (r *Registry) AddBlobFunc(repo string, dgst digest.Digest, size int64, open func(off int64) io.Reader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.repository(repo).blobs[dgst] = &object{size: size, open: open}
}

// AddSynthetic puts s into repo and returns its digest, which is computed first (about 0.6 s a GiB).
func (r *Registry) AddSynthetic(repo string, s Synthetic) digest.Digest {
	dgst := s.Digest()
	r.AddBlobFunc(repo, dgst, s.Size, s.From)
	return dgst
}

// AddManifest puts a manifest into repo, has tag point to it unless tag is "",
// and returns its sha256 digest.
func (r *Registry) AddManifest(repo, tag, mediaType string, b []byte) digest.Digest {
	dgst := digest.FromBytes(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	rep := r.repository(repo)
	rep.manifests[dgst] = &object{mediaType: mediaType, size: int64(len(b)), open: from(b)}
	if tag != "" {
		rep.tags[tag] = dgst
	}
	return dgst
}

// SetTag has tag point to dgst, known or not.
func (r *Registry) SetTag(repo, tag string, dgst digest.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.repository(repo).tags[tag] = dgst
}

// Remove takes a tag, or a digest's blob and manifest, out of repo.
func (r *Registry) Remove(repo, ref string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rep := r.repository(repo)
	delete(rep.tags, ref)
	delete(rep.blobs, digest.Digest(ref))
	delete(rep.manifests, digest.Digest(ref))
}

func from(b []byte) func(int64) io.Reader {
	return func(off int64) io.Reader { return bytes.NewReader(b[off:]) }
}

// blob returns the blob that ref names, nil if there is none.
func (r *Registry) blob(repo, ref string) *object {
	r.mu.Lock()
	defer r.mu.Unlock()
	rep := r.repos[repo]
	if rep == nil {
		return nil
	}
	if o := rep.blobs[digest.Digest(ref)]; o != nil {
		return o
	}
	if r.opts.Distribution2 {
		return nil
	}
	return rep.manifests[digest.Digest(ref)]
}

// manifest returns the manifest that a tag or digest names and its digest, nil if there is none.
// isBlob says that ref is the digest of a blob instead.
func (r *Registry) manifest(repo, ref string) (m *object, dgst digest.Digest, isBlob bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rep := r.repos[repo]
	if rep == nil {
		return nil, "", false
	}
	dgst = digest.Digest(ref)
	if d, ok := rep.tags[ref]; ok {
		dgst = d
	}
	return rep.manifests[dgst], dgst, rep.blobs[dgst] != nil
}
