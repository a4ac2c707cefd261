package main_test

import (
	"encoding/json"
	"testing"

	distfs "distfs/cmd/distfs"
)

// TestPlainJSON: what a terminal could act upon is escaped, and means the same.
func TestPlainJSON(t *testing.T) {
	const text = "a\u009b31m\u007f\u202eb\U000e0001 ü\n"
	b, err := json.MarshalIndent(map[string]string{"k": text}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got := string(distfs.PlainJSON(b))
	if want := "{\n  \"k\": \"a\\u009b31m\\u007f\\u202eb\\udb40\\udc01 ü\\n\"\n}"; got != want {
		t.Errorf("PlainJSON = %q, want %q", got, want)
	}
	var back map[string]string
	if err := json.Unmarshal([]byte(got), &back); err != nil || back["k"] != text {
		t.Errorf("it means %q, %v", back["k"], err)
	}
}
