package fetch_test

import (
	"errors"
	"net/http"
	"slices"
	"syscall"
	"testing"

	"distfs/fetch"
	"distfs/internal/testregistry"
)

// TestTagsOfMirrors: a list comes from one source, the first that has it; one
// that breaks off is not gone on with elsewhere.
func TestTagsOfMirrors(t *testing.T) {
	tag := func(r *testregistry.Registry, path string, tags ...string) {
		for _, name := range tags {
			r.AddManifest(path, name, "application/vnd.oci.image.manifest.v1+json", []byte(`{"schemaVersion":2}`))
		}
	}
	b, mirrors := mirrored(t, nil, nil)
	tag(b.reg, b.loc.Path, "a", "b", "c")
	tag(mirrors[0], b.loc.Path, "a", "b")
	if got, err := b.tags(); err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("ListTags = %v, %v, want the mirror's", got, err)
	}
	mirrors[0].SetFault(testregistry.Fault{Method: http.MethodGet, Act: testregistry.Status, Code: 502})
	if got, err := b.tags(); err != nil || !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("ListTags = %v, %v, want the host's own", got, err)
	}

	b, mirrors = mirrored(t, nil, nil)
	tag(b.reg, b.loc.Path, "a", "b", "c")
	tag(mirrors[0], b.loc.Path, "x", "y", "z")
	mirrors[0].SetFault(testregistry.Fault{Method: http.MethodGet, Act: testregistry.Cut, At: 30, Times: 1})
	if got, err := b.tags(); err == nil && !slices.Equal(got, []string{"a", "b", "c"}) || err != nil && !errors.Is(err, syscall.EIO) {
		t.Errorf("ListTags of what broke off = %v, %v", got, err)
	}
	if got, err := b.tags(); err != nil || !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("ListTags after it = %v, %v, want the host's own", got, err)
	}
}

// TestLiarMakesWay: what a mirror sent wrong, and nobody has seen, the next
// source sends for the same reader; what was seen is an error once, and the
// next to open has it from another source. The liar is not asked again.
func TestLiarMakesWay(t *testing.T) {
	for _, size := range []int{300_000, 6 * mib} {
		b, mirrors := mirrored(t, &fetch.Options{FillBelow: -1}, nil, nil)
		desc, want := b.everywhere(size, mirrors...)
		for _, m := range mirrors {
			m.SetFault(testregistry.Fault{Method: http.MethodGet, Kind: testregistry.Blob, Act: testregistry.FlipBit, At: 200_000})
		}
		o := b.object(desc)
		if err := o.Commit(ctx(t)); err != nil {
			t.Fatalf("%d bytes: Commit = %v\n%s", size, err, b.log)
		}
		check(t, o, want, 0, desc.Size)
		b.reg.Forget()
		other, wantOther := b.everywhere(200_001, mirrors...)
		mirrors[0].ClearFaults()
		check(t, b.object(other), wantOther, 0, other.Size)
		if b.reg.Sent(other.Digest) != 0 {
			t.Error("who lied about one object is not asked for another")
		}
		for i, m := range mirrors {
			if got := m.Sent(desc.Digest); got != desc.Size {
				t.Errorf("mirror %d sent %d bytes of %d", i, got, desc.Size)
			}
		}
	}
	b, mirrors := mirrored(t, &fetch.Options{FillBelow: -1}, nil)
	desc, want := b.everywhere(6*mib, mirrors...)
	mirrors[0].SetFault(testregistry.Fault{Method: http.MethodGet, Kind: testregistry.Blob, Act: testregistry.FlipBit, At: 3*mib + 5})
	o := b.object(desc)
	check(t, o, want, 0, 1000)
	if err := o.Verify(ctx(t)); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Verify = %v, want EIO, for a part was seen", err)
	}
	heal(t, b, desc, want)
	if got := b.reg.Sent(desc.Digest); got != desc.Size {
		t.Errorf("the host itself sent %d bytes of %d", got, desc.Size)
	}
}
