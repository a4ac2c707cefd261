package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"distfs/content"
	"distfs/internal/testregistry"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs the stories of testdata/script. Each has a registry of its
// own at $REGISTRY, with
//
//	library/hello  the blob $HELLO, which is "hello\n"; the image $HELLO_IMAGE of it, tagged 1
//	library/redis  a docker image of ten layers, tagged 7
//	models/big     the blob $BIG of $BIG_SIZE bytes, more than 4 MiB
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: false,
		Setup:               func(env *testscript.Env) error { return setup(t, env) },
		Condition:           condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fault":     cmdFault,
			"heal":      cmdHeal,
			"requests":  cmdRequests,
			"unplug":    cmdUnplug,
			"mounted":   cmdMounted,
			"unmounted": cmdUnmounted,
			"dockerhub": func(ts *testscript.TestScript, _ bool, _ []string) { dockerHub(t, ts) },
			"terminate": cmdTerminate,
			"mirror":    cmdMirror,
			"mirrored":  cmdMirrored,
			"proxy":     func(ts *testscript.TestScript, _ bool, _ []string) { startProxy(t, ts) },
			"proxied":   cmdProxied,
			"daemon":    cmdDaemon,
			"gone":      cmdGone,
			"notified":  cmdNotified,
			"helpers":   func(ts *testscript.TestScript, _ bool, _ []string) { helpers(t, ts) },
			"digestof":  cmdDigestOf,
			"sizeof":    cmdSizeOf,
			"arrived":   cmdArrived,
			"served":    cmdServed,
			"sentless":  cmdSentLess,
			"asked":     cmdAsked,
			"lastused":  cmdLastUsed,
			"hold":      cmdHold,
			"held":      cmdHeld,
			"unhold":    cmdUnhold,
			"evictable": cmdEvictable,
			"image":     cmdImage,
			"pin":       cmdPin,
			"damage":    cmdDamage,
			"becomes":   cmdBecomes,
			"opened":    cmdOpened,
			"spoilt":    cmdSpoilt,
			"ingesting": cmdIngesting,
			"forget":    func(ts *testscript.TestScript, _ bool, _ []string) { registryOf(ts).Forget() },
			"silent":    cmdSilent,
			"settag":    cmdSetTag,
			"signal":    cmdSignal,
			"appears":   cmdAppears,
			"scrape":    cmdScrape,
			"story":     cmdStory,
			"trees":     func(ts *testscript.TestScript, _ bool, _ []string) { cmdTrees(t, ts) },
			"sametree":  cmdSameTree,
			"images":    func(ts *testscript.TestScript, _ bool, _ []string) { cmdImages(t, ts) },
			"artifacts": cmdArtifacts,
			"mapped":    cmdMapped,
			"vast":      cmdVast,
			"entry":     cmdEntry,
			"entries":   cmdEntries,
			"sentonce":  cmdSentOnce,
			"named":     cmdNamed,
			"written":   cmdWritten,
		},
	})
}

type registryKey struct{}

const bigSize = 6<<20 + 123

func setup(t *testing.T, env *testscript.Env) error {
	t.Helper()
	reg := testregistry.Start(t, nil)
	env.Values[registryKey{}] = reg
	env.Values[mirrorKey{}] = testregistry.Start(t, nil)
	env.Values[proxyKey{}] = new(proxy)
	env.Values[heldFiles{}] = make(map[string]*os.File)
	hello := reg.AddBlob("library/hello", []byte("hello\n"))
	image := addImage(reg, "library/hello", "1", ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageLayerGzip, []byte("hello\n"))
	layers := make([][]byte, 10)
	for i := range layers {
		layers[i] = bytes.Repeat([]byte{byte('0' + i)}, 100_000+rand.IntN(100_000))
	}
	redis := addImage(reg, "library/redis", "7",
		"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.image.rootfs.diff.tar.gzip", layers...)
	big := reg.AddSynthetic("models/big", testregistry.Synthetic{Seed: 1, Size: bigSize})
	env.Vars = append(env.Vars,
		"HOME="+env.WorkDir+"/home",
		"TEST_ETC="+env.WorkDir+"/etc",
		"DISTFS_STORE="+env.WorkDir+"/store",
		"REGISTRY="+reg.Host(),
		"TWIN="+strings.ReplaceAll(reg.Host(), ":", "="),
		"HELLO="+hello.String(),
		"HELLO_IMAGE="+image.String(),
		"REDIS="+redis.String(),
		"BIG="+big.String(),
		"BIG_SIZE="+strconv.Itoa(bigSize),
		"GOARCH="+runtime.GOARCH,
	)
	env.Defer(func() {
		detach(env.WorkDir)
		endDaemons(env.WorkDir)
	})
	return manage(env)
}

