package main_test

import (
	"strings"
	"testing"

	distfs "distfs/cmd/distfs"
)

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParseTarget(t *testing.T) {
	tests := []struct {
		args      string
		ref       string
		mediaType string
		size      int64
	}{
		{"redis", "docker.io/library/redis:latest", "", -1},
		{"redis:7", "docker.io/library/redis:7", "", -1},
		{"ghcr.io/a/b@" + someDigest, "ghcr.io/a/b@" + someDigest, "", -1},
		{"redis 7", "docker.io/library/redis:7", "", -1},
		{"redis " + someDigest, "docker.io/library/redis@" + someDigest, "", -1},
		{"redis @" + someDigest, "docker.io/library/redis@" + someDigest, "", -1},
		{"redis 7@" + someDigest + " size:0", "docker.io/library/redis:7@" + someDigest, "", 0},
		{"redis 7 mediatype:a/b+json size:9223372036854775807", "docker.io/library/redis:7", "a/b+json", 1<<63 - 1},
	}
	for _, tt := range tests {
		ref, mediaType, size, err := distfs.ParseTarget(strings.Fields(tt.args)...)
		if err != nil || ref.String() != tt.ref || mediaType != tt.mediaType || size != tt.size {
			t.Errorf("ParseTarget(%s) = %v, %q, %d, %v, want %s, %q, %d", tt.args, ref, mediaType, size, err, tt.ref, tt.mediaType, tt.size)
		}
	}
}

func TestParseTargetRefused(t *testing.T) {
	tests := []struct{ args, want string }{
		{"", "is missing"},
		{"REDIS", `"REDIS"`},
		{"redis:7 7", `"docker.io/library/redis" and "7"`},
		{"redis 7 frob:1", `hint "frob:1"`},
		{"redis 7 size", `hint "size"`},
		{"redis 7 size:", `hint "size:"`},
		{"redis 7 size:-1", `hint "size:-1"`},
		{"redis 7 size:9223372036854775808", `hint "size:9223372036854775808"`},
		{"redis 7 size:1 size:1", "a second size"},
		{"redis 7 mediatype:a", `hint "mediatype:a"`},
		{"redis 7 mediatype:a/b;q=1", `hint "mediatype:a/b;q=1"`},
		{"redis 7 mediatype:a/b mediatype:a/b", "a second mediatype"},
	}
	for _, tt := range tests {
		if _, _, _, err := distfs.ParseTarget(strings.Fields(tt.args)...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ParseTarget(%s) = %v, want %s", tt.args, err, tt.want)
		}
	}
}

// A target that is taken is one that can be sent: no hint brings a line's end
// into a header.
func FuzzParseTarget(f *testing.F) {
	f.Add("redis", "7", "mediatype:a/b")
	f.Add("localhost:5000/a", "@"+someDigest, "size:5")
	f.Fuzz(func(t *testing.T, loc, object, hint string) {
		ref, mediaType, size, err := distfs.ParseTarget(loc, object, hint)
		if err != nil {
			return
		}
		if strings.ContainsFunc(ref.String()+mediaType, func(r rune) bool { return r <= ' ' || r >= 0x7f }) || size < -1 {
			t.Fatalf("ParseTarget(%q, %q, %q) = %v, %q, %d", loc, object, hint, ref, mediaType, size)
		}
	})
}
