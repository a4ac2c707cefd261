package content

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
)

// ErrDiscarded is the kind of error of an ingest whose bytes were thrown away, by this process or by another one.
// What was wanted from it can be had by opening it again.
var ErrDiscarded = errors.New("the ingest was discarded")

// ErrAbsent is the kind of error of reading a chunk that an ingest doesn't have.
var ErrAbsent = errors.New("not fetched yet")

// A MismatchError says that bytes don't have the digest that they should. It is a syscall.EIO.
type MismatchError struct {
	Ref       string
	Want, Got digest.Digest
}

func (e *MismatchError) Error() string {
	switch {
	case e.Ref == string(e.Want): // who has a longer name for it says that
		return fmt.Sprintf("wrong digest: want %s, got %s", e.Want, e.Got)
	case strings.Contains(e.Ref, string(e.Want)):
		return fmt.Sprintf("%.400s: wrong digest: got %s", e.Ref, e.Got)
	}
	return fmt.Sprintf("%.200s: wrong digest: want %s, got %s", e.Ref, e.Want, e.Got)
}

// Is makes it a syscall.EIO.
func (e *MismatchError) Is(target error) bool { return target == syscall.EIO }

// A SizeError says that there are more or fewer bytes than there should be. It is a syscall.EIO.
type SizeError struct {
	Ref       string
	Want, Got int64 // where there are more, Got is the least there can be
}

func (e *SizeError) Error() string {
	if e.Got > e.Want {
		return fmt.Sprintf("%.200s: too long: want %d bytes, got %d at least", e.Ref, e.Want, e.Got)
	}
	return fmt.Sprintf("%.200s: too short: want %d bytes, got %d", e.Ref, e.Want, e.Got)
}

// Is makes it a syscall.EIO.
func (e *SizeError) Is(target error) bool { return target == syscall.EIO }

// A ConflictError says that an ingest is there which was begun with another total or digest.
type ConflictError struct {
	Ref        string
	What       string // "total" or "digest"
	Have, Want string // what the ingest was begun with, and what it was to be opened with
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("ingest %.200s: it was begun with %s %s, not %s", e.Ref, e.What, e.Have, e.Want)
}

// A LockedError says who is writing an ingest by key. It is a syscall.EBUSY.
type LockedError struct {
	Ref     string
	PID     int    // as the writer sees itself; 0 if it isn't known
	Command string // its command line, shortened
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("ingest %.200q: process %d is writing it (%s)", e.Ref, e.PID, e.Command)
}

// Is makes it a syscall.EBUSY.
func (e *LockedError) Is(target error) bool { return target == syscall.EBUSY }

// noSpace makes of an exhausted quota a full disk, too.
func noSpace(err error) error {
	if errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", syscall.ENOSPC, err)
	}
	return err
}
