package e2e_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"distfs/content"
	"distfs/internal/testlayer"
	"distfs/internal/testregistry"
)

var kills = flag.Int("kills", 25, "how often a fetch and a pull are killed")

// TestKilledFetchAndPull kills each of them at moments by chance. No chunk that
// the store has is asked for again, the store verifies clean after each kill, and
// what is whole in the end is right.
func TestKilledFetchAndPull(t *testing.T) {
	bin := build(t)
	for _, command := range []string{"fetch", "pull"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			k := newKiller(t, bin, command)
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			k.chance = rand.New(rand.NewPCG(seed, 0))
			for n := 0; n < *kills; {
				if k.kill() {
					n++
					continue
				}
				k.finish() // all is here: once more from nothing
				k.begin()
			}
			k.finish()
		})
	}
}

// A killer runs a command on an image of large layers, again and again.
type killer struct {
	t      *testing.T
	bin    string
	args   []string
	store  string
	tree   string
	reg    *testregistry.Registry
	chance *rand.Rand
	layers []ocispec.Descriptor
	files  []string // one in each layer
}

func newKiller(t *testing.T, bin, command string) *killer {
	t.Helper()
	dir := t.TempDir()
	k := &killer{t: t, bin: bin, store: filepath.Join(dir, "store"), tree: filepath.Join(dir, "tree"), reg: testregistry.Start(t, nil)}
	config := ocispec.Image{RootFS: ocispec.RootFS{Type: "layers"}}
	for i, size := range []int64{20 << 20, 7<<20 + 5, 12 << 20} {
		k.files = append(k.files, string(noise(t, uint64(i)+50, size)))
		tar := testlayer.Tar(t, testlayer.Reg(strconv.Itoa(i), k.files[i]))
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(tar))
		k.layers = append(k.layers, k.put(ocispec.MediaTypeImageLayer, tar))
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: k.layers}
	m.Config = k.put(ocispec.MediaTypeImageConfig, k.json(config))
	k.reg.AddManifest("app", "1", m.MediaType, k.json(m))
	k.args = []string{"--store", k.store, command, "--progress", "none", k.reg.Host() + "/app:1"}
	if command == "pull" {
		k.args = append(k.args, k.tree)
	}
	return k
}

func (k *killer) put(mediaType string, b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: k.reg.AddBlob("app", b), Size: int64(len(b))}
}

func (k *killer) json(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		k.t.Fatal(err)
	}
	return b
}

// begin throws away what there is.
func (k *killer) begin() {
	for _, dir := range []string{k.store, k.tree} {
		if err := os.RemoveAll(dir); err != nil {
			k.t.Fatal(err)
		}
	}
}

// kill kills a run when the registry has sent so much of an answer for one of
// the layers, by chance, and stops there. It is false when all is here.
func (k *killer) kill() bool {
	var absent []ocispec.Descriptor
	had := make(map[digest.Digest][]bool)
	for _, desc := range k.layers {
		had[desc.Digest] = k.has(desc)
		if bytes.Contains(flags(had[desc.Digest]), []byte{0}) {
			absent = append(absent, desc)
		}
	}
	if len(absent) == 0 {
		return false
	}
	at := k.chance.Int64N(3 << 20)
	ref := absent[k.chance.IntN(len(absent))].Digest.String()
	k.reg.Forget()
	k.reg.SetFault(testregistry.Fault{Method: http.MethodGet, Ref: ref, Act: testregistry.StallBody, At: at})
	cmd := exec.Command(k.bin, k.args...)
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	k.reg.Wait(k.t, func(all []testregistry.Request) bool {
		for _, q := range all {
			if q.Ref == ref && q.Method == http.MethodGet && (q.Sent >= at || q.Done) {
				return true
			}
		}
		return false
	})
	_ = cmd.Process.Kill()
	<-ended
	k.reg.ClearFaults()
	k.again(had)
	k.run("verify")
	return true
}

// again fails where what was here was asked for.
func (k *killer) again(had map[digest.Digest][]bool) {
	k.t.Helper()
	for dgst, chunks := range had {
		for _, r := range k.reg.Ranges(dgst) {
			first, last := int64(0), int64(len(chunks))*content.ChunkSize-1
			if from, to, ok := strings.Cut(strings.TrimPrefix(r, "bytes="), "-"); ok {
				first, _ = strconv.ParseInt(from, 10, 64)
				last, _ = strconv.ParseInt(to, 10, 64)
			}
			for c, has := range chunks {
				if at := int64(c) * content.ChunkSize; has && at >= first && at <= last {
					k.t.Errorf("%s: chunk %d was here, and %q asked for it", dgst, c, r)
				}
			}
		}
	}
}

// has says which chunks of a layer the store has.
func (k *killer) has(desc ocispec.Descriptor) []bool {
	chunks := make([]bool, (desc.Size+content.ChunkSize-1)/content.ChunkSize)
	store, err := content.Open(k.store)
	if err != nil {
		k.t.Fatal(err)
	}
	defer store.Close()
	_, err = store.Stat(desc.Digest)
	whole := err == nil
	var in *content.Ingest
	if !whole {
		if _, err := store.IngestStatus(desc.Digest, k.reg.Host()); err != nil {
			return chunks // not begun
		}
		if in, err = store.Ingest(content.Expect{Ref: "test", Digest: desc.Digest, Origin: k.reg.Host(), Total: desc.Size}); err != nil {
			k.t.Fatal(err)
		}
		defer in.Close()
	}
	for c := range chunks {
		chunks[c] = whole || in.Has(int64(c), 1)
	}
	return chunks
}

func flags(all []bool) []byte {
	b := make([]byte, len(all))
	for i, is := range all {
		if is {
			b[i] = 1
		}
	}
	return b
}

// run runs distfs, which is to succeed.
func (k *killer) run(args ...string) {
	k.t.Helper()
	if out, err := exec.Command(k.bin, append([]string{"--store", k.store}, args...)...).CombinedOutput(); err != nil {
		k.t.Fatalf("distfs %v: %v\n%s", args, err, out)
	}
}

// finish runs the command to its end and looks at what came of it.
func (k *killer) finish() {
	k.t.Helper()
	k.run(k.args[2:]...)
	k.run("verify")
	for i, desc := range k.layers {
		if chunks := k.has(desc); bytes.Contains(flags(chunks), []byte{0}) {
			k.t.Errorf("layer %d is not whole", i)
		}
		if len(k.args) < 7 {
			continue
		}
		if b, err := os.ReadFile(filepath.Join(k.tree, strconv.Itoa(i))); err != nil || string(b) != k.files[i] {
			k.t.Errorf("the file of layer %d is not right: %v, %d bytes", i, err, len(b))
		}
	}
}
