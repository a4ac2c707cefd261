package main

import (
	"slices"
	"strings"
)

// archiveArg reads what other tools call an archive, FORMAT:FILE[:NAME].
func archiveArg(arg string) (format, file string, ok bool) {
	format, file, ok = strings.Cut(arg, ":")
	if !ok || !slices.Contains([]string{formatOCI, formatDocker}, format) {
		return "", "", false
	}
	file, _, _ = strings.Cut(file, ":")
	return format, file, true
}

// layoutArg reads oci:DIR[:NAME]: a name in an OCI image layout. DIR ends at the
// first colon, for names have some themselves. ok says that arg is of that form.
func layoutArg(arg string) (dir, name string, ok bool, err error) {
	rest, ok := strings.CutPrefix(arg, "oci:")
	if !ok {
		return "", "", false, nil
	}
	dir, name, named := strings.Cut(rest, ":")
	switch {
	case dir == "":
		return "", "", true, usagef("%q: DIR is missing: oci:DIR[:NAME]", arg)
	case named && name == "":
		return "", "", true, usagef("%q: NAME is missing behind the colon", arg)
	}
	return dir, name, true, nil
}
