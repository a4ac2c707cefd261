package main_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	distfs "distfs/cmd/distfs"
)

// source makes a file of n random bytes.
func source(tb testing.TB, n int64) (*os.File, []byte) {
	tb.Helper()
	want := make([]byte, n)
	if _, err := rand.NewChaCha8([32]byte{1}).Read(want); err != nil {
		tb.Fatal(err)
	}
	name := filepath.Join(tb.TempDir(), "src")
	if err := os.WriteFile(name, want, 0o600); err != nil {
		tb.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { f.Close() })
	return f, want
}

func TestSendToFile(t *testing.T) {
	src, want := source(t, 3<<20+17)
	for name, flags := range map[string]int{"written": os.O_RDWR, "appended": os.O_RDWR | os.O_APPEND} {
		dst, err := os.OpenFile(filepath.Join(t.TempDir(), "dst"), flags|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer dst.Close()
		for off := int64(0); off < int64(len(want)); {
			n := min(1<<20+5, int64(len(want))-off)
			if err := distfs.Send(t.Context(), dst, src, off, n); err != nil {
				t.Fatalf("%s: Send(%d, %d) = %v", name, off, n, err)
			}
			off += n
		}
		if got, err := os.ReadFile(dst.Name()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: other bytes, %v", name, err)
		}
	}
}

// Several descriptors of one open file have one position, as several processes
// have that began with one standard output.
func TestSendShared(t *testing.T) {
	src, want := source(t, 1<<20+17)
	dst, err := os.Create(filepath.Join(t.TempDir(), "dst"))
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	var wg sync.WaitGroup
	const times = 10
	for range times {
		fd, err := syscall.Dup(int(dst.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			f := os.NewFile(uintptr(fd), "dup")
			if err := errors.Join(distfs.Send(t.Context(), f, src, 0, int64(len(want))), f.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got, err := os.ReadFile(dst.Name()); err != nil || !bytes.Equal(got, bytes.Repeat(want, times)) {
		t.Errorf("mixed up, %v", err)
	}
}

func TestSendToPipe(t *testing.T) {
	src, want := source(t, 3<<20+17)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	sent := make(chan error, 1)
	go func() { sent <- errors.Join(distfs.Send(t.Context(), w, src, 5, int64(len(want))-5), w.Close()) }()
	got, err := io.ReadAll(r)
	if err := errors.Join(err, <-sent); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want[5:]) {
		t.Error("other bytes")
	}
}

func TestSendFails(t *testing.T) {
	src, want := source(t, 1<<20)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if err := distfs.Send(t.Context(), full, src, 0, 1); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Send to a full disk = %v, want ENOSPC", err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := distfs.Send(t.Context(), null, src, 1, int64(len(want))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Send beyond the end = %v, want an unexpected EOF", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	if err := distfs.Send(t.Context(), w, src, 0, 1); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("Send to a pipe without a reader = %v, want EPIPE", err)
	}
}

// TestSendEnds with its context, to whatever it sends.
func TestSendEnds(t *testing.T) {
	src, want := source(t, 1<<20)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, name := range []string{os.DevNull, filepath.Join(t.TempDir(), "file")} {
		dst, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(distfs.Send(ctx, dst, src, 0, int64(len(want))), dst.Close()); !errors.Is(err, context.Canceled) {
			t.Errorf("Send to %s = %v, want context.Canceled", name, err)
		}
	}
}
