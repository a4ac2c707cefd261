package fetch_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"distfs/content"
	"distfs/fetch"
	"distfs/internal/testregistry"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// tag gives the repository n tags, and names that are none.
func (b *bench) tag(n int) (want []string) {
	for i := range n {
		name := fmt.Sprintf("v%06d", i)
		b.reg.SetTag(b.loc.Path, name, digest.FromString(name))
		want = append(want, name)
	}
	for _, name := range []string{".hidden", "a/b", "a b", "x\ny", strings.Repeat("a", 129), "é"} {
		b.reg.SetTag(b.loc.Path, name, digest.FromString(name))
	}
	return want
}

// tags takes all that is listed.
func (b *bench) tags() (names []string, err error) {
	for name, err := range b.f.ListTags(ctx(b.t), b.loc) {
		if err != nil {
			return names, err
		}
		names = append(names, name)
	}
	return names, nil
}

func TestTags(t *testing.T) {
	b := setup(t, &testregistry.Options{Auth: testregistry.BearerAuth}, nil)
	want := b.tag(2500)
	got, err := b.tags()
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("ListTags: %d tags, %v, want %d", len(got), err, len(want))
	}
	if n := b.reg.Count(http.MethodGet, testregistry.Tags); n != 3+1 { // one was for the token
		t.Errorf("%d requests, want 4", n)
	}
	// Who stops has asked for no further page.
	b.reg.Forget()
	for name, err := range b.f.ListTags(ctx(t), b.loc) {
		if name != want[0] || err != nil {
			t.Errorf("the first tag is %q, %v", name, err)
		}
		break
	}
	if n := b.reg.Count("", testregistry.Tags); n != 1 {
		t.Errorf("one tag took %d requests", n)
	}
	if _, err := listOf(t, b.f, locator.Locator{Host: b.loc.Host, Path: "none"}); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("tags of no repository: %v, want fs.ErrNotExist", err)
	}
}

func listOf(t *testing.T, f *fetch.Fetcher, loc locator.Locator) (names []string, err error) {
	t.Helper()
	for name, err := range f.ListTags(ctx(t), loc) {
		if err != nil {
			return names, err
		}
		names = append(names, name)
	}
	return names, nil
}

// page has the registry answer with these tags and links.
func page(tags string, links ...string) testregistry.Fault {
	return testregistry.Fault{
		Kind: testregistry.Tags, Act: testregistry.Status, Code: http.StatusOK, Body: `{"tags":` + tags + `}`,
		Header: http.Header{"Link": links, "Content-Type": {"application/json"}},
	}
}

// TestTagFaults holds misbehaviours against a list of two pages. Once a fault
// ends, the same list succeeds.
func TestTagFaults(t *testing.T) {
	tags := func(f testregistry.Fault) testregistry.Fault { f.Kind = testregistry.Tags; return f }
	for _, c := range []struct {
		name  string
		fault testregistry.Fault
		err   error // nil: nobody notices
	}{
		{"cut", tags(testregistry.Fault{Act: testregistry.Cut, At: 5000, Times: 2}), nil},
		{"cut second page", tags(testregistry.Fault{Act: testregistry.Cut, At: 100, Skip: 1, Times: 1}), nil},
		{"short", tags(testregistry.Fault{Act: testregistry.Short, At: 5000, Times: 1}), nil},
		{"a 500", tags(testregistry.Fault{Act: testregistry.Status, Code: 500, Times: 1}), nil},
		{"a 429 that says when", tags(testregistry.Fault{Act: testregistry.Status, Code: 429, Header: http.Header{"Retry-After": {"1"}}, Times: 1}), nil},
		{"n refused", tags(testregistry.Fault{Act: testregistry.Status, Code: 400, Match: func(q *testregistry.Request) bool { return strings.Contains(q.Query, "n=1000") }}), nil},
		{"no length", tags(testregistry.Fault{Act: testregistry.NoLength}), nil},
		{"500 for ever", tags(testregistry.Fault{Act: testregistry.Status, Code: 500}), syscall.EIO},
		{"403", tags(testregistry.Fault{Act: testregistry.Status, Code: 403}), iofs.ErrPermission},
		{"429 for an hour", tags(testregistry.Fault{Act: testregistry.Status, Code: 429, Header: http.Header{"Retry-After": {"3600"}}}), syscall.EBUSY},
		{"HTML", tags(testregistry.Fault{Act: testregistry.HTML}), syscall.EIO},
		{"compressed", tags(testregistry.Fault{Act: testregistry.Gzip}), syscall.EIO},
		{"stalled head", tags(testregistry.Fault{Act: testregistry.StallHeaders}), os.ErrDeadlineExceeded},
		{"stalled body", tags(testregistry.Fault{Act: testregistry.StallBody, At: 5000}), os.ErrDeadlineExceeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			opts := &fetch.Options{Timeout: time.Minute}
			if errors.Is(c.err, os.ErrDeadlineExceeded) {
				opts.Timeout = 3 * time.Second
			}
			b := setup(t, nil, opts)
			want := b.tag(1500)
			fault := b.reg.SetFault(c.fault)
			got, err := b.tags()
			if !errors.Is(err, c.err) || c.err == nil && !slices.Equal(got, want) {
				t.Errorf("%d tags, %v, want %v", len(got), err, c.err)
			}
			if fault.Hits() == 0 {
				t.Error("the fault befell nothing")
			}
			fault.Release()
			if errors.Is(c.err, syscall.EBUSY) { // it is asked again when the timeout is over
				b.shut()
				b.open(opts)
			}
			if got, err := b.tags(); err != nil || !slices.Equal(got, want) {
				t.Errorf("after it: %d tags, %v, want %d", len(got), err, len(want))
			}
		})
	}
}

