package content

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The bounds of a layout's index.json. Who made it may wish ill: of small entries a few bytes make a large value in memory.
const (
	maxLayoutIndex   = 8 << 20 // bytes, as fetch has it for layouts
	maxLayoutEntries = 100_000
	maxLayoutEntry   = 1 << 20 // bytes of one
	maxLayoutFields  = 1000    // of the document itself
)

// readIndex reads index.json, from the file that was found to be one. One that isn't there is an empty one.
func (l *Layout) readIndex() (*indexFile, error) {
	f, size, err := l.plain(ocispec.ImageIndexFile)
	if errors.Is(err, iofs.ErrNotExist) {
		return emptyIndex()
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > maxLayoutIndex {
		return nil, fmt.Errorf("it is larger than %d bytes", maxLayoutIndex)
	}
	return parseIndex(io.LimitReader(f, maxLayoutIndex))
}

// parseIndex reads an index.json as a stream, so that one of too many entries ends at the first that is too many.
func parseIndex(r io.Reader) (*indexFile, error) {
	x := &indexFile{fields: make(map[string]json.RawMessage)}
	dec := json.NewDecoder(r)
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("it is no object")
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := key.(string) // a key is nothing else
		if len(x.fields) == maxLayoutFields {
			return nil, fmt.Errorf("it has more than %d fields", maxLayoutFields)
		}
		if name == "manifests" {
			x.entries, err = parseEntries(dec)
		} else {
			var raw json.RawMessage
			err = dec.Decode(&raw)
			x.fields[name] = raw
		}
		if err != nil {
			return nil, err
		}
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more stands behind the object")
	}
	return x, nil
}

// parseEntries reads the list "manifests", or null.
func parseEntries(dec *json.Decoder) (entries []indexEntry, err error) {
	t, err := dec.Token()
	switch {
	case err != nil:
		return nil, err
	case t == nil:
		return nil, nil
	case t != json.Delim('['):
		return nil, errors.New("manifests is no list")
	}
	for dec.More() {
		if len(entries) == maxLayoutEntries {
			return nil, fmt.Errorf("it has more than %d entries", maxLayoutEntries)
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, err
		}
		if len(raw) > maxLayoutEntry {
			return nil, fmt.Errorf("entry %d has more than %d bytes", len(entries), maxLayoutEntry)
		}
		entries = append(entries, newIndexEntry(raw))
	}
	_, err = dec.Token()
	return entries, err
}

// encodeLayout is encode, for an index that readIndex reads.
func (x *indexFile) encodeLayout() ([]byte, error) {
	b, err := x.encode()
	switch {
	case err != nil:
		return nil, err
	case len(b) > maxLayoutIndex:
		return nil, fmt.Errorf("it would be larger than %d bytes", maxLayoutIndex)
	case len(x.entries) > maxLayoutEntries:
		return nil, fmt.Errorf("it would have more than %d entries", maxLayoutEntries)
	}
	return b, nil
}
