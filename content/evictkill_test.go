package content_test

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"distfs/content"
)

// evictChild evicts all that it can from the store dir, and says "went" for each.
func evictChild(args []string) error {
	s, err := content.Open(args[0])
	if err != nil {
		return err
	}
	_, err = s.Evict(content.EvictOptions{MaxSize: -1, Each: func(content.Evicted) error {
		_, err := fmt.Println("went")
		return err
	}})
	return err
}

// Who evicts is killed wherever it is: what is left is right, and who comes next needs no hand.
func TestKilledEvictor(t *testing.T) {
	s := newStore(t)
	for range 20 {
		for i := range 30 {
			plant(t, s, randomBytes(uint64(i), 1000), time.Hour)
			b := randomBytes(uint64(1000+i), 1000)
			ingest(t, s, content.Expect{Ref: "x", Digest: expect(b).Digest, Origin: "o", Total: mib}).Close()
		}
		cmd := child(t, "evict", s.Dir())
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		for range rand.IntN(55) {
			if _, err := lines.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
		for i := range 30 {
			hold(t, s, expect(randomBytes(uint64(i), 1000)).Digest)()
			b := randomBytes(uint64(1000+i), 1000)
			ingest(t, s, content.Expect{Ref: "x", Digest: expect(b).Digest, Origin: "o", Total: mib}).Close()
		}
	}
	open(t, s.Dir())
	evict(t, s, content.EvictOptions{MaxSize: -1})
	if infos, err := s.Blobs(); err != nil || len(infos) > 0 {
		t.Errorf("Blobs = %v, %v, want none", infos, err)
	}
	entries, err := os.ReadDir(filepath.Join(s.Dir(), "ingest"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".new-") { // whose maker could be alive
			t.Errorf("ingest holds %s", e.Name())
		}
	}
}
