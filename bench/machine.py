# SPDX-License-Identifier: GPL-2.0-or-later
"""The three ways to run a benchmark: in QEMU's software CPU, in viv-vm, natively."""
import base64
import os
import pathlib
import re
import resource
import shlex
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
from guest_driver import Guest, GuestError  # noqa: E402

VIV = os.environ.get("VIV_VM", str(ROOT / "build/viv-vm"))
QEMU = os.environ.get("QEMU", "qemu-system-x86_64")
GUEST = pathlib.Path(os.environ.get("VIV_GUEST", ROOT / "build/guest"))
PROGRAMS = pathlib.Path(os.environ.get("VIV_PROGRAMS", ROOT / "build/guest-bench"))
CACHE = os.environ.get("CACHE", "writeback")
QEMU_DISK = os.environ.get("QEMU_DISK", "")
TIMEOUT = 300  # seconds for any one step; a machine that needs longer has failed
SETTLE = 0.02  # until a machine that waits for input has gone to sleep


def cpu_seconds(pid):
    """User plus system time of a process with all its threads, ended ones too, to the nanosecond."""
    return time.clock_gettime((~pid << 3) | 2)  # the clock of clock_getcpuclockid(3)


def beyond_ram(pid, ram):
    """(resident, private) MiB of a process without the guest's RAM: without the mappings that are RAM.

    Those are what can be nothing else: nearly as large as the RAM, readable and writable, without a
    file. The host may show the first MiB apart, which has holes.
    """
    size = {"Size": 0, "Rss": 0, "Private_Clean": 0, "Private_Dirty": 0}
    total, found, skip = dict(size), 0, False
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as f:
        for line in f:
            head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+\s*(.*)", line)
            if head:
                length = int(head[2], 16) - int(head[1], 16)
                skip = ram * 0.9 < length <= ram and head[3].startswith("rw-") and not head[4]
                found += length if skip else 0
                continue
            name, value = line.split()[:2]
            if name[:-1] in total and not skip:
                total[name[:-1]] += int(value)
    if found < ram * 0.9:
        raise GuestError("the guest's RAM was not found among the process's mappings")
    return total["Rss"] / 1024, (total["Private_Clean"] + total["Private_Dirty"]) / 1024


def in_tree(tree, command):
    """The command line that runs a shell command on the programs in a tree, the same everywhere."""
    return ["chroot", str(tree), "/usr/bin/env", "-i", "PATH=/usr/bin:/bin", "LC_ALL=C",
            "sh", "-c", f"cd /tmp && {command}"]


def mounts(tree):
    """The shell command that gives a tree, which is not written to, a place to write and devices."""
    return f"mount -t tmpfs tmp {tree}/tmp && mount --rbind /dev {tree}/dev"


def per_work(row, seconds, output):
    """(seconds, output) of a program; where it decides itself how much it does, for the row's n units of it.

    Such a program prints how often it did each of several things, which it gives the same time each:
    the geometric mean is what counts, and those figures are no part of the result that must agree.
    """
    if not row.work:
        return seconds, output
    counts = [int(c) for c in re.findall(row.work, output, re.M)]
    if not counts or 0 in counts:
        raise GuestError(f"it did not get to do everything once: {output.strip()[-200:]}")
    rest = "".join(line for line in output.splitlines(keepends=True) if not line.startswith("+"))
    return seconds * row.n / statistics.geometric_mean(counts), f"{len(counts)} counts\n{rest}"


def copy_in_large_pieces(source, path):
    """As qemu-img and dd write images: the host's page cache then holds them in large pages. copyfile
    has the kernel do it 64 KiB at a time, in small ones, and each MiB that is written costs 30 us more."""
    with open(source, "rb") as f, open(path, "wb", buffering=0) as to:
        while piece := f.read(1 << 20):
            to.write(piece)


def image_format(path):
    return "qcow2" if str(path).endswith(".qcow2") else "raw"


