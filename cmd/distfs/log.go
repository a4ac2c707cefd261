package main

import (
	"context"
	"io"
	"log/slog"

	"distfs/fs"
)

// newLog returns the logger that the flags ask for.
func newLog(w io.Writer, level, format string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo
	}
	opts := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(numbering{slog.NewJSONHandler(w, opts)})
	}
	return slog.New(numbering{slog.NewTextHandler(w, opts)})
}

// warnings is a handler for work whose errors are returned to who asked for it:
// of what is logged on the way they are left out.
type warnings struct{ slog.Handler }

func (h warnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l < slog.LevelError && h.Handler.Enabled(ctx, l)
}

func (h warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{h.Handler.WithAttrs(attrs)}
}
func (h warnings) WithGroup(name string) slog.Handler { return warnings{h.Handler.WithGroup(name)} }

// numbering puts the number of the kernel's request, on whose behalf something
// is done, to what is logged of it.
type numbering struct{ slog.Handler }

func (h numbering) Handle(ctx context.Context, r slog.Record) error {
	if id, ok := fs.RequestID(ctx); ok {
		r.AddAttrs(slog.Uint64("request", id))
	}
	return h.Handler.Handle(ctx, r)
}

func (h numbering) WithAttrs(attrs []slog.Attr) slog.Handler {
	return numbering{h.Handler.WithAttrs(attrs)}
}

func (h numbering) WithGroup(name string) slog.Handler { return numbering{h.Handler.WithGroup(name)} }
