package transfer_test

import (
	"bytes"
	"errors"
	"fmt"
	iofs "io/fs"
	"slices"
	"strings"
	"testing"

	"distfs/internal/testlayer"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// docker are an image's files as docker save wrote them before it wrote layouts:
// a layer that is there twice is a link the second time.
func docker(tb testing.TB, tags string, layers ...[]byte) []testlayer.File {
	tb.Helper()
	var files []testlayer.File
	var names, ids []string
	for i, b := range layers {
		name := fmt.Sprintf("%064d/layer.tar", i)
		files = append(files, testlayer.Dir(fmt.Sprintf("%064d/", i)), testlayer.Reg(fmt.Sprintf("%064d/VERSION", i), "1.0"),
			testlayer.Reg(fmt.Sprintf("%064d/json", i), "{}"), testlayer.Reg(name, string(b)))
		names, ids = append(names, fmt.Sprintf("%q", name)), append(ids, fmt.Sprintf("%q", digest.FromBytes(b)))
	}
	files = append(files, testlayer.Symlink("twice/layer.tar", fmt.Sprintf("../%064d/layer.tar", 0)))
	names, ids = append(names, `"twice/layer.tar"`), append(ids, ids[0])
	config := fmt.Sprintf(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[%s]}}`, strings.Join(ids, ","))
	configName := digest.FromString(config).Encoded() + ".json"
	return append(files, testlayer.Reg(configName, config), testlayer.Reg("repositories", "{}"),
		testlayer.Reg("manifest.json", fmt.Sprintf(`[{"Config":%q,"RepoTags":%s,"Layers":[%s]}]`, configName, tags, strings.Join(names, ","))))
}

func compressed(t *testing.T, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(b, nil)
}

// TestImport takes archives of all kinds, each as it is, by gzip and by zstd.
func TestImport(t *testing.T) {
	one, two := blobs{}, blobs{}
	image := one.image(t, "one")
	index := two.index(t, two.image(t, "two"), two.image(t, "three"))
	layer := testlayer.Tar(t, testlayer.Reg("f", "f"))
	saved := docker(t, `["redis:7","localhost:5000/team/app:v1"]`, layer)
	// docker 25 and later: a layout, whose names are in manifest.json too, or there alone.
	doc := one[image.Digest]
	config := doc[bytes.Index(doc, []byte("sha256:"))+7:][:64]
	both := append(one.files(t, image), testlayer.Reg("manifest.json", `[{"Config":"blobs/sha256/`+string(config)+`","RepoTags":["both:1"],"Layers":[]}]`))
	containerd := called(image, "7")
	containerd.Annotations["io.containerd.image.name"] = "docker.io/library/redis:7"
	for _, c := range []struct {
		name  string
		files []testlayer.File
		want  map[string]digest.Digest // names; a digest that is "" is any
	}{
		{"oci", one.files(t, called(image, "a:1")), map[string]digest.Digest{"a:1": image.Digest}},
		{"oci with a full name beside", one.files(t, containerd), map[string]digest.Digest{"docker.io/library/redis:7": image.Digest}},
		{"oci of two names", one.files(t, called(image, "a:1"), called(image, "a:2")), map[string]digest.Digest{"a:1": image.Digest, "a:2": image.Digest}},
		{"an index", two.files(t, called(index, "b:1")), map[string]digest.Digest{"b:1": index.Digest}},
		{"docker", saved, map[string]digest.Digest{"redis:7": "", "localhost:5000/team/app:v1": ""}},
		{"docker of today", both, map[string]digest.Digest{"both:1": image.Digest}},
		{"its names begin with a dot", dotted(one.files(t, called(image, "a:1"))), map[string]digest.Digest{"a:1": image.Digest}},
		{"no name", one.files(t, image), nil},
	} {
		plain := testlayer.Tar(t, c.files...)
		for format, archive := range map[string][]byte{"tar": plain, "gzip": gzipped(t, plain), "zstd": compressed(t, plain)} {
			t.Run(c.name+" "+format, func(t *testing.T) {
				s := openStore(t)
				im, err := importArchive(t, s, archive)
				if err != nil {
					t.Fatal(err)
				}
				holds(t, s, im)
				n := 0
				for _, one := range im.Images {
					for _, name := range one.Names {
						if want, ok := c.want[name]; !ok || want != "" && want != one.Desc.Digest {
							t.Errorf("image %s is %s", name, one.Desc.Digest)
						}
						n++
					}
				}
				if n != len(c.want) || len(im.Images) != 1 {
					t.Errorf("%d names of %d images, want %d of 1", n, len(im.Images), len(c.want))
				}
			})
		}
	}
}

func dotted(files []testlayer.File) []testlayer.File {
	for i := range files {
		files[i].Name = "./" + files[i].Name
	}
	return files
}

// TestImportDocker: the layers of docker save are stored as they are, under the
// media type of their content.
func TestImportDocker(t *testing.T) {
	plain := testlayer.Tar(t, testlayer.Reg("f", "f"))
	s := openStore(t)
	im, err := importArchive(t, s, testlayer.Tar(t, docker(t, "null", plain)...))
	if err != nil {
		t.Fatal(err)
	}
	types := map[digest.Digest]string{}
	for _, desc := range im.Images[0].Objects {
		types[desc.Digest] = desc.MediaType
	}
	if got := types[digest.FromBytes(plain)]; got != ocispec.MediaTypeImageLayer {
		t.Errorf("the layer is of type %q", got)
	}
	z := gzipped(t, plain)
	config := fmt.Sprintf(`{"rootfs":{"diff_ids":[%q]}}`, digest.FromBytes(plain))
	im, err = importArchive(t, s, testlayer.Tar(t, testlayer.Reg("c", config), testlayer.Reg("l", string(z)), testlayer.Reg("manifest.json", `[{"Config":"c","Layers":["l"]}]`)))
	if err != nil {
		t.Fatal(err)
	}
	if got := im.Images[0].Objects[2]; got.MediaType != ocispec.MediaTypeImageLayerGzip || got.Digest != digest.FromBytes(z) {
		t.Errorf("the compressed layer is %+v", got)
	}
}

// TestImportPart: of an index whose other platforms are not in the archive what
// is there is taken; one of which nothing is there is refused.
func TestImportPart(t *testing.T) {
	all := blobs{}
	images := []ocispec.Descriptor{all.image(t, "one"), all.image(t, "two"), all.image(t, "three"), all.image(t, "four")}
	index := all.index(t, images...)
	for _, keep := range [][]int{{0}, {1}, {3, 1}, {0, 1, 2}, {}} {
		t.Run(fmt.Sprint(keep), func(t *testing.T) {
			part := blobs{index.Digest: all[index.Digest]}
			for _, i := range keep {
				part.image(t, []string{"one", "two", "three", "four"}[i])
			}
			s := openStore(t)
			im, err := importArchive(t, s, testlayer.Tar(t, part.files(t, called(index, "a:1"))...))
			if len(keep) == 0 {
				if !errors.Is(err, iofs.ErrNotExist) {
					t.Errorf("import = %v, want fs.ErrNotExist", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			holds(t, s, im)
			got := im.Images[0]
			if len(got.Beside) != len(keep)-1 || got.Desc.Platform == nil || !slices.Equal(got.Names, []string{"a:1"}) {
				t.Errorf("import = %+v", got)
			}
			for _, desc := range append(got.Beside, got.Desc) {
				if !slices.ContainsFunc(keep, func(i int) bool { return images[i].Digest == desc.Digest }) {
					t.Errorf("%s was not there", desc.Digest)
				}
			}
		})
	}
}

// TestImportHostile: what is wrong with an archive is an error, and no image.
func TestImportHostile(t *testing.T) {
	good := blobs{}
	image := good.image(t, "one")
	files := good.files(t, called(image, "a:1"))
	with := func(more ...testlayer.File) []testlayer.File { return append(slices.Clone(files), more...) }
	without := func(dgst digest.Digest) []testlayer.File {
		return slices.DeleteFunc(slices.Clone(files), func(f testlayer.File) bool { return f.Name == blobFile(dgst) })
	}
	nested := blobs{}
	deep := nested.image(t, "deep")
	for range 5 {
		deep = nested.index(t, deep)
	}
	short := called(image, "a:1")
	short.Size--
	cases := map[string][]testlayer.File{
		"nothing":                   {testlayer.Dir("x/")},
		"no version":                slices.DeleteFunc(slices.Clone(files), func(f testlayer.File) bool { return f.Name == "oci-layout" }),
		"version 2":                 {testlayer.Reg("oci-layout", `{"imageLayoutVersion":"2.0.0"}`), testlayer.Reg("index.json", `{"manifests":[]}`)},
		"no entries":                good.files(t),
		"an index that is none":     {testlayer.Reg("oci-layout", `{"imageLayoutVersion":"1.0.0"}`), testlayer.Reg("index.json", `[]`)},
		"a name that leads out":     with(testlayer.Reg("../x", "x")),
		"an absolute name":          with(testlayer.Reg("/etc/passwd", "x")),
		"blobs above":               with(testlayer.Reg("blobs/../../x", "x")),
		"a long name":               with(testlayer.Reg(strings.Repeat("x/", 600)+"x", "x")),
		"two indexes":               with(testlayer.Reg("index.json", indexOf(t))),
		"a large index":             {testlayer.Reg("oci-layout", `{"imageLayoutVersion":"1.0.0"}`), testlayer.Reg("index.json", strings.Repeat(" ", 4<<20+1))},
		"a blob of another digest":  with(testlayer.Reg(blobFile(digest.FromString("x")), "y")),
		"a blob without a digest":   with(testlayer.Reg("blobs/sha256/xyz", "y")),
		"a blob in a blob":          with(testlayer.Reg(blobFile(digest.FromString("x"))+"/y", "y")),
		"no manifest":               without(image.Digest),
		"another size":              good.files(t, short),
		"too deep":                  nested.files(t, called(deep, "a:1")),
		"one name of two images":    good.files(t, called(image, "a:1"), called(good.image(t, "other"), "a:1")),
		"docker: too many names":    {testlayer.Reg("manifest.json", `[{"RepoTags":["a:1"`+strings.Repeat(`,"a:1"`, 1000)+`]}]`)},
		"docker: no list":           {testlayer.Reg("manifest.json", `{}`)},
		"docker: an empty list":     {testlayer.Reg("manifest.json", `[]`)},
		"docker: no config":         {testlayer.Reg("manifest.json", `[{"Config":"x","Layers":[]}]`)},
		"docker: a config outside":  {testlayer.Reg("manifest.json", `[{"Config":"/etc/hostname","Layers":[]}]`)},
		"docker: layers in excess":  {testlayer.Reg("c", `{"rootfs":{"diff_ids":[]}}`), testlayer.Reg("l", "x"), testlayer.Reg("manifest.json", `[{"Config":"c","Layers":["l"]}]`)},
		"docker: another layer":     {testlayer.Reg("c", `{"rootfs":{"diff_ids":["`+digest.FromString("y").String()+`"]}}`), testlayer.Reg("l", "x"), testlayer.Reg("manifest.json", `[{"Config":"c","Layers":["l"]}]`)},
		"docker: no digest":         {testlayer.Reg("c", `{"rootfs":{"diff_ids":["x"]}}`), testlayer.Reg("l", "x"), testlayer.Reg("manifest.json", `[{"Config":"c","Layers":["l"]}]`)},
		"docker: a loop of links":   {testlayer.Symlink("c", "d"), testlayer.Symlink("d", "c"), testlayer.Reg("manifest.json", `[{"Config":"c","Layers":[]}]`)},
		"docker: a link that is it": {testlayer.Link("c", "c"), testlayer.Reg("manifest.json", `[{"Config":"c","Layers":[]}]`)},
		"docker: a link outside":    {testlayer.Symlink("c", "../../../../etc/hostname"), testlayer.Reg("manifest.json", `[{"Config":"c","Layers":[]}]`)},
	}
	own := blobs{}
	own.image(t, "one")
	for dgst := range own {
		cases["without "+dgst.String()] = without(dgst)
	}
	for name, files := range cases {
		t.Run(name, func(t *testing.T) {
			im, err := importArchive(t, openStore(t), testlayer.Tar(t, files...))
			if err == nil {
				t.Errorf("imported %+v", im.Images)
			}
		})
	}
}

// TestImportForeign: a layer that is not for others to distribute need not have come
// along, as push leaves it out; where it did, export leaves it out.
func TestImportForeign(t *testing.T) {
	l := blobs{}
	foreign := l.add("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", []byte("not for others"))
	layer := l.add(ocispec.MediaTypeImageLayerGzip, gzipped(t, testlayer.Tar(t, testlayer.Reg("f", "f"))))
	image := l.add(ocispec.MediaTypeImageManifest, encode(t, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: l.add(ocispec.MediaTypeImageConfig, []byte("{}")), Layers: []ocispec.Descriptor{foreign, layer},
	}))
	archive := testlayer.Tar(t, l.files(t, called(image, "example.com/a:1"))...)
	for _, want := range []int{4, 3} {
		s := openStore(t)
		im, err := importArchive(t, s, archive)
		if err != nil {
			t.Fatal(err)
		}
		holds(t, s, im)
		if n := len(im.Images[0].Objects); n != want {
			t.Errorf("the image came with %d objects, want %d", n, want)
		}
		if err := s.SetImages(called(image, "example.com/a:1")); err != nil {
			t.Error(err)
		}
		archive = export(t, s, asOCI, named(t, im)...)
	}
}

// TestImportWhole: what an archive does not have is not to be named as an image's
// part, whatever types a digest is named under.
func TestImportWhole(t *testing.T) {
	absent := described(ocispec.MediaTypeImageLayer, []byte("what a private repository has"))
	manifest := func(all blobs, subject *ocispec.Descriptor, layers ...ocispec.Descriptor) ocispec.Descriptor {
		return all.add(ocispec.MediaTypeImageManifest, encode(t, ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			Config: all.add(ocispec.MediaTypeImageConfig, []byte("{}")), Layers: layers, Subject: subject,
		}))
	}
	as := func(desc ocispec.Descriptor, mediaType string) ocispec.Descriptor {
		desc.MediaType = mediaType
		return desc
	}
	for name, entries := range map[string]func(blobs) []ocispec.Descriptor{
		"a layer, then a manifest": func(all blobs) []ocispec.Descriptor {
			b := manifest(all, nil, absent)
			return []ocispec.Descriptor{called(all.index(t, manifest(all, nil, as(b, ocispec.MediaTypeImageLayer)), b), "a:1")}
		},
		"a manifest, then a layer": func(all blobs) []ocispec.Descriptor {
			b := manifest(all, nil)
			return []ocispec.Descriptor{called(all.index(t, b, manifest(all, nil, as(b, ocispec.MediaTypeImageLayer))), "a:1")}
		},
		"a config that is not for others to distribute": func(all blobs) []ocispec.Descriptor {
			return []ocispec.Descriptor{called(all.add(ocispec.MediaTypeImageManifest, encode(t, ocispec.Manifest{
				Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
				Config: as(absent, ocispec.MediaTypeImageLayerNonDistributable), Layers: []ocispec.Descriptor{}, //nolint:staticcheck // images have it
			})), "a:1")}
		},
		"a layer of one image, and another image": func(all blobs) []ocispec.Descriptor {
			b := manifest(all, nil, absent)
			return []ocispec.Descriptor{called(manifest(all, nil, as(b, "application/json")), "a:1"), called(b, "b:1")}
		},
		"a layer that is the subject": func(all blobs) []ocispec.Descriptor {
			return []ocispec.Descriptor{called(manifest(all, &absent, absent), "a:1")}
		},
		"an entry of no type": func(all blobs) []ocispec.Descriptor {
			return []ocispec.Descriptor{called(as(manifest(all, nil, absent), "application/json"), "a:1")}
		},
		"an entry of two types": func(all blobs) []ocispec.Descriptor {
			b := manifest(all, nil, absent)
			return []ocispec.Descriptor{called(as(b, "application/json"), "a:1"), called(b, "a:1")}
		},
		"a part of an index that is no image": func(all blobs) []ocispec.Descriptor {
			return []ocispec.Descriptor{called(all.index(t, as(manifest(all, nil, absent), "application/json"), absent), "a:1")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			all := blobs{}
			list := entries(all)
			if im, err := importArchive(t, openStore(t), testlayer.Tar(t, all.files(t, list...)...)); err == nil {
				t.Errorf("imported %+v", im.Images)
			}
		})
	}
}

// TestImportSubject: what an image refers to is no part of it.
func TestImportSubject(t *testing.T) {
	all := blobs{}
	subject := described(ocispec.MediaTypeImageManifest, []byte("an image that is elsewhere"))
	one := all.add(ocispec.MediaTypeImageManifest, encode(t, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: all.add(ocispec.MediaTypeImageConfig, []byte("{}")), Layers: []ocispec.Descriptor{}, Subject: &subject,
	}))
	im, err := importArchive(t, openStore(t), testlayer.Tar(t, all.files(t, called(one, "a:1"))...))
	if err != nil || len(im.Images[0].Objects) != 2 {
		t.Errorf("import = %+v, %v", im, err)
	}
}

// TestImportBroken cuts archives off everywhere, and breaks each part of one.
func TestImportBroken(t *testing.T) {
	l := blobs{}
	image := l.image(t, "one")
	plain := testlayer.Tar(t, l.files(t, called(image, "a:1"))...)
	for format, archive := range map[string][]byte{"tar": plain, "gzip": gzipped(t, plain), "docker": testlayer.Tar(t, docker(t, "null", []byte("x"))...)} {
		// A tar ends with two empty blocks, without which it is whole too.
		end := len(archive) - 1
		if format != "gzip" {
			end = len(archive) - 1024 - 513
		}
		for n := 0; n < end; n += 1 + end/12 {
			if _, err := importArchive(t, openStore(t), archive[:n]); err == nil {
				t.Errorf("%s: %d of %d bytes were imported", format, n, len(archive))
			}
		}
	}
	if _, err := importArchive(t, openStore(t), nil); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("an empty one: %v", err)
	}
	if _, err := importArchive(t, openStore(t), bytes.Repeat([]byte("hello"), 1000)); err == nil || !strings.Contains(err.Error(), "no tar") {
		t.Errorf("text: %v", err)
	}
	z := gzipped(t, plain)
	for _, cut := range [][]byte{plain[:len(plain)/2], z[:5], z[:len(z)/2], z[:len(z)-4]} {
		if _, err := importArchive(t, openStore(t), cut); err == nil || err.Error() != "the archive is cut short" {
			t.Errorf("one of %d bytes that is cut short: %v", len(cut), err)
		}
	}
	z[len(z)-5] ^= 1 // of the checksum
	if _, err := importArchive(t, openStore(t), z); err == nil {
		t.Error("a wrong checksum of gzip's was not noticed")
	}
}

// TestImportHeld: that the store has a blob is no reason to take an archive's
// word that it has it, too.
func TestImportHeld(t *testing.T) {
	l := blobs{}
	image := l.image(t, "secret")
	s := openStore(t)
	if _, err := importArchive(t, s, testlayer.Tar(t, l.files(t, called(image, "a:1"))...)); err != nil {
		t.Fatal(err)
	}
	files := l.files(t, called(image, "evil:1"))
	for i := range files {
		if f := files[i]; strings.HasPrefix(f.Name, "blobs/sha256/") && f.Name != blobFile(image.Digest) {
			evil := slices.Clone(files)
			evil[i].Content = strings.Repeat("x", len(f.Content))
			if _, err := importArchive(t, s, testlayer.Tar(t, evil...)); err == nil {
				t.Errorf("with other bytes for %s it was imported", f.Name)
			}
			evil = slices.Delete(slices.Clone(files), i, i+1)
			if _, err := importArchive(t, s, testlayer.Tar(t, evil...)); !errors.Is(err, iofs.ErrNotExist) {
				t.Errorf("without %s: %v, want fs.ErrNotExist", f.Name, err)
			}
		}
	}
	im, err := importArchive(t, s, testlayer.Tar(t, l.files(t, called(image, "again:1"))...))
	if err != nil {
		t.Fatal(err)
	}
	holds(t, s, im)
}
