package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"distfs/content"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
)

// heldFiles is the key of the files that a script holds open, by path.
type heldFiles struct{}

func heldBy(ts *testscript.TestScript) map[string]*os.File {
	files, _ := ts.Value(heldFiles{}).(map[string]*os.File)
	return files
}

// hold FILE opens the file, and keeps it open.
func cmdHold(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	f, err := os.Open(path)
	ts.Check(err)
	ts.Defer(func() { f.Close() })
	heldBy(ts)[path] = f
}

// held FILE WANT: the file that is held open has the bytes of WANT.
func cmdHeld(ts *testscript.TestScript, _ bool, args []string) {
	got, err := io.ReadAll(heldBy(ts)[ts.MkAbs(args[0])])
	ts.Check(err)
	want, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	if !bytes.Equal(got, want) {
		ts.Fatalf("%s: %d bytes, and not the %d of %s", args[0], len(got), len(want), args[1])
	}
}

// becomes FILE WANT waits until the file, opened anew each time, has the bytes of WANT.
func cmdBecomes(ts *testscript.TestScript, _ bool, args []string) {
	want, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	awaited(ts, strings.Join(args, " becomes "), func() bool {
		got, err := os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && bytes.Equal(got, want) // a failure is the answer for a second
	})
}

// spoilt FILE waits until the file that is held open can't be read any more.
func cmdSpoilt(ts *testscript.TestScript, _ bool, args []string) {
	awaited(ts, "spoilt "+args[0], func() bool {
		_, err := heldBy(ts)[ts.MkAbs(args[0])].ReadAt(make([]byte, 1), 0)
		return errors.Is(err, syscall.EIO)
	})
}

// unhold FILE closes what hold opened.
func cmdUnhold(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(heldBy(ts)[ts.MkAbs(args[0])].Close())
}

// evictable DIGEST waits until the blob is there and no process has it open.
func cmdEvictable(ts *testscript.TestScript, _ bool, args []string) {
	store, err := content.Open(ts.Getenv("DISTFS_STORE"))
	ts.Check(err)
	defer store.Close()
	awaited(ts, "evictable "+args[0], func() bool {
		free := false
		_, err := store.Evict(content.EvictOptions{MaxSize: -1, DryRun: true, Each: func(e content.Evicted) error {
			free = free || e.Digest.String() == args[0] && !e.Partial
			return nil
		}})
		ts.Check(err)
		return free
	})
}

// lastused DIGEST AGE makes a blob one that was last used so long ago.
func cmdLastUsed(ts *testscript.TestScript, _ bool, args []string) {
	age, err := time.ParseDuration(args[1])
	ts.Check(err)
	then := time.Now().Add(-age)
	dgst := digest.Digest(args[0])
	ts.Check(os.Chtimes(filepath.Join(ts.Getenv("DISTFS_STORE"), "blobs", dgst.Algorithm().String(), dgst.Encoded()), then, then))
}

// image DIGEST [NAME] enters an image into the store's index.json, whole or not,
// as another tool does it, or makes one of it that has no name, and is the only
// one.
func cmdImage(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.Getenv("DISTFS_STORE")
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(args[0])}
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	if len(args) > 1 {
		info, err := os.Stat(filepath.Join(dir, "blobs", desc.Digest.Algorithm().String(), desc.Digest.Encoded()))
		ts.Check(err)
		desc.Size, desc.Annotations = info.Size(), map[string]string{ocispec.AnnotationRefName: args[1]}
		b, err := os.ReadFile(filepath.Join(dir, "index.json"))
		ts.Check(err)
		ts.Check(json.Unmarshal(b, &index))
	} else {
		desc.MediaType = ""
	}
	index.Manifests = append(index.Manifests, desc)
	b, err := json.Marshal(index)
	ts.Check(err)
	ts.Check(os.WriteFile(filepath.Join(dir, "index.json"), b, 0o600))
}

// damage DIGEST changes a byte of a blob where it lies.
func cmdDamage(ts *testscript.TestScript, _ bool, args []string) {
	dgst := digest.Digest(args[0])
	path := filepath.Join(ts.Getenv("DISTFS_STORE"), "blobs", dgst.Algorithm().String(), dgst.Encoded())
	ts.Check(os.Chmod(path, 0o600))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	ts.Check(err)
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], 0)
	ts.Check(err)
	b[0] ^= 1
	_, err = f.WriteAt(b[:], 0)
	ts.Check(err)
	ts.Check(os.Chmod(path, 0o444))
}

// opened FILE waits until a process has the file open.
func cmdOpened(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	awaited(ts, "opened "+path, func() bool {
		fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
		return slices.ContainsFunc(fds, func(fd string) bool {
			to, err := os.Readlink(fd)
			return err == nil && to == path
		})
	})
}

// ingesting KEY waits until an ingest by that key is there.
func cmdIngesting(ts *testscript.TestScript, _ bool, args []string) {
	awaited(ts, "ingesting "+args[0], func() bool {
		store, err := content.Open(ts.Getenv("DISTFS_STORE"))
		ts.Check(err)
		defer store.Close()
		all, err := store.Ingests()
		ts.Check(err)
		return slices.ContainsFunc(all, func(s content.Status) bool { return s.Ref == args[0] })
	})
}

// pin DIGEST pins it in the store.
func cmdPin(ts *testscript.TestScript, _ bool, args []string) {
	store, err := content.Open(ts.Getenv("DISTFS_STORE"))
	ts.Check(err)
	defer store.Close()
	ts.Check(store.Pin(digest.Digest(args[0])))
}
