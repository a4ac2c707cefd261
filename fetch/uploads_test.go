package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"distfs/fetch"
	"distfs/internal/testregistry"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestUploadThroughProxy that takes no large requests: chunks become smaller.
func TestUploadThroughProxy(t *testing.T) {
	for _, n := range []int{3 * mib, 5*mib + 1} {
		b := setup(t, nil, nil)
		b.reg.SetFault(testregistry.Fault{Kind: testregistry.Upload, Act: testregistry.Refuse, Code: 413, Match: func(q *testregistry.Request) bool {
			n, err := strconv.Atoi(q.Header.Get("Content-Length"))
			return err == nil && n > mib
		}})
		blob := random(n, 1)
		desc := ocispec.Descriptor{Digest: digest.FromBytes(blob), Size: int64(n)}
		p := b.pusher("")
		p.SetChunk(4 * mib)
		if _, err := p.Upload(ctx(t), desc, bytes.NewReader(blob), func(int64) {}); err != nil {
			t.Errorf("Upload of %d bytes: %v", n, err)
		}
		if got := b.got(); got != int64(n) {
			t.Errorf("%d bytes were taken, want %d", got, n)
		}
	}
}

// TestUploadStalls ends what makes no progress by the timeout, and by its context
// at once.
func TestUploadStalls(t *testing.T) {
	t.Parallel()
	for method, timeout := range map[string]time.Duration{
		"POST":  300 * time.Millisecond,
		"PATCH": 300 * time.Millisecond,
		"PUT":   5 * time.Second, // and what comes before it must not take as long
	} {
		t.Run(method, func(t *testing.T) {
			b := setup(t, nil, &fetch.Options{Timeout: timeout})
			b.reg.SetFault(testregistry.Fault{Kind: testregistry.Upload, Method: method, Act: testregistry.StallHeaders})
			_, _, err := b.upload(random(2*chunk, 1))
			if method == "PUT" { // it was done, and found when it was looked for
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Upload = %v, want os.ErrDeadlineExceeded", err)
			}
		})
	}
	t.Run("canceled", func(t *testing.T) {
		b := setup(t, nil, &fetch.Options{Timeout: time.Hour})
		b.reg.SetFault(testregistry.Fault{Kind: testregistry.Upload, Method: "PATCH", Act: testregistry.StallHeaders})
		c, cancel := context.WithCancel(ctx(t))
		go func() {
			b.reg.Wait(t, func(rs []testregistry.Request) bool { return len(rs) > 0 && rs[len(rs)-1].Method == "PATCH" })
			cancel()
		}()
		p := random(2*chunk, 1)
		desc := ocispec.Descriptor{Digest: digest.FromBytes(p), Size: int64(len(p))}
		if _, err := b.pusher("").Upload(c, desc, bytes.NewReader(p), func(int64) {}); !errors.Is(err, context.Canceled) {
			t.Errorf("Upload = %v, want context.Canceled", err)
		}
	})
}

// TestUploadGoesOn where an earlier process was, if the session is there still;
// two at the same time do not meet.
func TestUploadGoesOn(t *testing.T) {
	for _, forgotten := range []bool{false, true} {
		b := setup(t, nil, nil)
		p := random(6*chunk, 1)
		desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(p), Size: int64(len(p))}
		c, cancel := context.WithCancel(ctx(t))
		_, err := b.pusher("").Upload(c, desc, bytes.NewReader(p), func(n int64) {
			if n > 3*chunk {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("Upload = %v, want context.Canceled", err)
		}
		b.reg.Wait(t, func(rs []testregistry.Request) bool { return rs[len(rs)-1].Done })
		b.shut()
		b.open(nil)
		b.reg.Forget()
		want := int64(3 * chunk)
		if forgotten {
			b.reg.ForgetUploads()
			want = desc.Size
		}
		if _, _, err := b.upload(p); err != nil {
			t.Fatal(err)
		}
		if got := b.got(); got > want || forgotten && got != want {
			t.Errorf("%d bytes were taken the second time, want at most %d", got, want)
		}
		if note, ok, err := b.store.NoteUpload(b.loc.String(), desc.Digest); err != nil || !ok || note.Place() != "" {
			t.Errorf("a note is left: %v, %v", ok, err)
		} else {
			note.Close()
		}
	}
	t.Run("together", func(t *testing.T) {
		b := setup(t, nil, nil)
		p := random(6*chunk, 1)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, _, err := b.upload(p); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := b.got(); got != 3*6*chunk {
			t.Errorf("%d bytes were taken of three uploads of %d", got, len(p))
		}
	})
}

// TestUploadIsActive while it is under way.
func TestUploadIsActive(t *testing.T) {
	b := setup(t, nil, nil)
	fault := b.reg.SetFault(testregistry.Fault{Kind: testregistry.Upload, Method: "PATCH", Act: testregistry.StallHeaders, Skip: 1, Times: 1})
	p := random(3*chunk, 1)
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(p), Size: int64(len(p))}
	done := make(chan error)
	go func() {
		_, err := b.pusher("").Upload(ctx(t), desc, bytes.NewReader(p), func(int64) {})
		done <- err
	}()
	b.reg.Wait(t, func(rs []testregistry.Request) bool {
		var got int64
		for _, q := range rs {
			got += q.Got
		}
		return got == 2*chunk
	})
	all := b.f.Active()
	if len(all) != 1 || all[0].State != fetch.Uploading || all[0].Ref != b.loc.String()+"@"+desc.Digest.String() || all[0].Offset != 2*chunk || all[0].Total != desc.Size {
		t.Errorf("Active() = %+v", all)
	}
	fault.Release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if all := b.f.Active(); len(all) > 0 {
		t.Errorf("Active() = %+v at the end", all)
	}
}
