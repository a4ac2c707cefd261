package content

import (
	"encoding/hex"
	"fmt"
	"os"
	"strings"
)

// A bootID tells one boot of the machine from another.
type bootID [16]byte

// currentBoot returns the id of this boot (random(4), /proc/sys/kernel/random/boot_id).
func currentBoot() (id bootID, err error) {
	const path = "/proc/sys/kernel/random/boot_id"
	b, err := os.ReadFile(path)
	if err != nil {
		return id, err
	}
	text := strings.ReplaceAll(strings.TrimSpace(string(b)), "-", "")
	if n, err := hex.Decode(id[:], []byte(text)[:min(len(text), 32)]); err != nil || n != len(id) {
		return id, fmt.Errorf("%s: %q is no boot id", path, text)
	}
	return id, nil
}
