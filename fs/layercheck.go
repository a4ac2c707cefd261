package fs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"distfs/layer"
)

// A tocCheck holds a layer's table of contents against its tar, once, as soon as all
// of the layer is here: the table can hide what the tar has. The diffID does not
// count: tools have written layers with another one than their tar has.
type tocCheck struct {
	mu     sync.Mutex
	looked time.Time // when it was looked whether all is here; guarded by mu
	begun  bool      // guarded by mu
	wrong  error     // what was found; guarded by mu
}

// checkEvery is how often it is looked whether all of a layer is here.
const checkEvery = time.Second

// check begins the comparison where it is due: when the layer became whole while its
// table was in use.
func (l *layerFiles) check() {
	ix := l.held()
	if ix == nil || ix.View != layer.ViewTOC || l.s.quiet || l.harvest.goesOn() || !l.toc.due() {
		return // who harvests it has the processors
	}
	if !l.whole() || !l.toc.begin() {
		return
	}
	l.s.beside(func(ctx context.Context) {
		switch _, err := l.compare(ctx, ix); {
		case differs(err):
			l.condemn(err)
		case err != nil && ctx.Err() == nil:
			l.sayUnchecked(err)
		}
	})
}

// checked returns an index that is about to be used, after it was held against the tar
// if all of the layer is here.
func (l *layerFiles) checked(ctx context.Context, ix *layer.Index) (*layer.Index, error) {
	if ix.View != layer.ViewTOC || l.s.quiet || !l.whole() || !l.toc.begin() {
		return ix, l.bad()
	}
	held, err := l.compare(ctx, ix)
	switch {
	case err == nil:
		return held, nil
	case differs(err):
		l.condemn(err)
		return nil, l.bad()
	case ctx.Err() != nil:
		l.toc.again()
		return nil, context.Cause(ctx)
	}
	l.sayUnchecked(err)
	return ix, nil
}

func (l *layerFiles) sayUnchecked(err error) {
	l.s.log.Warn("the table of contents is not held against the tar", "locator", l.loc.String(), "layer", l.desc.Digest, "err", err)
}

func (l *layerFiles) whole() bool {
	_, committed := l.s.src.Local(l.loc, l.desc.Digest)
	return !committed.IsZero()
}

// compare holds a table of contents against the tar. It returns the index as it is from
// then on, which is kept.
func (l *layerFiles) compare(ctx context.Context, ix *layer.Index) (*layer.Index, error) {
	tar, err := l.scan(ctx, l.desc.Annotations[layer.AnnotationTOC])
	if err == nil {
		err = layer.Compare(ix, tar)
	}
	if err != nil {
		return nil, err
	}
	held := *ix
	held.View = layer.ViewHeld
	l.keep(&held) // the next mount need not look
	return &held, nil
}

// differs says whether err is what was found, and not that it can't be looked. Where
// the tar can't be read for what it says the table is not that of a tar: a file could hide so.
func differs(err error) bool {
	_, is := errors.AsType[*layer.DifferenceError](err)
	_, unreadable := errors.AsType[*tarError](err)
	return is || unreadable
}

func (c *tocCheck) due() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.begun || time.Since(c.looked) < checkEvery {
		return false
	}
	c.looked = time.Now()
	return true
}

// again lets a comparison begin that came to no end.
func (c *tocCheck) again() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun = false
}

func (c *tocCheck) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	begins := !c.begun
	c.begun = true
	return begins
}

// condemn has every use of the layer end with EIO from now on.
func (l *layerFiles) condemn(err error) {
	err = fmt.Errorf("layer %s of %s: %w", l.desc.Digest, l.loc, err)
	l.s.log.Error("the layer is not what its table of contents says", "err", err)
	l.toc.mu.Lock()
	l.toc.wrong = &saidError{err}
	l.toc.mu.Unlock()
	if err := l.s.src.DropLayerIndex(l.desc.Digest); err != nil {
		l.s.log.Warn("the index is not dropped", "layer", l.desc.Digest, "err", err)
	}
	// In a goroutine of its own, for it waits for the reads that are held.
	l.s.tasks.Go(func() {
		for _, n := range l.s.table.all() {
			if f, ok := n.(interface{ of(l *layerFiles) bool }); ok && f.of(l) {
				l.s.drop(n)
			}
		}
	})
}

// bad is not nil once the layer is found not to be what its table of contents says.
func (l *layerFiles) bad() error {
	l.toc.mu.Lock()
	defer l.toc.mu.Unlock()
	return l.toc.wrong
}

// bad is not nil once one of the tree's layers is bad: its names can't be trusted.
func (t *tree) bad() error {
	for _, l := range t.layers {
		l.check()
		if err := l.bad(); err != nil {
			return err
		}
	}
	return nil
}
