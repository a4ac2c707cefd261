package content

import (
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A record is what a repository answered for a digest or a tag. One that can't be read, or makes no sense, counts as absent.
type record struct {
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"`
	Resolved  *time.Time    `json:"resolved,omitempty"` // of a tag
}

func (r record) descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: r.MediaType, Digest: r.Digest, Size: r.Size}
}

// SetObject records that the repository repo, "host/a/b", answered for desc's digest. Of desc it keeps media type, digest and
// size.
func (s *Store) SetObject(repo string, desc ocispec.Descriptor) error {
	if err := s.checkBlob(desc.Digest); err != nil {
		return err
	}
	if have, err := s.Object(repo, desc.Digest); err == nil && have.MediaType == desc.MediaType && have.Size == desc.Size {
		return nil
	}
	return s.setRecord(repo, "_objects", digestName(desc.Digest), desc, nil)
}

// Object returns what the repository repo answered for dgst.
// The error is fs.ErrNotExist if it isn't recorded.
func (s *Store) Object(repo string, dgst digest.Digest) (ocispec.Descriptor, error) {
	if err := s.checkBlob(dgst); err != nil {
		return ocispec.Descriptor{}, err
	}
	r, err := s.record(repo, "_objects", digestName(dgst))
	if err == nil && r.Digest != dgst {
		err = iofs.ErrNotExist
	}
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("%.300q: %s: %w", repo, dgst, err)
	}
	return r.descriptor(), nil
}

// DeleteObject forgets that the repository repo answered for dgst. The error is fs.ErrNotExist if it isn't recorded.
func (s *Store) DeleteObject(repo string, dgst digest.Digest) error {
	if err := s.checkBlob(dgst); err != nil {
		return err
	}
	dir, err := s.repoPath(repo)
	if err != nil {
		return err
	}
	return bare(os.Remove(filepath.Join(dir, "_objects", digestName(dgst))))
}

// Objects returns all that the repository repo answered for by digest, sorted by digest. It may be nothing.
func (s *Store) Objects(repo string) ([]ocispec.Descriptor, error) {
	var descs []ocispec.Descriptor
	err := s.eachRecord(repo, "_objects", func(name string, r record) {
		if digestName(r.Digest) == name {
			descs = append(descs, r.descriptor())
		}
	})
	return descs, err
}

// ObjectDigests returns the digests that the repository repo answered for, sorted. It may be none. It reads names and no
// records: for 100,000 that takes a tenth of a second, and Objects some seconds.
func (s *Store) ObjectDigests(repo string) ([]digest.Digest, error) {
	dir, err := s.repoPath(repo)
	if err != nil {
		return nil, err
	}
	return s.digestsIn(filepath.Join(dir, "_objects"))
}

// SetTag records that the repository repo resolved tag to desc, now.
func (s *Store) SetTag(repo, tag string, desc ocispec.Descriptor) error {
	if err := s.checkBlob(desc.Digest); err != nil {
		return err
	}
	if err := checkTag(tag); err != nil {
		return err
	}
	now := time.Now().UTC()
	return s.setRecord(repo, "_tags", tag, desc, &now)
}

// Tag returns what the repository repo resolved tag to when it was last asked, and when that was.
// The error is fs.ErrNotExist if it isn't recorded.
func (s *Store) Tag(repo, tag string) (ocispec.Descriptor, time.Time, error) {
	if err := checkTag(tag); err != nil {
		return ocispec.Descriptor{}, time.Time{}, err
	}
	r, err := s.record(repo, "_tags", tag)
	if err == nil && r.Resolved == nil {
		err = iofs.ErrNotExist
	}
	if err != nil {
		return ocispec.Descriptor{}, time.Time{}, fmt.Errorf("%.300q: tag %s: %w", repo, tag, err)
	}
	return r.descriptor(), *r.Resolved, nil
}

// Tags returns what all tags of the repository repo that were ever asked for were last resolved to.
func (s *Store) Tags(repo string) (map[string]ocispec.Descriptor, error) {
	tags := make(map[string]ocispec.Descriptor)
	err := s.eachRecord(repo, "_tags", func(name string, r record) {
		if r.Resolved != nil {
			tags[name] = r.descriptor()
		}
	})
	return tags, err
}

