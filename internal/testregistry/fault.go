package testregistry

import "net/http"

// An Act is what a fault does. Offsets of a body count from the body's first byte.
type Act int

// What a fault can do.
const (
	Status       Act = iota // answer Code, with Header and Body
	Headers                 // answer as always, with Header in place of its own; an empty value removes
	StallHeaders            // answer nothing until released
	StallBody               // stop after At bytes of the body until released
	Cut                     // reset the connection after At bytes of the body
	Short                   // announce the whole body and end it in good order after At bytes
	IgnoreRange             // 200 and the whole blob, whatever range was asked for
	NoRange                 // 206 without a Content-Range
	BadRange                // 206 with a Content-Range that says nothing sensible
	ShiftRange              // 206 of the range that lies At bytes further on, and it says so
	ShortRange              // 206 of the first At bytes of the range, and it says so
	WrongTotal              // Content-Range (or Content-Length of a HEAD) gives a size that is off by At
	FlipBit                 // the blob's byte at At has one bit flipped
	NoLength                // no Content-Length
	Endless                 // after the body there comes ever more, and no Content-Length
	HTML                    // 200 and a page of HTML, as hotel networks answer
	Gzip                    // the body is compressed, though identity was asked for
	RedirectTo              // 307 to To with path and query of the request

	// Of what writes, before any of it is done:
	Refuse      // answer Code, with Header and Body, and do nothing
	CutUpload   // take At bytes of the body, then reset the connection
	LoseSession // forget all upload sessions first
)

// A Fault is a misbehaviour and the requests that it befalls: those which all of
// Method, Kind, Repo, Ref and Match match, except the first Skip and those after Times more.
type Fault struct {
	Method string              // "" any
	Kind   Kind                // "" any
	Repo   string              // "" any
	Ref    string              // the tag or digest asked for; "" any
	Match  func(*Request) bool // nil any. It must not call the registry
	Skip   int
	Times  int // 0 all

	Act    Act
	At     int64
	Code   int
	Header http.Header
	Body   string
	To     string // scheme and host
}

// An Active is a fault that was set.
type Active struct {
	fault    Fault
	registry *Registry
	seen     int           // requests that matched
	hits     int           // requests that it befell
	released chan struct{} // closed by Release
}

// SetFault has f befall requests from now on. Of several that match, each adds its own.
func (r *Registry) SetFault(f Fault) *Active {
	a := &Active{fault: f, registry: r, released: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, a)
	return a
}

// Release lifts the fault. Answers that it holds up go on.
func (a *Active) Release() {
	r := a.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, b := range r.faults {
		if a == b {
			r.faults = append(r.faults[:i:i], r.faults[i+1:]...)
			close(a.released)
			return
		}
	}
}

// Hits returns how many requests the fault befell.
func (a *Active) Hits() int {
	a.registry.mu.Lock()
	defer a.registry.mu.Unlock()
	return a.hits
}

// ClearFaults lifts all faults.
func (r *Registry) ClearFaults() {
	r.mu.Lock()
	faults := r.faults
	r.mu.Unlock()
	for _, a := range faults {
		a.Release()
	}
}

// befalling returns the faults that befall q, and counts them.
func (r *Registry) befalling(q *Request) []*Active {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*Active
	for _, a := range r.faults {
		if !a.fault.matches(q) {
			continue
		}
		a.seen++
		if n := a.seen - a.fault.Skip; n > 0 && (a.fault.Times == 0 || n <= a.fault.Times) {
			a.hits++
			list = append(list, a)
		}
	}
	return list
}

func (f *Fault) matches(q *Request) bool {
	return (f.Method == "" || f.Method == q.Method) && (f.Kind == "" || f.Kind == q.Kind) &&
		(f.Repo == "" || f.Repo == q.Repo) && (f.Ref == "" || f.Ref == q.Ref) &&
		(f.Match == nil || f.Match(q))
}
