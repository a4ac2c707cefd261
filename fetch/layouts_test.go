package fetch_test

import (
	"encoding/json"
	"errors"
	iofs "io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"distfs/content"
	"distfs/fetch"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// layout writes an OCI layout of one manifest named name and returns the
// manifest's digest.
func layout(t *testing.T, dir, name string, manifest []byte) digest.Digest {
	t.Helper()
	dgst := digest.FromBytes(manifest)
	index, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		Manifests: []ocispec.Descriptor{{
			MediaType: ocispec.MediaTypeImageManifest, Digest: dgst, Size: int64(len(manifest)),
			Annotations: map[string]string{ocispec.AnnotationRefName: name},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, b := range map[string][]byte{
		"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`), "index.json": index, "blobs/sha256/" + dgst.Encoded(): manifest,
	} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dgst
}

func TestLayouts(t *testing.T) {
	dir := t.TempDir()
	m := []byte(`{"schemaVersion":2}`)
	bare := layout(t, dir+"/team/app", "v1", m)
	layout(t, dir+"/team/full", "local/team/full:v2", m)
	if err := os.Symlink("/etc/passwd", dir+"/team/app/blobs/sha256/"+digest.FromString("x").Encoded()); err != nil {
		t.Fatal(err)
	}
	store, err := content.Open(t.TempDir() + "/store")
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	hosts := locator.Hosts{"local": {Layouts: dir}}
	f := fetch.New(store, hosts, nil)
	defer f.Close()
	for _, s := range []string{"local/team/app:v1", "local/team/full:v2"} {
		ref, err := hosts.ParseReference(s)
		if err != nil {
			t.Fatal(err)
		}
		desc, err := f.Resolve(ctx(t), ref)
		if err != nil || desc.Digest != bare || desc.MediaType != ocispec.MediaTypeImageManifest {
			t.Fatalf("Resolve(%s) = %v, %v", ref, desc, err)
		}
		o, err := f.Open(ctx(t), ref.Locator, desc)
		if err != nil {
			t.Fatal(err)
		}
		check(t, o, m, 0, int64(len(m)))
		if err := o.Commit(ctx(t)); err != nil {
			t.Error(err)
		}
		o.Close()
	}
	app := locator.Locator{Host: "local", Path: "team/app"}
	if _, err := f.Stat(ctx(t), app, ocispec.Descriptor{Digest: digest.FromString("x")}); err == nil {
		t.Error("Stat of a link out of the layouts succeeded")
	}
	if _, err := f.Stat(ctx(t), app, ocispec.Descriptor{Digest: digest.FromString("y")}); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("Stat of an unknown digest = %v, want ErrNotExist", err)
	}
	none := locator.Reference{Locator: locator.Locator{Host: "local", Path: "no/such"}, Tag: "v1"}
	if _, err := f.Resolve(ctx(t), none); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("Resolve in a layout that is not there = %v, want ErrNotExist", err)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	none.Tag = "v2"
	if _, err := f.Resolve(ctx(t), none); !errors.Is(err, syscall.EIO) {
		t.Errorf("Resolve without the directory of all layouts = %v, want EIO", err)
	}
	if list, err := f.Referrers(ctx(t), none.Locator, digest.FromString("x")); !errors.Is(err, syscall.EIO) {
		t.Errorf("Referrers without the directory of all layouts = %v, %v, want EIO", list, err)
	}
}
