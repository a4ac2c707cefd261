package main_test

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	distfs "distfs/cmd/distfs"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestNotify(t *testing.T) {
	for name, socket := range map[string]string{
		"a file":   filepath.Join(t.TempDir(), "notify"),
		"abstract": "@distfs-test-" + strconv.Itoa(os.Getpid()),
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			t.Setenv("NOTIFY_SOCKET", socket)
			if err := distfs.Notify(t.Context(), "READY=1"); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 100)
			n, err := conn.Read(b)
			if got := string(b[:n]); err != nil || got != "READY=1" {
				t.Errorf("the socket got %q, %v, want READY=1", got, err)
			}
		})
	}

	t.Run("nobody", func(t *testing.T) {
		t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "none"))
		if err := distfs.Notify(t.Context(), "READY=1"); err == nil || !strings.Contains(err.Error(), "NOTIFY_SOCKET") {
			t.Errorf("Notify to no socket = %v, want an error that names NOTIFY_SOCKET", err)
		}
	})
}

type notifiedKey struct{}

// notified TEXT... waits until the service manager, which the first call makes,
// is told the texts, in this order.
func cmdNotified(ts *testscript.TestScript, _ bool, args []string) {
	conn, ok := ts.Value(notifiedKey{}).(*net.UnixConn)
	if !ok {
		ts.Fatalf("the story has no service manager")
	}
	for _, want := range args {
		b := make([]byte, 100)
		n, err := conn.Read(b)
		ts.Check(err)
		if got := string(b[:n]); got != want {
			ts.Fatalf("the service manager was told %q, want %q", got, want)
		}
	}
}

// manage makes a service manager of the story's own at $NOTIFY.
func manage(env *testscript.Env) error {
	name := "@distfs-test" + env.WorkDir
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return err
	}
	env.Defer(func() { conn.Close() })
	env.Values[notifiedKey{}] = conn
	env.Vars = append(env.Vars, "NOTIFY="+name)
	return nil
}
