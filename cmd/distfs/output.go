package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// An output is the flag -o of the commands that print a table.
type output struct{ format choice }

func (o *output) flag(cmd *cobra.Command) {
	o.format = choice{"table", []string{"table", "json"}}
	cmd.Flags().VarP(&o.format, "output", "o", "print a table or JSON")
}

func (o *output) json() bool { return o.format.value == "json" }

// printJSON prints v as JSON for people and programs.
func (p *program) printJSON(v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = p.stdout.Write(append(b, '\n'))
	return err
}

// printTable prints rows under a header, in columns.
func (p *program) printTable(header []string, rows [][]string) error {
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		if _, err := fmt.Fprintln(w, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}

// humanSize is n to three digits, in units of 1024; "-" where it is unknown.
func humanSize(n int64) string {
	if n < 0 {
		return "-"
	}
	if n < 1024 {
		return fmt.Sprintf("%dB", n)
	}
	f := float64(n)
	for _, u := range "KMGTPE" {
		f /= 1024
		switch {
		case f < 9.995:
			return fmt.Sprintf("%.2f%ciB", f, u)
		case f < 99.95:
			return fmt.Sprintf("%.1f%ciB", f, u)
		case f < 1023.5:
			return fmt.Sprintf("%.0f%ciB", f, u)
		}
	}
	return fmt.Sprintf("%dB", n)
}

// humanAge is how long ago t was, to one unit.
func humanAge(t, now time.Time) string {
	d := max(now.Sub(t), 0)
	switch {
	case t.IsZero():
		return "-"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// stamp is a time in output for programs: RFC 3339 in UTC, nil where it is
// unknown.
func stamp(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
