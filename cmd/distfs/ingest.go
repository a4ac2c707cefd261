package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"distfs/content"
	"distfs/fetch"
	"distfs/locator"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
)

// ingestFlags are the flags of ingest.
type ingestFlags struct {
	output output
	digest string
	size   knownSize
}

func (p *program) ingestCommand() *cobra.Command {
	var f ingestFlags
	cmd := &cobra.Command{
		Use:   "ingest KEY [flags] < BYTES",
		Short: "Take standard input into the store as a blob",
		Long: `Take standard input into the store as a blob, and print its digest.

KEY is a name of your choice for these bytes on their way. What was interrupted,
or killed, is gone on from where it stopped by the same KEY again if standard
input is a file; what comes by a pipe begins again. While a process is at it
another one with the same KEY is refused. Bytes that have another digest or size
than was expected are thrown away, and the exit code is 1; so they are where the
store has the expected blob already: all input is read and held against it.

Without --expected-digest, what was read before the interruption is read once
more, to see that it is the same file.`,
		Example:           `  distfs ingest --expected-digest sha256:a2318d… backup.tar <backup.tar`,
		Args:              exactly("KEY"),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().StringVar(&f.digest, "expected-digest", "", "refuse what has not this `DIGEST`")
	cmd.Flags().Var(&f.size, "expected-size", "refuse what has not so many bytes")
	f.output.flag(cmd)
	cmd.RunE = p.interruptible(func(ctx context.Context, args []string) error { return p.ingest(ctx, args[0], &f) })
	return cmd
}

func (p *program) ingest(ctx context.Context, key string, f *ingestFlags) error {
	var expected digest.Digest
	if f.digest != "" {
		var err error
		if expected, err = locator.ParseDigest(f.digest); err != nil {
			return usagef("--expected-digest: %w", err)
		}
	}
	if key == "" || len(key) > maxKey {
		return usagef("KEY: it has %d bytes, and not 1 to %d", len(key), maxKey)
	}
	if isTerminal(os.Stdin) {
		return usagef("no bytes: standard input is a terminal")
	}
	store, err := p.openStore()
	if err != nil {
		return err
	}
	control := p.attend(store, func() []fetch.Progress { return underway(store, key) }, "ingest "+key)
	desc, had, err := ingestInto(ctx, store, key, f.size.bytes(), expected)
	control.close()
	if err := errors.Join(err, store.Close()); err != nil {
		return err
	}
	if had {
		p.say(fmt.Sprintf("%q: the store has it already", key))
	}
	if f.output.json() {
		return p.printJSON(desc)
	}
	_, err = fmt.Fprintln(p.stdout, desc.Digest)
	return err
}

// underway is how much of KEY is in.
func underway(store *content.Store, key string) []fetch.Progress {
	all, err := store.Ingests()
	if err != nil {
		return nil
	}
	for _, s := range all {
		if s.Origin == "" && s.Ref == key {
			return []fetch.Progress{{Ref: key, State: fetch.Downloading, Here: s.Local, Offset: s.Offset, Total: s.Total, Started: s.Started, Updated: s.Updated}}
		}
	}
	return nil
}

// maxKey bounds a key in bytes: the store's own limit.
const maxKey = 4096

// ingestInto takes standard input into store. What has another size or digest leaves nothing. had says that the store had it.
func ingestInto(ctx context.Context, store *content.Store, key string, size int64, expected digest.Digest) (_ ocispec.Descriptor, had bool, err error) {
	plain, err := newInput(ctx, os.Stdin)
	if err != nil {
		return ocispec.Descriptor{}, false, err
	}
	defer plain.Close()
	in := &seekingInput{input: plain}
	base, _ := in.Seek(0, io.SeekCurrent)
	desc, err := store.WriteBlob(ctx, key, in, size, expected)
	_, wrong := errors.AsType[*content.SizeError](err)
	if expected != "" && !in.read && (err == nil || wrong) { // the store, which was asked, answered for the input
		_, _ = in.Seek(base, io.SeekStart)
		desc, err = hashed(in, key, size, expected)
		return desc, err == nil, err
	}
	if wrong {
		_ = store.Abort(content.Expect{Ref: key}) // what was too long is gone already
	}
	return desc, false, err
}

// hashed reads all of r, and says in what it is not what was expected.
func hashed(r io.Reader, key string, size int64, expected digest.Digest) (ocispec.Descriptor, error) {
	if size >= 0 {
		r = io.LimitReader(r, size+1)
	}
	to := expected.Algorithm().Digester()
	n, err := io.Copy(to.Hash(), r)
	desc := ocispec.Descriptor{MediaType: "application/octet-stream", Digest: to.Digest(), Size: n}
	switch {
	case err != nil:
		return desc, fmt.Errorf("%q: %w", key, err)
	case size >= 0 && n != size:
		return desc, &content.SizeError{Ref: strconv.Quote(key), Want: size, Got: n}
	case desc.Digest != expected:
		return desc, &content.MismatchError{Ref: strconv.Quote(key), Want: expected, Got: desc.Digest}
	}
	return desc, nil
}

// A seekingInput is an input that goes where its file can go, and can't where
// that is a pipe.
type seekingInput struct {
	*input
	read bool // some bytes were
}

var _ = io.Seeker((*seekingInput)(nil))

func (in *seekingInput) Read(p []byte) (int, error) {
	n, err := in.input.Read(p)
	in.read = in.read || n > 0
	return n, err
}

func (in *seekingInput) Seek(off int64, whence int) (int64, error) { return in.f.Seek(off, whence) }