// TestTagPages reads pages as other registries write them, and those of liars.
func TestTagPages(t *testing.T) {
	b := setup(t, nil, &fetch.Options{Timeout: 5 * time.Minute})
	self := "/v2/" + b.loc.Path + "/tags/list"
	next := func(page string) string { return "<" + self + "?page=" + page + `>; rel="next"` }
	big := `["` + strings.Repeat(`a","`, 999_998) + `a"`
	for _, c := range []struct {
		name  string
		pages []testregistry.Fault // the last one is repeated
		want  string
		err   error
	}{
		{"null", []testregistry.Fault{page("null")}, "", nil},
		{"empty", []testregistry.Fault{page("[]")}, "", nil},
		{"empty last page", []testregistry.Fault{page(`["a"]`, next("2")), page(`[]`)}, "a", nil},
		{"overlap", []testregistry.Fault{page(`["a","b"]`, next("2")), page(`["b","c"]`)}, "a b c", nil},
		{"manifests before", []testregistry.Fault{page(`["a"],"manifest":{"sha256:0":{"tag":["x",{"y":[]}]}}`)}, "a", nil},
		{"absolute link", []testregistry.Fault{page(`["a"]`, "<"+b.reg.URL()+self+"?x=2>;foo;rel=\"last  next\""), page(`["b"]`)}, "a b", nil},
		{"relative link", []testregistry.Fault{page(`["a"]`, `<?b>; rel=prev, <list?x=2>; rel=next`), page(`["b"]`)}, "a b", nil},

		{"same page for ever", []testregistry.Fault{page(`["a","b"]`, next("1"))}, "a b", syscall.EIO},
		{"part of it for ever", []testregistry.Fault{page(`["a","b"]`, next("2")), page(`["b"]`, next("3"))}, "a b", syscall.EIO},
		{"empty for ever", []testregistry.Fault{page(`["a"]`, next("2")), page(`[]`, next("3"))}, "a", syscall.EIO},
		{"other host", []testregistry.Fault{page(`["a"]`, `<http://`+b.reg.CDNHost()+self+`?x>; rel="next"`)}, "", syscall.EIO},
		{"other scheme", []testregistry.Fault{page(`["a"]`, `<https://`+b.reg.Host()+self+`?x>; rel="next"`)}, "", syscall.EIO},
		{"other user", []testregistry.Fault{page(`["a"]`, `<http://u:p@`+b.reg.Host()+self+`?x>; rel="next"`)}, "", syscall.EIO},
		{"no address", []testregistry.Fault{page(`["a"]`, `<http://[>; rel="next"`)}, "", syscall.EIO},
		{"a number", []testregistry.Fault{page(`["a",1]`)}, "a", syscall.EIO},
		{"an object", []testregistry.Fault{page(`{"a":"b"}`)}, "", syscall.EIO},
		{"no tags", []testregistry.Fault{{Kind: testregistry.Tags, Act: testregistry.Status, Code: http.StatusOK, Body: `{"name":"a"}`}}, "", syscall.EIO},
		{"long piece", []testregistry.Fault{page(`["a","` + strings.Repeat("b", 1<<20) + `"]`)}, "a", syscall.EIO},
		{"deep", []testregistry.Fault{page(`["a"],"x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000))}, "a", syscall.EIO},
		{"a million", []testregistry.Fault{page(big + "]")}, "a", nil},
		{"a million and one", []testregistry.Fault{page(big + `,"a","b"]`)}, "a", syscall.EIO},
		{"64 MiB", []testregistry.Fault{page(`["a"` + strings.Repeat(`,"`+strings.Repeat("b", 1<<10)+`"`, 64<<10) + `]`)}, "a", syscall.EIO},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.reg.ClearFaults()
			b.reg.Forget()
			for i, f := range c.pages {
				f.Skip, f.Times = i, 1
				if i == len(c.pages)-1 {
					f.Times = 0
				}
				b.reg.SetFault(f)
			}
			got, err := b.tags()
			if !errors.Is(err, c.err) || strings.Join(got, " ") != c.want {
				t.Errorf("tags %.200q, %v, want %q, %v", got, err, c.want, c.err)
			}
			if n := b.reg.Count("", testregistry.CDN); n > 0 {
				t.Errorf("%d requests to another origin", n)
			}
		})
	}
}

// TestTagLoop is led in a circle of two pages that have nothing in common.
func TestTagLoop(t *testing.T) {
	b := setup(t, nil, &fetch.Options{Timeout: 5 * time.Minute})
	for i := range 5 {
		n := fmt.Sprint(i)
		f := page(`["a`+n+`"]`, `<?p=`+fmt.Sprint((i+1)%5)+`>; rel="next"`)
		f.Match = func(q *testregistry.Request) bool {
			return q.Query == "p="+n || n == "0" && !strings.HasPrefix(q.Query, "p=")
		}
		b.reg.SetFault(f)
	}
	got, err := b.tags()
	if !errors.Is(err, syscall.EIO) || len(got) < 5 || len(got) > 20 {
		t.Errorf("tags %q, %v, want syscall.EIO after a few rounds", got, err)
	}
}

func TestTagsOffline(t *testing.T) {
	b := setup(t, nil, nil)
	m := []byte(`{"schemaVersion":2}`)
	for _, tag := range []string{"2", "1"} {
		b.reg.AddManifest(b.loc.Path, tag, ocispec.MediaTypeImageManifest, m)
		if _, err := b.f.Resolve(ctx(t), locator.Reference{Locator: b.loc, Tag: tag}); err != nil {
			t.Fatal(err)
		}
	}
	b.reg.AddManifest(b.loc.Path, "3", ocispec.MediaTypeImageManifest, m)
	b.shut()
	b.reg.Forget()
	b.open(&fetch.Options{Offline: true})
	if got, err := b.tags(); err != nil || !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("offline the tags are %q, %v", got, err)
	}
	if n := b.reg.Count("", ""); n > 0 {
		t.Errorf("offline there were %d requests", n)
	}
}

func TestTagsOfLayouts(t *testing.T) {
	dir := t.TempDir()
	layout(t, dir+"/team/app", "v1", []byte(`{"schemaVersion":2}`))
	layout(t, dir+"/team/full", "local/team/full:v2", []byte(`{"schemaVersion":2}`))
	layout(t, dir+"/team/other", "elsewhere/team/other:v3", []byte(`{"schemaVersion":2}`))
	store, err := content.Open(t.TempDir() + "/store")
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	f := fetch.New(store, locator.Hosts{"local": {Layouts: dir}}, nil)
	defer f.Close()
	for repo, want := range map[string][]string{"team/app": {"v1"}, "team/full": {"v2"}, "team/other": nil} {
		got, err := listOf(t, f, locator.Locator{Host: "local", Path: repo})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("tags of %s: %q, %v, want %q", repo, got, err, want)
		}
	}
	if _, err := listOf(t, f, locator.Locator{Host: "local", Path: "none"}); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("tags of no layout: %v, want fs.ErrNotExist", err)
	}
}

func TestNextLink(t *testing.T) {
	for in, want := range map[string]string{
		`</a?n=1>; rel="next"`: "/a?n=1",
		`</a>;rel=next`:        "/a",
		`</a> ; title="x; rel=next, <y>" ; REL = Next`:           "/a",
		`</a>; rel=prev, </b>; rel="first next"`:                 "/b",
		`</a>; rel=prev; rel=next`:                               "",
		`</a>; title="\">; rel=next"; rel=prev,,, <>; rel=next;`: "",
		`/a; rel=next`: "", `</a; rel=next`: "", `</a>`: "", ``: "", `</a>; rel`: "", `</a>; rel=`: "", `;rel=next`: "",
	} {
		if got, _ := fetch.NextLink([]string{in}); got != want {
			t.Errorf("NextLink(%q) = %q, want %q", in, got, want)
		}
	}
	if got, ok := fetch.NextLink([]string{"</a>; rel=prev", "</b>; rel=next"}); got != "/b" || !ok {
		t.Errorf("of two headers: %q, %t", got, ok)
	}
}

func FuzzNextLink(f *testing.F) {
	for _, s := range []string{"", `</a?n=1>; rel="next"`, `<a>;b="\"";rel=next,<c>`, `<`, `<>;`, `<>;=`, `<>;a="`, `<a>,,<b>;rel=next`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		target, ok := fetch.NextLink([]string{s})
		if ok && (!strings.Contains(s, "<"+target+">") || !strings.Contains(strings.ToLower(s), "next")) {
			t.Errorf("NextLink(%q) = %q, which is no link there", s, target)
		}
		if wrapped, ok := fetch.NextLink([]string{`</x>; rel="next", ` + s}); !ok || wrapped != "/x" {
			t.Errorf("before %q the link is %q", s, wrapped)
		}
	})
}

func FuzzReadTags(f *testing.F) {
	for _, s := range []string{"", "{}", "null", `{"tags":null}`, `{"tags":["a","b"]}`, `{"name":"x","tags":["a"],"manifest":{"a":[{}]}}`, `{"tags":[1]}`, `[[`, `{"tags":["`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		names, err := fetch.ReadTags(bytes.NewReader(b), 1<<20)
		if err != nil {
			return
		}
		var keys map[string]json.RawMessage
		if err := json.NewDecoder(bytes.NewReader(b)).Decode(&keys); err != nil {
			t.Fatalf("ReadTags took %q, json says %v", b, err)
		}
		var last []string
		if err := json.Unmarshal(keys["tags"], &last); err != nil {
			t.Fatalf("ReadTags took %q, json says %v", b, err)
		}
		if len(names) < len(last) || !slices.Equal(names[len(names)-len(last):], last) {
			t.Errorf("ReadTags(%q) = %q, json has %q", b, names, last)
		}
	})
}

