package main_test

import (
	"os"
	"regexp"
	"testing"

	distfs "distfs/cmd/distfs"
)

// TestReadme has every flag.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for command, flags := range distfs.Flags() {
		for _, name := range flags {
			if !regexp.MustCompile("--" + name + `\b`).Match(text) {
				t.Errorf("README.md has no --%s, which %s has", name, command)
			}
		}
	}
}
