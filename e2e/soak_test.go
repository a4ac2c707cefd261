package e2e_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/e2e/formats"
	"distfs/internal/testlayer"
	"distfs/internal/testregistry"
)

var (
	soakTime   = flag.Duration("soak", 0, "how long TestSoak runs; 0 skips it")
	soakRound  = flag.Duration("soak-round", 5*time.Second, "how long each part of a round of it lasts")
	metricsURL = regexp.MustCompile(`http://[0-9.:]+/metrics`)
)

// TestSoak uses a mount for a long time: reads, stats and listings of images in
// every format by several at once, while the registry now and then misbehaves, and
// other mounts come and go beside it. Every byte that is read is compared. Without a
// fault no call may fail, and what the daemon takes may not grow.
func TestSoak(t *testing.T) {
	if *soakTime == 0 {
		t.Skip("not asked for: see make soak")
	}
	needFUSE(t)
	s := newSoak(t)
	for end := time.Now().Add(*soakTime); time.Now().Before(end) && !t.Failed(); {
		s.work(false)
		s.misbehave()
		s.recover()
		s.remount()
		s.sample()
	}
	t.Logf("%d calls, %d of them failed while the registry misbehaved, %d MiB read, %d rounds", s.calls.Load(), s.failed.Load(), s.read.Load()>>20, len(s.samples))
	s.judge()
}

// A soak is what a mount of all registries is put to.
type soak struct {
	t      *testing.T
	bin    string
	mount  *served
	reg    *testregistry.Registry
	files  map[string]string // what the image has, by path
	names  []string
	chance *rand.Rand

	calls, failed, read atomic.Int64
	samples             []usage
}

const soakRepo = "team/soak"

var soakTags = map[string]formats.Format{"gzip": formats.Gzip, "members": formats.GzipMembers, "zstd": formats.Zstd, "estargz": formats.EStargz, "zchunked": formats.ZstdChunked}

func newSoak(t *testing.T) *soak {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := &soak{t: t, bin: build(t), files: make(map[string]string), chance: rand.New(rand.NewPCG(seed, 0)), reg: testregistry.Start(t, nil)}
	dir := t.TempDir()
	layout := filepath.Join(dir, "layout")
	var tars []string
	for i := range 3 {
		tars = append(tars, filepath.Join(dir, fmt.Sprint(i)))
		writeFile(t, tars[i], testlayer.Tar(t, s.layer(i)...))
	}
	for name := range s.files {
		s.names = append(s.names, name)
	}
	slices.Sort(s.names)
	for tag, f := range soakTags {
		must(t, formats.Add(layout, tag, tars, f))
	}
	addLayout(t, s.reg, layout, soakRepo)
	// A store that is smaller than what is read has it evicted and fetched again.
	s.mount = serve(t, s.bin, filepath.Join(dir, "store"), "--metrics-addr=127.0.0.1:0", "--max-size=48MiB", "--timeout=2s", "--verify=before-read")
	return s
}

// layer makes a layer of files of all sizes, one of them large; some take the
// place of those below.
func (s *soak) layer(n int) (files []testlayer.File) {
	for i := range 200 {
		if i%20 == 0 {
			files = append(files, testlayer.Dir(fmt.Sprintf("d%d", i/20)))
		}
		name, size := fmt.Sprintf("d%d/%d-%d", i/20, i, n*(i%2)), int64(s.chance.IntN(1<<(6+i%12)))
		s.files[name] = string(noise(s.t, uint64(n*1000+i+1), size)) + strings.Repeat(name, int(size)/len(name))
		files = append(files, testlayer.Reg(name, s.files[name]))
	}
	name := fmt.Sprintf("large%d", n)
	s.files[name] = string(noise(s.t, uint64(n+5000), 5<<20)) + strings.Repeat("large ", 1<<20)
	return append(files, testlayer.Reg(name, s.files[name]))
}

// addLayout puts all images of a layout into a repository, under the names that they have there.
func addLayout(t *testing.T, reg *testregistry.Registry, layout, repo string) {
	t.Helper()
	read := func(desc ocispec.Descriptor) []byte {
		b, err := os.ReadFile(filepath.Join(layout, "blobs/sha256", desc.Digest.Encoded()))
		must(t, err)
		return b
	}
	index, err := os.ReadFile(filepath.Join(layout, "index.json"))
	must(t, err)
	for _, desc := range unmarshal[ocispec.Index](t, index).Manifests {
		b := read(desc)
		m := unmarshal[ocispec.Manifest](t, b)
		for _, blob := range append(m.Layers, m.Config) {
			reg.AddBlob(repo, read(blob))
		}
		reg.AddManifest(repo, desc.Annotations[ocispec.AnnotationRefName], desc.MediaType, b)
	}
}

// workers is how many use the mount at once.
const workers = 6

