package egress

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Allow lets one network be reached although it is not public, such as a model server on the
// operator's own network. Only the operator of an installation writes these, never a tenant.
type Allow struct {
	Net  netip.Prefix
	Port uint16 // 0 means every port
}

// ParseAllow reads "10.0.0.5", "10.0.0.0/24", "10.0.0.0/24:11434" or "[fd00::/8]:443".
func ParseAllow(s string) (Allow, error) {
	text, port := strings.TrimSpace(s), ""
	if strings.HasPrefix(text, "[") {
		inner, rest, ok := strings.Cut(text[1:], "]")
		if !ok || rest != "" && !strings.HasPrefix(rest, ":") {
			return Allow{}, fmt.Errorf("egress: %q is not a network such as [fd00::/8]:443", s)
		}
		text, port = inner, strings.TrimPrefix(rest, ":")
	} else if strings.Count(text, ":") == 1 {
		text, port, _ = strings.Cut(text, ":")
	}
	var a Allow
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return Allow{}, fmt.Errorf("egress: %q has no valid port", s)
		}
		a.Port = uint16(n)
	}
	if !strings.Contains(text, "/") {
		ip, err := netip.ParseAddr(text)
		if err != nil || ip.Zone() != "" {
			return Allow{}, fmt.Errorf("egress: %q is not an address or network", s)
		}
		ip = ip.Unmap()
		a.Net = netip.PrefixFrom(ip, ip.BitLen())
		return a, nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return Allow{}, fmt.Errorf("egress: %q is not a network: %w", s, err)
	}
	a.Net = p.Masked()
	return a, nil
}

// Contains reports whether the entry covers the address and port.
func (a Allow) Contains(ap netip.AddrPort) bool {
	ip := ap.Addr().Unmap()
	return ip.Zone() == "" && a.Net.Contains(ip) && (a.Port == 0 || a.Port == ap.Port())
}

// denied4 is every IPv4 block that the IANA special-purpose registry does not call globally
// reachable, plus multicast, the reserved top, and the address at which one cloud serves
// instance secrets from a public-looking number.
var denied4 = prefixes(
	"0.0.0.0/8",       // this network; 0.0.0.0 reaches the local host on Linux
	"10.0.0.0/8",      // private use
	"100.64.0.0/10",   // carrier NAT; one cloud's metadata service lives here
	"127.0.0.0/8",     // loopback
	"169.254.0.0/16",  // link-local, cloud metadata
	"172.16.0.0/12",   // private use
	"192.0.0.0/24",    // protocol assignments
	"192.0.2.0/24",    // documentation
	"192.31.196.0/24", // AS112
	"192.52.193.0/24", // AMT
	"192.88.99.0/24",  // 6to4 relays
	"192.168.0.0/16",  // private use
	"192.175.48.0/24", // AS112
	"198.18.0.0/15",   // benchmarks
	"198.51.100.0/24", // documentation
	"203.0.113.0/24",  // documentation
	"224.0.0.0/4",     // multicast
	"240.0.0.0/4",     // reserved, broadcast
	"168.63.129.16/32",
)

// Of IPv6 only 2000::/3 is handed out to the public Internet, so all else is refused: loopback,
// ::/96, mapped and translated forms, both NAT64 prefixes, unique local, link- and site-local,
// multicast. Within it these blocks are not plain destinations.
var (
	global6 = netip.MustParsePrefix("2000::/3")
	denied6 = prefixes(
		"2001::/23",         // protocol assignments: Teredo, benchmarks, ORCHID
		"2001:db8::/32",     // documentation
		"2002::/16",         // 6to4: carries an IPv4 address
		"2620:4f:8000::/48", // AS112
		"3fff::/20",         // documentation
	)
)

// deniedPorts are services that speak something other than HTTP and that a forged request could
// still hurt. They stay refused on public addresses; an Allow entry with the port lifts it.
var deniedPorts = map[uint16]bool{
	0: true, 1: true, 7: true, 9: true, 11: true, 13: true, 15: true, 17: true, 19: true, 20: true, 21: true, 22: true, 23: true,
	25: true, 37: true, 42: true, 43: true, 53: true, 69: true, 77: true, 79: true, 87: true, 95: true, 101: true, 102: true,
	103: true, 104: true, 109: true, 110: true, 111: true, 113: true, 115: true, 117: true, 119: true, 123: true, 135: true,
	137: true, 139: true, 143: true, 161: true, 179: true, 389: true, 427: true, 445: true, 465: true, 512: true, 513: true, 514: true,
	515: true, 526: true, 530: true, 531: true, 532: true, 540: true, 548: true, 554: true, 556: true, 563: true, 587: true,
	601: true, 636: true, 873: true, 989: true, 990: true, 993: true, 995: true, 1433: true, 1521: true, 1719: true, 1720: true,
	1723: true, 2049: true, 2375: true, 2376: true, 2379: true, 3306: true, 3389: true, 3659: true, 4045: true, 4222: true, 4369: true,
	5060: true, 5061: true, 5432: true, 5672: true, 6000: true, 6379: true, 6566: true, 6665: true, 6666: true, 6667: true,
	6668: true, 6669: true, 6697: true, 9042: true, 9200: true, 9300: true, 10250: true, 11211: true, 27017: true,
}

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// public reports whether ip is a plain public unicast address.
func public(ip netip.Addr) bool {
	if !ip.IsValid() || ip.Zone() != "" {
		return false
	}
	ip = ip.Unmap()
	if ip.Is4() {
		for _, p := range denied4 {
			if p.Contains(ip) {
				return false
			}
		}
		return true
	}
	if !global6.Contains(ip) {
		return false
	}
	for _, p := range denied6 {
		if p.Contains(ip) {
			return false
		}
	}
	// ISATAP hides an IPv4 address behind 0:5efe or 200:5efe in any prefix (RFC 5214).
	b := ip.As16()
	return !(b[8]&^0x02 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe)
}
