# SPDX-License-Identifier: GPL-2.0-or-later
"""Initramfs archives with more files in them."""
import gzip
import pathlib
import shutil
import subprocess
import tempfile

import vivtest


def with_tree(files, to, base=vivtest.GUEST / "tiny.cpio.gz"):
    """Appends files to an archive: {"bin/name": path}, with their modes; what has a name already is replaced."""
    with tempfile.TemporaryDirectory() as tree:
        for name, source in files.items():
            (pathlib.Path(tree) / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, pathlib.Path(tree) / name)
        names = sorted(str(p.relative_to(tree)) for p in pathlib.Path(tree).rglob("*"))
        archive = subprocess.run(["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"], cwd=tree,
                                 input="\n".join(names).encode(), stdout=subprocess.PIPE, check=True).stdout
    pathlib.Path(to).write_bytes(pathlib.Path(base).read_bytes() + gzip.compress(archive, 1))
    return str(to)


def with_program(program, to):
    """The same with one program, as /NAME."""
    return with_tree({program.name: program}, to)
