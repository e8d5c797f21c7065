"""A filter in the kernel (socket(7), SO_ATTACH_FILTER) that keeps learned addresses away from an event socket.

A bridge learns and forgets addresses by the thousand; each would wake us, and together they would overflow the socket.
The program is classic BPF (Documentation/networking/filter.rst); a multicast message is one datagram of its own.
"""

import ctypes
import socket
import struct
import sys

from viaduct_agent.links.events import STATES_OF_BRIDGES, STATES_OF_IP

_SO_ATTACH_FILTER = 26
_RTM_NEWNEIGH, _RTM_DELNEIGH = 28, 29
_LOAD_BYTE, _LOAD_HALF = 0x30, 0x28  # BPF_LD | BPF_ABS, with BPF_B or BPF_H
_JUMP_IF_EQUAL, _JUMP_IF_ANY_BIT, _RETURN = 0x15, 0x45, 0x06
_INSTRUCTION = struct.Struct("=HBBI")
_ALL, _NOTHING = 0xFFFFFFFF, 0
_TYPE_OFFSET = 4  # in struct nlmsghdr, whose 16 bytes stand before struct ndmsg
_FAMILY_OFFSET = 16
# Of 16 bits in the host's order the byte that has the lower eight.
_STATE_OFFSET = 16 + 8 + (0 if sys.byteorder == "little" else 1)


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def leave_out_learned(sock: socket.socket) -> None:
    """Let through everything but forwarding entries and neighbours that are neither permanent nor just deleted.

    Raises:
        OSError: the kernel takes no filter.
    """
    instructions = (
        (_LOAD_HALF, 0, 0, _TYPE_OFFSET),
        (_JUMP_IF_EQUAL, 1, 0, socket.htons(_RTM_NEWNEIGH)),  # the program reads in network order
        (_JUMP_IF_EQUAL, 0, 5, socket.htons(_RTM_DELNEIGH)),
        (_LOAD_BYTE, 0, 0, _FAMILY_OFFSET),
        (_JUMP_IF_EQUAL, 0, 4, socket.AF_BRIDGE),
        (_LOAD_BYTE, 0, 0, _STATE_OFFSET),
        (_JUMP_IF_ANY_BIT, 1, 0, STATES_OF_BRIDGES),
        (_RETURN, 0, 0, _NOTHING),
        (_RETURN, 0, 0, _ALL),
        (_LOAD_BYTE, 0, 0, _STATE_OFFSET),
        (_JUMP_IF_ANY_BIT, 0, 1, STATES_OF_IP),
        (_RETURN, 0, 0, _ALL),
        (_RETURN, 0, 0, _NOTHING),
    )
    code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*one) for one in instructions))
    program = _Program(len(instructions), ctypes.cast(code, ctypes.c_void_p))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(program))
