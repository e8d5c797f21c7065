"""The address that a guest makes for itself from its MAC in an IPv6 subnet (stateless address autoconfiguration)."""

from ipaddress import IPv6Address, IPv6Network

# Subnet prefix and interface identifier fill the 128 bits, and the identifier made from a MAC has 64 (RFC 2464 §4).
SLAAC_PREFIX_LENGTH = 64
_UNIVERSAL_BIT = 0x02 << 56  # "u", inverted on the way from EUI-64 to the interface identifier
_FILLER = 0xFFFE


def slaac_address(network: IPv6Network, mac: str) -> IPv6Address:
    """The prefix with the modified EUI-64 of the MAC behind it (RFC 4291 appendix A, RFC 4862 §5.5.3).

    Args:
        network: a /64.
        mac: 48 bits as six octets with colons, such as 52:54:00:12:34:56.
    """
    if network.prefixlen != SLAAC_PREFIX_LENGTH:
        raise ValueError(f"{network} is no /{SLAAC_PREFIX_LENGTH}")
    number = int(mac.replace(":", ""), 16)
    vendor, device = number >> 24, number & 0xFFFFFF
    identifier = (vendor << 40 | _FILLER << 24 | device) ^ _UNIVERSAL_BIT
    return IPv6Address(int(network.network_address) | identifier)
