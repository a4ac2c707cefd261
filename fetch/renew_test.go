package fetch_test

import (
	"bufio"
	"context"
	"errors"
	iofs "io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"distfs/content"
	"distfs/fetch"
	"distfs/internal/testregistry"
	"distfs/locator"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// helper puts a credential helper of that name and script on the PATH.
func helper(t *testing.T, name, script string) {
	t.Helper()
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-"+name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

// configure has the bench look for credentials in a file of that content.
func (b *bench) configure(file string, opts fetch.Options) {
	b.t.Helper()
	b.shut()
	opts.DockerConfig = filepath.Join(b.dir, "config.json")
	if err := os.WriteFile(opts.DockerConfig, []byte(file), 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.open(&opts)
}

// TestOneRefreshForAll: a hundred requests are refused with one token, half of
// them at the same moment and the others when it was renewed; one token is
// fetched, and the helper run once.
func TestOneRefreshForAll(t *testing.T) {
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			b := setup(t, &testregistry.Options{Auth: testregistry.BearerAuth, User: "u", Password: "p", ExpiredStatus: status}, nil)
			ran := filepath.Join(b.dir, "ran")
			helper(t, "counts", "echo >>"+ran+"\necho '{\"Username\":\"u\",\"Secret\":\"p\"}'\n")
			b.configure(`{"credsStore":"counts"}`, fetch.Options{})
			first, _ := b.blob(1)
			if _, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: first.Digest}); err != nil {
				t.Fatal(err)
			}
			b.reg.ExpireTokens()
			b.reg.Forget()
			const n = 100
			early := b.reg.SetFault(testregistry.Fault{Kind: testregistry.Blob, Act: testregistry.StallHeaders, Times: n / 2})
			late := b.reg.SetFault(testregistry.Fault{Kind: testregistry.Blob, Act: testregistry.StallHeaders, Skip: n / 2, Times: n / 2})
			var wg sync.WaitGroup
			for i := range n {
				desc, _ := b.blob(100 + i)
				wg.Go(func() {
					if _, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: desc.Digest}); err != nil {
						t.Errorf("Stat: %v", err)
					}
				})
			}
			b.reg.Wait(t, func(rs []testregistry.Request) bool { return len(rs) == n })
			early.Release()
			b.reg.Wait(t, func(rs []testregistry.Request) bool { // half have their answer
				ok := 0
				for _, r := range rs {
					if r.Kind == testregistry.Blob && r.Status == http.StatusOK {
						ok++
					}
				}
				return ok == n/2
			})
			late.Release()
			wg.Wait()
			if got := b.reg.Count("", testregistry.Token); got != 1 {
				t.Errorf("%d token requests for one expiry, want 1", got)
			}
			if lines, err := os.ReadFile(ran); err != nil || len(lines) != 2 {
				t.Errorf("the helper ran %d times, %v, want once at first and once after the expiry", len(lines), err)
			}
		})
	}
}

// TestTokenEndsMidBlob: a token is good for three requests, a blob needs more.
func TestTokenEndsMidBlob(t *testing.T) {
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		b := setup(t, &testregistry.Options{Auth: testregistry.BearerAuth, TokenUses: 3, ExpiredStatus: status}, &fetch.Options{FillBelow: -1})
		desc, want := b.blob(12 * mib)
		o := b.object(desc)
		for _, c := range []int64{11, 1, 9, 3, 7, 5, 0, 2, 4, 6, 8, 10} {
			check(t, o, want, c*mib+5, 10)
		}
		if got := b.reg.Count("", testregistry.Token); got < 3 {
			t.Errorf("%d tokens, and each was good for 3 requests", got)
		}
	}
}

// TestRefusedForGood: a wrong password is not tried for ever.
func TestRefusedForGood(t *testing.T) {
	for _, how := range []testregistry.Auth{testregistry.BasicAuth, testregistry.BearerAuth} {
		b := setup(t, &testregistry.Options{Auth: how, User: "u", Password: "p"}, nil)
		ran := filepath.Join(b.dir, "ran")
		helper(t, "wrong", "echo >>"+ran+"\necho '{\"Username\":\"u\",\"Secret\":\"wrong\"}'\n")
		b.configure(`{"credsStore":"wrong"}`, fetch.Options{})
		desc, _ := b.blob(10)
		for range 2 {
			os.Remove(ran)
			_, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: desc.Digest})
			if !errors.Is(err, iofs.ErrPermission) {
				t.Errorf("Stat = %v, want ErrPermission", err)
			} else if !strings.Contains(err.Error(), "with the credentials in "+filepath.Join(b.dir, "config.json")) {
				t.Errorf("Stat = %v, which does not say with whose credentials", err)
			}
			if lines, err := os.ReadFile(ran); err != nil || len(lines) != 1 {
				t.Errorf("auth %v: the helper ran %d times, %v, want 1", how, len(lines), err)
			}
		}
	}
}

