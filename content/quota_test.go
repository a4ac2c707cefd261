package content_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"distfs/content"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

func added(tb testing.TB, q *content.Quota, n int64) {
	tb.Helper()
	if err := q.Added(n); err != nil {
		tb.Fatal(err)
	}
}

// What is added beyond the quota makes the least recently used go, some of it ahead.
func TestQuota(t *testing.T) {
	s := newStore(t)
	q := content.NewQuota(s, 1<<20)
	for i := range 1000 {
		plant(t, s, randomBytes(uint64(i), 16<<10), time.Duration(2000-i)*time.Second)
		added(t, q, 16<<10)
		if size := sizeOnDisk(t, s); size > 1<<20+1<<15 {
			t.Fatalf("%d bytes on disk after blob %d, want at most a MiB and a 32nd", size, i)
		}
	}
	if size := sizeOnDisk(t, s); size < 1<<20-1<<16-16<<10 {
		t.Errorf("%d bytes are left of a MiB", size)
	}
	for i := 1000 - 55; i < 1000; i++ {
		if _, err := s.Stat(digest.FromBytes(randomBytes(uint64(i), 16<<10))); err != nil {
			t.Error(err)
		}
	}
	if q.Full() {
		t.Errorf("Full, and all can be evicted")
	}
}

// Where all is in use the quota is full, until it is looked at again.
func TestQuotaFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		q := content.NewQuota(s, 64<<10)
		var releases []func()
		for _, dgst := range plantSome(t, s, 9) {
			releases = append(releases, hold(t, s, dgst))
		}
		if q.Full() {
			t.Errorf("Full before anything was added")
		}
		added(t, q, 72<<10)
		if !q.Full() {
			t.Errorf("not Full with 72 KiB in use of 64")
		}
		time.Sleep(11 * time.Second)
		if !q.Full() {
			t.Errorf("not Full with 72 KiB still in use of 64")
		}
		for _, release := range releases {
			release()
		}
		added(t, q, 1) // it is not looked at again that soon
		if !q.Full() || sizeOnDisk(t, s) != 72<<10 {
			t.Errorf("not Full, or looked at again at once")
		}
		time.Sleep(11 * time.Second)
		if q.Full() {
			t.Errorf("Full with nothing in use")
		}
		if size := sizeOnDisk(t, s); size > 60<<10 {
			t.Errorf("%d bytes are left, want a 16th to be free of 64 KiB", size)
		}
	})
}

// What other processes add is seen after a while.
func TestQuotaMeasuresAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		q := content.NewQuota(s, 640<<10)
		added(t, q, 1)
		plantSome(t, s, 100)
		added(t, q, 1)
		if size := sizeOnDisk(t, s); size != 800<<10 {
			t.Errorf("%d bytes: measured for each byte that is added", size)
		}
		time.Sleep(31 * time.Second)
		added(t, q, 1)
		if size := sizeOnDisk(t, s); size != 600<<10 {
			t.Errorf("%d bytes after 30 s, want 600 KiB", size)
		}
	})
}

func TestQuotaRoom(t *testing.T) {
	s := newStore(t)
	plantSome(t, s, 20)
	q := content.NewQuota(s, 1<<20)
	if ok, err := q.Room(20 << 10); !ok || err != nil {
		t.Errorf("Room = %v, %v", ok, err)
	}
	// 20 KiB are asked for; a 16th of the quota is evicted.
	if size := sizeOnDisk(t, s); size != 160<<10-64<<10 {
		t.Errorf("%d bytes are left", size)
	}
	if ok, err := q.Room(1 << 20); ok || err != nil {
		t.Errorf("Room for more than there is = %v, %v", ok, err)
	}
}

func TestNoQuota(t *testing.T) {
	s := newStore(t)
	plantSome(t, s, 2)
	for _, q := range []*content.Quota{nil, {}, content.NewQuota(s, 0)} {
		added(t, q, 1<<40)
		if ok, err := q.Room(1); q.Full() || ok || err != nil {
			t.Errorf("without a limit: Full = %v, Room = %v, %v", q.Full(), ok, err)
		}
	}
	if size := sizeOnDisk(t, s); size != 16<<10 {
		t.Errorf("%d bytes are left, want all", size)
	}
}

