"""What the demo reads of what programs in VMs have printed."""

from demo.clients import longest_silence

PINGED = """PING 198.51.100.3 (198.51.100.3) 56(84) bytes of data.
[100.0] 64 bytes from 198.51.100.3: icmp_seq=1 ttl=63 time=1.2 ms
[100.2] 64 bytes from 198.51.100.3: icmp_seq=2 ttl=63 time=1.1 ms
[103.5] From 198.51.100.1 icmp_seq=9 Destination Host Unreachable
[107.5] 64 bytes from 198.51.100.3: icmp_seq=38 ttl=63 time=2.0 ms
[107.7] 64 bytes from 198.51.100.3: icmp_seq=39 ttl=63 time=1.0 ms
"""


def test_silence_is_between_answers() -> None:
    """An error that a host on the way sends is none."""
    assert round(longest_silence(PINGED), 3) == 7.3


def test_who_never_answered_was_never_silent() -> None:
    """There is nothing to measure: that there were answers is a fact of its own."""
    assert longest_silence("") == 0.0
    assert longest_silence("\n".join(PINGED.splitlines()[:2])) == 0.0
