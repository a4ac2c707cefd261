package fs_test

import (
	"testing"
)

func TestSmoke(t *testing.T) {
	src := newSource(t)
	big := src.add("reg.example/a/b", "application/octet-stream", content(1, 9*mib+123))
	small := src.add("reg.example/a/b", "application/octet-stream", content(2, 1234))
	whole := src.add("reg.example/a/b", "application/octet-stream", content(3, 7*mib)).complete(t)
	m := mountSource(t, src, nil)
	for _, b := range []*blob{big, small, whole} {
		for range 2 {
			m.wantRead(m.path(b.path()), b.content)
		}
	}
	t.Log(run(t, "ls", "-lR", m.dir))
	t.Log(src.requests())
	t.Log(m.log.String())
}
