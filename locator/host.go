package locator

import (
	"net/netip"
	"strconv"
	"strings"
)

// Docker's own registry has three names; the first one is canonical.
const (
	dockerHost     = "docker.io"
	dockerIndex    = "index.docker.io"
	dockerRegistry = "registry-1.docker.io" // the one that answers
	dockerLibrary  = "library"
)

// maxHost is how long a host's name without its port may be (RFC 1035, 2.3.4).
const maxHost = 253

// CanonicalHost returns the one spelling of a host: lower case, an IPv6
// address as RFC 5952 has it, docker.io for index.docker.io and
// registry-1.docker.io. What is no host comes back as it is.
func CanonicalHost(name string) string {
	if hostFault(name) != "" {
		return name
	}
	name = strings.ToLower(name)
	if name == dockerIndex || name == dockerRegistry {
		return dockerHost
	}
	if addr, port, found := strings.Cut(name, "]"); found {
		if ip, err := netip.ParseAddr(addr[1:]); err == nil {
			return "[" + ip.String() + "]" + port
		}
	}
	return name
}

// looksLikeHost says whether the first element of a name is meant as a host.
func looksLikeHost(name string) bool {
	return strings.EqualFold(name, "localhost") || strings.ContainsAny(name, ".:")
}

// hostFault checks NAME[:PORT], where NAME is labels of letters, digits and
// hyphens joined by dots, an IPv4 address, or an IPv6 address in brackets.
func hostFault(host string) fault {
	if host == "" {
		return "is empty"
	}
	if len(host) > maxName {
		return fault("is " + strconv.Itoa(len(host)) + " bytes long, at most 255 are allowed")
	}
	name, port, hasPort := splitPort(host)
	if hasPort {
		if f := portFault(port); f != "" {
			return f
		}
	}
	if name == "" {
		return "is only a port, a name must stand before it"
	}
	if name[0] == '[' {
		return ipv6Fault(name)
	}
	return labelsFault(name)
}

// splitPort splits at the colon behind which the port stands.
func splitPort(host string) (name, port string, found bool) {
	i := strings.LastIndexByte(host, ':')
	if i < 0 || strings.IndexByte(host[i:], ']') >= 0 {
		return host, "", false
	}
	return host[:i], host[i+1:], true
}

func portFault(port string) fault {
	if port == "" {
		return "has a colon, but no port behind it"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || port[0] == '0' {
		return fault("port " + quote(port) + " is not a number from 1 to 65535")
	}
	return ""
}

func ipv6Fault(name string) fault {
	if !strings.HasSuffix(name, "]") {
		return "has [ without a ] at the end of the address"
	}
	ip, err := netip.ParseAddr(name[1 : len(name)-1])
	if err != nil || !ip.Is6() || ip.Zone() != "" {
		return fault(quote(name) + " is no IPv6 address in brackets")
	}
	return ""
}

func labelsFault(name string) fault {
	if strings.Contains(name, ":") {
		return "has more than one colon; an IPv6 address stands in brackets"
	}
	if len(name) > maxHost {
		return fault("is " + strconv.Itoa(len(name)) + " bytes long, at most 253 are allowed")
	}
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		if f := labelFault(label); f != "" {
			return f
		}
		last = label
	}
	if strings.Trim(last, "0123456789") == "" && strings.Contains(name, ".") {
		if _, err := netip.ParseAddr(name); err != nil {
			return "ends in a number, but is no IPv4 address"
		}
	}
	return ""
}

// labelFault checks one label of a name (RFC 1123, 2.1).
func labelFault(label string) fault {
	switch {
	case label == "":
		return "has a dot at its start or end, or two in a row"
	case len(label) > 63:
		return fault("label " + quote(label) + " is " + strconv.Itoa(len(label)) + " bytes long, at most 63 are allowed")
	case label[0] == '-' || label[len(label)-1] == '-':
		return fault("label " + quote(label) + " begins or ends with a hyphen")
	}
	for i := range len(label) {
		if c := label[i]; !isLower(c) && !isUpper(c) && !isDigit(c) && c != '-' {
			return fault("has " + quoteByte(label, i) + ", only letters, digits, hyphens and dots are allowed")
		}
	}
	return ""
}

// isLoopback says whether host is this machine by its name alone: localhost,
// 127.0.0.0/8 or ::1. Names below .localhost are not: Go's resolver asks DNS
// for them, and DNS is not to decide what goes without TLS.
func isLoopback(host string) bool {
	name, _, _ := splitPort(host)
	if strings.EqualFold(name, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil && ip.Unmap().IsLoopback()
}
