package layer

import (
	"errors"
	"syscall"
)

// AnnotationTOC is the annotation by which a layer's descriptor says that it is an
// eStargz: the digest of its table of contents.
const AnnotationTOC = "containerd.io/snapshot/stargz/toc.digest"

// isLandmark says whether an entry is a mark that eStargz leaves in the root, of one
// byte: it says how much of the layer is to be fetched beforehand. Anything else of
// that name is a file of the image.
func isLandmark(e *Entry) bool {
	return e.Kind == File && e.Size <= 1 && (e.Name == ".prefetch.landmark" || e.Name == ".no.prefetch.landmark")
}

// skip says whether the entry is one that makes the layer an eStargz, and no file of
// the image. Where the layer's descriptor says that it is one, what has the name of
// the table of contents must be that: else a file could hide behind it. The error is
// a *TOCError where it is not.
func (r *Reader) skip(e *Entry) (bool, error) {
	switch {
	case r.toc == "":
		return false, nil
	case isLandmark(e):
		return true, nil
	case e.Name != estargzTOC:
		return false, nil
	case e.Kind != File:
		return false, &TOCError{&refusal{"what has its name is no file", syscall.EINVAL}}
	}
	err := verifyTOC(r.tar, r.toc)
	if wrong, ok := errors.AsType[*refusal](err); ok {
		return false, &TOCError{wrong}
	}
	return err == nil, err
}