class Machine:
    """What QEMU and viv-vm have in common. Both get the same kernel, initrd, disk and RAM."""
    name = None
    extra = []  # more options for the next start

    def __init__(self, out):
        self.out = out
        self.guest = None

    def file(self, what):
        return self.out / f"{what}-{self.name.replace(' ', '-')}"

    def start(self, ram, initrd, append, disks):
        """disks: (path, whether it is only read) of each; the format is in the name."""
        argv = self.argv(ram, GUEST / "vmlinuz", initrd, append, disks)
        self.ram = ram << 20
        self.guest = Guest([str(a) for a in argv], timeout=TIMEOUT, log=f"{self.file('console')}.log")

    def close(self):
        if self.guest:
            self.guest.close()
            self.guest = None

    def cpu(self):
        return cpu_seconds(self.guest.process.pid)

    def settled_cpu(self):
        time.sleep(SETTLE)
        return self.cpu()

    # ---- the tiny guest with the kernels of guest/ in it ----

    def scratch_file(self, form="raw"):
        """A disk of its own to write to, all of it allocated."""
        path = f"{self.file('scratch')}.{form}"
        if form == "raw":
            copy_in_large_pieces(self.out / "disk.raw", path)
        else:
            subprocess.run(["qemu-img", "convert", "-O", form, self.out / "disk.raw", path], check=True)
        return path

    def boot_tiny(self):
        """Seconds of CPU time from exec to the mark that init prints; the guest waits there."""
        serve = ("read x; for m in virtio_pci virtio_blk virtio_net; do modprobe $m; done; "
                 "ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; "
                 "ip route add default via 10.0.2.2; exec bench serve")
        word = base64.b64encode(serve.encode()).decode()
        self.start(256, self.out / "bench.cpio.gz", f"console=ttyS0 quiet viv.run64={word}",
                   [(self.out / "disk.raw", True), (self.scratch_file(), False), (self.scratch_file("qcow2"), False)])
        self.guest.expect(r"BOOTED\n")
        return self.cpu()

    def serve(self):
        self.guest.send_line()
        self.guest.expect(r"BENCH READY\n")

    def kernel(self, row, server):
        """(CPU seconds, checksum, seconds on the wall) of one kernel."""
        arg = row.arg.format(disk=self.disk, scratch=self.scratch, qcow2=self.qcow2, server=f"{self.host}:{server}")
        self.guest.send_line(f"run {row.key} {row.n} {arg}")
        match = self.guest.expect(r"START \S+\n", r"FAIL \S+ (.*)\n")
        if match[0].startswith("FAIL"):
            raise GuestError(match[1])
        before, begin = self.settled_cpu(), time.monotonic()
        self.guest.send_line("go")
        match = self.guest.expect(r"END \S+ (\w+) (\d+)\n", r"FAIL \S+ (.*)\n")
        wall = time.monotonic() - begin
        if match[0].startswith("FAIL"):
            raise GuestError(match[1])
        return self.kernel_seconds(self.settled_cpu() - before, int(match[2])), match[1], wall

    def kernel_seconds(self, outside, inside_ns):
        return outside

    disk, scratch, qcow2 = "/dev/vda", "/dev/vdb", "/dev/vdc"
    host = "10.0.2.2"

    # ---- Debian ----

    def boot_debian(self):
        """Seconds of CPU time from exec to the login: prompt, on a fresh copy of the disk."""
        disk = f"{self.file('debian')}.raw"
        subprocess.run(["cp", "--reflink=auto", "--sparse=always", GUEST / "debian12.raw", disk], check=True)
        disks = [(disk, False)]
        if (PROGRAMS / "programs.raw").is_file():
            disks.append((PROGRAMS / "programs.raw", True))
        self.start(1024, GUEST / "initrd.img", "root=LABEL=root rw console=ttyS0", disks)
        self.guest.expect(r"login: ")
        return self.cpu()

    def login(self):
        # The driver waits for the prompt, which is there already.
        self.guest._seen -= len("login: ")
        self.guest.login()
        self.guest.run("systemctl is-system-running --wait; sync")

    tree = "/run/programs"

    def open_programs(self):
        """Brings the tree of programs into view; True."""
        if not (PROGRAMS / "programs.raw").is_file():
            raise GuestError(f"{PROGRAMS}/programs.raw is missing; 'scripts/guest.sh --bench' makes it")
        self.guest.check(f"mkdir {self.tree} && mount -o ro /dev/vdb {self.tree} && {mounts(self.tree)}")
        return True

    def program(self, row):
        """(CPU seconds, output, seconds on the wall) of a shell command."""
        before, begin = self.settled_cpu(), time.monotonic()
        output = self.guest.check(f"{shlex.join(in_tree(self.tree, row.arg))} 2>&1")
        wall = time.monotonic() - begin
        return *per_work(row, self.settled_cpu() - before, output), wall


