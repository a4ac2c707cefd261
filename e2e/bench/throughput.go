package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// warm compares reading the whole object with reading the same bytes on ext4,
// both from the page cache.
func (b *bench) warm(root bool) (string, string, error) {
	store := b.path("store")
	if err := fresh(store); err != nil {
		return "", "", err
	}
	m, err := b.mount(store, root)
	if err != nil {
		return "", "", err
	}
	defer m.close()
	path := m.object(b.host)
	for range 4 { // fetched by the first, into the kernel's cache by the second, hot by the rest
		if _, err := m.cat(path); err != nil {
			return "", "", err
		}
	}
	if _, err := timed(exec.CommandContext(b.ctx, "cat", b.file)); err != nil {
		return "", "", err
	}
	pairs, err := compare(*runs,
		func() (time.Duration, error) { return timed(exec.CommandContext(b.ctx, "cat", b.file)) },
		func() (time.Duration, error) { return m.cat(path) })
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%.2f", ratio(pairs)), medians(pairs) + " (ext4 first)", nil
}

// cold compares the first read through a mount on an empty store with what
// another program does.
func (b *bench) cold(root bool, other func() (time.Duration, error)) (string, string, error) {
	store := b.path("store")
	pairs, err := compare(*runs, func() (time.Duration, error) {
		if err := fresh(store); err != nil {
			return 0, err
		}
		m, err := b.mount(store, root)
		if err != nil {
			return 0, err
		}
		defer m.close()
		return m.cat(m.object(b.host))
	}, other)
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%.2f", ratio(pairs)), medians(pairs), nil
}

func (b *bench) url() string {
	return "http://" + b.host + "/v2/" + repo + "/blobs/" + b.dgst.String()
}

// curlAndHash downloads without a check, then hashes what came.
func (b *bench) curlAndHash() (time.Duration, error) {
	out := b.path("curl.out")
	if err := fresh(out); err != nil {
		return 0, err
	}
	d, err := timed(exec.CommandContext(b.ctx, "curl", "-sS", "-o", out, b.url()))
	if err != nil {
		return 0, err
	}
	start := time.Now()
	f, err := os.Open(out)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{f}, make([]byte, 1<<20)); err != nil {
		return 0, err
	}
	if fmt.Sprintf("%x", h.Sum(nil)) != b.dgst.Encoded() {
		return 0, errors.New("curl brought something else")
	}
	return d + time.Since(start), nil
}

// craneToFile has crane write the blob to a file, which it verifies.
func (b *bench) craneToFile(sync bool) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		out := b.path("crane.out")
		if err := fresh(out); err != nil {
			return 0, err
		}
		script := `"$0" blob --insecure "$1" > "$2"`
		if sync {
			script += ` && sync "$2"`
		}
		return timed(exec.CommandContext(b.ctx, "sh", "-c", script, b.crane, b.host+"/"+repo+"@"+b.dgst.String(), out))
	}
}

// fetchFresh has distfs write the blob to /dev/null, into an empty store.
func (b *bench) fetchFresh() (time.Duration, error) {
	store := b.path("store")
	if err := fresh(store); err != nil {
		return 0, err
	}
	return timed(exec.CommandContext(b.ctx, b.distfs, "--store", store, "fetch-object", b.host+"/"+repo, b.dgst.String()))
}

func (b *bench) fetchObject() (string, string, error) {
	pairs, err := compare(*runs, b.fetchFresh, b.craneToFile(true))
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%.2f", ratio(pairs)), medians(pairs), nil
}
