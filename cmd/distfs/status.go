package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"distfs/content"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func (p *program) statusCommand() *cobra.Command {
	var out output
	var watch, size bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what each process on the store does",
		Long: `Show each process that is at work on the store, and each object that it has under
way: its state (resolving, waiting, downloading, verifying, done, uploading,
writing), how much of it is here, or there, and how fast it moves. One that does
not answer within a second, for it is stopped say, is "not answering".

With -w it is shown again each second, until ^C; with -o json then as a line for
each process.

With --size it is not processes that are shown but what the store takes on disk: its
blobs, the ingests, which are on their way in, what was made of layers for trees, the
files of images and indexes, and what verify moved to bad/.`,
		Args:              exactly(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: p.interruptible(func(ctx context.Context, _ []string) error {
			switch {
			case size:
				return p.usage(&out)
			case watch:
				return p.watchStatus(ctx, &out)
			}
			return p.status(ctx, &out)
		}),
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "keep showing, until interrupted")
	cmd.Flags().BoolVar(&size, "size", false, "show what the store takes on disk, by kind")
	out.flag(cmd)
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if watch && size {
			return errors.New("--watch and --size exclude each other")
		}
		return nil
	}
	return cmd
}

func (p *program) status(ctx context.Context, out *output) error {
	all, err := p.processes(ctx)
	if err != nil {
		return err
	}
	if out.json() {
		return p.printJSON(all)
	}
	return p.printTable(statusHeader, statusRows(all, time.Now()))
}

// watchInterval is how often status -w shows.
const watchInterval = time.Second

// watchStatus shows the status until ctx ends: on a terminal in place, else
// block after block.
func (p *program) watchStatus(ctx context.Context, out *output) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for first := true; ; first = false {
		all, err := p.processes(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := p.show(all, out, first); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// show prints one state of what is watched.
func (p *program) show(all []processStatus, out *output, first bool) error {
	var b bytes.Buffer
	if out.json() {
		enc := json.NewEncoder(&b)
		for _, s := range all {
			if err := enc.Encode(s); err != nil {
				return err
			}
		}
		_, err := p.stdout.Write(plainJSON(b.Bytes()))
		return err
	}
	if err := writeTable(&b, statusHeader, statusRows(all, time.Now())); err != nil {
		return err
	}
	text := b.String()
	if size, err := unix.IoctlGetWinsize(int(p.stdout.Fd()), unix.TIOCGWINSZ); err == nil {
		const home, clear = "\x1b[H", "\x1b[J"
		text = home + clear + fit(text, int(size.Row), int(size.Col))
	} else if !first {
		text = "\n" + text
	}
	_, err := p.stdout.WriteString(text)
	return err
}

// fit cuts text to a terminal's size, 0 being unknown, and leaves its last line
// to the cursor.
func fit(text string, rows, cols int) string {
	lines := strings.SplitAfter(text, "\n")
	if rows > 1 && len(lines) > rows {
		lines = lines[:rows-1]
	}
	for i, l := range lines {
		if r := []rune(strings.TrimSuffix(l, "\n")); cols > 0 && len(r) > cols {
			lines[i] = string(r[:cols]) + "\n"
		}
	}
	return strings.Join(lines, "")
}

// processes asks every process on the store, none if there is no store.
func (p *program) processes(ctx context.Context) ([]processStatus, error) {
	return inStore(p, []processStatus{}, func(store *content.Store) ([]processStatus, error) { return processesOn(ctx, store) })
}

// processesOn asks every process on store. One that ended meanwhile is left out.
func processesOn(ctx context.Context, store *content.Store) ([]processStatus, error) {
	all := []processStatus{}
	found, err := store.Processes()
	if err != nil {
		return nil, err
	}
	answers := make([]processStatus, len(found))
	var wg sync.WaitGroup
	for i, of := range found {
		wg.Go(func() { answers[i] = askStatus(ctx, store, of) })
	}
	wg.Wait()
	for _, a := range answers {
		if a.PID != 0 {
			all = append(all, a)
		}
	}
	return all, nil
}

const notAnswering = "not answering"

// askStatus is the zero value if the process has ended.
func askStatus(ctx context.Context, store *content.Store, of content.Process) processStatus {
	var s processStatus
	err := ask(ctx, store, of, question{Op: "status"}, &s)
	switch {
	case errors.Is(err, iofs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED):
		return processStatus{}
	case err != nil:
		return processStatus{PID: of.PID, Command: commandOf(of.PID), State: notAnswering, Active: []progress{}}
	}
	s.PID = of.PID
	return s
}

// commandOf is the command line of a process that cannot tell it.
func commandOf(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return ""
	}
	_, args, _ := strings.Cut(strings.TrimRight(string(b), "\x00"), "\x00")
	return strings.ReplaceAll(args, "\x00", " ")
}

var statusHeader = []string{"PID", "COMMAND", "SINCE", "STATE", "HERE/TOTAL", "RATE", "REF"}

func statusRows(all []processStatus, now time.Time) [][]string {
	var rows [][]string
	for _, s := range all {
		var since time.Time
		if s.Started != nil {
			since = *s.Started
		}
		head := []string{strconv.Itoa(s.PID), cell(s.Command), humanAge(since, now)}
		if len(s.Active) == 0 {
			state := "idle"
			if s.State != "" {
				state = cell(s.State)
			}
			rows = append(rows, append(head, state, "-", "-", "-"))
		}
		for _, a := range s.Active {
			total := int64(-1)
			if a.Total != nil {
				total = *a.Total
			}
			rows = append(rows, append(head[:3:3], cell(string(a.State)),
				humanSize(a.Size)+"/"+humanSize(total), humanSize(a.Rate)+"/s", cell(a.Ref)))
		}
		if s.More > 0 {
			rows = append(rows, append(head[:3:3], fmt.Sprintf("%d more", s.More), "-", "-", "-"))
		}
	}
	return rows
}

// maxCell bounds a cell of a table in bytes.
const maxCell = 400

// cell is s as it may stand in a table: in one line and one column.
func cell(s string) string {
	if len(s) > maxCell {
		s = s[:maxCell] + "…"
	}
	if s = oneLine(s); s == "" {
		return "-"
	}
	return s
}
