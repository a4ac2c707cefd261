package fs_test

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// tagList gives repo a list of n tags, and returns what .tags is to read as.
func (s *source) tagList(n int) []byte {
	var want []byte
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("v1.%d", i)
		want = append(append(want, list[i]...), '\n')
	}
	s.set(func(s *source) { s.lists = map[string][]string{repo: list} })
	return want
}

const tagList = repo + "/.tags"

func TestTagList(t *testing.T) {
	src := newSource(t)
	want := src.tagList(30_000)
	src.add(repo, "", content(1, 10)).complete(t)
	m := mountSource(t, src, nil)
	if st := m.stat(m.path(tagList)); st.Size != 0 || st.Mode != unix.S_IFREG|0o444 {
		t.Errorf("stat: size %d, mode %o, want 0 and a file", st.Size, st.Mode)
	}
	if out := run(t, "find", m.dir, "-name", ".tags"); out != "" {
		t.Errorf("find sees %s", out)
	}
	if got := src.requests(); len(got) > 0 {
		t.Errorf("naming it asked %q", got)
	}
	m.wantRead(m.path(tagList), want)
	if got := src.requests(); len(got) != 31 {
		t.Errorf("reading it asked %d times, want once a page", len(got))
	}

	// A page is asked for when it is read.
	if out := run(t, "head", "-c", "100", m.path(tagList)); out != string(want[:100]) {
		t.Errorf("head reads %q", out)
	}
	if got := src.requests(); len(got) > 2 {
		t.Errorf("its beginning asked %d times", len(got))
	}
	if out := run(t, "sh", "-c", `wc -c <"$1"; tail -n1 "$1"; dd if="$1" bs=1000 skip=200 count=1 status=none | cksum`, "sh", m.path(tagList)); !strings.HasPrefix(out, fmt.Sprintf("%d\nv1.29999\n", len(want))) {
		t.Errorf("wc and tail say %s", out)
	}
}

// TestTagListAtOffsets reads one handle there and back again: the bytes are the same.
func TestTagListAtOffsets(t *testing.T) {
	src := newSource(t)
	want := src.tagList(30_000)
	m := mountSource(t, src, nil)
	fd, err := call[string, int](m.agent, "Open", m.path(tagList))
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{0, 100_000, 99_000, 200_000, 0, 250_000, int64(len(want)) - 10, int64(len(want)) + 5} {
		got, err := call[FileRange, []byte](m.agent, "Pread", FileRange{fd, off, 1000})
		from := min(off, int64(len(want)))
		if wanted := want[from:min(from+1000, int64(len(want)))]; err != nil || string(got) != string(wanted) {
			t.Errorf("at %d: %.40q, %v, want %.40q", off, got, err, wanted)
		}
	}
	// Not for ever.
	src.requests()
	var ended error
	for range 20 {
		for _, off := range []int64{0, 200_000} {
			if _, err := call[FileRange, []byte](m.agent, "Pread", FileRange{fd, off, 10}); err != nil {
				ended = err
			}
		}
	}
	if !errors.Is(ended, syscall.EIO) {
		t.Errorf("who reads to and fro for ever gets %v, want EIO", ended)
	}
	if n := len(src.requests()); n > 20*31 {
		t.Errorf("it asked %d times", n)
	}
}

// TestTagListFails has errors come to programs, behind what was there before.
func TestTagListFails(t *testing.T) {
	src := newSource(t)
	want := src.tagList(2500)
	m := mountSource(t, src, nil)
	if _, err := m.read(m.path("reg.example/team/none/.tags")); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("tags of no repository: %v, want ENOENT", err)
	}
	fd, err := call[string, int](m.agent, "Open", m.path(tagList))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := call[FileRange, []byte](m.agent, "Pread", FileRange{fd, 0, 100}); err != nil || string(got) != string(want[:100]) {
		t.Fatalf("the beginning is %q, %v", got, err)
	}
	src.set(func(s *source) { s.refuse = fmt.Errorf("a page with nothing new: %w", syscall.EIO) })
	got, err := call[FileRange, []byte](m.agent, "Pread", FileRange{fd, 0, -1})
	if !errors.Is(err, syscall.EIO) {
		t.Errorf("a list that fails ends after %d bytes with %v, want EIO", len(got), err)
	}
	if log := m.log.String(); !strings.Contains(log, "nothing new") || !strings.Contains(log, tagList) {
		t.Errorf("the log does not say why: %s", log)
	}
	src.set(func(s *source) { s.refuse = nil })
	if got, err := call[FileRange, []byte](m.agent, "Pread", FileRange{fd, 0, -1}); err != nil || string(got) != string(want) {
		t.Errorf("once it does not fail: %d bytes, %v, want %d", len(got), err, len(want))
	}
}

// TestTagListInterrupted sends ^C to a reader of what does not come.
func TestTagListInterrupted(t *testing.T) {
	src := newSource(t)
	want := src.tagList(2500)
	m := mountSource(t, src, nil)
	src.set(func(s *source) { s.block = make(chan struct{}) })
	cmd := exec.Command("cat", m.path(tagList))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	src.waitForRequest(t)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	wantExit(t, cmd)
	src.set(func(s *source) { s.block = nil })
	m.wantRead(m.path(tagList), want)
}
