"""Field types that carry their meaning; each defined once."""

import ipaddress
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

T = TypeVar("T")


def _printable(text: str) -> str:
    """Postgres stores no U+0000, and control characters have no place in a name or a log line."""
    for char in text:
        if char not in "\n\t" and (ord(char) < 0x20 or ord(char) == 0x7F):
            raise ValueError(f"control character U+{ord(char):04X} is not allowed")
    return text


def _single_line(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    if "\n" in text or "\t" in text:
        raise ValueError("must be a single line")
    return _printable(text)


def _interface_name(name: str) -> str:
    """The kernel's own rule (`dev_valid_name`, net/core/dev.c), less what would surprise: a `%` makes the kernel
    choose a number, and bytes above ASCII are shown differently by every tool."""
    if name in {".", ".."}:
        raise ValueError("the kernel takes no interface named '.' or '..'")
    for char in name:
        if char in "/:%" or char.isspace() or not char.isascii() or not char.isprintable():
            raise ValueError(f"an interface name cannot contain {char!r}")
    return name


def _no_prefix(value: Any) -> Any:
    if isinstance(value, int):  # ipaddress would take 1 for 0.0.0.1
        raise ValueError("an address is text, such as '192.168.0.10'")
    if isinstance(value, str) and "%" in value:  # ipaddress takes 'fe80::1%eth0'; Postgres and our ranges do not
        raise ValueError("an address has no zone index here")
    return value


def _mac_address(text: str) -> str:
    """Lower case, colons; the first octet's lowest bit marks a group, which no interface has (IEEE 802-2014, §8.2)."""
    octets = text.replace("-", ":").lower()
    if int(octets[:2], 16) & 1:
        raise ValueError("a group address; that of one interface is wanted")
    return octets


def _ip_version(version: int) -> int:
    if version not in {4, 6}:
        raise ValueError("an IP version is 4 or 6")
    return version


Name = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_single_line)]
Description = Annotated[str, StringConstraints(max_length=2048), AfterValidator(_printable)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_single_line)]
FilterText = Annotated[str, StringConstraints(max_length=255), AfterValidator(_printable)]
OwnerName = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_single_line)]

VlanId = Annotated[int, Field(strict=True, ge=1, le=4094, description="IEEE 802.1Q: 0 and 4095 are reserved")]
Vni = Annotated[int, Field(strict=True, ge=1, le=2**24 - 1, description="RFC 7348: 24 bits; 0 is left to the kernel")]
GreKey = Annotated[int, Field(strict=True, ge=0, le=2**32 - 1, description="RFC 2890: 32 bits")]
UdpPort = Annotated[int, Field(strict=True, ge=1, le=65535)]
MtuBytes = Annotated[int, Field(strict=True, ge=68, le=65535, description="RFC 791: 68 is IPv4's least")]
IfName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=15),
    AfterValidator(_interface_name),
    Field(description="a network interface name: 1 to 15 characters (IFNAMSIZ)"),
]
Generation = Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)]
TimeoutSeconds = Annotated[int, Field(strict=True, ge=1, le=3600)]
PageLimit = Annotated[int, Field(strict=True, ge=1, le=1000)]
Revision = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]

MacAddress = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}$"),
    AfterValidator(_mac_address),
    Field(description="48 bits, such as '52:54:00:12:34:56'"),
]
IpAddress = Annotated[ipaddress.IPv4Address | ipaddress.IPv6Address, BeforeValidator(_no_prefix)]
IpNetwork = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(_no_prefix)]
IpInterface = Annotated[ipaddress.IPv4Interface | ipaddress.IPv6Interface, BeforeValidator(_no_prefix)]
L4Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
HostName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$"),
    Field(description="one label of a domain name, RFC 1123 §2.1"),
]
ServiceType = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9]{0,63}$"),
    Field(description="DHCP, DNS, SNAT, EIP, PortForwarding, SecurityGroup, or what a plugin offers"),
]
IpVersion = Annotated[int, Field(strict=True, json_schema_extra={"enum": [4, 6]}), AfterValidator(_ip_version)]
OneOrMany: TypeAlias = T | Annotated[list[T], Field(max_length=1000)]
