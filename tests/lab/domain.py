"""A libvirt domain around the NICs' elements (https://libvirt.org/formatdomain.html)."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

from lab.machine import LabError

# Of libvirt's qemu.conf: no account, no control groups, no namespaces and no daemon for the log.
CONFIGURATION = """\
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
"""
MEMORY_MIB = 96


def domain_xml(
    interfaces: Sequence[str], *, kernel: Path, initramfs: Path, kernel_arguments: str, console: Path
) -> str:
    """The domain: no KVM, one processor, no disk, the NICs just as their elements say.

    Args:
        console: the serial console's pipes are `console`.in and `console`.out.
    """
    domain = Element("domain", type="qemu")
    SubElement(domain, "name").text = "guest"
    SubElement(domain, "memory", unit="MiB").text = str(MEMORY_MIB)
    SubElement(domain, "vcpu").text = "1"
    boot = SubElement(domain, "os")
    SubElement(boot, "type", arch="x86_64", machine="pc").text = "hvm"
    for name, text in (("kernel", str(kernel)), ("initrd", str(initramfs)), ("cmdline", kernel_arguments)):
        SubElement(boot, name).text = text
    SubElement(SubElement(domain, "features"), "acpi")
    SubElement(domain, "on_reboot").text = "destroy"
    devices = SubElement(domain, "devices")
    devices.extend(fromstring(interface) for interface in interfaces)
    SubElement(SubElement(devices, "serial", type="pipe"), "source", path=str(console))
    SubElement(devices, "controller", type="usb", model="none")
    SubElement(devices, "memballoon", model="none")
    return tostring(domain, encoding="unicode")


def mac_of(interface: str) -> str:
    """The MAC address in an `<interface>`.

    Raises:
        LabError: it has none.
    """
    mac = fromstring(interface).find("mac")
    if mac is None or "address" not in mac.attrib:
        raise LabError(f"no MAC address: {interface}")
    return mac.attrib["address"]
