package main_test

import (
	"math"
	"testing"
	"time"

	distfs "distfs/cmd/distfs"
)

func TestParseSize(t *testing.T) {
	tests := []struct {
		in   string
		want int64 // -1: refused
	}{
		{"0", 0},
		{"1", 1},
		{"65536", 65536},
		{"7B", 7},
		{"64K", 64 << 10},
		{"64KiB", 64 << 10},
		{"64kB", 64000},
		{"64KB", 64000},
		{"3MB", 3e6},
		{"3M", 3 << 20},
		{"3MiB", 3 << 20},
		{"2G", 2 << 30},
		{"2T", 2 << 40},
		{"2P", 2 << 50},
		{"9223372036854775807", math.MaxInt64},
		{"8191P", 8191 << 50},
		{"8192P", -1},
		{"9223372036854775808", -1},
		{"", -1},
		{"-1", -1},
		{"+1", -1},
		{"K", -1},
		{"1.5M", -1},
		{"1 M", -1},
		{"1m", -1},
		{"1k", -1},
		{"1MM", -1},
		{"1Ki", -1},
		{"1iB", -1},
		{"1BK", -1},
		{"all", -1},
	}
	for _, tt := range tests {
		got, err := distfs.ParseSize(tt.in)
		if err != nil {
			got = -1
		}
		if got != tt.want {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", tt.in, got, err, tt.want)
		}
	}
}

// What is printed as a default is read as the same.
func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"0", "64MiB", "1kB", "8191P", "7B"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := distfs.ParseSize(s)
		if err != nil {
			return
		}
		if n < 0 {
			t.Fatalf("ParseSize(%q) = %d", s, n)
		}
		if m, err := distfs.ParseSize(distfs.FormatSize(n)); err != nil || m != n {
			t.Fatalf("ParseSize(FormatSize(%d)) = %d, %v", n, m, err)
		}
	})
}

func TestHumanSize(t *testing.T) {
	for n, want := range map[int64]string{
		-1: "-", 0: "0B", 1023: "1023B", 1024: "1.00KiB", 1 << 20: "1.00MiB", 10*1024*1024 - 1: "10.0MiB",
		1023*1024 + 1000: "1.00MiB", 123456789: "118MiB", math.MaxInt64: "8.00EiB",
	} {
		if got := distfs.HumanSize(n); got != want {
			t.Errorf("HumanSize(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestHumanAge(t *testing.T) {
	now := time.Now()
	for ago, want := range map[time.Duration]string{
		-time.Hour: "0s", 0: "0s", 59 * time.Second: "59s", time.Minute: "1m", 47 * time.Hour: "47h", 48 * time.Hour: "2d",
	} {
		if got := distfs.HumanAge(now.Add(-ago), now); got != want {
			t.Errorf("HumanAge(%v ago) = %s, want %s", ago, got, want)
		}
	}
	if got := distfs.HumanAge(time.Time{}, now); got != "-" {
		t.Errorf("HumanAge(never) = %s, want -", got)
	}
}
