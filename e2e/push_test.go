package e2e_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"distfs/internal/testlayer"
)

// A counter stands before a registry and counts what is pushed to it.
type counter struct {
	host string

	mu      sync.Mutex
	writes  int            // requests that are to change something
	took    int64          // bytes of uploads
	created map[string]int // by digest, blobs that the registry took
	cutAt   int64          // of took: there a request breaks off; 0 never
	stopAt  int64          // of took: there it stands still; 0 never
	reached chan struct{}  // closed when it does
	goOn    chan struct{}  // closed when it may go on

	running int        // requests
	idle    *sync.Cond // there are none
}

// begin and end count requests. A WaitGroup can't: one may begin while another
// is waited for.
func (c *counter) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running++
}

func (c *counter) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	c.idle.Broadcast()
}

// rest waits until no request is under way.
func (c *counter) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.running > 0 {
		c.idle.Wait()
	}
}

// count returns a counter before a registry, until the test ends.
func count(t *testing.T, registry distribution) *counter {
	t.Helper()
	c := &counter{created: make(map[string]int)}
	c.idle = sync.NewCond(&c.mu)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: string(registry)})
			r.Out.Host = r.In.Host // Locations are then the counter's
		},
		ModifyResponse: func(resp *http.Response) error {
			if dgst := resp.Request.URL.Query().Get("digest"); resp.StatusCode == http.StatusCreated && dgst != "" {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.created[dgst]++
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			c.mu.Lock()
			c.writes++
			c.mu.Unlock()
			req.Body = &countedBody{req.Body, c}
		}
		c.begin()
		defer c.end()
		proxy.ServeHTTP(w, req)
	}))
	t.Cleanup(s.Close)
	c.host = s.Listener.Addr().String()
	return c
}

// stop has it stand still behind so many more bytes, until the channel goOn is
// closed.
func (c *counter) stop(after int64) (reached, goOn chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopAt, c.reached, c.goOn = c.took+after, make(chan struct{}), make(chan struct{})
	return c.reached, c.goOn
}

// taken returns the counts so far, and begins anew.
func (c *counter) taken() (writes int, took int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	writes, took = c.writes, c.took
	c.writes, c.took, c.stopAt = 0, 0, 0
	return writes, took
}

type countedBody struct {
	io.ReadCloser
	c *counter
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.c.mu.Lock()
	b.c.took += int64(n)
	if b.c.cutAt > 0 && b.c.took >= b.c.cutAt {
		b.c.cutAt, err = 0, io.ErrUnexpectedEOF
	}
	var wait chan struct{}
	if b.c.stopAt > 0 && b.c.took >= b.c.stopAt {
		wait = b.c.goOn
		select {
		case <-b.c.reached:
		default:
			close(b.c.reached)
		}
	}
	b.c.mu.Unlock()
	if wait != nil {
		<-wait
	}
	return n, err
}

// run runs a command that must succeed, and returns what it wrote.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out)
}

// need skips what has no such command, and fails in CI.
func need(t *testing.T, command string) {
	t.Helper()
	_, err := exec.LookPath(command)
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatal(err)
	default:
		t.Skip(err)
	}
}

// largeLayout makes an image of six layers, the largest of which goes by chunks.
func largeLayout(t *testing.T, dir string) {
	t.Helper()
	var layers [][]byte
	for i, size := range []int64{20 << 20, 5 << 20, 3 << 20, 100, 2 << 20, 4 << 20} {
		layers = append(layers, testlayer.Tar(t, testlayer.Reg(fmt.Sprint("file", i), string(noise(t, uint64(i), size)))))
	}
	writeLayout(t, dir, layers)
}

// sameBlobs says that a layout has the blobs of another one, and no others.
func sameBlobs(t *testing.T, want, got string) {
	t.Helper()
	if out, err := exec.Command("diff", "-r", filepath.Join(want, "blobs"), filepath.Join(got, "blobs")).CombinedOutput(); err != nil {
		t.Errorf("the blobs of %s and %s: %v: %.500s", want, got, err, out)
	}
}

// TestPush pushes to the real registry; what is there the real tools read, and
// the second time nothing is sent.
func TestPush(t *testing.T) {
	need(t, "skopeo")
	bin, crane := build(t), tool(t, "github.com/google/go-containerregistry/cmd/crane")
	c := count(t, startDistribution(t))
	dir := t.TempDir()
	t.Setenv("DISTFS_STORE", filepath.Join(dir, "store"))
	layout := filepath.Join(dir, "layout")
	largeLayout(t, layout)
	ref := c.host + "/team/app:1"

	run(t, bin, "push", "oci:"+layout, ref)
	if _, took := c.taken(); took < 34<<20 {
		t.Errorf("%d bytes were sent", took)
	}
	run(t, crane, "validate", "--insecure", "--remote", ref)
	back := filepath.Join(dir, "back")
	run(t, "skopeo", "copy", "--src-tls-verify=false", "docker://"+ref, "oci:"+back+":1")
	sameBlobs(t, layout, back)

	run(t, bin, "push", "oci:"+layout+":1", ref)
	if writes, took := c.taken(); writes > 0 || took > 0 {
		t.Errorf("the second time: %d requests, %d bytes", writes, took)
	}
	// After a cut it goes on where the registry has it. What that says of the last
	// chunk's bytes can be out of date in the next moment: then some go in vain.
	c.mu.Lock()
	c.cutAt = 18 << 20
	c.mu.Unlock()
	one := filepath.Join(dir, "one")
	writeLayout(t, one, [][]byte{testlayer.Tar(t, testlayer.Reg("file", string(noise(t, 77, 24<<20))))})
	run(t, bin, "push", "oci:"+one, c.host+"/team/cut:1")
	run(t, crane, "validate", "--insecure", "--remote", c.host+"/team/cut:1")
	if _, took := c.taken(); took < 24<<20 || took > 40<<20 {
		t.Errorf("with a cut behind 18 MiB %d bytes were sent for 24 MiB", took)
	}
	// Under another tag only the manifest goes; to another repository, nothing else.
	run(t, bin, "push", "oci:"+layout, c.host+"/team/app:2")
	if writes, took := c.taken(); writes != 1 || took > 4<<10 {
		t.Errorf("another tag: %d requests, %d bytes", writes, took)
	}
	out := run(t, bin, "push", "oci:"+layout, c.host+"/other/app:1")
	if _, took := c.taken(); took > 4<<10 || !strings.Contains(out, "objects in another repository: 7") {
		t.Errorf("another repository: %d bytes; %s", took, out)
	}
	run(t, crane, "validate", "--insecure", "--remote", c.host+"/other/app:1")

	// What was written into a layout is the same, and skopeo, umoci and crane read it.
	local := filepath.Join(dir, "local")
	run(t, bin, "push", "oci:"+layout, "oci:"+local+":new")
	sameBlobs(t, layout, local)
	run(t, "skopeo", "copy", "oci:"+local+":new", "oci:"+filepath.Join(dir, "again")+":new")
	sameBlobs(t, layout, filepath.Join(dir, "again"))
	if _, err := exec.LookPath("umoci"); err == nil {
		run(t, "umoci", "unpack", "--rootless", "--image", local+":new", filepath.Join(dir, "bundle"))
	}
	run(t, crane, "push", "--insecure", local, c.host+"/crane/app:1")
}

