# SPDX-License-Identifier: GPL-2.0-or-later
"""The busybox guest's initramfs with one more program in it."""
import gzip
import pathlib
import subprocess

import vivtest


def with_program(program, to):
    """Appends the file to the archive, as /NAME with its mode; the new archive's path."""
    listing = subprocess.run(["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"], cwd=program.parent,
                             input=program.name.encode(), stdout=subprocess.PIPE, check=True)
    tiny = (vivtest.GUEST / "tiny.cpio.gz").read_bytes()
    pathlib.Path(to).write_bytes(tiny + gzip.compress(listing.stdout, 1))
    return str(to)
