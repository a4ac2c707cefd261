package content

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// A writer names the process that writes an ingest by key. It is the content of the ingest's lock file.
type writer struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
}

// becomeWriter makes who holds l the one writer of the ingest by key, and writes down who that is.
// The structure must be locked, so that a loser reads the name of who won.
func (l *lockFile) becomeWriter(key string) error {
	ok, err := l.try(ownByte, 1)
	if err != nil {
		return err
	}
	if !ok {
		var w writer
		b, _ := io.ReadAll(io.NewSectionReader(l.f, 0, maxRecord))
		_ = json.Unmarshal(b, &w) // what can't be read isn't known
		return &LockedError{Ref: key, PID: w.PID, Command: w.Command}
	}
	b, err := json.Marshal(writer{PID: os.Getpid(), Command: commandLine()})
	if err != nil {
		return err
	}
	// On a full disk the writer has no name, and is the writer all the same.
	_ = l.f.Truncate(0)
	_, _ = l.f.WriteAt(b, 0)
	return nil
}

// commandLine returns this process's command line, one line and not a long one.
func commandLine() string {
	args := append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...)
	line := []rune(strings.Join(strings.Fields(strings.Join(args, " ")), " "))
	if len(line) > 120 {
		line = append(line[:119], '…')
	}
	return string(line)
}
