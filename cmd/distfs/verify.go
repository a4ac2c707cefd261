package main

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"distfs/content"
	"distfs/fetch"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
)

// checkers is how many blobs are hashed at a time: reading one goes on while
// another is hashed.
const checkers = 2

func (p *program) verifyCommand() *cobra.Command {
	var out output
	var repair bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Look for what is damaged in the store",
		Long: `Hash every blob of the store, and look at its records and at index.json. A blob
that does not have its digest, or that the disk can't read, is moved aside, to
bad/ in the store, so that who wants it fetches it; it is told of again until it is repaired or deleted. A record
of what a repository answered is bad if it makes no sense or contradicts a blob,
and an image in index.json if a blob that it is made of is missing. An index.json
that can't be read is bad; move it away, and fetch or import its images again, of
which nothing that is here is fetched: a new one is made.

With --repair what is bad is fetched again from the repositories that are known to
have it, what an image lacks from that of the image's name, and bad records are
removed: they are asked for again.

Each thing that is bad is printed; the exit code is 1 if one is left that was not
repaired. It may run while a mount and other commands use the store, and leaves
alone what is on its way in.`,
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: p.interruptible(func(ctx context.Context, _ []string) error {
			return p.verify(ctx, &out, repair)
		}),
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "fetch again what is bad or missing, and remove bad records")
	out.flag(cmd)
	return cmd
}

// A finding is what verify prints of one thing that is bad, for programs.
type finding struct {
	Name    string               `json:"name,omitempty"` // of an image, and of a record and index.json the file below the store
	Digest  digest.Digest        `json:"digest,omitempty"`
	State   string               `json:"state"` // bad, partial or repaired
	Error   string               `json:"error,omitempty"`
	From    string               `json:"from,omitempty"`    // who sent it again
	Missing []ocispec.Descriptor `json:"missing,omitempty"` // of an image
}

// A verification is one run of verify.
type verification struct {
	p      *program
	store  *content.Store
	repair *repairer // nil: nothing is repaired

	blobs atomic.Int64
	bytes atomic.Int64
	total atomic.Int64 // of bytes
	began time.Time

	mu       sync.Mutex
	show     func(finding) error
	bad      int // findings that were not repaired, but for images; guarded by mu
	images   int // that are damaged, or lack something; guarded by mu
	repaired int // guarded by mu
}

func (p *program) verify(ctx context.Context, out *output, repair bool) error {
	all := []finding{}
	v := verification{p: p, show: p.printFinding, began: time.Now()}
	if out.json() {
		v.show = func(f finding) error {
			all = append(all, f)
			return nil
		}
	}
	err := v.run(ctx, repair)
	if out.json() {
		err = errors.Join(err, p.printJSON(all))
	}
	if err != nil {
		return err
	}
	line := fmt.Sprintf("verified blobs: %d, with %s; bad: %d", v.blobs.Load(), humanSize(v.bytes.Load()), v.bad)
	if repair {
		line += fmt.Sprintf("; repaired: %d", v.repaired)
	}
	if v.images > 0 {
		line += fmt.Sprintf("; images damaged: %d", v.images)
	}
	p.say(line)
	if v.bad > 0 || v.images > 0 {
		return errSaid
	}
	return nil
}

// digestWidth is how long most names of what is bad are.
const digestWidth = len("sha256:") + 64

// printFinding prints a line at once: it may be long until the next.
func (p *program) printFinding(f finding) error {
	line := f.Name
	if line == "" {
		line = string(f.Digest)
	}
	line = fmt.Sprintf("%-*s  %-8s", digestWidth, oneLine(line), f.State)
	switch {
	case f.Error != "":
		line += "  " + oneLine(f.Error)
	case f.From != "":
		line += "  from " + oneLine(f.From)
	}
	line = strings.TrimRight(line, " ")
	_, err := fmt.Fprintln(p.stdout, line)
	return err
}

// run verifies the store, if there is one.
func (v *verification) run(ctx context.Context, repair bool) (err error) {
	if v.store, err = v.p.existing(); errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.store.Close()) }()
	command := "verify"
	if repair {
		command += " --repair"
		v.repair = v.p.newRepairer(v.store)
		defer func() { err = errors.Join(err, v.repair.close()) }()
	}
	defer v.p.attend(v.store, v.active, command).close()
	// Records come behind the blobs that they are held against, and before the
	// repairs that go by them; images before what was moved aside, for their names
	// tell where to ask.
	wrong, err := v.checkBlobs(ctx)
	if err == nil {
		err = v.checkRecords(ctx)
	}
	if err == nil {
		err = v.checkImages(ctx)
	}
	if err == nil {
		err = v.checkAside(ctx, wrong)
	}
	return err
}