// TestRefusedWithoutCredentials says how to have some.
func TestRefusedWithoutCredentials(t *testing.T) {
	for _, how := range []testregistry.Auth{testregistry.BasicAuth, testregistry.BearerAuth} {
		b := setup(t, &testregistry.Options{Auth: how, User: "u", Password: "p"}, nil)
		b.configure(`{}`, fetch.Options{})
		desc, _ := b.blob(10)
		_, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: desc.Digest})
		if !errors.Is(err, iofs.ErrPermission) || !strings.Contains(err.Error(), "docker login "+b.reg.Host()+" stores some") {
			t.Errorf("Stat = %v, want ErrPermission and how to log in", err)
		}
	}
}

// TestLoginCounts from the next request on, though nothing was refused before.
func TestLoginCounts(t *testing.T) {
	b := setup(t, &testregistry.Options{Auth: testregistry.BearerAuth}, nil)
	b.configure(`{}`, fetch.Options{})
	first, _ := b.blob(10)
	second, _ := b.blob(20)
	if _, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: first.Digest}); err != nil {
		t.Fatal(err)
	}
	login(t, filepath.Join(b.dir, "config.json"), map[string]string{b.reg.Host(): "u:p"})
	if _, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: second.Digest}); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range b.reg.Requests() {
		if r.Kind == testregistry.Token {
			name, _, _ := (&http.Request{Header: r.Header}).BasicAuth()
			names = append(names, name)
		}
	}
	if len(names) != 2 || names[0] != "" || names[1] != "u" {
		t.Errorf("tokens were asked for by %q, want nobody and u", names)
	}
}

// TestAuthFiles: the first file with a key for the repository has its
// credentials.
func TestAuthFiles(t *testing.T) {
	reg := testregistry.Start(t, &testregistry.Options{Auth: testregistry.BasicAuth, User: "u", Password: "p"})
	loc := locator.Locator{Host: reg.Host(), Path: "team/app"}
	dgst := reg.AddBlob(loc.Path, []byte("x"))
	const (
		explicit = "explicit.json"
		docker   = "docker/config.json"
		runtime  = "run/containers/auth.json"
		config   = "config/containers/auth.json"
	)
	host, team := reg.Host(), reg.Host()+"/team"
	cases := []struct {
		name  string
		files map[string]map[string]string
		ok    bool
	}{
		{"none", nil, false},
		{"explicit alone", map[string]map[string]string{explicit: {host: "u:p"}}, true},
		{"docker alone", map[string]map[string]string{docker: {host: "u:p"}}, true},
		{"runtime alone", map[string]map[string]string{runtime: {team: "u:p"}}, true},
		{"config alone", map[string]map[string]string{config: {host: "u:p"}}, true},
		{"explicit before docker", map[string]map[string]string{explicit: {host: "u:p"}, docker: {host: "u:no"}}, true},
		{"docker before runtime", map[string]map[string]string{docker: {host: "u:p"}, runtime: {host: "u:no"}}, true},
		{"runtime before config", map[string]map[string]string{runtime: {host: "u:p"}, config: {host: "u:no"}}, true},
		{"config after runtime", map[string]map[string]string{runtime: {host: "u:no"}, config: {host: "u:p"}}, false},
		{"the first match, not the longest of all", map[string]map[string]string{docker: {host: "u:p"}, runtime: {team: "u:no"}}, true},
		{"the longest match in a file", map[string]map[string]string{runtime: {host: "u:no", team: "u:p"}}, true},
		{"other hosts do not match", map[string]map[string]string{explicit: {"example.org": "u:no"}, docker: {team + "x": "u:no"}, config: {"http://" + host + "/": "u:p"}}, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, auths := range c.files {
				if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700); err != nil {
					t.Fatal(err)
				}
				login(t, filepath.Join(dir, name), auths)
			}
			t.Setenv("REGISTRY_AUTH_FILE", filepath.Join(dir, explicit))
			t.Setenv("DOCKER_CONFIG", filepath.Join(dir, "docker"))
			t.Setenv("XDG_RUNTIME_DIR", filepath.Join(dir, "run"))
			t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "config"))
			store, err := content.Open(filepath.Join(dir, "store"))
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			f := fetch.New(store, nil, nil)
			defer f.Close()
			_, err = f.Stat(ctx(t), loc, ocispec.Descriptor{Digest: dgst})
			if c.ok != (err == nil) || err != nil && !errors.Is(err, iofs.ErrPermission) {
				t.Errorf("Stat = %v, want success %t", err, c.ok)
			}
		})
	}
}

// TestHelperWithoutAnswer: what one does not know another file may.
func TestHelperWithoutAnswer(t *testing.T) {
	b := setup(t, &testregistry.Options{Auth: testregistry.BearerAuth}, nil)
	helper(t, "none", "cat >/dev/null; echo credentials not found in native keychain; exit 1\n")
	b.configure(`{"credsStore":"none"}`, fetch.Options{})
	desc, _ := b.blob(10)
	if _, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: desc.Digest}); err != nil {
		t.Errorf("Stat as nobody: %v", err)
	}
}

