"""Which addresses of the network belong to the public internet."""

import ipaddress


def is_public(address: str) -> bool:
    """Returns whether an address belongs to the public internet. An IPv4 address inside an IPv6 one is checked too.

    IPv6 addresses are public only in 2000::/3, the part that is assigned (RFC 4291), and where they stand for a public
    IPv4 address.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if ip == _CLOUD:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip not in _UNICAST:
            return False
        wrapped = [ip.sixtofour, *(ip.teredo or ())]
        if any(inner is not None and not is_public(str(inner)) for inner in wrapped):
            return False
    return ip.is_global and not ip.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
_UNICAST = ipaddress.IPv6Network("2000::/3")
_CLOUD = ipaddress.IPv4Address("168.63.129.16")  # a public address that Azure uses inside of its own networks
