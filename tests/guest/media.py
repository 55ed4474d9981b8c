# SPDX-License-Identifier: GPL-2.0-or-later
"""What PCs boot from, made of Debian's packages without mounts: their files, disks with partitions, optical media.

Packages that are not to be installed (kernels, other architectures and releases) are fetched with apt-get into build/media and kept
there. VIV_MEDIA names another folder. Without a mirror the tests that need one are skipped.
"""
import fcntl
import os
import pathlib
import re
import shutil
import struct
import subprocess
import unittest

import vivtest

FOLDER = pathlib.Path(os.environ.get("VIV_MEDIA", vivtest.ROOT / "build/media"))
GRUB = pathlib.Path("/usr/lib/grub")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
FIRMWARE = {"bios": "/usr/share/seabios/bios-256k.bin", "uefi": "/usr/share/OVMF/OVMF_CODE_4M.fd"}
MIB = 1 << 20
# GPT, so that one disk starts by both firmwares: a place for GRUB's core, the ESP, the system.
CORE_AT, CORE_SIZE, ESP_SIZE = 1 * MIB, 1 * MIB, 34 * MIB
DEBIAN = """set timeout=0
menuentry Debian {
    search --no-floppy --set=root --label root
    for file in /boot/vmlinuz-*; do linux $file root=LABEL=root ro console=ttyS0; done
    for file in /boot/initrd.img-*; do initrd $file; done
}
"""
# UEFI's console is on the serial port already.
SERIAL = """if [ "$grub_platform" = pc ]; then
    serial --unit=0 --speed=115200
    terminal_input serial console
    terminal_output serial console
fi
"""


def run(*words, **more):
    done = subprocess.run([str(w) for w in words], capture_output=True, check=False, **more)
    if done.returncode:
        raise RuntimeError(f"{words[0]} ended with {done.returncode}: {done.stderr[-2000:]!r}")
    return done.stdout


def need(*paths):
    """Ends the test as skipped if a tool or a file of a package is not there."""
    for path in paths:
        if not (shutil.which(str(path)) or pathlib.Path(path).exists()):
            raise unittest.SkipTest(f"{path} is not installed; scripts/setup.sh guests brings it")


# ---- packages -----------------------------------------------------------------------------------
def apt_options(arch, release):
    """APT of its own for another architecture or release: the host's sources but for updates, nothing of its state."""
    if arch == "amd64" and not release:
        return []
    own = FOLDER / "-".join(["apt", *([release] if release else []), arch])
    options = [f"APT::Architecture={arch}", f"APT::Architectures::={arch}", f"Dir::State={own}", f"Dir::Cache={own}",
               f"Dir::State::status={own}/status", f"Dir::Etc::sourcelist={own}/sources.list",
               "Dir::Etc::sourceparts=/dev/null", "APT::Sandbox::User=root", "#clear APT::Architectures"]
    if not (own / "ready").exists():
        (own / "lists/partial").mkdir(parents=True, exist_ok=True)
        (own / "status").touch()
        lines = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)",
                    "Created-By: Packages", text=True).splitlines()
        with open(own / "sources.list", "w", encoding="ascii") as out:
            for words in sorted({tuple(line.split()) for line in lines}):
                if words[2:] == ("main", "Debian") and "-" not in words[1]:
                    out.write(f"deb [signed-by={KEYRING}] {words[0]} {release or words[1]} main\n")
        config(own, options)
        run("apt-get", "-q", "update", env=dict(os.environ, APT_CONFIG=str(own / "conf")))
        (own / "ready").touch()
    return ["-c", own / "conf"]


def config(own, options):
    with open(own / "conf", "w", encoding="ascii") as out:
        for option in sorted(options):  # "#clear" comes first
            name, _, value = option.partition("=")
            out.write(f'{name} "{value}";\n' if value else f"{name};\n")


