package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
)

// A bench is what the cases share: the programs, the registry and its blob.
type bench struct {
	ctx      context.Context //nolint:containedctx // the whole program's
	dir      string
	distfs   string
	crane    string
	file     string // the blob on the file system
	dgst     digest.Digest
	host     string // of the registry
	registry *exec.Cmd
	peak     int64 // memory of the daemons so far, in KiB

	served    map[string]bool // the tags of the image that are in the registry
	imagePeak int64           // memory of the commands on it so far, in KiB
}

const repo = "bench/blob"

func newBench(ctx context.Context, dir string) (*bench, error) {
	b := &bench{ctx: ctx, dir: dir, distfs: filepath.Join(dir, "distfs"), crane: filepath.Join(dir, "crane"), file: filepath.Join(dir, "blob"), served: make(map[string]bool)}
	if err := b.build(); err != nil {
		return nil, err
	}
	if err := b.makeBlob(); err != nil {
		return nil, err
	}
	if err := b.serve(b.path("root")); err != nil {
		return nil, err
	}
	if err := b.push(); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bench) build() error {
	for out, what := range map[string][]string{
		b.distfs:           {"-C", "..", "./cmd/distfs"},
		b.crane:            {"", "", "github.com/google/go-containerregistry/cmd/crane"},
		b.path("registry"): {"", "", "github.com/distribution/distribution/v3/cmd/registry"},
	} {
		args := []string{"build"}
		if what[0] != "" {
			args = append(args, what[0], what[1])
		}
		cmd := exec.CommandContext(b.ctx, "go", append(args, "-o", out, what[2])...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if msg, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s: %w\n%s", what[2], err, msg)
		}
	}
	return nil
}

// makeBlob writes bytes that nothing compresses, and hashes them.
func (b *bench) makeBlob() error {
	f, err := os.Create(b.file)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(f, h), rand.NewChaCha8([32]byte{1}), *size); err != nil {
		return err
	}
	b.dgst = digest.NewDigest(digest.SHA256, h)
	return f.Sync()
}

var listening = regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)

// serve starts a registry whose content is in root.
func (b *bench) serve(root string) error {
	config := b.path("registry.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {accesslog: {disabled: true}, level: info}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: 127.0.0.1:0, secret: bench}\n", root)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(b.ctx, b.path("registry"), "serve", config)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	out, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	b.registry = cmd
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			b.host = m[1]
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return nil
		}
	}
	return errors.New("the registry ended before it listened")
}

// push uploads the blob in one piece.
func (b *bench) push() error {
	to, err := b.request(http.MethodPost, "http://"+b.host+"/v2/"+repo+"/blobs/uploads/", nil)
	if err != nil {
		return err
	}
	q := to.Query()
	q.Set("digest", b.dgst.String())
	to.RawQuery = q.Encode()
	f, err := os.Open(b.file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = b.request(http.MethodPut, to.String(), f)
	return err
}

// request sends a request that must succeed, and returns the Location that it
// is answered with.
func (b *bench) request(method, to string, body *os.File) (*url.URL, error) {
	var r io.Reader
	if body != nil {
		r = body
	}
	req, err := http.NewRequestWithContext(b.ctx, method, to, r)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.ContentLength = *size
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		msg, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return nil, fmt.Errorf("%s %s: %s %s", method, strings.Split(to, "?")[0], resp.Status, msg)
	}
	return resp.Location()
}

func (b *bench) close() {
	if b.registry != nil {
		_ = b.registry.Process.Signal(syscall.SIGKILL)
		_ = b.registry.Wait()
	}
}
