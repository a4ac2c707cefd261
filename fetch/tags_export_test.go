package fetch

import (
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// NextLink is the parser of Link headers.
var NextLink = nextLink

// ReadTags is the decoder of a page of tags.
func ReadTags(page io.Reader, limit int64) (names []string, err error) {
	in := &pageReader{body: page, limit: limit}
	err = in.readTags(func(name string) error {
		names = append(names, name)
		return nil
	})
	return names, err
}

// ReadReferrers is the decoder of a list of referrers, and what is taken of it.
func ReadReferrers(index io.Reader, limit int64) ([]ocispec.Descriptor, error) {
	page, err := readReferrers(index, limit)
	if err != nil {
		return nil, err
	}
	l := referrers{known: make(map[digest.Digest]bool)}
	_, err = l.take(page)
	return l.list, err
}
