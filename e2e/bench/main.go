// Command bench measures distfs against its peers and prints one table.
//
//	cd e2e && go run ./bench [-n RUNS] [-size BYTES]
//
// Everything runs on this machine: a real registry (distribution) on loopback
// with one blob of pseudo-random bytes, the distfs of this tree, and crane.
// Cases that are compared run in turns, and the median of the ratios of the
// pairs is printed, so that a machine whose speed drifts drifts for both. It
// judges nothing: docs/benchmarks.md has the table as it was measured, and why
// a figure falls short.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

var (
	runs    = flag.Int("n", 5, "runs of each case")
	size    = flag.Int64("size", 1<<30, "size of the blob in bytes")
	dir     = flag.String("dir", "", "folder for all files, on the file system to measure; default a temporary one")
	verbose = flag.Bool("v", false, "print every pair")
	only    = flag.String("only", "", "run only the cases whose name contains this, or one of these joined by |")
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	work := *dir
	if work == "" {
		tmp, err := os.MkdirTemp("", "distfs-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(tmp)
		work = tmp
	}
	if err := os.Chmod(work, 0o755); err != nil {
		return err
	}
	b, err := newBench(ctx, work)
	if err != nil {
		return err
	}
	defer b.close()
	fmt.Printf("%d runs of each, a blob of %d MiB, %s\n\n", *runs, *size>>20, machine())
	fmt.Println("| case | to reach | measured | medians |")
	fmt.Println("|---|---|---|---|")
	for _, c := range cases {
		if !slices.ContainsFunc(strings.Split(*only, "|"), func(part string) bool { return strings.Contains(c.name, part) }) {
			continue
		}
		if c.root && os.Getuid() != 0 {
			fmt.Printf("| %s | %s | needs root | |\n", c.name, c.target)
			continue
		}
		measured, detail, err := c.measure(b)
		if errors.Is(err, errDevice) {
			fmt.Printf("| %s | %s | %v | |\n", c.name, c.target, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		fmt.Printf("| %s | %s | %s | %s |\n", c.name, c.target, measured, detail)
	}
	return nil
}

// A pair is one run of each of two things to compare.
type pair struct{ a, b time.Duration }

// compare runs a and b n times in turns and returns their pairs.
func compare(n int, a, b func() (time.Duration, error)) ([]pair, error) {
	var pairs []pair
	for i := range n {
		var p pair
		var err error
		first, second, x, y := a, b, &p.a, &p.b
		if i%2 == 1 { // who goes first has no favour of it
			first, second, x, y = b, a, &p.b, &p.a
		}
		if *x, err = first(); err != nil {
			return nil, err
		}
		if *y, err = second(); err != nil {
			return nil, err
		}
		pairs = append(pairs, p)
		if *verbose {
			fmt.Fprintln(os.Stderr, p.a, p.b)
		}
	}
	return pairs, nil
}

// ratio is the median of a/b over the pairs.
func ratio(pairs []pair) float64 {
	var rs []float64
	for _, p := range pairs {
		rs = append(rs, p.a.Seconds()/p.b.Seconds())
	}
	slices.Sort(rs)
	return rs[len(rs)/2]
}

func medians(pairs []pair) string {
	var as, bs []time.Duration
	for _, p := range pairs {
		as, bs = append(as, p.a), append(bs, p.b)
	}
	slices.Sort(as)
	slices.Sort(bs)
	return fmt.Sprintf("%.3f s against %.3f s", as[len(as)/2].Seconds(), bs[len(bs)/2].Seconds())
}

// machine says what the figures were measured on.
func machine() string {
	var u syscall.Utsname
	_ = syscall.Uname(&u)
	var release []byte
	for _, c := range u.Release {
		if c == 0 {
			break
		}
		release = append(release, byte(c))
	}
	info, _ := os.ReadFile("/proc/cpuinfo")
	model := "unknown processor"
	for line := range strings.Lines(string(info)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			model = strings.TrimSpace(v)
			break
		}
	}
	n := strings.Count(string(info), "processor\t:")
	return fmt.Sprintf("Linux %s, %d × %s", release, n, model)
}

func (b *bench) path(elem ...string) string {
	return filepath.Join(append([]string{b.dir}, elem...)...)
}
