package fetch

import (
	"net/http"
	"sync"
	"time"
)

// uploads are what is being pushed. The zero value is ready.
type uploads struct {
	mu  sync.Mutex
	now map[*upload]bool // guarded by mu
}

// begin says that u is under way, until end.
func (a *uploads) begin(u *upload) (end func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.now == nil {
		a.now = make(map[*upload]bool)
	}
	a.now[u] = true
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.now, u)
	}
}

func (a *uploads) active() []Progress {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []Progress
	for u := range a.now {
		at := u.at.Load()
		one := Progress{
			Ref: u.p.ref.Locator.String() + "@" + u.desc.Digest.String(), MediaType: u.desc.MediaType, Digest: u.desc.Digest,
			State: Uploading, Here: at, Offset: at, Total: u.desc.Size, Started: u.began,
		}
		one.Received, one.Rate = u.meter.read(time.Now())
		all = append(all, one)
	}
	return all
}

// remember goes on with the session that an earlier process left, and has where
// this one is kept for a later process, until forget; if this one ends with the
// blob, no more. It is for what has chunks.
func (u *upload) remember() (forget func()) {
	if u.desc.Size <= u.chunk {
		return func() {}
	}
	note, ok, err := u.p.f.store.NoteUpload(repo(u.p.ref.Locator), u.desc.Digest)
	if err != nil || !ok { // it costs no more than that
		return func() {}
	}
	u.note = note
	a := reply{at: u.p.r.home(), header: http.Header{"Location": {note.Place()}}}
	if to, err := a.place(); err == nil && to != nil {
		u.session, u.unsure, u.begun = to, true, 1
	}
	return func() {
		if u.done {
			u.keep("")
		}
		note.Close()
	}
}

func (u *upload) keep(place string) {
	if u.note == nil {
		return
	}
	if err := u.note.Set(place); err != nil && !u.p.f.sayFull(err) {
		u.p.f.opts.Log.Warn("place of an upload not kept", "digest", u.desc.Digest, "err", err)
	}
}
