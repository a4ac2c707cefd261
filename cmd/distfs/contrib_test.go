package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	distfs "distfs/cmd/distfs"
)

// contrib reads a file of the folder contrib.
func contrib(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../contrib", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What is in contrib asks for what distfs knows.
func TestContrib(t *testing.T) {
	for name, command := range map[string]string{
		"fstab":                       `(?m)^distfs +(?P<dir>\S+) +distfs +(?P<options>\S+) +0 +0$`,
		"autofs/auto.distfs":          `(?m)^(?P<dir>\S+) +-fstype=distfs,(?P<options>\S+) +:distfs$`,
		"systemd/distfs.service":      `(?m)^ExecStart=/usr/bin/distfs (.*)$`,
		"systemd/user/distfs.service": `(?m)^ExecStart=/usr/bin/distfs (.*)$`,
	} {
		m := regexp.MustCompile(command).FindStringSubmatch(contrib(t, name))
		if m == nil {
			t.Errorf("%s has no line like %s", name, command)
			continue
		}
		args := strings.Fields(m[1])
		if len(m) == 3 {
			args = []string{"mount", "--background", "-o", m[2], m[1]}
		}
		if _, _, err := distfs.Settings(layOut(t, "", ""), args); err != nil {
			t.Errorf("%s: distfs %s: %v", name, strings.Join(args, " "), err)
		}
	}
}

// The units are what systemd understands.
func TestUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("this test needs systemd-analyze (Debian: systemd)")
	}
	for name, flag := range map[string]string{"systemd/distfs.service": "--system", "systemd/user/distfs.service": "--user"} {
		text := strings.ReplaceAll(contrib(t, name), "/usr/bin/distfs ", "/bin/true ")
		unit := filepath.Join(t.TempDir(), "distfs.service")
		if err := os.WriteFile(unit, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), analyze, flag, "verify", unit)
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir())
		if said, err := cmd.CombinedOutput(); err != nil || len(said) > 0 {
			t.Errorf("systemd-analyze verify %s: %v\n%s", name, err, said)
		}
	}
}
