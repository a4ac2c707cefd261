package fs

// A MountLine is a line of mountinfo, for tests.
type MountLine struct {
	ID                 int
	Dev, Point, FSType string
}

// ParseMounts is parseMounts.
func ParseMounts(info string) []MountLine {
	var lines []MountLine
	for _, m := range parseMounts(info) {
		lines = append(lines, MountLine{m.id, m.dev, m.point, m.fsType})
	}
	return lines
}
