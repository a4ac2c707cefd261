package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"

	"distfs/locator"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func (p *program) getCommand() *cobra.Command {
	var offset size
	var length knownSize
	cmd := &cobra.Command{
		Use:   "get DIGEST",
		Short: "Write a blob of the store to standard output",
		Long: `Write a blob of the store to standard output, all or a part. What is no text is
not written to a terminal.`,
		Args:              exactly("DIGEST"),
		ValidArgsFunction: p.completeDigests,
		RunE: p.interruptible(func(ctx context.Context, args []string) error {
			return p.get(ctx, args[0], int64(offset), &length)
		}),
	}
	cmd.Flags().Var(&offset, "offset", "begin at this byte")
	cmd.Flags().Var(&length, "length", "write so many bytes, or up to the end (default all)")
	return cmd
}

func (p *program) get(ctx context.Context, arg string, offset int64, length *knownSize) error {
	dgst, err := locator.ParseDigest(arg)
	if err != nil {
		return &usageError{err}
	}
	store, err := p.existing()
	if err != nil {
		return p.absent(dgst, err)
	}
	defer store.Close()
	release, err := store.Hold(dgst)
	if err != nil {
		return p.absent(dgst, err)
	}
	defer release()
	blob, err := store.Blob(dgst)
	if err != nil {
		return p.absent(dgst, err)
	}
	defer blob.Close()
	if err := p.sendRange(ctx, blob, offset, length); err != nil {
		return p.absent(dgst, err)
	}
	return nil
}

// sendRange writes a range of f to standard output, as far as f has it.
func (p *program) sendRange(ctx context.Context, f *os.File, offset int64, length *knownSize) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	n := info.Size() - offset
	if n < 0 {
		return fmt.Errorf("it ends at byte %d, before %d", info.Size(), offset)
	}
	if length.known {
		n = min(n, length.n)
	}
	if _, err := unix.IoctlGetTermios(int(p.stdout.Fd()), unix.TCGETS); err == nil && !isText(f, offset, n) {
		return usagef("it is no text, and standard output is a terminal: write it to a file with >FILE")
	}
	return send(ctx, p.stdout, f, offset, n)
}

// isText says whether the first bytes of n from off on are text that a terminal
// only shows.
func isText(f *os.File, off, n int64) bool {
	b := make([]byte, min(n, 4<<10))
	m, _ := f.ReadAt(b, off)
	for b = b[:m]; len(b) > 0; {
		r, size := utf8.DecodeRune(b)
		cut := r == utf8.RuneError && size == 1 && len(b) < utf8.UTFMax && !utf8.FullRune(b)
		switch {
		case cut:
			return true
		case r == utf8.RuneError && size == 1, r == 0x7f, r < ' ' && !strings.ContainsRune("\t\n\r", r):
			return false
		}
		b = b[size:]
	}
	return true
}
