package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"distfs/content"
	"distfs/internal/testregistry"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A bench is a store and commands on it.
type bench struct {
	t     *testing.T
	dir   string
	store *content.Store
}

func newBench(t *testing.T) *bench {
	t.Helper()
	dir := t.TempDir()
	store, err := content.Open(filepath.Join(dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return &bench{t, dir, store}
}

// command is distfs with args, standard input from the file stdin.
func (b *bench) command(stdin string, args ...string) *exec.Cmd {
	b.t.Helper()
	cmd := exec.CommandContext(b.t.Context(), "distfs", args...)
	cmd.Env = append(os.Environ(), "DISTFS_STORE="+b.store.Dir(), "HOME="+b.dir, "XDG_CONFIG_HOME="+b.dir)
	if stdin != "" {
		f, err := os.Open(stdin)
		if err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(func() { f.Close() })
		cmd.Stdin = f
	}
	return cmd
}

// run returns what distfs prints.
func (b *bench) run(stdin string, args ...string) (string, error) {
	b.t.Helper()
	cmd := b.command(stdin, args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if err != nil {
		err = errors.Join(err, errors.New(said.String()))
	}
	return out.String(), err
}

// file makes a file of n random bytes.
func (b *bench) file(name string, n int) (path string, dgst digest.Digest) {
	b.t.Helper()
	body := make([]byte, n)
	if _, err := io.ReadFull(rand.NewChaCha8([32]byte{byte(len(name)), name[0], byte(n)}), body); err != nil {
		b.t.Fatal(err)
	}
	path = filepath.Join(b.dir, name)
	if err := os.WriteFile(path, body, 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path, digest.FromBytes(body)
}

// ingest returns how far the ingest by key is; false if there is none.
func (b *bench) ingest(key string) (int64, bool) {
	b.t.Helper()
	all, err := b.store.Ingests()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, s := range all {
		if s.Ref == key {
			return s.Offset, true
		}
	}
	return 0, false
}

// killed starts an ingest by key and kills it on its way, and returns how far it came.
func (b *bench) killed(key, path string, args ...string) int64 {
	b.t.Helper()
	for range 20 { // it may end before
		cmd := b.command(path, append([]string{"ingest", key}, args...)...)
		b.killWhen(cmd, func() bool {
			off, _ := b.ingest(key)
			return off >= 2*content.ChunkSize
		})
		if off, ok := b.ingest(key); ok && off > 0 {
			return off
		}
		blobs, err := b.store.Blobs()
		if err != nil {
			b.t.Fatal(err)
		}
		for _, info := range blobs {
			if err := b.store.Delete(info.Digest); err != nil {
				b.t.Fatal(err)
			}
		}
	}
	b.t.Fatal("it always ended before it was killed")
	return 0
}

// killWhen starts cmd and kills it as soon as it is time, unless it ended before.
func (b *bench) killWhen(cmd *exec.Cmd, time func() bool) {
	b.t.Helper()
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // killed, or not
		close(ended)
	}()
	for running := true; running && !time(); {
		select {
		case <-ended:
			running = false
		default:
		}
	}
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		b.t.Error(err)
	}
	<-ended
}

// A killed ingest goes on where it was if its input can seek: what lies before is not read again where the digest tells
// that it was right, and else held against what is here.
func TestIngestGoesOnAfterAKill(t *testing.T) {
	const size = 32 << 20
	b := newBench(t)
	path, want := b.file("file", size)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(whole)
	changed[0] ^= 1
	changedPath := filepath.Join(b.dir, "changed")
	if err := os.WriteFile(changedPath, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	holds := func(body []byte) {
		t.Helper()
		dgst := digest.FromBytes(body)
		f, err := b.store.Blob(dgst)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, body) {
			t.Errorf("blob %s has %d other bytes, %v", dgst, len(got), err)
		}
		if out, err := b.run("", "verify"); err != nil || out != "" {
			t.Errorf("verify = %q, %v", out, err)
		}
		if err := b.store.Delete(dgst); err != nil {
			t.Fatal(err)
		}
	}
	expected := []string{"--expected-digest", string(want)}
	for _, tt := range []struct {
		name  string
		first []string // the flags of the one that is killed
		path  string   // what is taken in then
		then  []string
		body  []byte
	}{
		{"the same", nil, path, nil, whole},
		{"the same, by digest", expected, path, expected, whole},
		{"only its rest is the same, by digest: it goes on", expected, changedPath, expected, whole},
		{"another file: it begins again", nil, changedPath, nil, changed},
	} {
		off := b.killed("key", path, tt.first...)
		t.Logf("%s: killed at %d MiB", tt.name, off>>20)
		if blobs, err := b.store.Blobs(); err != nil || len(blobs) > 0 {
			t.Errorf("%s: killed, the store has %v, %v", tt.name, blobs, err)
		}
		out, err := b.run(tt.path, append([]string{"ingest", "key"}, tt.then...)...)
		if err != nil || strings.TrimSpace(out) != digest.FromBytes(tt.body).String() {
			t.Fatalf("%s: ingest = %q, %v", tt.name, out, err)
		}
		holds(tt.body)
	}

	// A pipe begins again, and gets it right.
	b.killed("key", path)
	cmd := b.command("", "ingest", "key", "--expected-size", strconv.Itoa(size))
	cmd.Stdin = struct{ io.Reader }{bytes.NewReader(changed)}
	if out, err := cmd.Output(); err != nil || strings.TrimSpace(string(out)) != digest.FromBytes(changed).String() {
		t.Errorf("by a pipe: ingest = %q, %v", out, err)
	}
	holds(changed)
}

// Commands are killed at any moment, some at a time. What they leave is right, and the next run ends well.
func TestStoreCommandsKilled(t *testing.T) {
	rounds := 10 // of three commands
	if testing.Short() {
		rounds = 3
	}
	b := newBench(t)
	type input struct {
		path string
		dgst digest.Digest
	}
	var inputs []input
	for i := range 3 {
		path, dgst := b.file("in"+strconv.Itoa(i), (i+1)*5<<20+i)
		inputs = append(inputs, input{path, dgst})
	}
	killed := 0
	for round := range rounds {
		in := inputs[round%len(inputs)]
		ingest := b.command(in.path, "ingest", "key"+strconv.Itoa(round%len(inputs)))
		if round%2 == 0 {
			ingest.Args = append(ingest.Args, "--expected-digest", string(in.dgst))
		}
		cmds := []*exec.Cmd{ingest, b.command("", "verify", "--repair"), b.command("", "prune", "--max-size", "8M")}
		for _, cmd := range cmds {
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
		}
		for range rand.IntN(4000) { // a while, by what there is to see
			if _, err := b.store.Ingests(); err != nil {
				t.Fatal(err)
			}
		}
		for _, i := range rand.Perm(len(cmds)) {
			if err := cmds[i].Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Fatal(err)
			}
		}
		for _, cmd := range cmds {
			_ = cmd.Wait() // killed, or not
			if !cmd.ProcessState.Exited() {
				killed++
			}
		}
		b.wantRight()
	}
	t.Logf("%d of %d were killed before their end", killed, 3*rounds)
	for i, in := range inputs {
		out, err := b.run(in.path, "ingest", "key"+strconv.Itoa(i))
		if err != nil || strings.TrimSpace(out) != string(in.dgst) {
			t.Errorf("ingest key%d = %q, %v, want %s", i, out, err, in.dgst)
		}
	}
	if out, err := b.run("", "verify"); err != nil || out != "" {
		t.Errorf("verify = %q, %v", out, err)
	}
	if out, err := b.run("", "active", "-o", "json"); err != nil || out != "[]\n" {
		t.Errorf("active = %q, %v", out, err)
	}
	if _, err := b.run("", "prune", "--all"); err != nil {
		t.Error(err)
	}
	if blobs, err := b.store.Blobs(); err != nil || len(blobs) > 0 {
		t.Errorf("after prune --all the store has %v, %v", blobs, err)
	}
}

// A repair that is killed at any moment is ended by the next one, whatever it left: the bad blob in its place, moved aside,
// or fetched in part.
func TestRepairKilled(t *testing.T) {
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	b := newBench(t)
	reg := testregistry.Start(t, nil)
	dgst := reg.AddSynthetic("models/big", testregistry.Synthetic{Seed: 1, Size: 12<<20 + 5})
	fetch := []string{"fetch-object", reg.Host() + "/models/big", string(dgst)}
	body, err := b.run("", fetch...)
	if err != nil || digest.FromString(body) != dgst {
		t.Fatalf("fetch-object wrote %d bytes, %v", len(body), err)
	}
	path := filepath.Join(b.store.Dir(), "blobs", "sha256", dgst.Encoded())
	aside := func() bool {
		_, err := os.Stat(filepath.Join(b.store.Dir(), "bad", "sha256-"+dgst.Encoded()))
		return err == nil
	}
	offset := func() int64 {
		off, _ := b.ingest(reg.Host() + "/models/big@" + string(dgst))
		return off
	}
	stages := []func() bool{
		aside,
		func() bool { return offset() > 0 },
		func() bool { return rand.IntN(1000) == 0 },
	}
	for round := range rounds {
		if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("rotten"), 0o600)); err != nil {
			t.Fatal(err)
		}
		cmd := b.command("", "verify", "--repair")
		b.killWhen(cmd, stages[round%len(stages)])
		t.Logf("killed at %d MiB, moved aside: %t", offset()>>20, aside())
		if out, err := b.run("", "verify", "--repair"); err != nil {
			t.Fatalf("verify --repair = %q, %v", out, err)
		}
		got, err := b.run("", "get", string(dgst))
		if err != nil || got != body {
			t.Fatalf("get wrote %d bytes, %v", len(got), err)
		}
		if out, err := b.run("", "verify"); err != nil || out != "" {
			t.Errorf("verify = %q, %v", out, err)
		}
	}
}

