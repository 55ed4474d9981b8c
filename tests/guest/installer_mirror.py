# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's mirror as Debian's installer wants it: with an index of its parts (udebs) that names only what there is.

Mirrors that keep a part of the archive have seldom all udebs. What is lacking is made of the files of ordinary packages
of the same release: the udeb of the same name, with the same dependencies. The index is a suite of its own (SUITE, for
the answer mirror/udeb/suite), signed with a key of its own, which the installer finds in its initrd (.keyring); the
packages of the installed system and their signatures are the archive's.
"""
import hashlib
import lzma
import pathlib
import re
import shutil
import subprocess
import unittest

import media
import mirror

SUITE = "vivarium-installer"
INDEX = "main/debian-installer/binary-amd64/Packages"
LIB, SBIN = "usr/lib/x86_64-linux-gnu/", "usr/sbin/"
# udeb: what of which packages it is made of.
FILES = {
    "e2fsprogs-udeb": {
        "e2fsprogs": ("etc/mke2fs.conf", *(SBIN + n for n in ("mke2fs", "mkfs.ext*", "e2fsck", "fsck.ext*", "tune2fs",
                                                              "e2label", "resize2fs", "badblocks"))),
        "libext2fs2t64": (LIB + "*",), "libcom-err2": (LIB + "*",)},
    "libmount1-udeb": {"libmount1": (LIB + "*",)},
    "ntfs-3g-udeb": {
        "ntfs-3g": ("usr/bin/ntfs-3g", *(SBIN + n for n in ("mkntfs", "mkfs.ntfs", "mount.ntfs*", "ntfsresize"))),
        "libntfs-3g89t64": (LIB + "*",)},
    "xfsprogs-udeb": {"xfsprogs": (SBIN + "mkfs.xfs", SBIN + "xfs_repair", SBIN + "fsck.xfs")},
}
# udeb, without the kernel's version and -di: modules. Those that they need come with them.
MODULES = {
    "ata-modules": "libata",
    "btrfs-modules": "btrfs",
    "cdrom-core-modules": "sr_mod cdrom",
    "ext4-modules": "ext4",
    "firewire-core-modules": "firewire_ohci firewire_sbp2",
    "isofs-modules": "isofs",
    "jfs-modules": "jfs",
    "loop-modules": "loop",
    "md-modules": "dm_mod dm_mirror dm_snapshot raid0 raid1 raid10 raid456",
    "pata-modules": "ata_generic ata_piix pata_acpi",
    "pcmcia-storage-modules": "pata_pcmcia",
    "sata-modules": "ahci",
    "scsi-modules": "virtio_blk virtio_scsi nvme",
    "xfs-modules": "xfs",
}


def stanzas(text):
    """The packages of an index or of dpkg's status, as {"Field": "value"}."""
    for block in re.sub(r"\n[ \t]+", " ", text).split("\n\n"):
        if block.strip():
            yield dict(re.findall(r"^([\w-]+):[ \t]*(.*)$", block, re.M))


