"""The lab: simulated KVM hosts, joined by bridges in a network namespace of their own.

    with Lab("demo", state_dir) as lab:
        a, b = lab.start_hosts(["a", "b"], kind=host_kind_for(["vlan"]))
        a.run("ip link add link eth1 name eth1.10 type vlan id 10")

A host is either a User-Mode Linux guest, with a kernel of its own (Debian's package `user-mode-linux`), or a set
of namespaces on the running kernel; both behind one interface, `Host`. A `Vm` is a NIC without a machine behind it;
`lab.qemu.Guest` is a real one, run by libvirt, on hosts made of namespaces. Everything here needs root. Nothing here
touches the machine's own network.
"""

from lab.capture import Capture
from lab.features import host_kind_for, running_kernel_supports
from lab.host import Host, Program
from lab.lab import Lab, sweep
from lab.machine import LabError, Result
from lab.vm import Vm

__all__ = [
    "Capture",
    "Host",
    "Lab",
    "LabError",
    "Program",
    "Result",
    "Vm",
    "host_kind_for",
    "running_kernel_supports",
    "sweep",
]
