package main_test

import (
	"strings"
	"testing"
	"time"

	distfs "distfs/cmd/distfs"
)

// TestPace is what came of late: it rises soon, and falls when nothing comes.
func TestPace(t *testing.T) {
	now := time.Unix(1000, 0)
	var p distfs.Pace
	if got := p.Rate(now); got != 0 {
		t.Errorf("the rate before anything came is %d, want 0", got)
	}
	p.Add(now, 0)
	for range 40 {
		now = now.Add(100 * time.Millisecond)
		p.Add(now, 1000)
	}
	if got := p.Rate(now); got < 9_000 || got > 11_000 {
		t.Errorf("the rate is %d, want about 10,000", got)
	}
	for range 40 {
		now = now.Add(100 * time.Millisecond)
		p.Add(now, 4000)
	}
	if got := p.Rate(now); got < 30_000 || got > 40_000 {
		t.Errorf("the rate is %d, want almost 40,000", got)
	}
	if got := p.Rate(now.Add(time.Minute)); got > 3_000 {
		t.Errorf("the rate is %d a minute later, want next to nothing", got)
	}
}

// TestPlainLine: while nothing is known of what there is, there are no numbers.
func TestPlainLine(t *testing.T) {
	for objects, want := range map[int]string{0: "redis:7: resolving", 2: "redis:7: 0 of 2 objects, 0B/0B, 0B/s"} {
		if got := distfs.PlainLine("redis:7", objects); got != want {
			t.Errorf("the line of %d objects is %q, want %q", objects, got, want)
		}
	}
}

// TestJSONLine: an image's name in a layout of others does not act upon a terminal.
func TestJSONLine(t *testing.T) {
	line := distfs.JSONLine("oci:dir:a\u009b2J\u202e")
	if !strings.Contains(line, `"oci:dir:a\u009b2J\u202e"`) || !strings.HasSuffix(line, "}\n") {
		t.Errorf("the line is %q", line)
	}
}
