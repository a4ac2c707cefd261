package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"math"

	"distfs/image"
	"distfs/layer"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxInflated bounds the tars of all compressed layers together, in bytes, and
// what a compressed archive has besides the bytes that come: a few megabytes may
// inflate to any length.
const maxInflated = 64 << 30

// saves are what was found out about files of docker save, each by its digest,
// for an archive may name one any number of times.
type saves struct {
	configs map[digest.Digest][]digest.Digest // the digests of the layers' tars
	types   map[digest.Digest]string          // the media types of layers
	tars    map[tarOf]digest.Digest
	layers  int   // of all images
	inflate int64 // bytes that layers may still have, uncompressed
}

// A tarOf is the digest, by an algorithm, of the tar that a layer is.
type tarOf struct {
	layer     digest.Digest
	algorithm digest.Algorithm
}

func newSaves(inflate int64) *saves {
	return &saves{
		configs: make(map[digest.Digest][]digest.Digest), types: make(map[digest.Digest]string),
		tars: make(map[tarOf]digest.Digest), inflate: inflate,
	}
}

// config returns an image's config and the digests of its n layers' tars.
func (a *archive) config(name string, n int) (ocispec.Descriptor, []digest.Digest, error) {
	desc, ok := a.find(name)
	if !ok {
		return desc, nil, fmt.Errorf("config %.200q: %w there", name, iofs.ErrNotExist)
	}
	diffIDs, ok := a.saves.configs[desc.Digest]
	if !ok {
		var err error
		if diffIDs, err = a.diffIDs(desc.Digest); err != nil {
			return desc, nil, fmt.Errorf("config %.200q: %w", name, err)
		}
	}
	if len(diffIDs) != n {
		return desc, nil, fmt.Errorf("%d layers, and %d in its config", n, len(diffIDs))
	}
	a.saves.configs[desc.Digest] = diffIDs
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: desc.Digest, Size: desc.Size}, diffIDs, nil
}

// diffIDs reads a config.
func (a *archive) diffIDs(dgst digest.Digest) ([]digest.Digest, error) {
	b, err := readBlob(a.store, dgst)
	if err != nil {
		return nil, err
	}
	return image.DiffIDs(b)
}

// layer returns a layer under the media type that its content has. Its tar is
// the one that the config names.
func (a *archive) layer(ctx context.Context, name string, diffID digest.Digest) (ocispec.Descriptor, error) {
	desc, ok := a.find(name)
	if !ok {
		return desc, fmt.Errorf("%w there", iofs.ErrNotExist)
	}
	mediaType, err := a.layerType(desc.Digest)
	if err != nil {
		return desc, err
	}
	got := desc.Digest
	if mediaType != ocispec.MediaTypeImageLayer || got.Algorithm() != diffID.Algorithm() {
		if got, err = a.tar(ctx, tarOf{desc.Digest, diffID.Algorithm()}); err != nil {
			return desc, err
		}
	}
	if got != diffID {
		return desc, fmt.Errorf("its tar is %s, and not %.100s as the config has it", got, diffID)
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: desc.Digest, Size: desc.Size}, nil
}

// layerType is the media type of a layer's content.
func (a *archive) layerType(dgst digest.Digest) (string, error) {
	if mediaType, ok := a.saves.types[dgst]; ok {
		return mediaType, nil
	}
	f, err := a.store.Blob(dgst)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var head [4]byte
	n, err := f.ReadAt(head[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	mediaType := ocispec.MediaTypeImageLayer
	switch layer.Detect(head[:n]) {
	case layer.Gzip:
		mediaType = ocispec.MediaTypeImageLayerGzip
	case layer.Zstd:
		mediaType = ocispec.MediaTypeImageLayerZstd
	}
	a.saves.types[dgst] = mediaType
	return mediaType, nil
}

// tar reads a layer's tar.
func (a *archive) tar(ctx context.Context, of tarOf) (digest.Digest, error) {
	if dgst, ok := a.saves.tars[of]; ok {
		return dgst, nil
	}
	f, err := a.store.Blob(of.layer)
	if err != nil {
		return "", err
	}
	defer f.Close()
	dgst, n, err := boundedTarDigest(ctx, f, of.algorithm, a.saves.inflate)
	if err != nil {
		return "", err
	}
	a.saves.inflate -= n
	a.saves.tars[of] = dgst
	return dgst, nil
}

// tarDigest reads a layer and returns the digest and the size of its tar.
func tarDigest(ctx context.Context, r io.Reader, algorithm digest.Algorithm) (digest.Digest, int64, error) {
	return boundedTarDigest(ctx, r, algorithm, math.MaxInt64-1)
}

// boundedTarDigest is tarDigest for a tar of most bytes at most.
func boundedTarDigest(ctx context.Context, r io.Reader, algorithm digest.Algorithm, most int64) (digest.Digest, int64, error) {
	plain, err := layer.Decompress(contextReader{ctx, r})
	if err != nil {
		return "", 0, err
	}
	defer plain.Close()
	d := algorithm.Digester()
	n, err := io.Copy(d.Hash(), io.LimitReader(contextReader{ctx, plain}, most+1))
	if err == nil && n > most {
		err = errors.New("its tar is too large, with the other layers'")
	}
	return d.Digest(), n, err
}
