# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of Debian's packages that only long tests need: downloaded and unpacked, not installed.

They are kept in the folder `packages` of the guest's folder."""
import subprocess
import tempfile

from vivtest import GUEST


def unpacked(package):
    """The folder with the package's files. Its name is as apt knows it (group long of scripts/packages.txt)."""
    folder = GUEST / "packages" / package
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as new:
            subprocess.run(["apt-get", "download", "-q", package], cwd=new, check=True, capture_output=True)
            subprocess.run(["bash", "-c", "dpkg-deb -x *.deb files"], cwd=new, check=True)
            subprocess.run(["mv", "files", folder], cwd=new, check=True)
    return folder
