"""Runs a statically linked, single-threaded Linux program on the emulated CPU.

System calls go to this process's own kernel: the program's addresses are ours. Usage::

    python linux.py SHIM MODEL XCR0 PROGRAM [ARGUMENT ...]

ends with the program's exit status, or 128 + the number of the CPU exception that ended it. XCR0 is
the register state that the operating system enables, in hexadecimal: 7 hides AVX-512's.
"""

import ctypes
import os
import struct
import sys
import typing
from pathlib import Path

import machine
from machine import PAGE, CPUExceptionError, Machine

HEAP = 64 << 20
STACK = 1 << 20

# Numbers of the system calls that are not passed on.
MMAP, MPROTECT, MUNMAP, BRK, ARCH_PRCTL, EXIT, EXIT_GROUP = 9, 10, 11, 12, 158, 60, 231
# Succeed without effect: set_tid_address, set_robust_list.
PRETENDED = (218, 273)
# Not available: clone, fork, vfork, execve, rseq, clone3.
REFUSED = (56, 57, 58, 59, 334, 435)
ENOSYS, EINVAL = 38, 22
ARCH_SET_FS = 0x1002

LOAD = 1


class Segment(typing.NamedTuple):
    """A program header of an ELF file, in the file's order of fields."""

    type: int
    flags: int
    offset: int
    address: int
    physical: int
    file_size: int
    memory_size: int
    align: int


class Program:
    """One run of a static position-independent executable."""

    def __init__(self, emulated, path, arguments, environment):
        self.machine = emulated
        image = Path(path).read_bytes()
        (entry, table), (size, count) = (
            struct.unpack_from("<QQ", image, 24),
            struct.unpack_from("<HH", image, 54),
        )
        headers = [
            Segment(*struct.unpack_from("<IIQQQQQQ", image, table + i * size)) for i in range(count)
        ]
        segments = [header for header in headers if header.type == LOAD]
        end = max(s.address + s.memory_size for s in segments)
        base = machine.allocate(end + HEAP)
        for s in segments:
            ctypes.memmove(base + s.address, image[s.offset : s.offset + s.file_size], s.file_size)
            emulated.map(base + s.address, s.memory_size)
        self.first_break = self.current_break = -(-(base + end) // PAGE) * PAGE
        auxiliary = {3: base + table, 4: size, 5: count, 6: PAGE, 9: base + entry}
        state = emulated.state
        state.rip = base + entry
        state.rsp = self._make_stack([path, *arguments], environment, auxiliary)
        # SYSCALL jumps to a HLT, at which the emulator returns to us.
        state.lstar, state.star, state.sfmask = emulated.halt, 8 << 32, 0x700
        state.efer |= 1

    def run(self):
        """Runs to the end; returns the exit status."""
        while True:
            self.machine.run()
            state = self.machine.state
            if state.rax in (EXIT, EXIT_GROUP):
                return state.rdi & 255
            arguments = (state.rdi, state.rsi, state.rdx, state.r10, state.r8, state.r9)
            state.rax = self._system_call(state.rax, arguments) & (2**64 - 1)
            state.rip, state.rflags = state.rcx, state.r11

    def _make_stack(self, arguments, environment, auxiliary):
        """Builds what the kernel passes to a new program; returns the stack pointer."""
        memory = machine.allocate(STACK)
        self.machine.map(memory, STACK)
        top = memory + STACK - 64

        def push(data):
            nonlocal top
            top -= len(data)
            ctypes.memmove(top, data, len(data))
            return top

        argument_addresses = [push(os.fsencode(text) + b"\0") for text in arguments]
        variable_addresses = [
            push(f"{name}={value}".encode() + b"\0") for name, value in environment.items()
        ]
        auxiliary = auxiliary | {25: push(os.urandom(16)), 11: 0, 12: 0, 13: 0, 14: 0}
        words = [len(arguments), *argument_addresses, 0, *variable_addresses, 0]
        for key, value in auxiliary.items():
            words += [key, value]
        words += [0, 0]
        top = (top - 8 * len(words)) & ~63
        ctypes.memmove(top, struct.pack(f"<{len(words)}Q", *words), 8 * len(words))
        return top

    def _system_call(self, number, arguments):
        if number == BRK:
            return self._set_break(arguments[0])
        if number == ARCH_PRCTL:
            return self._set_fs(*arguments[:2])
        if number == MPROTECT:
            return self._protect(*arguments[:3])
        if number == MUNMAP:
            self.machine.unmap(*arguments[:2])
            return 0
        if number in PRETENDED:
            return 0
        if number in REFUSED:
            return -ENOSYS
        result = _pass_on(number, arguments)
        if number == MMAP and result >= 0:
            self.machine.map(result, arguments[1])
        return result

    def _set_break(self, wanted):
        if self.first_break <= wanted <= self.first_break + HEAP:
            self.machine.map(self.current_break, max(0, wanted - self.current_break))
            self.current_break = wanted
        return self.current_break

    def _set_fs(self, code, address):
        if code != ARCH_SET_FS:
            return -EINVAL
        segment = self.machine.state.fs
        segment.base = address
        self.machine.state.fs = segment
        return 0

    def _protect(self, address, size, protection):
        if protection == 0:
            self.machine.unmap(address, size)
        return 0


def _pass_on(number, arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_ulong(a) for a in arguments))
    return result if result != -1 else -ctypes.get_errno()


def main():
    shim, model, xcr0, program, *arguments = sys.argv[1:]
    emulated = Machine(machine.load_bochscpu(model, shim))
    emulated.state.xcr0 = int(xcr0, 16)
    wanted = {k: v for k, v in os.environ.items() if k.startswith("DFPKERAS_")}
    try:
        status = Program(emulated, program, arguments, wanted).run()
    except CPUExceptionError as error:
        print(error, file=sys.stderr)
        status = 128 + error.vector
    sys.stdout.flush()
    sys.stderr.flush()
    # The extension module crashes when the interpreter unloads it.
    os._exit(status)


if __name__ == "__main__":
    main()