// TestTagsOfADripper: names that are no tags are no progress, and not kept.
func TestTagsOfADripper(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"tags":["!"`)
		for i := 0; r.Context().Err() == nil; i++ {
			fmt.Fprintf(w, `,"!%d"`, i)
			w.(http.Flusher).Flush()
			select {
			case <-time.After(200 * time.Millisecond):
			case <-r.Context().Done():
			}
		}
	}))
	defer srv.Close()
	b := setup(t, nil, &fetch.Options{Timeout: time.Second})
	b.loc.Host = strings.TrimPrefix(srv.URL, "http://")
	if got, err := b.tags(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d tags, %v, want that it makes no progress", len(got), err)
	}
}

// TestNextPageElsewhere: a list goes on at its own path and nowhere else, where
// it could be redirected to what is the reader's own.
func TestNextPageElsewhere(t *testing.T) {
	asked := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/v2/") {
			asked <- r.URL.Path
		}
		w.Header().Set("Link", `</x>; rel="next"`)
		fmt.Fprint(w, `{"tags":["one"]}`)
	}))
	defer srv.Close()
	b := setup(t, nil, nil)
	b.loc.Host = strings.TrimPrefix(srv.URL, "http://")
	if got, err := b.tags(); !errors.Is(err, syscall.EIO) {
		t.Errorf("%q, %v, want EIO", got, err)
	}
	select {
	case path := <-asked:
		t.Errorf("%s was asked for", path)
	default:
	}
}
