package main_test

import (
	"fmt"
	"net/url"

	"distfs/internal/testregistry"

	"github.com/rogpeppe/go-internal/testscript"
)

type mirrorKey struct{}

func mirrorOf(ts *testscript.TestScript) *testregistry.Registry {
	reg, _ := ts.Value(mirrorKey{}).(*testregistry.Registry)
	return reg
}

// mirror makes a second registry, $MIRROR, have $HELLO too. $NS is the query of
// who asks it for the first one's content.
func cmdMirror(ts *testscript.TestScript, _ bool, _ []string) {
	reg := mirrorOf(ts)
	reg.AddBlob("library/hello", []byte("hello\n"))
	ts.Setenv("MIRROR", reg.Host())
	ts.Setenv("NS", url.Values{"ns": {registryOf(ts).Host()}}.Encode())
}

// mirrored N QUERY: the mirror had so many requests, each with that query.
func cmdMirrored(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: mirrored N QUERY")
	}
	list := mirrorOf(ts).Requests()
	for _, q := range list {
		if q.Query != args[1] {
			ts.Fatalf("%s of the mirror with the query %q, want %q", q.Method, q.Query, args[1])
		}
	}
	if got := fmt.Sprint(len(list)); got != args[0] {
		ts.Fatalf("%s requests to the mirror, want %s", got, args[0])
	}
}
