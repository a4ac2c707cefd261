package transfer

import ocispec "github.com/opencontainers/image-spec/specs-go/v1"

// A State is what happens to an object at the moment.
type State string

// The states of what is fetched, and of what is pushed or exported.
const (
	Resolving   State = "resolving"
	Waiting     State = "waiting"
	Downloading State = "downloading"
	Verifying   State = "verifying"
	Unpacking   State = "unpacking"
	Uploading   State = "uploading"
	Writing     State = "writing" // into an archive
	Mounted     State = "mounted" // from another repository of the same registry
	Exists      State = "exists"  // there already
	Done        State = "done"
)

// An Event tells how far an object is.
type Event struct {
	Ref    string             // the label of its ingest; or the name that was asked for, which is done when all of it is there
	Desc   ocispec.Descriptor // its size is 0 while it is not known
	State  State
	Offset int64 // bytes that are here, or there
	Had    int64 // of these, bytes that were before this command began: no part of a rate
}

// A Report hears of objects. It is called by many goroutines at once, and holds
// up who calls it: it is to return soon.
type Report func(Event)
