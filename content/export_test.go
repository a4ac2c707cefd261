package content

// OpenBoot is Open in another boot of the machine.
func OpenBoot(dir string, boot [16]byte) (*Store, error) { return open(dir, boot) }

// IngestDir returns where g's files are.
func (g *Ingest) IngestDir() string { return g.dir() }
