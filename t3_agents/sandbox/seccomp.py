"""A seccomp filter as bubblewrap takes it: system calls that model-written code has no use for end with `EPERM`.

The program is classic BPF (`struct sock_filter` of `linux/filter.h` over `struct seccomp_data` of `linux/seccomp.h`),
written out by hand, so that nothing needs a compiler or libseccomp.
"""

from __future__ import annotations

import errno
import platform
import struct


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

# (number on x86_64, number on aarch64) by system call; None where a machine does not have it.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    # new processes: code may start threads only (`clone` is looked at below)
    "fork": (57, None),
    "vfork": (58, None),
    # other processes and their memory
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    # namespaces and mounts
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    # the kernel itself
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "personality": (135, 92),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "vhangup": (153, 58),
    # work that goes on in the kernel while the process is stopped
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_setup": (206, 0),
    "io_submit": (209, 2),
    # a timer that sends SIGCONT wakes the process while it has to stand still
    "timer_create": (222, 107),
    # key rings and watches, which are counted for the user of the host
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "fanotify_init": (300, 262),
    # memory that belongs to no process and so escapes the limit on memory
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    # open files that are on their way through a pair of sockets, where no limit sees them
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    # sockets of any family; a pair for event loops is left
    "socket": (41, 198),
    # what names the folders of the host
    "statmount": (457, 457),
    "listmount": (458, 458),
}
_MACHINES = {
    "x86_64": (0, 0xC000003E, {"clone": 56, "fcntl": 72, "ioctl": 16, "prctl": 157, "fallocate": 285}),
    "aarch64": (1, 0xC00000B7, {"clone": 220, "fcntl": 25, "ioctl": 29, "prctl": 167, "fallocate": 47}),
}


def seccomp_filter(machine: str | None = None) -> bytes | None:
    """The filter program for `bwrap --seccomp`.

    Args:
        machine (`str`, *optional*): `x86_64` or `aarch64`; the present one by default.

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
    for entry in _DENIED.values():
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
