# SPDX-License-Identifier: GPL-2.0-or-later
"""Guest kernels of a few bytes, for tests that need a machine but no operating system.

A kernel is a list of pieces of 32-bit machine code; elf() makes it a PVH kernel at 1 MiB, bzimage() a
Linux image with a 32-bit entry. Both start with interrupts off, flat segments and no paging.
"""
import struct

BASE = 0x100000
STOP = b"\xfa\xf4\xeb\xfd"  # cli; again: hlt; jmp again
TRIPLE_FAULT = b"\x0f\x01\x1d" + struct.pack("<I", BASE - 0x1000) + b"\x0f\x0b"  # lidt [zeroes]; ud2


def outb(port, value):
    return b"\x66\xba" + struct.pack("<H", port) + b"\xb0" + bytes([value]) + b"\xee"


def outw(port, value):
    return b"\x66\xba" + struct.pack("<H", port) + b"\x66\xb8" + struct.pack("<H", value) + b"\x66\xef"


def outl(port, value):
    return b"\x66\xba" + struct.pack("<H", port) + b"\xb8" + struct.pack("<I", value) + b"\xef"


DEBUG_EXIT = lambda value: outl(0xf4, value) + STOP  # noqa: E731
POWER_OFF = outw(0x604, 1 << 13) + STOP
RESET = outb(0xcf9, 6) + STOP
PANIC = outb(0x505, 1) + STOP
WAIT_THR = b"\x66\xba\xfd\x03\xec\xa8\x20\x74\xfb"  # dx = LSR; again: in al, dx; test THRE; jz again
WAIT_RX = b"\x66\xba\xfd\x03\xec\xa8\x01\x74\xfb"
FIFOS = outb(0x3fa, 7) + outb(0x3fb, 3)


def long_mode(*pieces):
    """Must stand first. The pieces are 64-bit code; the first GiB is mapped one to one."""
    def store(at, value):
        return b"\xc7\x05" + struct.pack("<II", at, value)

    start = (store(0x200000, 0x201003) + store(0x201000, 0x83) +
             b"\xb8" + struct.pack("<I", 0x200000) + b"\x0f\x22\xd8"  # cr3
             b"\x0f\x20\xe0\x83\xc8\x20\x0f\x22\xe0"  # cr4: PAE
             b"\xb9\x80\x00\x00\xc0\x0f\x32\x0d\x00\x01\x00\x00\x0f\x30"  # EFER: LME
             b"\x0f\x20\xc0\x0d\x00\x00\x00\x80\x0f\x22\xc0")  # cr0: PG
    gdtr = BASE + len(start) + 7 + 7
    table = struct.pack("<HIQQ", 15, gdtr + 6, 0, 0x00af9a000000ffff)
    jump = b"\xea" + struct.pack("<IH", gdtr + len(table), 8)
    return start + b"\x0f\x01\x15" + struct.pack("<I", gdtr) + jump + table + b"".join(pieces)


# mov ecx, 1000; again: add eax, 0x11; dec ecx; jnz again
LOOP64 = long_mode(b"\xb9\xe8\x03\x00\x00\x83\xc0\x11\xff\xc9\x75\xf9", POWER_OFF)
# The same with an access: add %eax, 0x300000.
ACCESS64 = long_mode(b"\xb9\xe8\x03\x00\x00\x01\x04\x25\x00\x00\x30\x00\xff\xc9\x75\xf5", POWER_OFF)


def say(text):
    return b"".join(WAIT_THR + outb(0x3f8, c) for c in text.encode())


def forever(*pieces):
    body = b"".join(pieces)
    return body + b"\xe9" + struct.pack("<i", -len(body) - 5)


def times(n, *pieces):
    """The pieces must leave esi alone."""
    body = b"".join(pieces)
    return b"\xbe" + struct.pack("<I", n) + body + b"\x4e\x0f\x85" + struct.pack("<i", -len(body) - 7)


def until_button():
    """Waits for the power button: PM1_STS bit 8."""
    return b"\x66\xba\x00\x06\x66\xed\xf6\xc4\x01\x74\xf5"


def nth_start(n, then, otherwise=RESET):
    """Counts the starts in a word of RAM, which a reset does not clear; runs `then` at the n-th."""
    count = b"\xff\x05" + struct.pack("<I", 0x60000) + b"\x83\x3d" + struct.pack("<I", 0x60000) + bytes([n])
    return count + b"\x0f\x84" + struct.pack("<i", len(otherwise)) + otherwise + then


def until_key(key):
    """Sends back every byte that comes in, until the key has come."""
    read = WAIT_RX + b"\x66\xba\xf8\x03\xec\x88\xc3"  # in al, dx; mov bl, al
    write = WAIT_THR + b"\x66\xba\xf8\x03\x88\xd8\xee" + b"\x80\xfb" + key.encode()  # mov al, bl; out; cmp bl, key
    body = read + write
    return body + b"\x0f\x85" + struct.pack("<i", -len(body) - 6)


def elf(*pieces, entry=BASE, paddr=BASE, wide=True, note=True, memsz=None, machine=62):
    code = b"".join(pieces)
    notes = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", entry)
    ehsize, phsize = (64, 56) if wide else (52, 32)
    at = ehsize + 2 * phsize
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    head = struct.pack("<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH", 2, machine if wide else 3, 1, entry,
                       ehsize, 0, 0, ehsize, phsize, 2 if note else 1, 0, 0, 0)

    def segment(kind, offset, address, size, mem):
        if wide:
            return struct.pack("<IIQQQQQQ", kind, 7, offset, address, address, size, mem, 4)
        return struct.pack("<IIIIIIII", kind, offset, address, address, size, mem, 7, 4)

    return (ident + head + segment(1, at + len(notes), paddr, len(code), memsz or len(code))
            + segment(4, at, 0, len(notes), len(notes)) + notes + code)


def bzimage(*pieces, version=0x20f, entry64=False, pref=BASE, relocatable=1, init_size=0x10000, align=0x1000,
            loadflags=1, cmdline_size=255, initrd_max=0x7fffffff, syssize=None):
    code = b"".join(pieces)
    code = bytes(0x200) + code if entry64 else code
    code += bytes(max(0x400, len(code) + 15 & ~15) - len(code))
    head = bytearray(1024)
    head[0x1f1] = 1
    struct.pack_into("<I", head, 0x1f4, len(code) // 16 if syssize is None else syssize)
    struct.pack_into("<H", head, 0x1fe, 0xaa55)
    head[0x201] = 0x66
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, version)
    head[0x211] = loadflags
    struct.pack_into("<III", head, 0x22c, initrd_max, align, relocatable | (1 if entry64 else 0) << 16)
    struct.pack_into("<I", head, 0x238, cmdline_size)
    struct.pack_into("<QI", head, 0x258, pref, init_size)
    return bytes(head) + code
