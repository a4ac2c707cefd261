package content

import (
	"context"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

// OpenBoot is Open in another boot of the machine.
func OpenBoot(dir string, boot [16]byte) (*Store, error) { return open(dir, boot) }

// IngestDir returns where g's files are.
func (g *Ingest) IngestDir() string { return g.dir() }

// NamesIn returns what a manifest names.
func NamesIn(b []byte) (manifests, leaves []digest.Digest) {
	n, err := readNames(b)
	if err != nil {
		return nil, nil
	}
	for i, p := range n.made() {
		if i < len(n.manifests) {
			manifests = append(manifests, p.Digest)
		} else {
			leaves = append(leaves, p.Digest)
		}
	}
	return manifests, leaves
}

// CheckBlobBy is CheckBlob that reads by hash.
func (s *Store) CheckBlobBy(ctx context.Context, dgst digest.Digest, hash func(context.Context, *os.File, digest.Algorithm) (digest.Digest, error)) (string, error) {
	return s.checkBy(ctx, dgst, hash)
}

// What the test of names needs.
var (
	ParseProcess = parseProcess
	ProcessName  = Process.name
)

// ReplaceFileNamed is ReplaceFile where no file is without a name.
func ReplaceFileNamed(path string, write func(io.Writer) error) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	f, err := newNamedAside(dir, filepath.Base(path), 0o644)
	if err != nil {
		return err
	}
	return f.replace(filepath.Base(path), write)
}

// SweepAsides takes away what dead ones left in a directory.
func SweepAsides(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	sweepAsides(dir)
	return nil
}
