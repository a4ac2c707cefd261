package transfer

import "sync"

// A course is what happened to a part so far. The zero value has not begun.
type course struct {
	mu       sync.Mutex
	begun    bool
	obj      Object // that says how far it is; nil while it is not open
	had      int64
	here     bool  // it is in the store
	unpacks  bool  // it is to be unpacked too
	at       int64 // how much of it is unpacked
	reading  bool  // it is being unpacked
	unpacked bool

	told Event // the last one
}

// begin says that a part is looked for, of which there were had bytes.
func (c *course) begin(had int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun, c.had = true, had
}

// follow has obj be asked how far it is, until follow is called with nil.
func (c *course) follow(obj Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.obj = obj
}

// arrive says that it is in the store.
func (c *course) arrive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.here = true
}

// unpack says how much of it is in the tree.
func (c *course) unpack(at int64, done bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading, c.at, c.unpacked = true, at, done
}

// willUnpack says that it is not done before it is unpacked.
func (c *course) willUnpack() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unpacks = true
}

// tell reports how far it is, if that is news; of is what it is about.
func (c *course) tell(of Event, report Report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.begun || c.told.State == Done || c.told.State == Exists {
		return
	}
	of.Had = c.had
	of.State, of.Offset = c.now(of.Desc.Size)
	if of.State == c.told.State && of.Offset == c.told.Offset {
		return
	}
	c.told = of
	report(of)
}

// now is how far it is. The lock is held.
func (c *course) now(size int64) (State, int64) {
	switch {
	case c.here && c.unpacks && !c.unpacked && c.reading:
		return Unpacking, c.at
	case c.here && c.unpacks && !c.unpacked:
		return Waiting, size
	case c.here && c.had == size && !c.unpacks:
		return Exists, size
	case c.here:
		return Done, size
	case c.obj == nil:
		return Waiting, c.had
	}
	state, here := c.obj.Progress()
	if state == "" || state == Done {
		state = Verifying // what is here is told by arrive
		if here < size {
			state = Waiting
		}
	}
	return state, max(here, c.had)
}
