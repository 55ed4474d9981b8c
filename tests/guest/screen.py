# SPDX-License-Identifier: GPL-2.0-or-later
"""The screen of a machine without anything in the guest: pictures through the control socket, and the text in them.

Text is read by the glyphs of the video BIOS, so it works for text modes that a BIOS has set up.
"""
import functools
import pathlib
import re
import subprocess
import time

import vivtest
from png import read_png

CTL = str(pathlib.Path(vivtest.PROGRAM).with_name("viv-ctl"))
VGABIOS = pathlib.Path("/usr/share/seabios/vgabios-stdvga.bin")
# The letter A of the 8x16 font tells where the font begins.
LETTER = bytes.fromhex("000010386cc6c6fec6c6c6c600000000")


def glyphs():
    rom = VGABIOS.read_bytes()
    at = rom.index(LETTER) - 16 * ord("A")
    table = {}
    for code in range(255, -1, -1):  # of equal glyphs the lowest code wins, blanks are blanks
        table[rom[at + 16 * code:at + 16 * code + 16]] = chr(code) if 32 <= code < 127 else "?"
    table[bytes(16)] = " "
    return {shape: c for shape, c in table.items() if c != "?" or shape == rom[at + 16 * 63:at + 16 * 64]}


GLYPHS = glyphs() if VGABIOS.exists() else {}


def cell(rows, x, y):
    """The sixteen bytes of a glyph: bits are set where the colour is not that of the cell's corner."""
    paper = rows[y][3 * x:3 * x + 3]
    out = []
    for row in rows[y:y + 16]:
        line = row[3 * x:3 * x + 24]
        out.append(sum(0x80 >> i for i in range(8) if line[3 * i:3 * i + 3] != paper))
    return bytes(out)


@functools.cache
def letter(shape):
    """The letter of a glyph, or of the nearest one: other programs bring fonts that differ in a few dots."""
    both = (int.from_bytes(shape, "big"), int.from_bytes(bytes(b ^ 0xff for b in shape), "big"))
    far, found = min((min((int.from_bytes(g, "big") ^ s).bit_count() for s in both), c) for g, c in GLYPHS.items())
    return found if far <= 8 else "?"


def learn(picture, line, column, character):
    """What stands there is this character from now on, for fonts that differ in more than a few dots."""
    width, height, rows = picture
    GLYPHS[cell(rows, column * (width // 80), (height - 400) // 2 + 16 * line)] = character
    letter.cache_clear()


def read_text(picture):
    """The 25 lines of 80 columns of a text mode, or of a picture of such a one in the middle; None for other sizes."""
    width, height, rows = picture
    if width not in (640, 720) or height not in (400, 480):
        return None
    step, top = width // 80, (height - 400) // 2
    return ["".join(letter(cell(rows, x * step, top + y)) for x in range(80)).rstrip() for y in range(0, 400, 16)]


class Screen:
    """The screen of the machine with this control socket; its pictures go through a file in the folder."""

    def __init__(self, control, folder):
        self.control, self.file = control, pathlib.Path(folder) / "screen.png"

    def ctl(self, *words):
        done = subprocess.run([CTL, self.control, *words], capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise vivtest.GuestError(f"{words[0]}: {done.stderr}")

    def picture(self):
        self.ctl("screenshot", "--file", str(self.file))
        return read_png(self.file.read_bytes())

    def text(self):
        return "\n".join(read_text(self.picture()) or [])

    def expect(self, pattern, timeout=300):
        """Waits until the text on the screen matches; returns the match."""
        until, text = time.monotonic() + timeout, ""
        while time.monotonic() < until:
            try:
                text = self.text()
            except (vivtest.GuestError, FileNotFoundError):  # not there yet, or no more
                text = ""
            if found := re.search(pattern, text, re.M):
                return found
            time.sleep(0.3)
        raise vivtest.GuestError(f"nothing on the screen matched {pattern} within {timeout} s:\n{text}")

    def keys(self, *names):
        for name in names:
            self.ctl("send-key", name)

    def type(self, text):
        self.ctl("send-text", text, "--enter")


def start(test, folder, *options, memory="256M", **more):
    """A machine by firmware with a VGA that nobody watches; returns guest and screen."""
    control = str(pathlib.Path(folder) / "ctl")
    guest = vivtest.Guest([vivtest.VM, "--name", "pc", "--cpu", vivtest.CPU, "--memory", memory, "--serial", "stdio",
                           "--vga", "std", "--control", "unix:" + control, *options], **more)
    (test.addClassCleanup if isinstance(test, type) else test.addCleanup)(guest.close)
    until = time.monotonic() + 60
    while not pathlib.Path(control).exists() and guest.process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    return guest, Screen(control, folder)
