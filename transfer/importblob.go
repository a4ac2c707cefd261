package transfer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// write takes a blob of the name, size bytes of r, and holds it. What the store
// has already is read all the same: that a name is the right digest is no proof
// that the bytes are.
func (im *Import) write(ctx context.Context, name string, r io.Reader, size int64, expected digest.Digest) (ocispec.Descriptor, error) {
	if expected == "" {
		return im.writeUnknown(ctx, name, r, size)
	}
	desc := ocispec.Descriptor{Digest: expected, Size: size}
	if err := im.hold(expected); err != nil {
		return desc, err
	}
	in := &noted{Reader: r}
	err := im.patiently(ctx, importKey(im.label, name, size), func(key string) error {
		if had, err := im.compare(ctx, r, size, expected); had || err != nil {
			return err
		}
		_, err := im.store.WriteBlob(ctx, key, in.seeking(), size, expected)
		if err != nil || in.read || size == 0 {
			return err
		}
		_, err = im.compare(ctx, r, size, expected) // another has brought it meanwhile
		return err
	})
	if err == nil {
		im.here[expected] = size
	}
	return desc, err
}

// writeUnknown is write where nothing tells the digest.
func (im *Import) writeUnknown(ctx context.Context, name string, r io.Reader, size int64) (desc ocispec.Descriptor, err error) {
	err = im.patiently(ctx, importKey(im.label, name, size), func(key string) (err error) {
		desc, err = im.store.WriteBlob(ctx, key, r, size, "")
		return err
	})
	if err != nil {
		return desc, err
	}
	if err := im.hold(desc.Digest); err != nil {
		return desc, err
	}
	blob, err := im.store.Blob(desc.Digest) // until it was held it could be evicted
	if err != nil {
		return desc, err
	}
	im.here[desc.Digest] = desc.Size
	return desc, blob.Close()
}

const (
	// busyPatience is how long another import may write under a key that this one
	// would write under, too. Then this one writes on its own.
	busyPatience = 10 * time.Second
	maxBusyPause = 20 * time.Millisecond
)

// patiently calls try until nobody else writes under the key.
func (im *Import) patiently(ctx context.Context, key string, try func(key string) error) error {
	for began, pause := time.Now(), time.Millisecond; ; pause = min(2*pause, maxBusyPause) {
		err := try(key)
		if !errors.Is(err, syscall.EBUSY) {
			return err
		}
		if time.Since(began) > busyPatience {
			return try(key + " " + rand.Text())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// noted knows whether something was read.
type noted struct {
	io.Reader
	read bool
}

func (n *noted) Read(p []byte) (int, error) {
	k, err := n.Reader.Read(p)
	n.read = n.read || k > 0
	return k, err
}

// seeking is n that goes where its reader can go.
func (n *noted) seeking() io.Reader {
	if s, ok := n.Reader.(io.Seeker); ok {
		return struct {
			io.Reader
			io.Seeker
		}{n, s}
	}
	return n
}

// importKey is the key of a blob on its way in. The size is in it, so that
// another archive of the same name begins anew.
func importKey(label, name string, size int64) string {
	key := fmt.Sprintf("import %s: %s (%d bytes)", label, name, size)
	if len(key) > 1024 {
		return "import " + digest.FromString(key).String()
	}
	return key
}

func (im *Import) hold(dgst digest.Digest) error {
	if _, ok := im.here[dgst]; ok {
		return nil
	}
	release, err := im.store.Hold(dgst)
	if err == nil {
		im.holds = append(im.holds, release)
	}
	return err
}

// compare holds r against expected where the store has that.
func (im *Import) compare(ctx context.Context, r io.Reader, size int64, expected digest.Digest) (had bool, err error) {
	blob, err := im.store.Blob(expected)
	if errors.Is(err, iofs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	blob.Close()
	v := expected.Verifier()
	n, err := io.Copy(v, contextReader{ctx, r})
	switch {
	case err != nil:
		return true, err
	case n != size:
		return true, fmt.Errorf("%w: %d bytes of %d", io.ErrUnexpectedEOF, n, size)
	case !v.Verified():
		return true, fmt.Errorf("its bytes are not those of %s", expected)
	}
	return true, nil
}