// detach ends the mounts that a script which failed left below dir.
func detach(dir string) {
	for _, mnt := range mountsBelow(dir) {
		unmount(mnt)
	}
}

func addImage(reg *testregistry.Registry, repo, tag, manifestType, layerType string, layers ...[]byte) digest.Digest {
	config := []byte("{}")
	m := ocispec.Manifest{
		MediaType: manifestType,
		Config:    ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: reg.AddBlob(repo, config), Size: int64(len(config))},
	}
	m.SchemaVersion = 2
	for _, l := range layers {
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: layerType, Digest: reg.AddBlob(repo, l), Size: int64(len(l))})
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return reg.AddManifest(repo, tag, manifestType, b)
}

func registryOf(ts *testscript.TestScript) *testregistry.Registry {
	reg, _ := ts.Value(registryKey{}).(*testregistry.Registry)
	return reg
}

// fault flip|cut|stall|hang|status REF [N]: what asks for REF meets it, N being an
// offset or a status.
func cmdFault(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: fault KIND REF [N]")
	}
	n := 0
	if len(args) > 2 {
		var err error
		n, err = strconv.Atoi(args[2])
		ts.Check(err)
	}
	f := testregistry.Fault{Ref: args[1], At: int64(n), Code: n}
	switch args[0] {
	case "flip":
		f.Act, f.Method = testregistry.FlipBit, http.MethodGet
	case "cut":
		f.Act, f.Method = testregistry.Cut, http.MethodGet
	case "stall":
		f.Act, f.Method = testregistry.StallBody, http.MethodGet
	case "hang":
		f.Act = testregistry.StallHeaders
	case "status":
		f.Act = testregistry.Status
	default:
		ts.Fatalf("no fault %q", args[0])
	}
	registryOf(ts).SetFault(f)
}

// heal lifts all faults.
func cmdHeal(ts *testscript.TestScript, _ bool, _ []string) { registryOf(ts).ClearFaults() }

// unplug has the registry refuse connections from now on.
func cmdUnplug(ts *testscript.TestScript, _ bool, _ []string) { registryOf(ts).Stop() }

// requests N METHOD REF: so many requests there were so far.
func cmdRequests(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: requests N METHOD REF")
	}
	if got := fmt.Sprint(countRequests(ts, args[1], args[2])); got != args[0] {
		ts.Fatalf("%s %s: %s requests, want %s", args[1], args[2], got, args[0])
	}
}

func countRequests(ts *testscript.TestScript, method, ref string) int {
	n := 0
	for _, q := range registryOf(ts).Requests() {
		if q.Method == method && q.Ref == ref {
			n++
		}
	}
	return n
}

// awaited polls until ok.
func awaited(ts *testscript.TestScript, what string, ok func() bool) {
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("not within a minute: %s", what)
		}
	}
}

// mounted DIR waits until what is mounted there serves, as far as root may ask.
func cmdMounted(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.MkAbs(args[0])
	is := func() bool { return slices.Contains(mountsBelow(filepath.Dir(dir)), dir) }
	if neg {
		if is() {
			ts.Fatalf("%s is mounted", dir)
		}
		return
	}
	awaited(ts, "mounted "+dir, is)
	awaited(ts, "served "+dir, func() bool {
		_, err := os.Stat(dir)
		return err == nil || errors.Is(err, fs.ErrPermission)
	})
}

