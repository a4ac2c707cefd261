package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	iofs "io/fs"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"

	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ListReferrers reads a page of /v2/<name>/referrers/<digest> (distribution-spec
// v1.1, "Listing Referrers"). A page's name is as that of a page of tags.
func (r *registry) ListReferrers(ctx context.Context, loc locator.Locator, dgst digest.Digest, page string, limit int64) (*ReferrerPage, error) {
	req, err := r.request(ctx, http.MethodGet, locator.Reference{Locator: loc, Digest: dgst}, "referrers", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", ocispec.MediaTypeImageIndex)
	resp, err := r.getPage(req, loc, page)
	if err != nil {
		if status, ok := errors.AsType[*StatusError](err); ok && page == "" && !tellsNothing(status.Code) {
			err = &unlistedError{err}
		}
		return nil, err
	}
	defer resp.Body.Close()
	if t := mediaType(resp, "referrers"); t != ocispec.MediaTypeImageIndex {
		err = broken("%s: %s is no index", bareURL(resp.Request.URL), strconv.Quote(t))
		if page == "" {
			err = &unlistedError{err}
		}
		return nil, err
	}
	next, err := nextPage(req.URL, resp.Header["Link"])
	if err != nil {
		return nil, err
	}
	got, err := readReferrers(resp.Body, limit)
	if err != nil {
		return nil, err
	}
	got.Next = next
	return got, nil
}

// tellsNothing is of a status that is no success, whether it leaves open that
// the registry knows the referrers API.
func tellsNothing(code int) bool {
	return code == http.StatusUnauthorized || code == http.StatusTooManyRequests || code >= 500
}

// readReferrers reads the descriptors in {"manifests": […]}. What is none is
// there as one that says nothing.
func readReferrers(r io.Reader, limit int64) (*ReferrerPage, error) {
	in, page := &pageReader{body: r, limit: limit}, &ReferrerPage{}
	err := in.readList("manifests", func() error {
		if len(page.List) == maxReferrers {
			return broken("more than %d", maxReferrers)
		}
		var raw json.RawMessage
		if err := in.dec.Decode(&raw); err != nil {
			return in.fault(err, "")
		}
		var desc ocispec.Descriptor
		if json.Unmarshal(raw, &desc) != nil {
			desc = ocispec.Descriptor{}
		}
		page.List = append(page.List, desc)
		return nil
	})
	page.Read = in.n
	return page, err
}

// ListReferrers reads the first page from the first source that keeps a list,
// and the further ones from the same.
func (m *mirrors) ListReferrers(ctx context.Context, loc locator.Locator, dgst digest.Digest, page string, limit int64) (*ReferrerPage, error) {
	from := func(ctx context.Context, i int, page string) (*ReferrerPage, error) {
		s := m.list[i]
		got, err := s.ListReferrers(ctx, s.at(loc), dgst, page, limit)
		if err == nil && got.Next != "" {
			got.Next = strconv.Itoa(i) + " " + got.Next
		}
		return got, err
	}
	if page != "" {
		i, page, err := m.pageOf(page)
		if err != nil {
			return nil, err
		}
		return from(ctx, i, page)
	}
	q := query{object: loc.Path + "@" + dgst.String() + " referrers", need: canResolve}
	return askEach(ctx, m, q, func(ctx context.Context, s *source, w *vigil) (*ReferrerPage, error) {
		defer w.end()
		return from(ctx, m.number(s), "")
	})
}

// What is read of a layout to learn who refers to a manifest in it.
const (
	maxSubjects     = 1_000
	maxSubjectBytes = 32 << 20
)

// ListReferrers reads each manifest that a layout's index.json names, and tells
// those whose subject is dgst. Where there is none, or there are too many
// manifests to be read, the tag scheme may know more.
func (d layouts) ListReferrers(_ context.Context, loc locator.Locator, dgst digest.Digest, _ string, _ int64) (*ReferrerPage, error) {
	root, err := d.open()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	page, n, left := &ReferrerPage{}, 0, int64(maxSubjectBytes)
	_, err = findIn(root, loc, func(m *entry) bool {
		n++
		left -= max(m.Size, 0)
		if n > maxSubjects || left < 0 {
			page.List = nil
			return true
		}
		if desc, ok := refersTo(root, loc, m, dgst); ok {
			page.List = append(page.List, desc)
		}
		return false
	})
	if errors.Is(err, iofs.ErrNotExist) || err == nil && len(page.List) == 0 {
		err = &unlistedError{broken("%s: no manifest with the subject %s is seen", path.Join(string(d), loc.Path), dgst)}
	}
	return page, err
}

// refersTo reads a manifest and returns how a list of dgst's referrers would
// have it.
func refersTo(root *os.Root, loc locator.Locator, m *entry, dgst digest.Digest) (ocispec.Descriptor, bool) {
	desc := ocispec.Descriptor{MediaType: m.MediaType, Size: m.Size}
	var err error
	if desc.Digest, err = locator.ParseDigest(m.Digest); err != nil || m.Size < 0 || m.Size > maxManifest || !isManifest(m.MediaType) {
		return desc, false
	}
	file, size, err := openPlain(root, blobPath(loc, desc))
	if err != nil {
		return desc, false
	}
	defer file.Close()
	b := make([]byte, desc.Size)
	if size != desc.Size {
		return desc, false
	}
	if _, err := io.ReadFull(file, b); err != nil || desc.Digest.Algorithm().FromBytes(b) != desc.Digest {
		return desc, false
	}
	var manifest struct {
		ArtifactType string             `json:"artifactType"`
		Config       ocispec.Descriptor `json:"config"`
		Subject      ocispec.Descriptor `json:"subject"`
		Annotations  map[string]string  `json:"annotations"`
	}
	if json.Unmarshal(b, &manifest) != nil || manifest.Subject.Digest != dgst {
		return desc, false
	}
	if desc.ArtifactType = manifest.ArtifactType; desc.ArtifactType == "" {
		desc.ArtifactType = manifest.Config.MediaType
	}
	desc.Annotations = manifest.Annotations
	return desc, true
}

// plainType says whether t can stand in a header, a path and an attribute.
func plainType(t string) bool {
	return len(t) <= 255 && !strings.ContainsFunc(t, func(r rune) bool { return r <= ' ' || r > '~' })
}
