package content_test

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"distfs/content"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const largeBlobs = 100_000

// largeStore makes a store of 100,000 blobs that one repository answered for. Their bytes are not those of their digests.
func largeStore(b *testing.B) string {
	b.Helper()
	dir := filepath.Join(b.TempDir(), "store")
	s, err := content.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	objects := filepath.Join(dir, "repos", "example.com", "a", "_objects")
	if err := os.MkdirAll(objects, 0o700); err != nil {
		b.Fatal(err)
	}
	for i := range largeBlobs {
		sum := sha256.Sum256(binary.LittleEndian.AppendUint64(nil, uint64(i)))
		dgst := digest.NewDigestFromBytes(digest.SHA256, sum[:])
		record := marshal(ocispec.Descriptor{MediaType: "application/octet-stream", Digest: dgst, Size: 1})
		err := errors.Join(
			os.WriteFile(blobPath(s, dgst), []byte{1}, 0o444),
			os.WriteFile(filepath.Join(objects, "sha256-"+dgst.Encoded()), record, 0o600))
		if err != nil {
			b.Fatal(err)
		}
	}
	return dir
}

// What a mount does as it begins and at its first listings, and what a quota does, in a store of 100,000 blobs.
func BenchmarkLargeStore(b *testing.B) {
	dir := largeStore(b)
	s := open(b, dir)
	b.Run("Open", func(b *testing.B) {
		for b.Loop() {
			s, err := content.Open(dir)
			if err != nil {
				b.Fatal(err)
			}
			s.Close()
		}
	})
	b.Run("Repos", func(b *testing.B) {
		for b.Loop() {
			if names, err := s.Repos(""); err != nil || len(names) != 1 {
				b.Fatal(names, err)
			}
		}
	})
	b.Run("Objects", func(b *testing.B) {
		for b.Loop() {
			if all, err := s.Objects("example.com/a"); err != nil || len(all) != largeBlobs {
				b.Fatal(len(all), err)
			}
		}
	})
	b.Run("ObjectDigests", func(b *testing.B) {
		for b.Loop() {
			if all, err := s.ObjectDigests("example.com/a"); err != nil || len(all) != largeBlobs {
				b.Fatal(len(all), err)
			}
		}
	})
	b.Run("Blobs", func(b *testing.B) {
		for b.Loop() {
			if all, err := s.Blobs(); err != nil || len(all) != largeBlobs {
				b.Fatal(len(all), err)
			}
		}
	})
	b.Run("measure", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Evict(content.EvictOptions{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Added", func(b *testing.B) {
		q := content.NewQuota(s, 1<<50)
		for b.Loop() {
			if err := q.Added(1 << 20); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("dry run of all", func(b *testing.B) {
		for b.Loop() {
			if done, err := s.Evict(content.EvictOptions{MaxSize: -1, DryRun: true}); err != nil || done.Count != largeBlobs {
				b.Fatal(done, err)
			}
		}
	})
	b.Run("Hold", func(b *testing.B) {
		b.Run("first", func(b *testing.B) {
			for b.Loop() {
				hold1(b, s, digest.FromString("x"))()
			}
		})
		defer hold1(b, s, digest.FromString("x"))()
		b.Run("again", func(b *testing.B) {
			for b.Loop() {
				hold1(b, s, digest.FromString("x"))()
			}
		})
		var sums [10_000]digest.Digest
		for i := range sums {
			sum := sha256.Sum256(binary.LittleEndian.AppendUint64(nil, uint64(i)))
			sums[i] = digest.NewDigestFromBytes(digest.SHA256, sum[:])
		}
		for _, dgst := range sums {
			defer hold1(b, s, dgst)()
		}
		b.Run("beside 10,000", func(b *testing.B) {
			for b.Loop() {
				hold1(b, s, digest.FromString("y"))()
			}
		})
	})
	b.Run("all but 10,000", func(b *testing.B) { // -benchtime=1x
		for b.Loop() {
			began := time.Now()
			done, err := s.Evict(content.EvictOptions{MaxSize: 10_000 << 12})
			if err != nil {
				b.Fatal(err)
			}
			if done.Count > 0 {
				b.ReportMetric(float64(time.Since(began).Microseconds())/float64(done.Count), "µs/blob")
			}
		}
	})
}

func hold1(b *testing.B, s *content.Store, dgst digest.Digest) func() {
	b.Helper()
	release, err := s.Hold(dgst)
	if err != nil {
		b.Fatal(err)
	}
	return release
}
