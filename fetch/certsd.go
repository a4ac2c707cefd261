package fetch

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"distfs/locator"
)

const (
	maxHostsFile = 64 << 10 // bytes of a hosts.toml
	maxNames     = 1024     // in the folder of a host
)

// hostFolder looks into folders such as containerd's certs.d for what is to be
// asked for host; own is how the host itself is reached. It returns nil if none
// of them knows the host. The first folder that does is taken alone, and a
// folder that this user may not search is passed over.
//
//	HOST/hosts.toml   whom to ask, and how
//	HOST/*.crt        else, as docker has it: who vouches for the host,
//	HOST/*.cert *.key and who asks it
//
// HOST is host_port_, host:port or, for all that have none, _default.
func hostFolder(dirs []string, host string, own locator.Remote) ([]endpoint, error) {
	for _, dir := range dirs {
		for _, name := range folderNames(host) {
			folder := filepath.Join(dir, name)
			info, err := os.Stat(folder)
			switch {
			case errors.Is(err, iofs.ErrNotExist) || errors.Is(err, iofs.ErrPermission):
				continue
			case err != nil:
				return nil, err
			case !info.IsDir():
				continue
			}
			return readFolder(folder, host, own)
		}
	}
	return nil, nil
}

// folderNames are the names that a host's folder may have, as containerd on
// Unix has them.
func folderNames(host string) []string {
	names := []string{host, "_default"}
	if i := strings.LastIndexByte(host, ':'); i > 0 {
		names = append([]string{host[:i] + "_" + host[i+1:] + "_"}, names...)
	}
	return names
}

func readFolder(folder, host string, own locator.Remote) ([]endpoint, error) {
	name := filepath.Join(folder, "hosts.toml")
	b, err := readPlain(name, maxHostsFile)
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return nil, err
	}
	if len(b) == 0 {
		return dockerFolder(folder, own)
	}
	list, err := parseHosts(b, host, own, folder)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", name, err)
	}
	return list, nil
}

// dockerFolder reads the certificates that a folder has by their names.
func dockerFolder(folder string, own locator.Remote) ([]endpoint, error) {
	d, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(maxNames)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b iofs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	e := endpoint{Remote: own, can: canAll}
	for _, entry := range entries {
		file := filepath.Join(folder, entry.Name())
		base, isCert := strings.CutSuffix(file, ".cert")
		switch {
		case entry.IsDir():
		case strings.HasSuffix(file, ".crt"):
			e.CA = append(e.CA, file)
		case isCert:
			pair := locator.KeyPair{Cert: file}
			if _, err := os.Stat(base + ".key"); err == nil {
				pair.Key = base + ".key"
			}
			e.Client = append(e.Client, pair)
		}
	}
	if len(e.CA)+len(e.Client) > maxFiles {
		return nil, fmt.Errorf("%s: more than %d files", folder, maxFiles)
	}
	return []endpoint{e}, nil
}