// TestPushAllPlatforms pushes an index and everything that it names, or one
// platform of it.
func TestPushAllPlatforms(t *testing.T) {
	need(t, "skopeo")
	bin, crane := build(t), tool(t, "github.com/google/go-containerregistry/cmd/crane")
	host := string(startDistribution(t))
	t.Setenv("DISTFS_STORE", filepath.Join(t.TempDir(), "store"))
	hello := hello(t)
	src := "oci:../testdata/layouts/library/hello"

	out := run(t, bin, "push", "--all-platforms", src, host+"/library/hello:1")
	if !strings.Contains(out, host+"/library/hello@"+hello.names["HELLO"]+"\n") {
		t.Errorf("it printed %q", out)
	}
	run(t, crane, "validate", "--insecure", "--remote", host+"/library/hello:1")
	if got := strings.TrimSpace(run(t, crane, "digest", "--insecure", host+"/library/hello:1")); got != hello.names["HELLO"] {
		t.Errorf("crane digest is %s", got)
	}
	back := filepath.Join(t.TempDir(), "back")
	run(t, "skopeo", "copy", "--all", "--src-tls-verify=false", "docker://"+host+"/library/hello:1", "oci:"+back+":1")
	sameBlobs(t, "../testdata/layouts/library/hello", back)

	run(t, bin, "push", src, host+"/library/one:1")
	if got := strings.TrimSpace(run(t, crane, "digest", "--insecure", host+"/library/one:1")); got != hello.names["HELLO_MANIFEST"] {
		t.Errorf("crane digest is %s, want this platform's manifest", got)
	}
}

// TestPushKilled kills push wherever it may be, again and again; what was there
// whole is not sent again, there is no image before it is whole, and at last it is.
func TestPushKilled(t *testing.T) {
	bin, crane := build(t), tool(t, "github.com/google/go-containerregistry/cmd/crane")
	registry := startDistribution(t)
	c := count(t, registry)
	dir := t.TempDir()
	t.Setenv("DISTFS_STORE", filepath.Join(dir, "store"))
	layout := filepath.Join(dir, "layout")
	largeLayout(t, layout)
	ref := c.host + "/team/app:1"
	kills := 0
	for range 12 {
		at := rand.Int64N(36 << 20)
		if kills == 0 {
			at = rand.Int64N(16 << 20) // it has more to send, and is not to be done before it was killed
		}
		reached, goOn := c.stop(at)
		cmd := exec.Command(bin, "push", "oci:"+layout, ref)
		var said strings.Builder
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case <-reached:
			kills++
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			<-ended
			if out, err := exec.Command(crane, "digest", "--insecure", ref).CombinedOutput(); err == nil {
				t.Errorf("killed behind %d bytes, and %s is there: %s", at, ref, out)
			}
		case err := <-ended:
			if err != nil {
				t.Fatalf("push: %v: %s", err, said.String())
			}
		}
		close(goOn)
		c.rest() // what was under way may have come whole
		c.taken()
		if t.Failed() {
			break
		}
	}
	if kills == 0 {
		t.Error("it was never killed")
	}
	run(t, bin, "push", "oci:"+layout, ref)
	run(t, crane, "validate", "--insecure", "--remote", ref)
	// A large blob goes on where the killed process was.
	one := filepath.Join(dir, "one")
	writeLayout(t, one, [][]byte{testlayer.Tar(t, testlayer.Reg("file", string(noise(t, 77, 24<<20))))})
	c.taken()
	reached, goOn := c.stop(20 << 20)
	cmd := exec.Command(bin, "push", "oci:"+one, c.host+"/team/one:1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-reached
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	close(goOn)
	c.rest()
	c.taken()
	run(t, bin, "push", "oci:"+one, c.host+"/team/one:1")
	run(t, crane, "validate", "--insecure", "--remote", c.host+"/team/one:1")
	if _, took := c.taken(); took > 20<<20 {
		t.Errorf("killed behind 20 MiB of 24, and %d bytes were sent by the next one", took)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for dgst, n := range c.created {
		if n > 1 {
			t.Errorf("%s was sent whole %d times", dgst, n)
		}
	}
}
