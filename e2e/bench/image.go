package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"distfs/e2e/formats"
)

// An image of four layers, like one that packages were installed into: many
// small files that compress well, a few large ones that do so less, files that
// change and go from layer to layer. Some 278 MB as gzip, 600 MB as files.
const (
	layerFiles = 5400
	imageTag   = "1" // as gzip

	osRelease   = "usr/lib/os-release" // in the lowest layer
	bigFile     = "opt/data"           // in the uppermost
	bigFileSize = 64 << 20
)

// layerLibs is how many large files each layer has: layers are as unequal as
// those of images are.
var layerLibs = []int{10, 6, 18, 10}

// imageTar makes the image's tars, once, and returns their names.
func (b *bench) imageTars() ([]string, error) {
	var tars []string
	for n := range layerLibs {
		name := b.path(fmt.Sprintf("layer%d.tar", n))
		tars = append(tars, name)
		if _, err := os.Stat(name); err == nil {
			continue
		}
		f, err := os.Create(name + ".part")
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if err := errors.Join(writeTar(f, n), os.Rename(f.Name(), name)); err != nil {
			return nil, err
		}
	}
	return tars, nil
}

// imageFormats are the formats in which the image is made, by its tags.
var imageFormats = map[string]formats.Format{imageTag: formats.Gzip, "estargz": formats.EStargz, "zchunked": formats.ZstdChunked}

// imageLayout makes the image in a format, once, as an OCI image layout of its own.
func (b *bench) imageLayout(tag string) (dir string, err error) {
	dir = b.path("image-" + tag)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	tars, err := b.imageTars()
	if err != nil {
		return "", err
	}
	part := dir + ".part"
	if err := errors.Join(os.RemoveAll(part), formats.Add(part, tag, tars, imageFormats[tag])); err != nil {
		return "", err
	}
	return dir, os.Rename(part, dir)
}

// writeTar writes the n-th layer's tar.
func writeTar(to io.Writer, n int) error {
	w := tar.NewWriter(to)
	r := rand.New(rand.NewChaCha8([32]byte{byte(n), 1}))
	words := vocabulary(r)
	put := func(h *tar.Header, content []byte) error {
		h.Size, h.ModTime = int64(len(content)), time.Unix(1_700_000_000+int64(n), 0)
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err := w.Write(content)
		return err
	}
	for i := range layerFiles {
		if i%60 == 0 {
			name := fmt.Sprintf("usr/share/p%d/", i/60)
			if err := put(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, nil); err != nil {
				return err
			}
		}
		name := fmt.Sprintf("usr/share/p%d/f%d-%d", i/60, i, n*(i%2)) // every other one is replaced by the next layer
		size := 200 + r.IntN(1<<(8+r.IntN(9)))
		if err := put(&tar.Header{Name: name, Mode: 0o644}, text(r, words, size)); err != nil {
			return err
		}
		if n > 0 && i%100 == 1 { // and some are taken away
			gone := fmt.Sprintf("usr/share/p%d/.wh.f%d-%d", i/60, i, n-1)
			if err := put(&tar.Header{Name: gone, Mode: 0o600}, nil); err != nil {
				return err
			}
		}
	}
	for i := range layerLibs[n] { // programs and libraries
		content := text(r, words, 7<<20)
		noise(r, content[:1<<20])
		if err := put(&tar.Header{Name: fmt.Sprintf("usr/lib/lib%d-%d.so", n, i), Mode: 0o755}, content); err != nil {
			return err
		}
	}
	large := make([]byte, 4<<20)
	noise(r, large)
	if err := put(&tar.Header{Name: fmt.Sprintf("usr/lib/data%d", n), Mode: 0o644}, large); err != nil {
		return err
	}
	switch n {
	case 0:
		if err := put(&tar.Header{Name: osRelease, Mode: 0o644}, []byte("ID=bench\n")); err != nil {
			return err
		}
	case len(layerLibs) - 1:
		content := text(r, words, bigFileSize)
		noise(r, content[:bigFileSize/4])
		if err := put(&tar.Header{Name: bigFile, Mode: 0o644}, content); err != nil {
			return err
		}
	}
	return w.Close()
}

func noise(r *rand.Rand, b []byte) {
	for i := 0; i+8 <= len(b); i += 8 {
		v := r.Uint64()
		for j := range 8 {
			b[i+j] = byte(v >> (8 * j))
		}
	}
}

func vocabulary(r *rand.Rand) []string {
	words := make([]string, 4096)
	for i := range words {
		w := make([]byte, 2+r.IntN(9))
		for j := range w {
			w[j] = byte('a' + r.IntN(26))
		}
		words[i] = string(w) + " "
	}
	return words
}

// text returns size bytes that compress about as well as text does.
func text(r *rand.Rand, words []string, size int) []byte {
	var b bytes.Buffer
	b.Grow(size + 16)
	for b.Len() < size {
		b.WriteString(words[r.IntN(1+r.IntN(len(words)))])
		if r.IntN(12) == 0 {
			b.WriteString(strings.Repeat("\n", 1+r.IntN(2)))
		}
	}
	return b.Bytes()[:size]
}
