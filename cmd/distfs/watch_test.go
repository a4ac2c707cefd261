package main_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	distfs "distfs/cmd/distfs"

	"github.com/rogpeppe/go-internal/testscript"
)

// signal NAME WORD sends a signal to the processes in the background that have
// the word among their arguments.
func cmdSignal(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: signal NAME WORD")
	}
	sig, ok := map[string]syscall.Signal{"stop": syscall.SIGSTOP, "continue": syscall.SIGCONT, "interrupt": syscall.SIGINT, "kill": syscall.SIGKILL}[args[0]]
	if !ok {
		ts.Fatalf("no signal %q", args[0])
	}
	n := 0
	for _, cmd := range ts.BackgroundCmds() {
		if slices.ContainsFunc(cmd.Args, func(a string) bool { return strings.Contains(a, args[1]) }) {
			ts.Check(cmd.Process.Signal(sig))
			n++
		}
	}
	if n == 0 {
		ts.Fatalf("no process in the background has %q", args[1])
	}
}

// appears FILE TEXT N waits until the text stands in the file N times.
func cmdAppears(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: appears FILE TEXT N")
	}
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	awaited(ts, strings.Join(args, " "), func() bool {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && strings.Count(string(b), args[1]) >= n
	})
}

// scrape LOG PATH FILE gets PATH of the server of metrics that the log names.
func cmdScrape(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: scrape LOG PATH FILE")
	}
	url := regexp.MustCompile(`url=(http://127\.0\.0\.1:\d+)/metrics`).FindStringSubmatch(ts.ReadFile(args[0]))
	if url == nil {
		ts.Fatalf("%s names no server: %s", args[0], ts.ReadFile(args[0]))
	}
	defer http.DefaultClient.CloseIdleConnections()
	resp, err := http.Get(url[1] + args[1])
	ts.Check(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), append([]byte(resp.Status+"\n"), b...), 0o600))
}

// story LOG DIGEST looks whether the log has one read's whole story, in order
// and under one number, and what became of the object.
func cmdStory(ts *testscript.TestScript, _ bool, args []string) {
	type line struct {
		Msg, Path, Name, Digest string
		Request                 uint64
	}
	told := map[uint64][]string{} // by request
	var ids []uint64              // in the order of the requests
	var order []string            // of those that matter, of all requests
	for l := range strings.Lines(ts.ReadFile(args[0])) {
		var at line
		if json.Unmarshal([]byte(l), &at) != nil {
			continue
		}
		if at.Request != 0 {
			if told[at.Request] == nil {
				ids = append(ids, at.Request)
			}
			told[at.Request] = append(told[at.Request], at.Msg)
		}
		if at.Digest == args[1] || at.Name == args[1] || strings.HasSuffix(at.Path, args[1]) {
			order = append(order, at.Msg)
		}
	}
	inOrder(ts, order, "lookup", "open", "read", "demand", "claim", "chunk", "hashed", "verified", "committed")
	whole := []string{"read", "demand", "claim", "request", "answer", "chunk", "read done"}
	for _, id := range ids {
		msgs := told[id]
		if !slices.ContainsFunc(whole, func(w string) bool { return !slices.Contains(msgs, w) }) {
			inOrder(ts, msgs, whole...)
			return
		}
	}
	ts.Fatalf("no read has a whole story: %v", told)
}

// inOrder looks whether the first of each stands after the first of the one
// before.
func inOrder(ts *testscript.TestScript, got []string, want ...string) {
	at := -1
	for _, w := range want {
		i := slices.Index(got, w)
		if i <= at {
			ts.Fatalf("%q is told at %d, what comes before it at %d: %q", w, i, at, got)
		}
		at = i
	}
}

func TestListenAddr(t *testing.T) {
	for in, want := range map[string]string{
		":9090": "127.0.0.1:9090", "10.0.0.1:1": "10.0.0.1:1", "[::1]:80": "[::1]:80", "localhost:0": "localhost:0",
		"9090": "", "": "", "host": "", ":http": "", ":65536": "", ":-1": "", "::1:80": "",
	} {
		got, err := distfs.ParseListenAddr(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("--metrics-addr %q = %q, %v, want %q", in, got, err, want)
		}
	}
}

func TestFit(t *testing.T) {
	const text = "first\nsecond\nthird\n"
	for _, c := range []struct {
		rows, cols int
		want       string
	}{{0, 0, text}, {4, 80, text}, {3, 80, "first\nsecond\n"}, {24, 3, "fir\nsec\nthi\n"}} {
		if got := distfs.Fit(text, c.rows, c.cols); got != c.want {
			t.Errorf("fit(%d, %d) = %q, want %q", c.rows, c.cols, got, c.want)
		}
	}
}