// TestIdentityToken: a helper that answers for <token> has a refresh token.
func TestIdentityToken(t *testing.T) {
	b := setup(t, &testregistry.Options{Auth: testregistry.BearerAuth, User: "u", Password: "p", IdentityToken: "long-lived"}, nil)
	helper(t, "token", "echo '{\"Username\":\"<token>\",\"Secret\":\"long-lived\"}'\n")
	b.configure(`{"credHelpers":{"`+b.reg.Host()+`":"token"}}`, fetch.Options{})
	desc, _ := b.blob(10)
	if _, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: desc.Digest}); err != nil {
		t.Errorf("Stat with an identity token: %v", err)
	}
	if got := b.reg.Count(http.MethodPost, testregistry.Token); got != 1 {
		t.Errorf("%d POSTs to the token server, want 1", got)
	}
}

// TestHungHelper is killed with its children, and keeps no other host waiting.
func TestHungHelper(t *testing.T) {
	b := setup(t, &testregistry.Options{Auth: testregistry.BasicAuth, User: "u", Password: "p"}, nil)
	fifo := filepath.Join(b.dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	helper(t, "hangs", "sleep 1000 &\necho $$ $! >"+fifo+"\nwait\n")
	b.configure(`{"credHelpers":{"`+b.reg.Host()+`":"hangs"}}`, fetch.Options{})
	other := testregistry.Start(t, nil)
	desc, _ := b.blob(10)
	c, cancel := context.WithCancel(ctx(t))
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := b.f.Stat(c, b.loc, ocispec.Descriptor{Digest: desc.Digest})
		done <- err
	}()
	pids := readLine(t, fifo) // it hangs now
	loc := locator.Locator{Host: other.Host(), Path: "a/b"}
	if _, err := b.f.Stat(ctx(t), loc, ocispec.Descriptor{Digest: other.AddBlob(loc.Path, []byte("y"))}); err != nil {
		t.Errorf("Stat of another host: %v", err)
	}
	select {
	case err := <-done:
		t.Errorf("Stat = %v before another host was asked", err)
	default:
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Stat = %v, want Canceled", err)
	}
	for pid := range strings.FieldsSeq(pids) {
		awaitEnd(t, pid)
	}
}

// TestLateHelper is killed with its children, too.
func TestLateHelper(t *testing.T) {
	b := setup(t, &testregistry.Options{Auth: testregistry.BasicAuth, User: "u", Password: "p"}, nil)
	file := filepath.Join(b.dir, "pids")
	helper(t, "late", "sleep 1000 &\necho $$ $! >"+file+"\nwait\n")
	b.configure(`{"credHelpers":{"`+b.reg.Host()+`":"late"}}`, fetch.Options{Timeout: 2 * time.Second})
	desc, _ := b.blob(10)
	if _, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: desc.Digest}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Stat = %v, want ErrDeadlineExceeded", err)
	}
	pids, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, iofs.ErrNotExist) { // it may not have come so far
		t.Fatal(err)
	}
	for pid := range strings.FieldsSeq(string(pids)) {
		awaitEnd(t, pid)
	}
}

func readLine(t *testing.T, file string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// awaitEnd waits until a process has ended; that of a killed one may take a
// moment, and who inherits it need not have noticed.
func awaitEnd(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(n, 0)
	if errors.Is(err, syscall.ESRCH) {
		return
	}
	if err != nil {
		t.Fatalf("pidfd_open(%d): %v", n, err)
	}
	defer unix.Close(fd)
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if got, err := unix.Poll(fds, 60_000); got != 1 {
		t.Errorf("process %d still runs (%v)", n, err)
	}
}

// TestHelperIsBounded: in what it says, and it is told the server on its
// standard input alone, and may not dump core.
func TestHelperIsBounded(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		t.Fatal(err)
	}
	raised := unix.Rlimit{Cur: limit.Max, Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &raised); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_CORE, &limit)

	b := setup(t, &testregistry.Options{Auth: testregistry.BasicAuth, User: "u", Password: "p"}, nil)
	saw := filepath.Join(b.dir, "saw")
	helper(t, "talks", "read -r server\n{ echo \"$#\" \"$@\" \"$server\"; grep core /proc/self/limits; } >"+saw+"\nexec yes\n")
	b.configure(`{"credsStore":"talks"}`, fetch.Options{})
	desc, _ := b.blob(10)
	if _, err := b.f.Stat(ctx(t), b.loc, ocispec.Descriptor{Digest: desc.Digest}); !errors.Is(err, iofs.ErrPermission) {
		t.Errorf("Stat = %v, want ErrPermission", err)
	}
	got, err := os.ReadFile(saw)
	if err != nil {
		t.Fatal(err)
	}
	first, limits, _ := strings.Cut(string(got), "\n")
	if want := "1 get " + b.reg.Host(); first != want {
		t.Errorf("it was told %q, want %q", first, want)
	}
	if f := strings.Fields(limits); len(f) < 6 || f[4] != "0" || f[5] != "0" {
		t.Errorf("its limits: %q, want none for core files", limits)
	}
}

func TestHideMemory(t *testing.T) {
	was, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(was), 0, 0, 0)
	if err := fetch.HideMemory(); err != nil {
		t.Fatal(err)
	}
	if got, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); got != 0 || err != nil {
		t.Errorf("dumpable: %d, %v, want 0", got, err)
	}
}
