package fetch_test

import (
	"context"
	"errors"
	iofs "io/fs"
	"syscall"
	"testing"
	"time"

	"distfs/fetch"
	"distfs/locator"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestForeignHeld: that a manifest names a foreign layer gives nobody the bytes
// of another repository. One of the urls has to have it.
func TestForeignHeld(t *testing.T) {
	b := setup(t, nil, nil)
	want := random(1000, 11)
	b.reg.AddBlob("other/secret", want)
	desc := foreignLayer(want)
	here := b.loc
	b.loc = locator.Locator{Host: here.Host, Path: "other/secret"}
	if err := b.object(desc).Commit(ctx(t)); err != nil { // before that it is of that repository alone
		t.Fatal(err)
	}
	b.loc = here
	no, yes := web(t, answers(404)), web(t, has(want))
	desc.URLs = []string{no.URL}
	if err := b.readAll(desc); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("without a url that has it: %v", err)
	}
	desc.URLs = []string{yes.URL}
	if err := b.readAll(desc); err != nil {
		t.Errorf("with one that has it: %v", err)
	}
	if n := len(yes.asked()); n != 1 {
		t.Errorf("what is held cost %d requests, want 1", n)
	}
}

// TestForeignJoined: who has the layer open already, by a name without urls, has
// it from them too once somebody brings them.
func TestForeignJoined(t *testing.T) {
	b := setup(t, nil, &fetch.Options{FillBelow: -1})
	want := random(9*mib, 12)
	there := web(t, has(want))
	desc := foreignLayer(want, there.URL)
	check(t, b.object(desc), want, 0, 10)
	b.shut()
	b.open(&fetch.Options{FillBelow: -1})
	bare := b.object(ocispec.Descriptor{Digest: desc.Digest, Size: desc.Size})
	if _, err := bare.ReadAt(ctx(t), make([]byte, 10), 5*mib); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("without urls: %v", err)
	}
	check(t, b.object(desc), want, 7*mib, 10)
	check(t, bare, want, 3*mib, 10)
}

// TestForeignShared: what a manifest of one repository has fetched from a url of its
// author's is no byte of another repository of the host: not in this process, not
// in another, and not by what was left behind.
func TestForeignShared(t *testing.T) {
	b := setup(t, nil, &fetch.Options{FillBelow: -1})
	want := random(9*mib, 16)
	lie := web(t, has(random(9*mib, 17)))
	theirs, ours := b.loc, locator.Locator{Host: b.loc.Host, Path: "library/model"}
	b.reg.AddBlob(ours.Path, want)
	desc := foreignLayer(want, lie.URL)
	poison := func() {
		t.Helper()
		b.loc = theirs
		if _, err := b.object(desc).ReadAt(ctx(t), make([]byte, 10), 0); err != nil {
			t.Fatal(err)
		}
		b.loc = ours
	}
	poison()
	check(t, b.object(ocispec.Descriptor{Digest: desc.Digest}), want, 0, 10)
	b.shut()
	b.open(&fetch.Options{FillBelow: -1})
	check(t, b.object(ocispec.Descriptor{Digest: desc.Digest}), want, 0, 10)
	poison()
	check(t, b.object(ocispec.Descriptor{Digest: desc.Digest}), want, 0, 9*mib)
}

// TestForeignLies: that another repository's manifest names urls of the same layer, which
// nobody found to lie, does not have a liar asked for ever.
func TestForeignLies(t *testing.T) {
	b := setup(t, nil, &fetch.Options{FillBelow: -1})
	want := random(1000, 18)
	other, lie := web(t, has(want)), web(t, has(random(1000, 19)))
	here := b.loc
	b.loc.Path = "library/other"
	b.object(foreignLayer(want, other.URL))
	b.loc = here
	o := b.object(foreignLayer(want, lie.URL))
	c, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- o.Verify(c) }()
	for {
		select {
		case err := <-done:
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("Verify = %v, want EIO", err)
			}
			return
		case <-time.After(time.Millisecond):
		}
		if n := len(lie.asked()); n > 20 {
			t.Fatalf("who lied was asked %d times", n)
		}
	}
}