// unmounted DIR waits until nothing is mounted there.
func cmdUnmounted(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	awaited(ts, "unmounted "+dir, func() bool { return !slices.Contains(mountsBelow(filepath.Dir(dir)), dir) })
}

// dockerHub leads the names of docker.io's registry and of its token server to
// a registry on loopback, which has library/hello, tagged latest.
func dockerHub(t *testing.T, ts *testscript.TestScript) {
	t.Helper()
	reg := testregistry.Start(t, &testregistry.Options{
		TLS: true, Names: []string{"registry-1.docker.io", "auth.docker.io"},
		Auth: testregistry.BearerAuth, Realm: "https://auth.docker.io/token", Service: "registry.docker.io",
	})
	addImage(reg, "library/hello", "latest", ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageLayerGzip, []byte("hello\n"))
	ts.Setenv("SSL_CERT_FILE", reg.CAFile(t))
	ts.Setenv("TEST_DIAL", "registry-1.docker.io="+reg.Host()+" auth.docker.io="+reg.TokenHost())
}

// terminate sends SIGTERM to the processes in the background.
func cmdTerminate(ts *testscript.TestScript, _ bool, _ []string) {
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(syscall.SIGTERM))
	}
}

// digestof FILE VAR sets VAR to the digest of the file.
func cmdDigestOf(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[1], digest.FromString(ts.ReadFile(args[0])).String())
}

// sizeof FILE N says whether the file has N bytes.
func cmdSizeOf(ts *testscript.TestScript, neg bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := strconv.FormatInt(info.Size(), 10); (got == args[1]) == neg {
		ts.Fatalf("%s has %s bytes", args[0], got)
	}
}

// silent says that there was no request since forget.
func cmdSilent(ts *testscript.TestScript, _ bool, _ []string) {
	for _, q := range registryOf(ts).Requests() {
		ts.Fatalf("%s %s %s %s was asked", q.Method, q.Kind, q.Repo, q.Ref)
	}
}

// settag REPO TAG DIGEST has the registry's tag point there; without a digest
// it is taken away.
func cmdSetTag(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) == 2 {
		registryOf(ts).Remove(args[0], args[1])
		return
	}
	registryOf(ts).SetTag(args[0], args[1], digest.Digest(args[2]))
}

// asked METHOD REF waits until somebody asked for REF.
func cmdAsked(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: asked METHOD REF")
	}
	awaited(ts, "asked "+strings.Join(args, " "), func() bool { return countRequests(ts, args[0], args[1]) > 0 })
}

// arrived DIGEST N waits until N bytes of it or more are in the store.
func cmdArrived(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: arrived DIGEST N")
	}
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	awaited(ts, "arrived "+args[0], func() bool {
		store, err := content.Open(ts.Getenv("DISTFS_STORE"))
		ts.Check(err)
		defer store.Close()
		all, err := store.Ingests()
		ts.Check(err)
		for _, s := range all {
			if s.Expected.String() == args[0] && s.Local >= n {
				return true
			}
		}
		return false
	})
}

// served FILE waits until the file can be opened: of a dead mount the kernel
// still knows the attributes.
func cmdServed(ts *testscript.TestScript, _ bool, args []string) {
	awaited(ts, "served "+args[0], func() bool {
		f, err := os.Open(ts.MkAbs(args[0]))
		if err == nil {
			f.Close()
		}
		return err == nil
	})
}

// sentless DIGEST N: all answers together sent fewer bytes of it.
func cmdSentLess(ts *testscript.TestScript, _ bool, args []string) {
	limit, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	if n := registryOf(ts).Sent(digest.Digest(args[0])); n >= limit {
		ts.Fatalf("%s: %d bytes were sent, by %q", args[0], n, registryOf(ts).Ranges(digest.Digest(args[0])))
	}
}