// found tells of what is bad, or was.
func (v *verification) found(f finding) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case f.State == "repaired":
		v.repaired++
	case f.Name != "" && f.Digest != "":
		v.images++
	default:
		v.bad++
	}
	return v.show(f)
}

// checkBlobs hashes every blob, and returns what is wrong with those that were
// moved aside. Without repair these are told at once.
func (v *verification) checkBlobs(ctx context.Context) (map[digest.Digest]error, error) {
	blobs, err := v.store.Blobs()
	if err != nil {
		return nil, err
	}
	for _, info := range blobs {
		v.total.Add(info.Size)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	wrong := make(map[digest.Digest]error)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range checkers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(blobs)) && ctx.Err() == nil; i = next.Add(1) - 1 {
				if err := v.checkBlob(ctx, blobs[i], wrong); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return wrong, context.Cause(ctx)
}

// active is how much was hashed, and what is fetched again.
func (v *verification) active() []fetch.Progress {
	n := v.bytes.Load()
	all := []fetch.Progress{{Ref: "blobs", State: fetch.Verifying, Here: n, Offset: n, Total: v.total.Load(), Started: v.began}}
	if v.repair != nil {
		all = append(all, v.repair.f.Active()...)
	}
	return all
}

func (v *verification) checkBlob(ctx context.Context, info content.Info, wrong map[digest.Digest]error) error {
	aside, err := v.store.CheckBlob(ctx, info.Digest)
	switch {
	case errors.Is(err, iofs.ErrNotExist): // deleted meanwhile
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	v.blobs.Add(1)
	v.bytes.Add(info.Size)
	switch {
	case err == nil:
		return nil
	case aside == "": // it can't be opened, or not be moved
		return v.found(finding{Digest: info.Digest, State: "bad", Error: err.Error()})
	}
	if mismatch, ok := errors.AsType[*content.MismatchError](err); ok { // it names the digest that is wanted, too
		err = fmt.Errorf("its digest is %s", mismatch.Got)
	}
	err = fmt.Errorf("%w; moved to %s", err, aside)
	v.mu.Lock()
	wrong[info.Digest] = err
	v.mu.Unlock()
	if v.repair != nil {
		return nil
	}
	return v.found(finding{Digest: info.Digest, State: "bad", Error: err.Error()})
}

func (v *verification) checkRecords(ctx context.Context) error {
	return v.store.CheckRecords(ctx, v.repair != nil, func(path string, why error) error {
		f := finding{Name: path, State: "bad", Error: why.Error()}
		if v.repair != nil {
			f.State = "repaired"
			f.Error = "removed: " + f.Error
		}
		return v.found(f)
	})
}

// checkAside repairs what was moved aside, now or earlier, or tells of it.
func (v *verification) checkAside(ctx context.Context, wrong map[digest.Digest]error) error {
	aside, err := v.store.Aside()
	if err != nil {
		return err
	}
	for _, dgst := range aside {
		why, now := wrong[dgst]
		if !now {
			why = errors.New("moved aside earlier")
		}
		_, err := v.store.Stat(dgst)
		switch {
		case err == nil && v.repair != nil: // for an image, or by who wanted it
			_ = v.store.DropAside(dgst)
			if from := v.repair.fetched[dgst]; now || from != "" {
				err = v.found(finding{Digest: dgst, State: "repaired", From: from})
			}
		case err == nil:
		case v.repair != nil:
			err = v.refetch(ctx, dgst, why)
		case !now:
			err = v.found(finding{Digest: dgst, State: "bad", Error: why.Error()})
		default: // told already
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// refetch fetches a bad blob again, and tells how that went.
func (v *verification) refetch(ctx context.Context, dgst digest.Digest, why error) error {
	from, err := v.repair.fetchAgain(ctx, dgst)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return v.found(finding{Digest: dgst, State: "bad", Error: why.Error() + "; not repaired: " + err.Error()})
	}
	_ = v.store.DropAside(dgst) // its bytes were wrong, and are told of
	return v.found(finding{Digest: dgst, State: "repaired", From: from})
}
