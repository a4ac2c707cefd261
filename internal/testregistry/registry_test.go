package testregistry_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"distfs/internal/testregistry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const repo = "library/hello"

// client returns a client that follows no redirect and keeps no connection.
func client(t *testing.T, r *testregistry.Registry) *http.Client {
	t.Helper()
	tr := &http.Transport{
		DisableCompression: true, DisableKeepAlives: true, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{RootCAs: r.CertPool()},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// A response is one whose body was read and closed.
type response struct {
	StatusCode    int
	Header        http.Header
	ContentLength int64
}

// ask sends one request; headers are name, value pairs. Where there is no answer the response is nil.
func ask(t *testing.T, r *testregistry.Registry, method, url string, headers ...string) (*response, []byte, error) {
	t.Helper()
	if strings.HasPrefix(url, "/") {
		url = r.URL() + url
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client(t, r).Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return &response{resp.StatusCode, resp.Header, resp.ContentLength}, b, err
}

func blobPath(dgst digest.Digest) string { return "/v2/" + repo + "/blobs/" + dgst.String() }

func TestRanges(t *testing.T) {
	for _, tls := range []bool{false, true} {
		r := testregistry.Start(t, &testregistry.Options{TLS: tls})
		data := []byte("0123456789")
		dgst := r.AddBlob(repo, data)
		for _, c := range []struct {
			rng    string
			status int
			body   string
			says   string
		}{
			{"", 200, "0123456789", ""},
			{"bytes=2-4", 206, "234", "bytes 2-4/10"},
			{"bytes=7-", 206, "789", "bytes 7-9/10"},
			{"bytes=7-99", 206, "789", "bytes 7-9/10"},
			{"bytes=-3", 206, "789", "bytes 7-9/10"},
			{"bytes=10-", 416, "", "bytes */10"},
			{"bytes=4-2", 200, "0123456789", ""},
		} {
			resp, b, err := ask(t, r, "GET", blobPath(dgst), "Range", c.rng)
			if err != nil || resp.StatusCode != c.status || resp.StatusCode != 416 && string(b) != c.body || resp.Header.Get("Content-Range") != c.says {
				t.Errorf("GET %q = %v, %q, %v, want %d, %q, %q", c.rng, resp, b, err, c.status, c.body, c.says)
			}
		}
		if got := r.Count("GET", testregistry.Blob); got != 7 {
			t.Errorf("Count() = %d, want 7", got)
		}
		if got := r.Ranges(dgst)[1]; got != "bytes=2-4" {
			t.Errorf("Ranges()[1] = %q, want bytes=2-4", got)
		}
	}
}

func TestManifestIsWhole(t *testing.T) {
	r := testregistry.Start(t, nil)
	m := []byte(`{"schemaVersion":2}`)
	dgst := r.AddManifest(repo, "1", "application/vnd.oci.image.manifest.v1+json", m)
	for _, ref := range []string{"1", dgst.String()} {
		resp, b, err := ask(t, r, "GET", "/v2/"+repo+"/manifests/"+ref, "Range", "bytes=0-3")
		if err != nil || resp.StatusCode != 200 || !bytes.Equal(b, m) || resp.Header.Get("Docker-Content-Digest") != dgst.String() {
			t.Errorf("GET manifests/%s = %v, %q, %v", ref, resp, b, err)
		}
	}
}

func TestDistribution2(t *testing.T) {
	r := testregistry.Start(t, &testregistry.Options{Distribution2: true})
	m := r.AddManifest(repo, "1", "application/vnd.oci.image.manifest.v1+json", []byte(`{}`))
	layer := r.AddBlob(repo, []byte("layer"))
	for _, c := range []struct {
		path, accept string
		want         int
	}{
		{"/blobs/" + m.String(), "", 404},
		{"/manifests/" + layer.String(), "", 500},
		{"/manifests/" + m.String(), "", 404},
		{"/manifests/" + m.String(), "text/html, application/vnd.oci.image.manifest.v1+json;q=0.5", 200},
	} {
		resp, _, err := ask(t, r, "HEAD", "/v2/"+repo+c.path, "Accept", c.accept)
		if err != nil || resp.StatusCode != c.want {
			t.Errorf("HEAD %s = %v, %v, want %d", c.path, resp, err, c.want)
		}
	}
}

func TestFaults(t *testing.T) {
	const size = 1000
	data := bytes.Repeat([]byte("abcdefghij"), size/10)
	flipped := bytes.Clone(data[100:200])
	flipped[50] ^= 0x10
	for name, c := range map[string]struct {
		fault  testregistry.Fault
		status int
		says   string
		length int64
		body   []byte // nil: not looked at
		err    bool
	}{
		"status":     {testregistry.Fault{Act: testregistry.Status, Code: 503, Header: http.Header{"Retry-After": {"7"}}}, 503, "", 0, nil, false},
		"cut":        {testregistry.Fault{Act: testregistry.Cut, At: 10}, 206, "bytes 100-199/1000", 100, nil, true},
		"short":      {testregistry.Fault{Act: testregistry.Short, At: 10}, 206, "bytes 100-199/1000", 100, data[100:110], true},
		"no ranges":  {testregistry.Fault{Act: testregistry.IgnoreRange}, 200, "", size, data, false},
		"no range":   {testregistry.Fault{Act: testregistry.NoRange}, 206, "", 100, data[100:200], false},
		"bad range":  {testregistry.Fault{Act: testregistry.BadRange}, 206, "bytes 7-3/*", 100, data[100:200], false},
		"shifted":    {testregistry.Fault{Act: testregistry.ShiftRange, At: 3}, 206, "bytes 103-202/1000", 100, data[103:203], false},
		"less":       {testregistry.Fault{Act: testregistry.ShortRange, At: 3}, 206, "bytes 100-102/1000", 3, data[100:103], false},
		"total":      {testregistry.Fault{Act: testregistry.WrongTotal, At: 1}, 206, "bytes 100-199/1001", 100, data[100:200], false},
		"flip":       {testregistry.Fault{Act: testregistry.FlipBit, At: 150}, 206, "bytes 100-199/1000", 100, flipped, false},
		"not there":  {testregistry.Fault{Act: testregistry.FlipBit, At: 250}, 206, "bytes 100-199/1000", 100, data[100:200], false},
		"no length":  {testregistry.Fault{Act: testregistry.NoLength}, 206, "bytes 100-199/1000", -1, data[100:200], false},
		"html":       {testregistry.Fault{Act: testregistry.HTML}, 200, "", 76, nil, false},
		"gzip":       {testregistry.Fault{Act: testregistry.Gzip}, 206, "bytes 100-199/1000", -1, nil, false},
		"elsewhere":  {testregistry.Fault{Act: testregistry.RedirectTo, To: "http://192.0.2.1"}, 307, "", 0, nil, false},
		"other kind": {testregistry.Fault{Act: testregistry.HTML, Kind: testregistry.CDN}, 206, "bytes 100-199/1000", 100, data[100:200], false},
		"skipped":    {testregistry.Fault{Act: testregistry.HTML, Skip: 1}, 206, "bytes 100-199/1000", 100, data[100:200], false},
	} {
		t.Run(name, func(t *testing.T) {
			r := testregistry.Start(t, nil)
			dgst := r.AddBlob(repo, data)
			r.SetFault(c.fault)
			resp, b, err := ask(t, r, "GET", blobPath(dgst), "Range", "bytes=100-199")
			if resp == nil { // the reset overtook the headers
				if !c.err {
					t.Fatal(err)
				}
				return
			}
			if resp.StatusCode != c.status || resp.Header.Get("Content-Range") != c.says || resp.ContentLength != c.length || (err != nil) != c.err {
				t.Errorf("GET = %v, %v, want %d, %q, length %d", resp, err, c.status, c.says, c.length)
			}
			if c.body != nil && !bytes.Equal(b, c.body) {
				t.Errorf("GET wrote %q, want %q", b, c.body)
			}
		})
	}
}

func TestStallAndRelease(t *testing.T) {
	r := testregistry.Start(t, nil)
	data := bytes.Repeat([]byte("x"), 1<<20)
	dgst := r.AddBlob(repo, data)
	f := r.SetFault(testregistry.Fault{Act: testregistry.StallBody, At: 1000, Times: 1})
	got := make(chan error, 1)
	go func() {
		_, b, err := ask(t, r, "GET", blobPath(dgst))
		if err == nil && !bytes.Equal(b, data) {
			err = errors.New("other bytes")
		}
		got <- err
	}()
	r.Wait(t, func(list []testregistry.Request) bool { return len(list) == 1 && list[0].Sent == 1000 })
	f.Release()
	if err := <-got; err != nil {
		t.Errorf("a stalled GET that was released: %v", err)
	}
	if f.Hits() != 1 || r.Sent(dgst) != int64(len(data)) {
		t.Errorf("Hits, Sent = %d, %d", f.Hits(), r.Sent(dgst))
	}
}

// A stalled answer must not outlive the registry: the test ends with it still stalled.
func TestCloseWhileStalled(t *testing.T) {
	r := testregistry.Start(t, nil)
	dgst := r.AddBlob(repo, []byte("x"))
	r.SetFault(testregistry.Fault{Act: testregistry.StallHeaders})
	got := make(chan error, 1)
	go func() {
		_, _, err := ask(t, r, "GET", blobPath(dgst))
		got <- err
	}()
	r.Wait(t, func(list []testregistry.Request) bool { return len(list) == 1 })
	r.Stop()
	if err := <-got; err == nil {
		t.Error("a GET of a registry that stopped gave an answer")
	}
	r.Restart()
	r.ClearFaults()
	if _, b, err := ask(t, r, "GET", blobPath(dgst)); err != nil || string(b) != "x" {
		t.Errorf("after Restart: %q, %v", b, err)
	}
}

func TestRedirect(t *testing.T) {
	r := testregistry.Start(t, &testregistry.Options{Redirect: true, SignatureUses: 1})
	dgst := r.AddBlob(repo, []byte("x"))
	resp, _, err := ask(t, r, "GET", blobPath(dgst))
	if err != nil || resp.StatusCode != 307 {
		t.Fatalf("GET = %v, %v, want 307", resp, err)
	}
	to := resp.Header.Get("Location")
	for i, want := range []int{400, 200, 403} {
		authorization := ""
		if i == 0 {
			authorization = "Bearer x"
		}
		if resp, _, err := ask(t, r, "GET", to, "Authorization", authorization); err != nil || resp.StatusCode != want {
			t.Errorf("GET %d = %v, %v, want %d", i, resp, err, want)
		}
	}
}

func TestBearer(t *testing.T) {
	r := testregistry.Start(t, &testregistry.Options{Auth: testregistry.BearerAuth, Service: "registry.docker.io", TokenUses: 1})
	dgst := r.AddBlob(repo, []byte("x"))
	resp, _, err := ask(t, r, "GET", blobPath(dgst))
	if err != nil || resp.StatusCode != 401 || !strings.Contains(resp.Header.Get("WWW-Authenticate"), `scope="repository:library/hello:pull"`) {
		t.Fatalf("GET = %v, %v, want 401 and the scope", resp, err)
	}
	token := func(scope string) string {
		_, b, err := ask(t, r, "GET", "http://"+r.TokenHost()+"/token?service=registry.docker.io&scope="+scope)
		var got struct{ Token string }
		if err := errors.Join(err, json.Unmarshal(b, &got)); err != nil {
			t.Fatal(err)
		}
		return "Bearer " + got.Token
	}
	good := token("repository:library/hello:pull")
	for i, c := range []struct {
		authorization string
		want          int
	}{{token("repository:other:pull"), 401}, {good, 200}, {good, 401}} {
		if resp, _, err := ask(t, r, "GET", blobPath(dgst), "Authorization", c.authorization); err != nil || resp.StatusCode != c.want {
			t.Errorf("GET %d = %v, %v, want %d", i, resp, err, c.want)
		}
	}
}

func TestSynthetic(t *testing.T) {
	s := testregistry.Synthetic{Seed: 7, Size: 3<<20 + 5}
	whole, err := io.ReadAll(s.From(0))
	if err != nil || int64(len(whole)) != s.Size || s.Digest() != digest.FromBytes(whole) {
		t.Fatalf("From(0) = %d bytes, %v", len(whole), err)
	}
	for _, off := range []int64{1, 4, 4095, 4096, 4099, 1<<20 - 3, s.Size - 1} {
		if got, err := io.ReadAll(s.From(off)); err != nil || !bytes.Equal(got, whole[off:]) {
			t.Errorf("From(%d) differs, %v", off, err)
		}
	}
	if other := (testregistry.Synthetic{Seed: 8, Size: s.Size}); other.Digest() == s.Digest() {
		t.Error("Seed makes no difference")
	}
}

func TestBasicAndIdentityToken(t *testing.T) {
	const want = "Basic dTpw" // u:p
	r := testregistry.Start(t, &testregistry.Options{Auth: testregistry.BasicAuth, User: "u", Password: "p", IdentityToken: "id"})
	for authorization, status := range map[string]int{"": 401, want: 200, "Basic dTpx": 401} {
		if resp, _, err := ask(t, r, "GET", "/v2/", "Authorization", authorization); err != nil || resp.StatusCode != status {
			t.Errorf("GET with %q = %v, %v, want %d", authorization, resp, err, status)
		}
	}
	for token, status := range map[string]int{"id": 200, "other": 401} {
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "scope": {"repository:a:pull"}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+r.TokenHost()+"/token", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := client(t, r).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("POST with the refresh token %q = %d, want %d", token, resp.StatusCode, status)
		}
	}
}

// TestClientCert: the registry refuses who shows no certificate, and sees who does.
func TestClientCert(t *testing.T) {
	r := testregistry.Start(t, &testregistry.Options{TLS: true, ClientCert: true})
	dgst := r.AddBlob(repo, []byte("hello"))
	if _, _, err := ask(t, r, http.MethodGet, "/v2/"+repo+"/blobs/"+dgst.String()); err == nil {
		t.Error("an answer for who shows no certificate")
	}
	pair, err := tls.LoadX509KeyPair(r.ClientFiles(t))
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, r)
	c.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{pair}
	resp, err := c.Get(r.URL() + "/v2/" + repo + "/blobs/" + dgst.String())
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if q := r.Requests(); len(q) != 1 || !q[0].Shown {
		t.Errorf("requests = %+v, want one with a certificate", q)
	}
}