class Viv(Machine):
    """viv-vm with one of its CPU backends, which is also the name of its column."""

    def __init__(self, out, backend):
        super().__init__(out)
        self.name = backend
        self.options = ["--cpu", backend, *os.environ.get("VIV_OPTIONS", "").split()]

    def argv(self, ram, kernel, initrd, append, disks):
        argv = [VIV, "--memory", f"{ram}M", "--kernel", kernel, "--initrd", initrd, "--append", append]
        for disk, readonly in disks:
            argv += ["--disk", f"{disk},format={image_format(disk)},cache={CACHE}{',readonly' if readonly else ''}"]
        return [*argv, "--nic", "user", "--serial", "stdio", *self.options, *self.extra]

    @staticmethod
    def version():
        return subprocess.run([VIV, "--version"], capture_output=True, text=True, check=True).stdout.strip()


class Qemu(Machine):
    """One QEMU; its name, which is the one of its column, tells its version."""

    def __init__(self, out, program):
        super().__init__(out)
        self.program_file = program
        text = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        self.version = text.splitlines()[0].replace("emulator version ", "")
        self.name = " ".join(self.version.split()[:2])

    def argv(self, ram, kernel, initrd, append, disks):
        argv = [self.program_file, "-accel", "tcg", "-cpu", "max", "-M", os.environ.get("QEMU_MACHINE", "q35"),
                "-m", ram, "-smp", 1, "-nodefaults", "-display", "none", "-monitor", "none",
                "-serial", "stdio", "-no-reboot", "-kernel", kernel, "-initrd", initrd, "-append", append]
        for number, (disk, readonly) in enumerate(disks):
            argv += ["-drive", f"if=none,id=disk{number},format={image_format(disk)},file={disk},readonly={'on' if readonly else 'off'},"
                     f"cache={CACHE}{QEMU_DISK}",
                     "-device", f"virtio-blk-pci,drive=disk{number}"]
        return [*argv, "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=",
                "-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng", *self.extra]


class Native(Machine):
    """The same program without a machine around it; it tells its own CPU time."""
    name = "native"
    host = "127.0.0.1"

    def __init__(self, out):
        super().__init__(out)
        self.holder = None

    def serve(self):
        self.disk, self.scratch = self.out / "disk.raw", self.scratch_file()
        self.qcow2 = self.out / "scratch-native-2.raw"  # no kernel reads qcow2
        copy_in_large_pieces(self.scratch, self.qcow2)
        self.guest = Guest([str(self.out / "bench"), "serve"])
        self.guest.expect(r"BENCH READY\n")

    def kernel_seconds(self, outside, inside_ns):
        return inside_ns / 1e9

    def open_programs(self):
        """A process whose view of the file system has the mounts; they go when it ends."""
        self.tree = PROGRAMS / "tree"
        mine = [] if os.geteuid() == 0 else ["--map-root-user", "--map-auto"]
        holder = Guest(["unshare", "--mount", "--propagation", "private", *mine, "sh", "-c",
                        f"{mounts(shlex.quote(str(self.tree)))} && echo mounted && read x"], timeout=20)
        try:
            holder.expect(r"mounted\n")
        except GuestError:
            holder.close()
            raise GuestError(f"this host lets nobody mount a tree: {holder.stderr.strip()}") from None
        self.holder = holder
        return True

    def program(self, row):
        into = ["nsenter", "-t", str(self.holder.process.pid), "--mount"]
        if os.geteuid() != 0:
            into += ["--user", "--preserve-credentials"]
        start, begin = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        run = subprocess.run([*into, *in_tree(self.tree, row.arg)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        if run.returncode != 0:
            raise GuestError(f"it ended natively with {run.returncode}: {run.stdout.strip()[-200:]}")
        used = end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime
        return *per_work(row, used, run.stdout), time.monotonic() - start

    def close(self):
        super().close()
        if self.holder:
            self.holder.close()
            self.holder = None


class Server:
    """The host's end of the TCP rows: "sink N" takes N bytes and answers their number, "source N" sends N."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    @staticmethod
    def _serve(connection):
        try:
            with connection, connection.makefile("rb") as stream:
                what, size = stream.readline().split()
                left = int(size)
                if what == b"sink":
                    while left and (data := stream.read1(min(left, 1 << 18))):
                        left -= len(data)
                    connection.sendall(struct.pack("<Q", int(size) - left))
                else:
                    data = bytes(i * 7 & 255 for i in range(65536))
                    while left:
                        part = data[:min(left, len(data))]
                        connection.sendall(part)
                        left -= len(part)
                    stream.read()  # until the other end closes
        except (OSError, ValueError):
            pass  # the guest's end of it reports the failure