// That it can't be said what must stay makes the quota full.
func TestQuotaError(t *testing.T) {
	s := newStore(t)
	plantSome(t, s, 2)
	if err := os.WriteFile(s.Dir()+"/index.json", []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	q := content.NewQuota(s, 1)
	if err := q.Added(16 << 10); err == nil || !q.Full() {
		t.Errorf("Added = %v, Full = %v beside half an index.json", err, q.Full())
	}
}

const (
	quotaSize  = 8 * mib
	quotaBlobs = 40 // of up to a MiB
)

func quotaBlob(i int) []byte { return randomBytes(uint64(i), 200_000+i*20_000) }

// quotaChild opens and reads blobs at random under a quota, and fetches those that aren't there.
func quotaChild(args []string) error {
	s, err := content.Open(args[0])
	if err != nil {
		return err
	}
	rounds, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	q := content.NewQuota(s, quotaSize)
	for range rounds {
		if err := readOrFetch(s, q, quotaBlob(rand.IntN(quotaBlobs))); err != nil {
			return err
		}
		fmt.Println("read")
	}
	return nil
}

// readOrFetch reads b from s as a mount does: held, then opened, else fetched.
func readOrFetch(s *content.Store, q *content.Quota, b []byte) error {
	dgst := digest.FromBytes(b)
	release, err := s.Hold(dgst)
	if err != nil {
		return err
	}
	defer release()
	f, err := s.Blob(dgst)
	if errors.Is(err, iofs.ErrNotExist) {
		if err := fetch(s, b); err != nil {
			return err
		}
		if err := q.Added(int64(len(b))); err != nil {
			return err
		}
		f, err = s.Blob(dgst)
	}
	if err != nil {
		return fmt.Errorf("it is held: %w", err)
	}
	defer f.Close()
	got, err := io.ReadAll(f)
	if err == nil && !bytes.Equal(got, b) {
		err = fmt.Errorf("blob %s: other bytes", dgst)
	}
	if _, gone := s.Stat(dgst); err == nil && gone != nil {
		err = fmt.Errorf("evicted while it was held: %w", gone)
	}
	return err
}

// Three processes read and fetch what together is thrice their quota, one of them is killed and another one evicts all the
// time: nothing goes that is held, nothing comes back wrong, and the size stays.
func TestQuotaOfProcesses(t *testing.T) {
	s := newStore(t)
	var cmds []*exec.Cmd
	for range 2 {
		cmd := child(t, "quota", s.Dir(), "150")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, cmd)
	}
	killed := child(t, "quota", s.Dir(), "150")
	out, err := killed.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for range 40 {
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait()
	ended := make(chan error, 2)
	for _, cmd := range cmds {
		go func() { ended <- cmd.Wait() }()
	}
	var largest int64
	for left, i := 2, 0; left > 0; i++ {
		select {
		case err := <-ended:
			left--
			if err != nil {
				t.Error(err)
			}
		default:
			largest = max(largest, diskUsage(t, s.Dir()))
			if i%5 > 0 {
				continue // the others are to come to it too
			}
			if _, err := s.Evict(content.EvictOptions{Free: 1}); err != nil && !errors.Is(err, content.ErrEvicting) {
				t.Fatal(err)
			}
		}
	}
	// Each process may add a part of the quota, and has a blob open, before it looks; what one is fetching counts twice.
	if limit := int64(quotaSize + 3*quotaSize/32 + 6*mib); largest > limit {
		t.Errorf("the store had %d bytes, want at most %d", largest, limit)
	}
	if largest < quotaSize/4 {
		t.Errorf("the store had never more than %d bytes", largest)
	}
	infos, err := s.Blobs()
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range infos {
		b, err := os.ReadFile(blobPath(s, info.Digest))
		if err != nil || digest.FromBytes(b) != info.Digest {
			t.Errorf("blob %s: %d bytes, %v", info.Digest, len(b), err)
		}
	}
}

// diskUsage is what all files below dir have on disk.
func diskUsage(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ iofs.DirEntry, _ error) error {
		var st unix.Stat_t
		if unix.Lstat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG { // else it is gone
			n += st.Blocks * 512
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