// wantRight holds every blob against its digest, as it is.
func (b *bench) wantRight() {
	b.t.Helper()
	blobs, err := b.store.Blobs()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, info := range blobs {
		if _, err := b.store.CheckBlob(context.WithoutCancel(b.t.Context()), info.Digest); err != nil && !errors.Is(err, iofs.ErrNotExist) {
			b.t.Error(err)
		}
	}
	if aside, err := b.store.Aside(); err != nil || len(aside) > 0 {
		b.t.Errorf("moved aside were %v, %v", aside, err)
	}
}

// Imports and exports are killed at any moment. An import leaves a store that is right, and the next one ends well; of an
// export there is all or nothing.
func TestImportAndExportKilled(t *testing.T) {
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	from := newBench(t)
	path, layer := from.file("layer", 12<<20+5)
	put := func(b []byte) ocispec.Descriptor {
		desc, err := from.store.WriteBlob(t.Context(), "put", bytes.NewReader(b), int64(len(b)), "")
		if err != nil {
			t.Fatal(err)
		}
		return desc
	}
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	config, large := put([]byte(`{}`)), put(body)
	image := put(fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[{"mediaType":"application/x","digest":%q,"size":%d}]}`,
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeEmptyJSON, config.Digest, config.Size, layer, large.Size))
	image.MediaType, image.Annotations = ocispec.MediaTypeImageManifest, map[string]string{ocispec.AnnotationRefName: "example.com/app:1"}
	if err := from.store.SetImages(image); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out.tar")
	whole := filepath.Join(from.dir, "whole.tar")
	if text, err := from.run("", "export", "example.com/app:1", whole); err != nil {
		t.Fatalf("export = %q, %v", text, err)
	}
	want, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	seldom := func() bool { return rand.IntN(5000) == 0 }
	for range rounds {
		from.killWhen(from.command("", "export", "example.com/app:1", out), seldom)
		got, err := os.ReadFile(out)
		if err != nil && !errors.Is(err, iofs.ErrNotExist) || err == nil && !bytes.Equal(got, want) {
			t.Errorf("an export that was killed left %d bytes, %v", len(got), err)
		}
		_ = os.Remove(out) // it may be there, and whole
		if list, err := os.ReadDir(filepath.Dir(out)); err != nil || len(list) > 0 {
			t.Errorf("beside it there is %v, %v", list, err)
		}
	}
	to := newBench(t)
	for round := range rounds {
		off := func() bool {
			all, err := to.store.Ingests()
			return err == nil && len(all) > 0 && all[0].Offset >= int64(round)<<20
		}
		to.killWhen(to.command("", "import", whole), off)
		to.wantRight()
	}
	if text, err := to.run("", "import", whole); err != nil || text != "example.com/app:1 "+image.Digest.String()+"\n" {
		t.Errorf("import = %q, %v", text, err)
	}
	if text, err := to.run("", "verify"); err != nil || text != "" {
		t.Errorf("verify = %q, %v", text, err)
	}
	if text, err := to.run("", "active", "-o", "json"); err != nil || text != "[]\n" {
		t.Errorf("active = %q, %v", text, err)
	}
}
