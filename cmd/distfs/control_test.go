package main_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	distfs "distfs/cmd/distfs"
	"distfs/content"

	"golang.org/x/sys/unix"
)

// attend has this process be seen on a store, and returns how to connect to it.
func attend(t *testing.T) (*content.Store, func() net.Conn) {
	t.Helper()
	store, err := content.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	end := distfs.Attend(store)
	t.Cleanup(func() { end(); store.Close() })
	all, err := store.Processes()
	if err != nil || len(all) != 1 {
		t.Fatalf("Processes() = %v, %v, want this one", all, err)
	}
	return store, func() net.Conn {
		conn, err := store.Dial(t.Context(), all[0])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
}

func TestControlRefuses(t *testing.T) {
	_, dial := attend(t)
	conn := dial()
	r := bufio.NewReader(conn)
	for _, c := range []struct{ question, want string }{
		{`{"op":"status"}`, `"command":"test"`},
		{`no JSON`, `"error":"no request`},
		{`{"op":"rm"}`, `"error":"no op \"rm\""`},
		{`{"op":"stat","path":"x"}`, `"error":"this process serves no mount"`},
		{`{"op":"status"}`, `"active":[]`},
	} {
		if _, err := io.WriteString(conn, c.question+"\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, c.want) {
			t.Errorf("%s is answered by %s, %v, want %s", c.question, line, err, c.want)
		}
	}
	// A line that does not end is not read to its end.
	if _, err := io.WriteString(conn, strings.Repeat("x", 40<<10)); err != nil && !errors.Is(err, unix.EPIPE) {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); !strings.Contains(string(b), "too long") && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("a long line is answered by %s, %v", b, err)
	}
}

// So many clients are served and no more; when one leaves there is room.
func TestControlClients(t *testing.T) {
	_, dial := attend(t)
	ask := func(conn net.Conn) error {
		if _, err := io.WriteString(conn, "{}\n"); err != nil {
			return err
		}
		_, err := bufio.NewReader(conn).ReadString('\n')
		return err
	}
	var conns []net.Conn
	for range distfs.MaxClients {
		conn := dial()
		if err := ask(conn); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	if ask(dial()) == nil {
		t.Errorf("client %d is served", distfs.MaxClients+1)
	}
	conns[0].Close()
	for ask(dial()) != nil { // until the one that left is noticed
		runtime.Gosched()
	}
}

// Another user is refused, even where the socket's mode lets him in.
func TestControlOfAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("to become another user this test needs root")
	}
	store, _ := attend(t)
	socket, _ := filepath.Glob(filepath.Join(store.Dir(), "run", "*.sock"))
	for dir := socket[0]; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	got := make(chan error)
	go func() {
		runtime.LockOSThread() // and the thread ends with the goroutine
		got <- askAs(65534, socket[0])
	}()
	if err := <-got; err != nil {
		t.Error(err)
	}
}

// askAs connects as another user and wants to be hung up on.
func askAs(uid int, socket string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
		return errno
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
		return err
	}
	unix.Write(fd, []byte("{\"op\":\"status\"}\n"))
	if n, err := unix.Read(fd, make([]byte, 100)); n > 0 || err != nil && !errors.Is(err, unix.ECONNRESET) {
		return errors.Join(errors.New("another user is answered"), err)
	}
	return nil
}
