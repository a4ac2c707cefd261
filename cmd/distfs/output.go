package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
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
	_, err = p.stdout.Write(append(plainJSON(b), '\n'))
	return err
}

// plainJSON is b with escapes for what moves a cursor or turns text around, which
// JSON leaves as it is and a terminal may act upon.
func plainJSON(b []byte) []byte {
	plain := make([]byte, 0, len(b))
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		switch {
		case r == '\n' || unicode.IsGraphic(r):
			plain = append(plain, b[:size]...)
		case r > 0xffff:
			first, second := utf16.EncodeRune(r)
			plain = fmt.Appendf(plain, `\u%04x\u%04x`, first, second)
		default:
			plain = fmt.Appendf(plain, `\u%04x`, r)
		}
		b = b[size:]
	}
	return plain
}

// printTable prints rows under a header, in columns.
func (p *program) printTable(header []string, rows [][]string) error {
	return writeTable(p.stdout, header, rows)
}

func writeTable(to io.Writer, header []string, rows [][]string) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		if _, err := fmt.Fprintln(w, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}

// isTerminal says whether w, which may be a file that is read, is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
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