def sha256(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def numbers(version):
    return [int(n) for n in re.findall(r"\d+", version)]


def with_needed(modules, names):
    """The files of modules and of those that they need; modules: {"name": path}."""
    found, wanted = {}, [n.replace("-", "_") for n in names]
    while wanted:
        name = wanted.pop()
        if name in found or name not in modules:  # those that the kernel has inside have no file
            continue
        found[name] = modules[name]
        with lzma.open(modules[name]) as f:
            data = f.read()
        for list_ in re.findall(rb"\b(?:depends|softdep=pre:)[= ]([\w, -]*)", data):
            wanted += re.split(r"[, ]+", list_.decode().replace("-", "_"))
    return found.values()


class Initrd:
    """What an installer's initrd is made of."""

    def __init__(self, path):
        self.path = path
        self.packages = {s["Package"]: s for s in stanzas(self.read("var/lib/dpkg/status").decode())}
        self.kernel = next(m[1] for m in (re.fullmatch(r"kernel-image-(\S+)-di", p) for p in self.packages) if m)

    def read(self, name):
        with subprocess.Popen(["gzip", "-dc", self.path], stdout=subprocess.PIPE) as archive:
            return subprocess.run(["cpio", "-i", "--to-stdout", "--quiet", name], stdin=archive.stdout,
                                  stdout=subprocess.PIPE, check=True).stdout


class InstallerMirror(mirror.Mirror):
    """.keyring is the file that belongs into the initrd as usr/share/keyrings/archive.gpg."""

    def __init__(self, release, initrd):
        super().__init__()
        try:
            self.release, self.own = release, {}
            self.folder = pathlib.Path(self.short.name) / "made"
            self.folder.mkdir()
            self.index(Initrd(initrd))
        except BaseException:
            self.close()
            raise

    def find(self, path):
        return self.own.get(path) or super().find(path)

    # ---- the index --------------------------------------------------------------------------------
    def index(self, installer):
        packed = self.find(f"dists/{self.release}/{INDEX}.xz")
        if packed is None:
            raise unittest.SkipTest(f"the host's mirror has no installer of {self.release}")
        listed = list(self.of_kernel(stanzas(lzma.decompress(packed.read_bytes()).decode()), installer))
        image = media.package(f"linux-image-{installer.kernel}", release=self.release)
        modules = {p.name.partition(".")[0].replace("-", "_"): p for p in image.rglob("*.ko.xz")}
        text = ""
        for udeb in listed:
            if self.serves(udeb, installer, image, modules):
                text += "".join(f"{name}: {value}\n" for name, value in udeb.items()) + "\n"
        self.publish(text, installer)

    @staticmethod
    def of_kernel(udebs, installer):
        """The udebs, those with modules only for the installer's kernel; if there are none, its next kin's renamed."""
        udebs = list(udebs)
        kernels = {u["Kernel-Version"] for u in udebs if "Kernel-Version" in u}
        like = installer.kernel if installer.kernel in kernels else max(kernels, key=numbers)
        version = installer.packages[f"kernel-image-{installer.kernel}-di"]["Version"]
        for udeb in udebs:
            if udeb.get("Kernel-Version", like) != like:
                continue
            if "Kernel-Version" in udeb:
                udeb = {name: value.replace(like, installer.kernel) for name, value in udeb.items()}
                folder = udeb["Filename"].rpartition("/")[0]
                udeb |= {"Version": version, "Filename": f"{folder}/{udeb['Package']}_{version}_amd64.udeb"}
            yield udeb

    def serves(self, udeb, installer, image, modules):
        """Whether the installer has the udeb, or it is on the mirror, now if need be."""
        name = udeb["Package"]
        if name in installer.packages:  # and is not fetched again
            udeb["Version"] = installer.packages[name]["Version"]
            return True
        kind = name.removesuffix(f"-{installer.kernel}-di")
        if kind not in MODULES and name not in FILES:
            return "Kernel-Version" not in udeb
        file = self.find(udeb["Filename"])
        if file is None or sha256(file) != udeb["SHA256"]:
            if name in FILES:
                self.make(udeb, ((p, p.relative_to(folder)) for folder, p in self.files(FILES[name])))
            else:
                self.make(udeb, ((p, pathlib.Path("lib") / p.relative_to(image / "usr/lib"))
                                 for p in with_needed(modules, MODULES[kind].split())))
        return True

    def publish(self, text, installer):
        packages, release = self.folder / "Packages", self.folder / "Release"
        packages.write_text(text)
        release.write_text(f"Origin: Vivarium\nSuite: {SUITE}\nCodename: {SUITE}\nComponents: main\n"
                           f"Architectures: amd64\nSHA256:\n {sha256(packages)} {packages.stat().st_size} {INDEX}\n")
        self.keyring = self.folder / "archive.gpg"
        keys = self.sign(release, self.folder / "Release.gpg")
        self.keyring.write_bytes(installer.read("usr/share/keyrings/debian-archive-keyring.pgp") + keys)
        self.own |= {f"dists/{SUITE}/{n}": self.folder / n for n in ("Release", "Release.gpg")}
        self.own[f"dists/{SUITE}/{INDEX}"] = packages

    def sign(self, file, signature):
        """Signs a file with a new key; returns the key."""
        media.need("gpg", "gpg-agent")
        home = self.folder / "gnupg"
        home.mkdir(mode=0o700)
        gpg = ("gpg", "--homedir", home, "--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback")
        try:
            media.run(*gpg, "--quick-generate-key", "Mirror <mirror@vivarium.example>", "ed25519", "sign", "2d")
            media.run(*gpg, "--detach-sign", "--output", signature, file)
            return media.run(*gpg, "--export")
        finally:
            media.run("gpgconf", "--homedir", home, "--kill", "all")

    # ---- udebs ------------------------------------------------------------------------------------
    def files(self, table):
        for package, patterns in table.items():
            folder = media.package(package, release=self.release)
            for pattern in patterns:
                found = [p for p in folder.glob(pattern) if not p.is_dir()]
                assert found, f"{package} has no {pattern}"
                yield from ((folder, p) for p in found)

    def make(self, udeb, files):
        """Builds the udeb of (source, name in it), and lets the index's entry say what it is like now."""
        tree = self.folder / udeb["Package"]
        for field in ("Size", "MD5sum", "SHA256", "Description-md5"):
            udeb.pop(field, None)
        control = {n: v for n, v in udeb.items() if n != "Filename"}
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text("".join(f"{n}: {v}\n" for n, v in control.items()))
        for source, name in files:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, tree / name, follow_symlinks=False)
        file = self.folder / pathlib.PurePosixPath(udeb["Filename"]).name
        media.run("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "-b", tree, file)
        shutil.rmtree(tree)
        udeb |= {"Size": str(file.stat().st_size), "SHA256": sha256(file)}
        self.own[udeb["Filename"]] = file
