"""A seccomp filter as bubblewrap takes it: system calls that model-written code has no use for end with `EPERM`.

The program is classic BPF (`struct sock_filter` of `linux/filter.h` over `struct seccomp_data` of `linux/seccomp.h`),
written out by hand, so that nothing needs a compiler or libseccomp.
"""

from __future__ import annotations

import errno
import platform
import struct
from pathlib import Path

import yaml


# Opcodes of linux/bpf_common.h: load a word, jump if equal, if at least, if any bit is set, return a constant.
_LOAD, _JEQ, _JGE, _JSET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
# Offsets in struct seccomp_data; arguments are 64 bits wide, little-endian on both machines.
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
_CLONE_THREAD = 0x00010000
# Commands of fcntl and ioctl after which the kernel sends signals, SIGCONT among them, about a file: F_SETOWN,
# F_SETSIG, F_SETOWN_EX, FIOASYNC, FIOSETOWN, SIOCSPGRP. A lease or a watch on a file has its own.
_FCNTL_REFUSED = (8, 10, 15, 1024, 1026)
_IOCTL_REFUSED = (0x5452, 0x8901, 0x8902)
_F_SETFL, _O_ASYNC = 4, 0x2000
_FALLOC_FL_KEEP_SIZE = 1
_X32_BIT = 0x40000000
_CLONE3 = 435
_PR_SET_PDEATHSIG = 1

_DENIED = yaml.safe_load(Path(__file__).with_name("denied_calls.yaml").read_text(encoding="utf-8"))
"""By system call its number on x86_64 and on aarch64, `None` where a machine does not have it."""
# A reader shares a folder with those of other files, whose names cannot be listed unless its mode is changed.
_DENIED_TO_READERS = {"chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452)}
_MACHINES = {
    "x86_64": (0, 0xC000003E, {"clone": 56, "fcntl": 72, "ioctl": 16, "prctl": 157, "fallocate": 285}),
    "aarch64": (1, 0xC00000B7, {"clone": 220, "fcntl": 25, "ioctl": 29, "prctl": 167, "fallocate": 47}),
}


def seccomp_filter(machine: str | None = None, reader: bool = False) -> bytes | None:
    """The filter program for `bwrap --seccomp`.

    Args:
        machine (`str`, *optional*): `x86_64` or `aarch64`; the present one by default.
        reader (`bool`, *optional*, defaults to `False`): also refuse what who reads a file has no use for.

    Returns:
        `bytes`: instructions of 8 bytes each; `None` for a machine whose call numbers are not known here.
    """
    machine = machine or platform.machine()
    if machine not in _MACHINES:
        return None
    column, arch, numbers = _MACHINES[machine]
    refuse = _instruction(_RETURN, _ERRNO | errno.EPERM)
    program = [
        # Calls of another architecture have other numbers, so they would pass the checks below.
        _instruction(_LOAD, _ARCH),
        _instruction(_JEQ, arch, 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER),
    ]
    if machine == "x86_64":
        program += [_instruction(_JGE, _X32_BIT, 0, 1), refuse]
    for entry in (*_DENIED.values(), *(_DENIED_TO_READERS.values() if reader else ())):
        if entry[column] is not None:
            program += [_instruction(_JEQ, entry[column], 0, 1), refuse]
    program += [
        # The flags of clone3 lie in memory where a filter cannot look; glibc falls back to clone.
        _instruction(_JEQ, _CLONE3, 0, 1),
        _instruction(_RETURN, _ERRNO | errno.ENOSYS),
    ]
    program += _if_call(
        numbers["clone"], [_load(0), _instruction(_JSET, _CLONE_THREAD, 0, 1), _instruction(_RETURN, _ALLOW), refuse]
    )
    program += _if_call(
        numbers["fcntl"],
        [
            *_refuse_values(1, _FCNTL_REFUSED, refuse),
            _instruction(_JEQ, _F_SETFL, 0, 3),
            _load(2),
            _instruction(_JSET, _O_ASYNC, 0, 1),
            refuse,
        ],
    )
    program += _if_call(numbers["ioctl"], _refuse_values(1, _IOCTL_REFUSED, refuse))
    # A process that no longer dies with its parent could outlive it.
    program += _if_call(numbers["prctl"], _refuse_values(0, (_PR_SET_PDEATHSIG,), refuse))
    # Blocks beyond the end of a file, which no limit on its size counts.
    program += _if_call(numbers["fallocate"], [_load(1), _instruction(_JSET, _FALLOC_FL_KEEP_SIZE, 0, 1), refuse])
    return b"".join([*program, _instruction(_RETURN, _ALLOW)])


def _if_call(number: int, checks: list[bytes]) -> list[bytes]:
    """Checks of one call's arguments; a call that passes them is allowed."""
    return [_instruction(_JEQ, number, 0, len(checks) + 1), *checks, _instruction(_RETURN, _ALLOW)]


def _load(argument: int) -> bytes:
    """Load the lower word of an argument."""
    return _instruction(_LOAD, _ARGUMENTS + 8 * argument)


def _refuse_values(argument: int, values: tuple[int, ...], refuse: bytes) -> list[bytes]:
    return [_load(argument), *(part for value in values for part in (_instruction(_JEQ, value, 0, 1), refuse))]


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """`struct sock_filter`; jumps count the instructions that are passed over."""
    return struct.pack("<HBBI", code, if_true, if_false, value)