// Repos returns, sorted, what next components the recorded repositories below prefix have: hosts below "", else parts of
// paths below "host", "host/a". It may be none.
func (s *Store) Repos(prefix string) ([]string, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	dir := s.path("repos")
	if prefix != "" {
		var err error
		if dir, err = s.repoPath(prefix); err != nil {
			return nil, err
		}
	}
	entries, err := readDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && checkComponent(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (s *Store) setRecord(repo, kind, name string, desc ocispec.Descriptor, resolved *time.Time) error {
	dir, err := s.repoPath(repo)
	if err != nil {
		return err
	}
	if desc.Size < 0 {
		return fmt.Errorf("%.300q: %s: a size of %d", repo, desc.Digest, desc.Size)
	}
	b, err := json.Marshal(record{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, Resolved: resolved})
	if err != nil {
		return err
	}
	if len(b) > maxRecord {
		return fmt.Errorf("%.300q: %s: its record is larger than %d bytes", repo, desc.Digest, maxRecord)
	}
	if err := os.MkdirAll(filepath.Join(dir, kind), 0o700); err != nil {
		return noSpace(err)
	}
	return noSpace(writeAside(s.path("ingest"), filepath.Join(dir, kind, name), b))
}

// record reads one record. The error is fs.ErrNotExist if it isn't there or is damaged.
func (s *Store) record(repo, kind, name string) (r record, err error) {
	if err := s.check(); err != nil {
		return r, err
	}
	dir, err := s.repoPath(repo)
	if err != nil {
		return r, err
	}
	return readRecord(filepath.Join(dir, kind, name))
}

func readRecord(path string) (r record, err error) {
	b, err := readBounded(path)
	if errors.Is(err, errDamaged) {
		return r, iofs.ErrNotExist
	}
	if err != nil {
		return r, bare(err)
	}
	if json.Unmarshal(b, &r) != nil || r.Digest.Validate() != nil || r.Size < 0 {
		return record{}, iofs.ErrNotExist
	}
	return r, nil
}

// eachRecord calls f for each record of a kind, sorted by name.
func (s *Store) eachRecord(repo, kind string, f func(name string, r record)) error {
	if err := s.check(); err != nil {
		return err
	}
	dir, err := s.repoPath(repo)
	if err != nil {
		return err
	}
	entries, err := readDir(filepath.Join(dir, kind))
	if err != nil {
		return err
	}
	for _, e := range entries {
		r, err := readRecord(filepath.Join(dir, kind, e.Name()))
		if errors.Is(err, iofs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		f(e.Name(), r)
	}
	return nil
}

// repoPath returns the directory of what a repository, or a part of its path, answered.
func (s *Store) repoPath(repo string) (string, error) {
	if len(repo) > 2048 || !filepath.IsLocal(repo) {
		return "", fmt.Errorf("repository %.300q: it is no path below repos", repo)
	}
	for c := range strings.SplitSeq(repo, "/") {
		if err := checkComponent(c); err != nil {
			return "", fmt.Errorf("repository %.300q: %w", repo, err)
		}
	}
	return s.path("repos", repo), nil
}

// checkComponent refuses what can't be a part of a repository's path on disk. A leading underscore is ours alone.
func checkComponent(c string) error {
	switch {
	case c == "":
		return errors.New("an empty component")
	case len(c) > 255:
		return errors.New("a component is longer than 255 bytes")
	case c[0] == '.' || c[0] == '_':
		return fmt.Errorf("component %q begins with %q", c, c[:1])
	case strings.ContainsAny(c, "\x00/"):
		return fmt.Errorf("component %q", c)
	}
	return nil
}

// checkTag holds a tag to its grammar (distribution-spec, "Pulling manifests").
func checkTag(tag string) error {
	ok := tag != "" && len(tag) <= 128 && tag[0] != '.' && tag[0] != '-'
	for _, c := range []byte(tag) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-')
	}
	if !ok {
		return fmt.Errorf("tag %.200q: it is no tag", tag)
	}
	return nil
}

// readDir reads a directory that need not be there.
func readDir(dir string) ([]os.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}
