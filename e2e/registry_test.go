package e2e_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"distfs/internal/testregistry"
)

// A holder takes what a test image consists of.
type holder interface {
	putBlob(t *testing.T, repo string, b []byte)
	putManifest(t *testing.T, repo, ref, mediaType string, b []byte)
}

var listening = regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)

// startDistribution runs the real registry until the test ends.
func startDistribution(t *testing.T) distribution {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: 127.0.0.1:0, secret: e2e}\n", dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool(t, "github.com/distribution/distribution/v3/cmd/registry"), "serve", config)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	logged := make(chan struct{})
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		<-logged
		_ = cmd.Wait()
	})
	addr := make(chan string, 1)
	go func() {
		defer close(logged)
		defer close(addr)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				addr <- m[1]
				break
			}
		}
		_, _ = io.Copy(io.Discard, out)
	}()
	host, ok := <-addr
	if !ok {
		t.Fatal("the registry ended before it listened")
	}
	return distribution(host)
}

// A distribution is the host and port of a registry to which one pushes over HTTP.
type distribution string

func (d distribution) putBlob(t *testing.T, repo string, b []byte) {
	t.Helper()
	u := d.do(t, http.MethodPost, fmt.Sprintf("http://%s/v2/%s/blobs/uploads/", d, repo), "", nil)
	q := u.Query()
	q.Set("digest", digest.FromBytes(b).String())
	u.RawQuery = q.Encode()
	d.do(t, http.MethodPut, u.String(), "application/octet-stream", b)
}

func (d distribution) putManifest(t *testing.T, repo, ref, mediaType string, b []byte) {
	t.Helper()
	d.do(t, http.MethodPut, fmt.Sprintf("http://%s/v2/%s/manifests/%s", d, repo, url.PathEscape(ref)), mediaType, b)
}

// do sends a request that must succeed and returns the Location of the response.
func (d distribution) do(t *testing.T, method, to, mediaType string, body []byte) *url.URL {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, to, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if said, _ := io.ReadAll(resp.Body); resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s %s", method, to, resp.Status, said)
	}
	location, err := resp.Location()
	if err != nil {
		t.Fatal(err)
	}
	return location
}

// inMemory puts things into a test registry.
type inMemory struct{ *testregistry.Registry }

func (r inMemory) putBlob(_ *testing.T, repo string, b []byte) { r.AddBlob(repo, b) }

func (r inMemory) putManifest(_ *testing.T, repo, ref, mediaType string, b []byte) {
	if r.AddManifest(repo, "", mediaType, b).String() != ref {
		r.AddManifest(repo, ref, mediaType, b)
	}
}
