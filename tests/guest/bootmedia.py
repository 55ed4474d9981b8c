# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot sectors and El Torito media of a few bytes, for tests of firmware: each says a word, and then what is typed."""
import struct

SECTOR = 2048
COM1 = b"\xba\xf8\x03"  # mov dx, 3f8


def sector(word):
    """512 bytes for 7c00: the word by the BIOS, to the screen or else the serial line; then each key to the serial line."""
    code = b"\x31\xc0\x8e\xd8\xbe%s\xfc"  # xor ax, ax; mov ds, ax; mov si, word; cld
    code += b"\xac\x84\xc0\x74\x09\xb4\x0e\xbb\x07\x00\xcd\x10\xeb\xf2"  # next: lodsb; test; jz keys; int 10; jmp next
    code += b"\x30\xe4\xcd\x16" + COM1 + b"\xee\xeb\xf6"  # keys: xor ah, ah; int 16; out dx, al; jmp keys
    at = 0x7c00 + len(code)  # %s is as long as an address
    return (code.replace(b"%s", struct.pack("<H", at)) + word.encode() + b"\r\n\0").ljust(510, b"\0") + b"\x55\xaa"


def both(n, size):
    return n.to_bytes(size, "little") + n.to_bytes(size, "big")


def iso(word):
    """A medium without files that boots by El Torito 1.0 (no emulation)."""
    sectors = 32
    volume = bytearray(SECTOR)
    volume[:7] = b"\1CD001\1"
    volume[40:72] = word.encode().ljust(32)[:32]
    volume[80:88] = both(sectors, 4)
    volume[128:132] = both(SECTOR, 2)
    record = bytearray(SECTOR)
    record[:7] = b"\0CD001\1"
    record[7:39] = b"EL TORITO SPECIFICATION".ljust(32, b"\0")
    record[71:75] = struct.pack("<I", 19)
    entry = bytearray(32)
    entry[0], entry[30], entry[31] = 1, 0x55, 0xaa
    entry[28:30] = struct.pack("<H", -sum(struct.unpack("<16H", entry)) & 0xffff)
    entry += struct.pack("<BBHBBHI", 0x88, 0, 0, 0, 0, 4, 20)
    end = b"\xffCD001\1".ljust(SECTOR, b"\0")
    parts = bytes(16 * SECTOR) + volume + record + end + entry.ljust(SECTOR, b"\0") + sector(word)
    return parts.ljust(sectors * SECTOR, b"\0")
