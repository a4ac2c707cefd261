package locator_test

import (
	"errors"
	iofs "io/fs"
	"strings"
	"testing"

	"distfs/locator"
)

// wantError checks that err is a *locator.Error for in that blames part.
func wantError(t *testing.T, call, in string, err error, part, why string) {
	t.Helper()
	var e *locator.Error
	if !errors.As(err, &e) {
		t.Errorf("%s(%q) = %v, want a *locator.Error", call, in, err)
		return
	}
	if e.Input != in || e.Part != part || !strings.Contains(e.Why, why) {
		t.Errorf("%s(%q): %v, want %s and %q", call, in, err, part, why)
	}
	wantOneLine(t, err)
}

// wantOneLine checks that an error's text can go to a terminal or a log.
func wantOneLine(t *testing.T, err error) {
	t.Helper()
	text := err.Error()
	if len(text) > 1200 {
		t.Errorf("error of %d bytes: %.100s…", len(text), text)
	}
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			t.Errorf("error %q has the byte %#x", text, text[i])
			return
		}
	}
}

func TestErrorIsBounded(t *testing.T) {
	for _, in := range []string{
		strings.Repeat("\x1b[2J", 1<<18),
		strings.Repeat("A", 1<<20) + "/b",
		"a.b/" + strings.Repeat("\u202e", 60),
		"a.b:" + strings.Repeat("9", 200) + "/x",
		"redis@" + strings.Repeat("\n", 1<<16) + ":00",
	} {
		_, err := locator.Hosts(nil).ParseReference(in)
		if err == nil {
			t.Errorf("ParseReference(%.20q…) = nil", in)
			continue
		}
		wantOneLine(t, err)
	}
}

func TestErrorIs(t *testing.T) {
	_, err := locator.ParseDigest("x")
	if !errors.Is(err, iofs.ErrInvalid) || errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("ParseDigest: %v is not fs.ErrInvalid alone", err)
	}
	if got, want := err.Error(), `"x": digest: has no colon, it is ALGORITHM:HEX`; got != want {
		t.Errorf("Error() = %s, want %s", got, want)
	}
}
