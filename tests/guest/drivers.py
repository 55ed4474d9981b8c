# SPDX-License-Identifier: GPL-2.0-or-later
"""The busybox guest's initramfs with more drivers of the Debian guest's kernel."""
import pathlib
import re
import subprocess

import initrd
import vivtest


def debugfs(request):
    return subprocess.run(["debugfs", "-R", request, vivtest.GUEST / "debian12.raw"], capture_output=True,
                          check=True).stdout


def with_drivers(names, folder):
    """Appends these modules and what they need besides; the new archive's path, in the folder."""
    version = re.search(r"/([^/]*-amd64)/", debugfs("ls -p /lib/modules").decode())[1]
    base = f"lib/modules/{version}"
    needs = dict(line.split(":") for line in debugfs(f"cat /{base}/modules.dep").decode().splitlines())
    of_name = {pathlib.Path(f).name.split(".")[0]: f for f in needs}
    wanted, todo = set(), [of_name[n] for n in names]
    while todo:
        file = todo.pop()
        if file not in wanted:
            wanted.add(file)
            todo += needs[file].split()
    folder = pathlib.Path(folder)
    files = {}
    for file in wanted:
        files[f"{base}/{file}"] = folder / pathlib.Path(file).name
        files[f"{base}/{file}"].write_bytes(debugfs(f"cat /{base}/{file}"))
    files[f"{base}/modules.dep"] = folder / "modules.dep"
    files[f"{base}/modules.dep"].write_text("".join(f"{f}:{needs[f]}\n" for f in sorted(wanted)))
    return initrd.with_tree(files, folder / "drivers.cpio.gz")
