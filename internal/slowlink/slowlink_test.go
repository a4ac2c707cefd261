package slowlink_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"distfs/internal/slowlink"
	"distfs/internal/testregistry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t *testing.T, target string, opts slowlink.Options) *slowlink.Link {
	t.Helper()
	l, err := slowlink.Listen(target, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func get(t *testing.T, c *http.Client, url string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A link is never faster than asked: two round trips for the first answer on a
// connection, one for the next, and the time that the bytes take.
func TestSlow(t *testing.T) {
	const rtt, bandwidth, size = 20 * time.Millisecond, 10 << 20, 1 << 20
	r := testregistry.Start(t, nil)
	blob := testregistry.Synthetic{Size: size}
	path := "/v2/a/blobs/" + r.AddSynthetic("a", blob).String()
	l := listen(t, r.Host(), slowlink.Options{RTT: rtt, Bandwidth: bandwidth})
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	for i, least := range []time.Duration{2*rtt + time.Second/10, rtt + time.Second/10} {
		begin := time.Now()
		b := get(t, &http.Client{Transport: tr}, "http://"+l.Addr()+path)
		if took := time.Since(begin); took < least || digest.FromBytes(b) != blob.Digest() {
			t.Errorf("GET %d of %d bytes took %v, want at least %v", i, len(b), took, least)
		}
	}
	if s := l.Stats(); s.Conns != 1 || s.Down < 2*size || s.Up == 0 {
		t.Errorf("Stats() = %+v, want one connection and over %d bytes down", s, 2*size)
	}
}

func TestTLSPasses(t *testing.T) {
	r := testregistry.Start(t, &testregistry.Options{TLS: true})
	dgst := r.AddBlob("a", []byte("hello"))
	l := listen(t, r.Host(), slowlink.Options{})
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: r.CertPool()}}
	t.Cleanup(tr.CloseIdleConnections)
	if b := get(t, &http.Client{Transport: tr}, "https://"+l.Addr()+"/v2/a/blobs/"+dgst.String()); string(b) != "hello" {
		t.Errorf("GET = %q, want hello", b)
	}
}

// Closing a link ends what is under way on it.
func TestCloseCuts(t *testing.T) {
	r := testregistry.Start(t, nil)
	dgst := r.AddBlob("a", []byte("hello"))
	r.SetFault(testregistry.Fault{Act: testregistry.StallHeaders})
	l := listen(t, r.Host(), slowlink.Options{})
	got := make(chan error, 1)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr()+"/v2/a/blobs/"+dgst.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err == nil {
			resp.Body.Close()
		}
		got <- err
	}()
	r.Wait(t, func(list []testregistry.Request) bool { return len(list) == 1 })
	l.Close()
	if err := <-got; err == nil {
		t.Error("a GET over a closed link gave an answer")
	}
}
