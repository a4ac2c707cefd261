// Package e2e_test tells what a user types and sees: stories in testdata/script,
// run with the built command, real mounts, a real registry (distribution) as a
// process on loopback, and for each story a registry of its own that can misbehave.
package e2e_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"distfs/internal/testregistry"
)

// TestScript runs the stories. They find in their environment:
//
//	REGISTRY       host and port of distribution, with library/hello:1, library/redis:7 and library/big:1
//	FLAKY          the same in the story's own registry, which the command registry breaks
//	HELLO          the digest of hello:1, an index; of its manifest for this machine HELLO_MANIFEST,
//	               and of that one's configuration and last layer HELLO_CONFIG, HELLO_LAYER
//	REDIS          the digest of redis:7, a manifest of docker's type with layers of many sizes
//	BIG            the digest of a blob of 24 MiB, the one layer of big:1
//	ORAS           the path of oras, which is built for the test
//	LAYOUTS        the directory testdata/layouts of the repository
func TestScript(t *testing.T) {
	needFUSE(t)
	bin := filepath.Dir(build(t))
	images := testImages(t)
	oras := tool(t, "oras.land/oras/cmd/oras")
	real := startDistribution(t)
	for _, im := range images {
		im.put(t, real)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			flaky := testregistry.Start(t, nil)
			for _, im := range images {
				im.put(t, inMemory{flaky})
			}
			env.Values[registryKey{}] = flaky
			home := filepath.Join(env.WorkDir, ".home")
			env.Setenv("HOME", home)
			env.Setenv("XDG_CACHE_HOME", filepath.Join(home, ".cache"))
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(home, ".config"))
			env.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
			env.Setenv("REGISTRY", string(real))
			env.Setenv("FLAKY", flaky.Host())
			env.Setenv("ORAS", oras)
			for _, im := range images {
				for name, value := range im.names {
					env.Setenv(name, value)
				}
			}
			layouts, err := filepath.Abs("../testdata/layouts")
			env.Setenv("LAYOUTS", layouts)
			return errors.Join(err, os.MkdirAll(home, 0o700))
		},
		Condition: func(name string) (bool, error) {
			if tool, ok := strings.CutPrefix(name, "has:"); ok {
				return hasTool(tool)
			}
			if name != "root" {
				return false, errors.New("no such condition")
			}
			return os.Getuid() == 0, nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"mounted":   mounted,
			"unmounted": unmounted,
			"fails":     fails,
			"smalldisk": smalldisk,
			"registry":  breakRegistry,
		},
	})
}

// hasTool says whether a program of others is there, without which a story is
// skipped. In CI it has to be.
func hasTool(name string) (bool, error) {
	_, err := exec.LookPath(name)
	if err != nil && os.Getenv("CI") != "" {
		return false, err
	}
	return err == nil, nil
}

// needFUSE skips what cannot mount, and fails in CI.
func needFUSE(t *testing.T) {
	t.Helper()
	missing := ""
	if _, err := os.Stat("/dev/fuse"); err != nil {
		missing = "/dev/fuse"
	} else if _, err := exec.LookPath("fusermount3"); err != nil && os.Getuid() != 0 {
		missing = "fusermount3 (Debian: fuse3)"
	}
	switch {
	case missing == "":
	case os.Getenv("CI") != "":
		t.Fatalf("this test needs %s", missing)
	default:
		t.Skipf("this test needs %s", missing)
	}
}

// build builds the command, with the race detector where the test has it, and returns its path.
func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "distfs")
	args := []string{"build", "-o", bin}
	if raceEnabled {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, "./cmd/distfs")...)
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build ./cmd/distfs: %v\n%s", err, out)
	}
	return bin
}

// tool returns the path of a tool of this module, built.
func tool(t *testing.T, pkg string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "tool", "-n", pkg).Output()
	if err != nil {
		t.Fatalf("go tool -n %s: %v", pkg, err)
	}
	return strings.TrimSpace(string(out))
}

// hostPlatform is the index of this machine's platform in hello:1.
func hostPlatform(t *testing.T) int {
	t.Helper()
	i, ok := map[string]int{"amd64": 0, "arm64": 1}[runtime.GOARCH]
	if !ok {
		t.Skipf("hello:1 has no platform linux/%s", runtime.GOARCH)
	}
	return i
}
