package transfer

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"path"
	"slices"
	"time"

	"distfs/image"
	"distfs/layer"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A tarFile writes an archive that depends on nothing but what is in it: no
// times, no owners, and the order is the writer's.
type tarFile struct {
	*tar.Writer
	dirs map[string]bool
	have map[string]bool
}

func newTarFile(w io.Writer) *tarFile {
	return &tarFile{tar.NewWriter(w), make(map[string]bool), make(map[string]bool)}
}

// put writes a file of that size, unless one of the name is there.
func (t *tarFile) put(name string, size int64, write func(io.Writer) error) error {
	if t.have[name] {
		return nil
	}
	t.have[name] = true
	if err := t.mkdir(path.Dir(name)); err != nil {
		return err
	}
	err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)})
	if err != nil {
		return err
	}
	return write(t)
}

func (t *tarFile) write(name string, b []byte) error {
	return t.put(name, int64(len(b)), func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

func (t *tarFile) mkdir(dir string) error {
	if dir == "." || t.dirs[dir] {
		return nil
	}
	if err := t.mkdir(path.Dir(dir)); err != nil {
		return err
	}
	t.dirs[dir] = true
	return t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: time.Unix(0, 0)})
}

// OCIArchive writes an OCI archive to w: a layout in a tar. The same images are
// the same bytes.
func (e *Export) OCIArchive(ctx context.Context, w io.Writer) error {
	index, err := e.index()
	if err != nil {
		return err
	}
	t := newTarFile(w)
	if err := t.write(ocispec.ImageLayoutFile, []byte(`{"imageLayoutVersion":"`+ocispec.ImageLayoutVersion+`"}`)); err != nil {
		return err
	}
	if err := t.write(ocispec.ImageIndexFile, index); err != nil {
		return err
	}
	for _, desc := range e.objects {
		if err := t.put(blobName(desc.Digest), desc.Size, func(w io.Writer) error { return e.copyBlob(ctx, w, desc) }); err != nil {
			return err
		}
	}
	return t.Close()
}

// DockerArchive writes an archive as docker save does, to be read by docker
// load: of each image the manifest for a platform, with its layers as plain tars
// under the digests that the config has for them. Only images of file systems
// can be written so. The same images are the same bytes.
func (e *Export) DockerArchive(ctx context.Context, w io.Writer, platform ocispec.Platform) error {
	t := newTarFile(w)
	var list []saved
	at := make(map[digest.Digest]int) // by config: what is the same image has all its names
	for _, one := range e.images {
		desc, doc, err := choose(e.store, one.Desc, platform)
		if err == nil {
			err = isFileSystem(doc)
		}
		if err != nil {
			return fmt.Errorf("image %s: %w", one, err)
		}
		i, ok := at[doc.Config.Digest]
		if !ok {
			s, err := e.save(ctx, t, desc.Digest, doc)
			if err != nil {
				return fmt.Errorf("image %s: %w", one, err)
			}
			i, at[doc.Config.Digest] = len(list), len(list)
			list = append(list, *s)
		}
		if tag := repoTag(one.Name); tag != "" {
			list[i].RepoTags = append(list[i].RepoTags, tag)
		}
	}
	b, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if err := t.write(dockerManifest, b); err != nil {
		return err
	}
	return t.Close()
}

// save writes an image's config and layers.
func (e *Export) save(ctx context.Context, t *tarFile, manifest digest.Digest, doc *image.Document) (*saved, error) {
	b, err := readBlob(e.store, doc.Config.Digest)
	if err != nil {
		return nil, err
	}
	ids, err := image.DiffIDs(b)
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", doc.Config.Digest, err)
	}
	if len(ids) != len(doc.Layers) {
		return nil, fmt.Errorf("config %s: %d layers, and %d in its manifest", doc.Config.Digest, len(ids), len(doc.Layers))
	}
	s := &saved{Config: doc.Config.Digest.Encoded() + ".json", Layers: []string{}}
	for i, desc := range doc.Layers {
		if err := e.mayTake(manifest, desc); err != nil {
			return nil, fmt.Errorf("layer %s: %w", desc.Digest, err)
		}
		name := ids[i].Encoded() + ".tar"
		if err := e.saveLayer(ctx, t, name, desc, ids[i]); err != nil {
			return nil, fmt.Errorf("layer %s: %w", desc.Digest, err)
		}
		s.Layers = append(s.Layers, name)
	}
	return s, t.write(s.Config, b)
}

// mayTake refuses a layer that an image can be without, and that no repository
// which has the image answered for: it may be in the store for another image's sake.
func (e *Export) mayTake(manifest digest.Digest, desc ocispec.Descriptor) error {
	store, knows := e.store.(Answerer)
	if !knows || !image.IsForeign(desc.MediaType) {
		return nil
	}
	has, err := store.Answered(desc.Digest)
	if err != nil {
		return err
	}
	of, err := store.Answered(manifest)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(has, func(repo string) bool { return slices.Contains(of, repo) }) {
		return fmt.Errorf("it did not come with the image, and none of its repositories is known to have it: %w", iofs.ErrNotExist)
	}
	return nil
}

// saveLayer writes a layer's tar. How long that is, which stands before it, is
// found out by inflating it once more: that costs no room, and shows whether it
// is the one that the config has.
func (e *Export) saveLayer(ctx context.Context, t *tarFile, name string, desc ocispec.Descriptor, diffID digest.Digest) error {
	if t.have[name] {
		return nil
	}
	f, err := e.store.Blob(desc.Digest)
	if err != nil {
		return err
	}
	defer f.Close()
	got, size, err := tarDigest(ctx, f, diffID.Algorithm())
	if err != nil {
		return err
	}
	if got != diffID {
		return fmt.Errorf("its tar is %s, and not %s as the config has it", got, diffID)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return t.put(name, size, func(w io.Writer) error {
		plain, err := layer.Decompress(e.telling(contextReader{ctx, f}, desc))
		if err != nil {
			return err
		}
		defer plain.Close()
		if _, err = io.Copy(w, plain); err == nil {
			e.tell(desc, Done, desc.Size)
		}
		return err
	})
}

// isFileSystem refuses what docker load could not take.
func isFileSystem(doc *image.Document) error {
	if doc.Config == nil || !image.IsConfig(doc.Config.MediaType) {
		return errors.New("it is no image of a file system, which docker could load")
	}
	return nil
}
