"""Run a User-Mode Linux kernel on a CPU whose register state is larger than that kernel knows: plain_fpu.py KERNEL ...

Kernels before 6.13 keep 2696 bytes of extended state per guest program. On a CPU with AMX there are about 11 KiB, and
the machine's kernel refuses to write back less than all (ptrace(2), PTRACE_SETREGSET: EFAULT), so the guest's first
program dies. The guest's kernel falls back to the 512 bytes of FXSAVE, x87 and SSE, if it finds no PTRACE_GETREGSET
for NT_X86_XSTATE when it starts. A seccomp filter makes it find none.

What lies beyond SSE is then lost at every page fault of a guest program, so programs must be told to leave AVX alone:
`ENVIRONMENT` does that for the C library and OpenSSL.
"""

import ctypes
import errno
import os
import struct
import sys

ENVIRONMENT = {
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-XSAVE,-XSAVEC,-AVX,-AVX2,-AVX_Fast_Unaligned_Load"
    ",-AVX512F,-AVX512VL,-AVX512BW",
    "OPENSSL_ia32cap": "~0x1000000000000000:0x0",  # bit 60: AVX; nothing of CPUID leaf 7
}
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
SYS_PTRACE, PTRACE_GETREGSET, NT_X86_XSTATE = 101, 0x4204, 0x202
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # classic BPF
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EIO
SYSCALL_NUMBER, FIRST_ARGUMENT, THIRD_ARGUMENT = 0, 16, 32  # offsets in struct seccomp_data


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def _statement(code: int, value: int, unless_equal: int = 0) -> bytes:
    return struct.pack("HBBI", code, 0, unless_equal, value)


def refuse_extended_state() -> None:
    """Make ptrace(PTRACE_GETREGSET, pid, NT_X86_XSTATE) fail with EIO, for this process and all it starts."""
    code = b"".join(
        [
            _statement(LOAD, SYSCALL_NUMBER),
            _statement(JUMP_IF_EQUAL, SYS_PTRACE, 5),
            _statement(LOAD, FIRST_ARGUMENT),
            _statement(JUMP_IF_EQUAL, PTRACE_GETREGSET, 3),
            _statement(LOAD, THIRD_ARGUMENT),
            _statement(JUMP_IF_EQUAL, NT_X86_XSTATE, 1),
            _statement(RETURN, REFUSE),
            _statement(RETURN, ALLOW),
        ]
    )
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(code)
    program = _Program(len(code) // 8, ctypes.addressof(buffer))
    done = libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0
    )
    if done:
        raise OSError(ctypes.get_errno(), "seccomp filter refused")


if __name__ == "__main__":
    refuse_extended_state()
    os.execv(sys.argv[1], sys.argv[1:])
