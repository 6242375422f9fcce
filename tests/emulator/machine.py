"""An emulated CPU whose memory is this process's own.

The CPU is Bochs', from the package ``bochscpu-python``: it executes the real instructions, raises
the real exceptions, and knows CPU models with and without each instruction set.
"""

import ctypes
import importlib.util
import mmap
from pathlib import Path

PAGE = mmap.PAGESIZE

# Bits of a page-table entry: present, writable, user.
_TABLE_ENTRY = 7
_ENTRY_ADDRESS = ~0xFFF

_kept_alive = []
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]


class CPUExceptionError(Exception):
    """The emulated program raised an exception of the CPU, such as #UD (6) or #PF (14).

    Attributes:
        vector: the exception's number.
    """

    def __init__(self, vector, state):
        super().__init__(f"exception {vector} at {state.rip:#x}, address {state.cr2:#x}")
        self.vector = vector


def load_bochscpu(model, shim):
    """Imports bochscpu with one of Bochs' CPU models, such as "corei7_skylake_x".

    Args:
        model: name of the model, as in Bochs' sources.
        shim: path of the compiled shim.c.
    """
    folder = Path(importlib.util.find_spec("bochscpu").origin).parent
    (module,) = folder.glob("_bochscpu*.so")
    factory = f"create_{model}_cpuid"
    library = ctypes.CDLL(str(shim), mode=ctypes.RTLD_GLOBAL)
    _kept_alive.append(library)
    _set_string(library, "shim_module", str(module))
    _set_string(library, "shim_factory", f"_Z{len(factory)}{factory}P8BX_CPU_C")
    return importlib.import_module("bochscpu")


def allocate(size):
    """Address of zeroed, page-aligned memory of this process."""
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return _libc.mmap(None, size, protection, flags, -1, 0)


class Machine:
    """One CPU in 64-bit user mode with AVX-512 state enabled, if the model has it.

    Its virtual addresses are this process's; access to unmapped pages faults.
    """

    def __init__(self, bochscpu):
        importlib.import_module("bochscpu.cpu")
        self._memory = importlib.import_module("bochscpu.memory")
        self._session = bochscpu.Session()
        self._session.missing_page_handler = self._stop_on_missing_page
        self._next_physical = 0x100000
        self._tables = {}
        self._root = self._new_table()
        self._hook = bochscpu.Hook()
        self._hook.hlt = lambda session, cpu: session.stop()
        self._hook.exception = self._stop_on_exception
        self._vector = None
        self.halt = allocate(PAGE)
        ctypes.memmove(self.halt, b"\xf4", 1)
        self.map(self.halt, PAGE)
        self.state = self._user_state(bochscpu)

    def map(self, address, size):
        """Maps pages of this process for the program."""
        for page in _pages(address, size):
            entries, index = self._entry(page)
            if not entries[index]:
                self._memory.page_insert(self._next_physical, page)
                entries[index] = self._next_physical | _TABLE_ENTRY
                self._next_physical += PAGE

    def unmap(self, address, size):
        """Makes every access to these pages fault."""
        for page in _pages(address, size):
            entries, index = self._entry(page)
            entries[index] = 0

    def run(self):
        """Runs from `state` to the program's HLT; raises CPUExceptionError on an exception."""
        self._vector = None
        self._session.cpu.state = self.state
        self._session.run([self._hook])
        self.state = self._session.cpu.state
        if self._vector is not None:
            raise CPUExceptionError(self._vector, self.state)

    def _new_table(self):
        address, physical = allocate(PAGE), self._next_physical
        self._next_physical += PAGE
        self._memory.page_insert(physical, address)
        self._tables[physical] = ctypes.cast(address, ctypes.POINTER(ctypes.c_uint64))
        return physical

    def _entry(self, page):
        """(last-level table, index) of a page, tables made on the way."""
        table = self._tables[self._root]
        for shift in (39, 30, 21):
            index = page >> shift & 511
            if not table[index]:
                table[index] = self._new_table() | _TABLE_ENTRY
            table = self._tables[table[index] & _ENTRY_ADDRESS]
        return table, page >> 12 & 511

    def _user_state(self, bochscpu):
        state = bochscpu.State()
        bochscpu.cpu.set_long_mode(state)
        state.cr3 = self._root
        # OSFXSR, OSXMMEXCPT and OSXSAVE: SSE and XGETBV are usable.
        state.cr4 |= 1 << 9 | 1 << 10 | 1 << 18
        state.mxcsr, state.mxcsr_mask = 0x1F80, 0xFFFF
        for name in ("cs", "ds", "ss", "es", "fs", "gs"):
            segment = bochscpu.Segment()
            segment.present, segment.selector = True, 8
            segment.base, segment.limit = 0, 0xFFFFFFFF
            segment.attr = 0x209B if name == "cs" else 0xC93
            setattr(state, name, segment)
        state.rflags = 2
        return state

    def _stop_on_missing_page(self, address):
        raise RuntimeError(f"the page tables have no page at physical address {address:#x}")

    def _stop_on_exception(self, session, cpu, vector, error):
        self._vector = vector
        session.stop()


def _pages(address, size):
    return range(address & _ENTRY_ADDRESS, address + size, PAGE)


def _set_string(library, name, text):
    # The shim keeps the pointer: the text must outlive this function.
    data = ctypes.create_string_buffer(text.encode())
    _kept_alive.append(data)
    ctypes.c_void_p.in_dll(library, name).value = ctypes.addressof(data)