def package(name, arch="amd64", release=None):
    """The folder with the files of a package of the host's release or another; a name that ends with * stands for the
    newest of such packages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(FOLDER / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        where = FOLDER / "_".join([name.rstrip("*"), *([release] if release else []), arch])
        if where.exists():
            return where
        new = FOLDER / "new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        try:
            options = apt_options(arch, release)
            if name.endswith("*"):  # what the package without a version depends on
                text = run("apt-cache", *options, "depends", name.rstrip("*"), text=True)
                name = re.search(r"Depends: (linux-image-\d\S+)", text)[1]
            run("apt-get", *options, "-q", "download", name, cwd=new)
        except RuntimeError as e:
            raise unittest.SkipTest(f"package {name} cannot be fetched: {e}") from None
        run("dpkg-deb", "-x", next(new.glob("*.deb")), new / "files")
        (new / "files").rename(where)
        shutil.rmtree(new)
        return where


def one(folder, pattern):
    found = sorted(folder.glob(pattern))
    assert len(found) == 1, f"{pattern} in {folder}: {found}"
    return found[0]


# ---- disks --------------------------------------------------------------------------------------
def grub_image(target, out, prefix, modules, early=None):
    more = ["-c", early] if early else []
    run("grub-mkimage", "-O", target, "-o", out, "-p", prefix, *more, *modules.split())


def esp(path, size, files):
    """A FAT file system with files: {"EFI/BOOT/BOOTX64.EFI": path}."""
    with open(path, "wb") as f:
        f.truncate(size)
    run("mformat", "-i", path, "-v", "ESP", "::")
    made = set()
    for name, source in files.items():
        for parent in reversed(pathlib.PurePosixPath(name).parents[:-1]):
            if parent not in made:
                run("mmd", "-i", path, f"::{parent}")
                made.add(parent)
        run("mcopy", "-i", path, source, f"::{name}")


def copy_into(disk, at, source):
    run("dd", f"if={source}", f"of={disk}", f"seek={at}", "oflag=seek_bytes", "conv=notrunc,sparse", "bs=256k")


def put_boot_sector(disk, boot, core, at):
    """What grub-bios-setup does: the boot sector knows where GRUB's core lies, and the core where its rest does."""
    sector = at // 512
    boot, core = bytearray(boot.read_bytes()), bytearray(core.read_bytes())
    assert len(core) <= CORE_SIZE
    struct.pack_into("<Q", boot, 0x5c, sector)
    struct.pack_into("<Q", core, 512 - 12, sector + 1)
    with open(disk, "r+b") as f:
        f.write(boot[:440])
        f.seek(at)
        f.write(core)


def partitioned(folder, root, menu):
    """A disk for both firmwares whose last partition is the file system ROOT, with GRUB and the menu on its ESP."""
    disk, fat, core, efi = (folder / n for n in ("disk.raw", "esp", "core.img", "grub.efi"))
    size = root.stat().st_size
    with open(disk, "wb") as f:
        f.truncate(CORE_AT + CORE_SIZE + ESP_SIZE + size + MIB)
    table = ["label: gpt", f"start={CORE_AT // 512}, size={CORE_SIZE // 512}, type=21686148-6449-6E6F-744E-656564454649",
             f"size={ESP_SIZE // 512}, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
             f"size={size // 512}, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4"]
    run("sfdisk", "-q", disk, input="\n".join(table).encode())
    modules = "part_gpt fat ext2 normal linux search search_label serial terminal configfile echo test regexp reboot halt"
    grub_image("i386-pc", core, "(hd0,gpt2)/grub", "biosdisk " + modules)
    (folder / "early.cfg").write_text("search --no-floppy --set=root --label ESP\nset prefix=($root)/grub\n")
    grub_image("x86_64-efi", efi, "/grub", modules, folder / "early.cfg")
    (folder / "grub.cfg").write_text(SERIAL + menu)
    esp(fat, ESP_SIZE, {"EFI/BOOT/BOOTX64.EFI": efi, "grub/grub.cfg": folder / "grub.cfg"})
    put_boot_sector(disk, GRUB / "i386-pc/boot.img", core, CORE_AT)
    copy_into(disk, CORE_AT + CORE_SIZE, fat)
    copy_into(disk, CORE_AT + CORE_SIZE + ESP_SIZE, root)
    return disk


def rescue_iso(folder, menu, files=None):
    """An optical medium as grub-mkrescue makes it, for BIOS and UEFI; files: {"name": path} in its root."""
    need("grub-mkrescue", "xorriso", "mformat")
    tree = folder / "iso"
    (tree / "boot/grub").mkdir(parents=True)
    (tree / "boot/grub/grub.cfg").write_text(SERIAL + menu)
    for name, source in (files or {}).items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, tree / name)
    run("grub-mkrescue", "--locales=", "--themes=", "--fonts=", "-o", folder / "rescue.iso", tree)
    return folder / "rescue.iso"
def rescue_iso(folder, menu, files=None):
    """An optical medium as grub-mkrescue makes it, for BIOS and UEFI; files: {"name": path} in its root."""
    need("grub-mkrescue", "xorriso", "mformat")
    tree = folder / "iso"
    (tree / "boot/grub").mkdir(parents=True)
    (tree / "boot/grub/grub.cfg").write_text(SERIAL + menu)
    for name, source in (files or {}).items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, tree / name)
    run("grub-mkrescue", "--locales=", "--themes=", "--fonts=", "-o", folder / "rescue.iso", tree)
    return folder / "rescue.iso"