// work has the mount used for a while. Calls may fail only if told so.
func (s *soak) work(mayFail bool) {
	end := time.Now().Add(*soakRound)
	var all sync.WaitGroup
	for range workers {
		r := rand.New(rand.NewPCG(s.chance.Uint64(), 0))
		all.Go(func() {
			for time.Now().Before(end) && !s.t.Failed() {
				root := s.root(s.mount, s.anyTag(r))
				s.calls.Add(1)
				err := s.call(r, root)
				var wrong *wrongError
				switch {
				case err == nil:
				case mayFail && !errors.As(err, &wrong):
					s.failed.Add(1)
				default:
					s.t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func (s *soak) root(m *served, tag string) string {
	return imageDir(m, s.reg.Host(), soakRepo, tag) + "/rootfs"
}

func (s *soak) anyTag(r *rand.Rand) string {
	n := r.IntN(len(soakTags))
	for tag := range soakTags { // whose order is by chance too
		if n--; n < 0 {
			return tag
		}
	}
	return ""
}

// A wrongError is an answer that is wrong, as no fault excuses.
type wrongError struct{ said string }

func (e *wrongError) Error() string { return e.said }

// call does something by chance to a file or a directory.
func (s *soak) call(r *rand.Rand, root string) error {
	name := s.names[r.IntN(len(s.names))]
	path, content := filepath.Join(root, name), s.files[name]
	switch r.IntN(6) {
	case 0:
		return s.readAll(path, content)
	case 1, 2:
		return s.readPart(r, path, content)
	case 3:
		info, err := os.Lstat(path)
		if err == nil && (info.Size() != int64(len(content)) || !info.ModTime().Round(time.Second).Equal(testlayer.Time.Round(time.Second))) {
			return &wrongError{fmt.Sprintf("%s: %d bytes of %v, want %d of %v", path, info.Size(), info.ModTime(), len(content), testlayer.Time)}
		}
		return err
	case 4:
		return s.list(root, fmt.Sprintf("d%d", r.IntN(10)))
	}
	if _, err := os.Lstat(path + ".absent"); !errors.Is(err, os.ErrNotExist) {
		if err == nil {
			return &wrongError{path + ".absent is there"}
		}
		return err
	}
	return nil
}

func (s *soak) readAll(path, content string) error {
	b, err := os.ReadFile(path)
	s.read.Add(int64(len(b)))
	if n := len(b); err == nil && n != len(content) || string(b) != content[:min(n, len(content))] {
		return &wrongError{fmt.Sprintf("%s: %d bytes, or others than its %d", path, n, len(content))}
	}
	return err
}

func (s *soak) readPart(r *rand.Rand, path, content string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buf, off := make([]byte, 1+r.IntN(128<<10)), r.IntN(len(content)+1)
	n, err := f.ReadAt(buf, int64(off))
	s.read.Add(int64(n))
	end := min(off+len(buf), len(content))
	if string(buf[:n]) != content[off:min(off+n, end)] || err == nil && n != len(buf) || errors.Is(err, io.EOF) && off+n != end {
		return &wrongError{fmt.Sprintf("%s: %d bytes at %d (%v), or others than the %d", path, n, off, err, end-off)}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (s *soak) list(root, dir string) error {
	entries, err := os.ReadDir(filepath.Join(root, dir))
	if err != nil {
		return err
	}
	want := 0
	for _, name := range s.names {
		if strings.HasPrefix(name, dir+"/") {
			want++
		}
	}
	if len(entries) != want {
		return &wrongError{fmt.Sprintf("%s has %d names, want %d", filepath.Join(root, dir), len(entries), want)}
	}
	return nil
}

// misbehave has the registry do so while the mount is used.
func (s *soak) misbehave() {
	at := s.chance.Int64N(1 << 20)
	faults := []testregistry.Fault{
		{Act: testregistry.Status, Code: 500},
		{Act: testregistry.Status, Code: 503},
		{Act: testregistry.Status, Code: 429},
		{Act: testregistry.Status, Code: 404},
		{Act: testregistry.Cut, At: at},
		{Act: testregistry.Short, At: at},
		{Act: testregistry.ShortRange, At: at},
		{Act: testregistry.FlipBit, At: at},
		{Act: testregistry.StallBody, At: at},
		{Act: testregistry.StallHeaders},
		{Act: testregistry.WrongTotal, At: 1},
		{Act: testregistry.IgnoreRange},
		{Act: testregistry.HTML},
	}
	if n := s.chance.IntN(len(faults) + 1); n < len(faults) {
		f := faults[n]
		f.Kind = testregistry.Blob
		s.reg.SetFault(f)
	} else {
		s.reg.Stop()
		defer s.reg.Restart()
	}
	s.work(true)
	s.reg.ClearFaults()
	s.reg.Forget() // which requests came, for that list grows
}

// recover waits until all images can be read again.
func (s *soak) recover() {
	end := time.Now().Add(patience)
	for tag := range soakTags {
		name := s.names[s.chance.IntN(len(s.names))]
		for err := errors.New(""); err != nil; {
			if err = s.readAll(filepath.Join(s.root(s.mount, tag), name), s.files[name]); err != nil && time.Now().After(end) {
				s.t.Errorf("the registry is well again, and %s of %s still cannot be read: %v", name, tag, err)
				return
			}
		}
	}
}

// remount mounts one image by itself, on a store of its own, reads some of it and unmounts.
func (s *soak) remount() {
	dir, err := os.MkdirTemp(s.t.TempDir(), "")
	must(s.t, err)
	defer os.RemoveAll(dir)
	one := &served{dir: filepath.Join(dir, "mnt"), user: uint32(os.Getuid())}
	must(s.t, os.Mkdir(one.dir, 0o755), one.start(s.bin, filepath.Join(dir, "store"), []string{s.reg.Host() + "/" + soakRepo + ":" + s.anyTag(s.chance)}))
	for range 50 {
		if err := s.call(s.chance, one.dir); err != nil {
			s.t.Error(err)
		}
	}
	if err := one.stop(); err != nil {
		s.t.Errorf("unmount: %v: %s", err, one.said())
	}
}

// A usage is what the daemon takes.
type usage struct{ kib, fds, goroutines int64 }

// sample notes what the daemon takes at rest: the least of some looks, while what it
// had begun for its readers comes to an end.
func (s *soak) sample() {
	var least usage
	for i := range 20 {
		u, err := s.look()
		must(s.t, err)
		if i == 0 {
			least = u
		}
		least = usage{min(least.kib, u.kib), min(least.fds, u.fds), min(least.goroutines, u.goroutines)}
		time.Sleep(100 * time.Millisecond)
	}
	s.samples = append(s.samples, least)
	s.t.Logf("round %d: %d calls, %.1f MiB, %d fds, %d goroutines", len(s.samples), s.calls.Load(), float64(least.kib)/1024, least.fds, least.goroutines)
}

func (s *soak) look() (u usage, err error) {
	proc := fmt.Sprintf("/proc/%d/", s.mount.cmd.Process.Pid)
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		return u, err
	}
	fds, err := os.ReadDir(proc + "fd")
	if err != nil {
		return u, err
	}
	u.fds = int64(len(fds))
	if u.kib, err = number(status, "VmRSS:"); err != nil {
		return u, err
	}
	resp, err := http.Get(metricsURL.FindString(s.mount.said()))
	if err != nil {
		return u, err
	}
	defer resp.Body.Close()
	metrics, err := io.ReadAll(resp.Body)
	if err != nil {
		return u, err
	}
	u.goroutines, err = number(metrics, "\ngo_goroutines ")
	return u, err
}

// number is the number behind a word.
func number(text []byte, word string) (int64, error) {
	_, rest, ok := bytes.Cut(text, []byte(word))
	fields := bytes.Fields(rest[:min(len(rest), 100)])
	if !ok || len(fields) == 0 {
		return 0, fmt.Errorf("no %q", word)
	}
	return strconv.ParseInt(string(fields[0]), 10, 64)
}

// judge compares the last third of the run with the first.
//
// At 30 minutes some hundred rounds and more than a million calls lie between the
// middles of the two. So 16 MiB, by which a Go heap and what it keeps of pages
// differ from one look to the next, are some 16 bytes a call; 16 descriptors, twice the
// connections to a host that may be kept, are one for each sixth fault; and 32
// goroutines are two for each of those connections and as many for what is still under way.
func (s *soak) judge() {
	third := len(s.samples) / 3
	if third == 0 {
		s.t.Logf("%d rounds are too few to say what grows", len(s.samples))
		return
	}
	for _, c := range []struct {
		what string
		of   func(usage) int64
		room int64
	}{
		{"KiB of memory", func(u usage) int64 { return u.kib }, 16 << 10},
		{"descriptors", func(u usage) int64 { return u.fds }, 16},
		{"goroutines", func(u usage) int64 { return u.goroutines }, 32},
	} {
		first, last := median(s.samples[:third], c.of), median(s.samples[len(s.samples)-third:], c.of)
		s.t.Logf("%s: %d, then %d", c.what, first, last)
		if last > first+c.room {
			s.t.Errorf("%d %s in the first third of the rounds, %d in the last, more than %d above", first, c.what, last, c.room)
		}
	}
}

func median(samples []usage, of func(usage) int64) int64 {
	var all []int64
	for _, u := range samples {
		all = append(all, of(u))
	}
	slices.Sort(all)
	return all[len(all)/2]
}
