package content

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
)

// An Expect says which ingest is meant, and what is known of its blob.
//
// With a Digest and an Origin it is shared: any number of Ingests, in any number of processes, fill it together, Ref is a
// label on it, and Total must be known. Without one of the two it is by key: Ref is the key, it has one writer, and Total may be
// -1. Bytes of different origins never meet before their digest matched.
//
// A shared one may be Derived: the content of a file of a tree, which can be made again. Nothing of it is synced, so that it does
// not outlive the boot, and Commit makes what [Store.File] opens of it, and no blob.
type Expect struct {
	Ref     string
	Digest  digest.Digest // empty: not known
	Origin  string        // who sends the bytes: a registry's host, say
	Total   int64         // size in bytes; -1: not known
	Derived bool
}

// shared says which of the two kinds e is.
func (e Expect) shared() bool { return e.Digest != "" && e.Origin != "" }

const (
	keyPrefix     = "key-"  // of the name of an ingest by key
	derivedSuffix = ".file" // of that of one that is derived
)

// isDerived says whether an ingest of that name is derived.
func isDerived(name string) bool { return strings.HasSuffix(name, derivedSuffix) }

// name returns the name of e's directory in ingest/, and of its file in locks/.
func (e Expect) name() string {
	if e.shared() {
		name := digestName(e.Digest) + "." + hash16(e.Origin)
		if e.Derived {
			name += derivedSuffix
		}
		return name
	}
	sum := sha256.Sum256([]byte(e.Ref))
	return keyPrefix + hex.EncodeToString(sum[:])
}

// label returns what e is called in errors.
func (e Expect) label() string {
	if e.shared() {
		return string(e.Digest)
	}
	return strconv.Quote(e.Ref)
}

func (e Expect) check() error {
	if err := e.checkName(); err != nil {
		return err
	}
	if e.Total < -1 || e.Total > maxTotal {
		return fmt.Errorf("ingest %.200s: a total of %d: it must be known, at most %d, or -1", e.label(), e.Total, int64(maxTotal))
	}
	if e.shared() && e.Total < 0 {
		return fmt.Errorf("ingest %.200s: its total must be known", e.label())
	}
	if len(e.Ref) > 4096 || len(e.Origin) > 4096 {
		return fmt.Errorf("ingest %.200s: ref or origin is longer than 4096 bytes", e.label())
	}
	return nil
}

func (e Expect) checkName() error {
	if e.Digest != "" {
		if err := checkDigest(e.Digest); err != nil {
			return fmt.Errorf("ingest: %w", err)
		}
	}
	if !e.shared() && e.Ref == "" {
		return errors.New("ingest: neither a digest and its origin nor a key")
	}
	if !e.shared() && e.Derived {
		return fmt.Errorf("ingest %.200s: it is derived, of no digest or from nothing", e.label())
	}
	return nil
}

// merge returns what is known of an ingest that was begun with have, when it is opened with e.
func (e Expect) merge(have Expect) (Expect, error) {
	if have.Total >= 0 && e.Total >= 0 && have.Total != e.Total {
		return e, &ConflictError{e.label(), "total", strconv.FormatInt(have.Total, 10), strconv.FormatInt(e.Total, 10)}
	}
	if have.Digest != "" && e.Digest != "" && have.Digest != e.Digest {
		return e, &ConflictError{e.label(), "digest", string(have.Digest), string(e.Digest)}
	}
	e.Total = max(e.Total, have.Total)
	if e.Digest == "" {
		e.Digest = have.Digest
	}
	if e.shared() && have.Ref != "" {
		e.Ref = have.Ref
	}
	return e, nil
}

// digestName returns dgst as a name without a colon.
func digestName(dgst digest.Digest) string {
	return dgst.Algorithm().String() + "-" + dgst.Encoded()
}

// namedDigest returns the digest whose digestName is name. Of another name it is none that is valid.
func namedDigest(name string) digest.Digest {
	alg, hex, _ := strings.Cut(name, "-")
	return digest.Digest(alg + ":" + hex)
}

// ingestDigest returns the digest of which an ingest of that name is. By key it is none that is valid.
func ingestDigest(name string) digest.Digest {
	label, _, _ := strings.Cut(name, ".")
	return namedDigest(label)
}

func hash16(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}

// expectation is the file expect.
type expectation struct {
	Ref      string        `json:"ref"`
	RefBytes string        `json:"refBytes,omitempty"` // the ref in base64 where it is no UTF-8, which JSON can't hold
	Digest   digest.Digest `json:"digest,omitempty"`
	Origin   string        `json:"origin,omitempty"`
	Total    int64         `json:"total"`
	Derived  bool          `json:"derived,omitempty"`
	Started  time.Time     `json:"started"`
}

func (x expectation) expect() Expect {
	if b, err := base64.StdEncoding.DecodeString(x.RefBytes); err == nil && len(b) > 0 {
		x.Ref = string(b)
	}
	return Expect{Ref: x.Ref, Digest: x.Digest, Origin: x.Origin, Total: x.Total, Derived: x.Derived}
}

func expectationOf(e Expect, started time.Time) expectation {
	x := expectation{Ref: e.Ref, Digest: e.Digest, Origin: e.Origin, Total: e.Total, Derived: e.Derived, Started: started}
	if !utf8.ValidString(e.Ref) {
		x.Ref, x.RefBytes = strings.ToValidUTF8(e.Ref, "\uFFFD"), base64.StdEncoding.EncodeToString([]byte(e.Ref))
	}
	return x
}

// readExpect reads the file expect of the ingest directory dir, which is called name. One that is missing, damaged, or not
// this ingest's is an errDamaged.
func readExpect(dir, name string) (x expectation, err error) {
	b, err := readBounded(filepath.Join(dir, "expect"))
	if errors.Is(err, iofs.ErrNotExist) {
		return x, errDamaged
	}
	if err != nil {
		return x, err
	}
	if json.Unmarshal(b, &x) != nil || x.expect().check() != nil {
		return x, errDamaged
	}
	if x.expect().name() != name {
		// By key with a digest and no origin, or shared: the name tells.
		return x, errDamaged
	}
	return x, nil
}
