package mkimage

import (
	"archive/tar"
	"bytes"
	"math/rand/v2"
	"time"
)

// A file is an entry of a layer: a directory if the name ends in a slash, a link
// if link is set, else a regular file.
type file struct {
	name string
	mode int64
	text string
	link string
	hard bool
}

func baseFiles() []file {
	return []file{
		{name: "etc/", mode: 0o755},
		{name: "etc/group", mode: 0o644, text: "root:x:0:\nhello:x:1000:\n"},
		{name: "etc/motd", mode: 0o644, text: "Layer 2 takes this away.\n"},
		{name: "etc/os-release", mode: 0o644, text: "NAME=Hello\nID=hello\nVERSION_ID=0\n"},
		{name: "etc/passwd", mode: 0o644, text: "root:x:0:0:root:/:/bin/hello\nhello:x:1000:1000::/home/hello:/bin/hello\n"},
		{name: "home/", mode: 0o755},
		{name: "home/hello/", mode: 0o700},
		{name: "tmp/", mode: 0o1777},
	}
}

func programFiles(program []byte) []file {
	return []file{
		{name: "bin/", mode: 0o755},
		{name: "bin/hello", mode: 0o755, text: string(program)},
		{name: "bin/hi", link: "hello"},
		{name: "usr/", mode: 0o755},
		{name: "usr/bin/", mode: 0o755},
		{name: "usr/bin/hello", mode: 0o755, link: "bin/hello", hard: true},
	}
}

func noiseFiles() []file {
	noise := make([]byte, 5<<18)
	var seed [32]byte
	copy(seed[:], "hello:1")
	_, _ = rand.NewChaCha8(seed).Read(noise) // never fails
	return []file{
		{name: "etc/", mode: 0o755},
		{name: "etc/.wh.motd", mode: 0o644},
		{name: "etc/os-release", mode: 0o644, text: "NAME=Hello\nID=hello\nVERSION_ID=1\n"},
		{name: "usr/share/", mode: 0o755},
		{name: "usr/share/hello/", mode: 0o755},
		{name: "usr/share/hello/noise.bin", mode: 0o644, text: string(noise)},
	}
}

// tarOf packs files, all of them root's and from the year 1970.
func tarOf(files []file) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.text)), Linkname: f.link, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		switch {
		case f.hard:
			h.Typeflag = tar.TypeLink
		case f.link != "":
			h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
		case f.name[len(f.name)-1] == '/':
			h.Typeflag = tar.TypeDir
		default:
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(f.text)); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
