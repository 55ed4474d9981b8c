#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a command as root in a machine that has hardware virtualization: QEMU's, emulated, with KVM on it.

usage: lab.py [--seconds N] [--cpus N] [--memory MIB] [--cold] [--keep] -- COMMAND...

The machine sees this host's files, read-only, with a layer in memory on top, and starts in this folder; so a test
program or a whole guest test runs in it as it would here. /mnt in it is a folder that both write (--keep names it).
Output is passed on, the exit code is the command's; 124 means that the time was up, 125 that the lab itself failed.

It is booted once and saved; each run goes on from there, which takes two seconds (--cold boots anew: a minute).

The processor is AMD's as QEMU emulates it: SVM with nested paging, no x2APIC in older versions, no PMU. Everything in
it takes three to five times as long as under emulation directly. QEMU 10.0 is taken where Debian's backports have it.

It has one processor, on purpose. When a VMM enters its guest with an interrupt, QEMU delivers that, but does not note
that it did so; if another of its processors wants this one to stand still before anything else happens, it delivers
the interrupt once more, as an exception, whether the guest has interrupts enabled or not (the saved frame has RF set).
Locked accesses across cache lines make processors stand still all the time, and guests then crash or stall within
seconds, under QEMU's own KVM as under ours. With one processor nobody does, and guests of several processors run well.

Needs the packages of the group "lab". The kernel is downloaded once and unpacked in build/lab, not installed."""
import argparse
import fcntl
import gzip
import hashlib
import json
import os
import pathlib
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests/guest")]
HERE = pathlib.Path(__file__).resolve().parent
KEPT = ROOT / "build/lab"
PACKAGE = "linux-image-amd64"  # the cloud kernel has no 9P
MODULES = ("virtio_pci", "virtio_console", "overlay", "9p", "9pnet_virtio", "kvm_amd")
TIME_UP, BROKEN = 124, 125
READY = "lab: ready"  # on the console


class LabError(Exception):
    pass


def said(*words, **kw):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False, **kw)
    if done.returncode:
        raise LabError(f"{words[0]} failed: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


def kernel_folder():
    """Where a kernel of Debian's is, with its modules: downloaded and unpacked once."""
    place = KEPT / "kernel"
    if not place.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        print("lab: fetching Debian's kernel", file=sys.stderr)
        os.environ.setdefault("VIV_GUEST", str(ROOT / "build/guest"))
        import media  # pylint: disable=import-outside-toplevel
        place.symlink_to(media.package(f"{PACKAGE}*"))
    return place


def in_order(modules, dep):
    """The modules and what they need, what is needed first."""
    needs = {}
    for line in dep:
        path, _, rest = line.partition(":")
        needs[path.strip()] = rest.split()
    names = {pathlib.PurePath(p).name.split(".")[0].replace("-", "_"): p for p in needs}
    done = []

    def add(path):
        for need in needs[path]:
            add(need)
        if path not in done:
            done.append(path)
    for m in modules:
        if m in names:  # else it is in the kernel itself
            add(names[m])
    return done


def dependencies(tree):
    """modules.dep: the package has none, depmod makes it."""
    version = next((tree / "lib/modules").iterdir()).name
    path = tree / "lib/modules" / version / "modules.dep"
    if not path.exists():
        said("/sbin/depmod", "-b", tree, version)
    return path


def initramfs(tree):
    dep = dependencies(tree)
    image = KEPT / "initrd.gz"
    sources = [HERE / "init", HERE / "done", pathlib.Path(__file__), dep]
    if image.exists() and all(image.stat().st_mtime > s.stat().st_mtime for s in sources):
        return image
    with tempfile.TemporaryDirectory(dir=KEPT) as name:
        top = pathlib.Path(name)
        for d in ("bin", "dev", "proc", "sys", "modules"):
            (top / d).mkdir()
        shutil.copy("/bin/busybox", top / "bin/busybox")
        for script in ("init", "done"):
            shutil.copy(HERE / script, top / script)
            (top / script).chmod(0o755)
        order = in_order(MODULES, dep.read_text(encoding="utf-8").splitlines())
        for path in order:
            shutil.copy(dep.parent / path, top / "modules")
        (top / "modules/order").write_text("".join(f"{pathlib.PurePath(p).name}\n" for p in order), encoding="utf-8")
        files = "\n".join(str(p.relative_to(top)) for p in sorted(top.rglob("*"))).encode()
        packed = subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], input=files, cwd=top, capture_output=True,
                                check=True).stdout
        new = KEPT / f"initrd.{os.getpid()}"
        new.write_bytes(gzip.compress(packed, 6))
        new.rename(image)
    return image


def qemu():
    done = subprocess.run([ROOT / "scripts/qemu-backports.sh"], capture_output=True, text=True, check=False)
    program = done.stdout.strip() if done.returncode == 0 else shutil.which("qemu-system-x86_64")
    if not program:
        raise LabError("there is no qemu-system-x86_64; install qemu-system-x86")
    return program


def passable():
    """An IOMMU, and devices with groups of their own: an NVMe drive, one with virtual functions, two network
    adapters with a cable between them, and memory of 8 GiB in a BAR."""
    words = ["-device", "intel-iommu,intremap=on,caching-mode=on,aw-bits=48"]
    for i in range(5):
        words += ["-device", f"pcie-root-port,id=port{i},chassis={i + 1},slot={i + 1},addr=10.{i},multifunction=on"]
    for i in range(2):
        words += ["-device", f"nvme-subsys,id=drives{i}"]
    words += ["-device", "nvme,id=plain,serial=PLAIN,subsys=drives0,bus=port0",
              "-device", "nvme-ns,drive=disk0,bus=plain,nsid=1",
              "-device", "nvme,id=many,serial=MANY,subsys=drives1,bus=port1,max_ioqpairs=26,msix_qsize=27,"
                         "sriov_max_vfs=4,sriov_vq_flexible=16,sriov_vi_flexible=8",
              "-device", "nvme-ns,drive=disk1,bus=many,shared=on,nsid=1"]
    for i in range(2):
        words += ["-netdev", f"hubport,id=net{i},hubid=1",
                  "-device", f"e1000e,netdev=net{i},bus=port{i + 2},romfile=,mac=52:54:00:11:00:0{i + 1}"]
    words += ["-object", "memory-backend-ram,id=large,size=8G,share=on", "-device", "ivshmem-plain,memdev=large,bus=port4"]
    return words


def arguments(options):
    """What makes the machine that it is, and the same in all runs that go on from one state."""
    tree = kernel_folder()
    words = [qemu(), "-accel", "tcg,thread=multi", "-M", "q35" if options.nodes > 1 else "q35,memory-backend=ram", "-cpu", "max,-la57",
             "-smp", options.cpus, "-m", options.memory, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
             "-kernel", next((tree / "boot").glob("vmlinuz-*")), "-initrd", initramfs(tree),
             "-append", "console=ttyS0 quiet mitigations=off nokaslr panic=-1 nowatchdog tsc=reliable rdinit=/init "
                        f"random.trust_cpu=on {'intel_iommu=on iommu=nopt no_timer_check ' if options.vfio else ''}{options.append}",
             *(passable() if options.vfio else []),
             "-device", "virtio-serial-pci", "-device", "virtconsole,chardev=out"]
    for tag in ("host", "lab"):
        words += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    return [str(w) for w in words]


def memory(options, ram, how):
    """In one piece, or in NUMA nodes, among which the processors are dealt."""
    if options.nodes == 1:
        return ["-object", f"memory-backend-file,id=ram,size={options.memory}M,mem-path={ram},share={how}"]
    words = []
    for i in range(options.nodes):
        words += ["-object", f"memory-backend-ram,id=ram{i},size={options.memory // options.nodes}M",
                  "-numa", ",".join([f"node,nodeid={i},memdev=ram{i}"] +
                                    [f"cpus={c}" for c in range(options.cpus) if c % options.nodes == i])]
    return words


def places(options, shared, ram, how):
    """Where it has its files; QEMU keeps none of that in the state."""
    disks = []
    for i in range(2 if options.vfio else 0):
        with open(shared / f"disk{i}", "wb") as f:
            f.truncate(64 << 20)
        disks += ["-drive", f"if=none,id=disk{i},format=raw,file={shared}/disk{i}"]
    return [*memory(options, ram, how), *disks,
            "-serial", f"file:{shared}/console", "-chardev", "stdio,id=out,signal=off",
            "-fsdev", "local,id=host,path=/,security_model=none,multidevs=remap,readonly=on",
            "-fsdev", f"local,id=lab,path={shared},security_model=none,multidevs=remap",
            "-qmp", f"unix:{shared}/monitor,server=on,wait=off"]


def wait_until(condition, machine, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        if machine.poll() is not None or time.monotonic() > end:
            raise LabError(f"the machine {what}")
        time.sleep(0.02)


def is_ready(shared):
    console = shared / "console"
    return console.exists() and READY in console.read_text(encoding="utf-8", errors="replace")


def monitor(shared, machine):
    """A function that asks QEMU's monitor (QMP) and returns what it says. Memory that has a file is not in the state."""
    connection = socket.socket(socket.AF_UNIX)

    def connected():  # the socket has its name before it listens
        try:
            connection.connect(str(shared / "monitor"))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True
    wait_until(connected, machine, 60, "does not start")
    lines = connection.makefile("rw")
    lines.readline()

    def ask(command, **arguments_of):
        lines.write(json.dumps({"execute": command, "arguments": arguments_of}) + "\n")
        lines.flush()
        while True:
            answer = json.loads(lines.readline())
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise LabError(f"{command}: {answer['error'].get('desc')}")
    ask("qmp_capabilities")
    ask("migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": True}])
    return ask


def save(options, words, place):
    """Boots the machine and keeps the moment before it looks for files and a command."""
    print("lab: booting the machine that later runs go on from", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="viv-lab-") as name:
        shared = pathlib.Path(name)
        with subprocess.Popen([*words, *places(options, shared, place / "ram", "on")], stdin=subprocess.PIPE,
                              stdout=subprocess.DEVNULL) as machine:
            try:
                wait_until(lambda: is_ready(shared), machine, options.seconds, "does not boot")
                ask = monitor(shared, machine)
                ask("migrate", uri=f"exec:cat >{shlex.quote(str(place / 'state'))}")
                wait_until(lambda: ask("query-migrate").get("status") in ("completed", "failed"), machine, 120, "is not saved")
                if ask("query-migrate")["status"] == "failed":
                    raise LabError(f"the machine is not saved: {ask('query-migrate').get('error-desc')}")
                ask("quit")
            finally:
                machine.kill()


def saved(options, words):
    """The folder of a state of this very machine: made now if there is none."""
    stamp = [*words, said(words[0], "--version"), str(pathlib.Path(words[words.index("-initrd") + 1]).stat().st_mtime_ns)]
    key = hashlib.sha256("\0".join(stamp).encode()).hexdigest()
    place = KEPT / f"state-{options.cpus}-{options.memory}"
    with open(KEPT / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "key").exists() or (place / "key").read_text(encoding="ascii") != key:
            new = pathlib.Path(tempfile.mkdtemp(dir=KEPT, prefix="new-"))
            try:
                save(options, words, new)
                (new / "key").write_text(key, encoding="ascii")
                shutil.rmtree(place, ignore_errors=True)  # machines that run from it keep what they have
                new.rename(place)
            finally:
                shutil.rmtree(new, ignore_errors=True)
    return place


def start(options, shared):
    words = arguments(options)
    if options.cold or options.nodes > 1 or options.vfio:
        return subprocess.Popen([*words, *places(options, shared, shared / "ram", "on")], stdin=subprocess.PIPE)
    place = saved(options, words)
    machine = subprocess.Popen([*words, *places(options, shared, place / "ram", "off"), "-incoming", "defer"],
                               stdin=subprocess.PIPE)
    try:
        monitor(shared, machine)("migrate-incoming", uri=f"exec:cat {shlex.quote(str(place / 'state'))}")
    except Exception:
        machine.kill()
        raise
    return machine


def run(options):
    shared = pathlib.Path(tempfile.mkdtemp(prefix="viv-lab-"))
    try:
        (shared / "command").write_text(f"cd {shlex.quote(os.getcwd())} || exit 125\n"
                                        f"{shlex.join(options.command)}\n", encoding="utf-8")
        with start(options, shared) as machine:
            try:
                machine.stdin.write(f"{time.time():.0f} {os.urandom(32).hex()}\n".encode())
                machine.stdin.flush()
                machine.wait(options.seconds)
            except subprocess.TimeoutExpired:
                print(f"lab: the time of {options.seconds} s is up", file=sys.stderr)
                return TIME_UP
            finally:
                machine.kill()
        code = shared / "code"
        if code.exists():
            return int(code.read_text(encoding="utf-8"))
        console = shared / "console"
        tail = console.read_text(encoding="utf-8", errors="replace")[-2000:] if console.exists() else ""
        raise LabError(f"the machine ended by itself:\n{tail}")
    finally:
        if options.keep:
            print(f"lab: {shared}", file=sys.stderr)
        else:
            shutil.rmtree(shared, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--cpus", type=int, default=1, help="more than one is unstable, see above")
    parser.add_argument("--memory", type=int, default=2048)
    parser.add_argument("--nodes", type=int, default=1, help="NUMA nodes; more than one is booted each time")
    parser.add_argument("--vfio", action="store_true", help="an IOMMU, and devices to be passed on; booted each time")
    parser.add_argument("--append", default="", help="more words for the kernel, as hugepagesz=1G hugepages=2")
    parser.add_argument("--cold", action="store_true", help="boot it, whatever is saved")
    parser.add_argument("--keep", action="store_true", help="leave the shared folder, with the console's output")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    begin = time.monotonic()
    try:
        code = run(options)
    except (LabError, OSError, StopIteration) as e:
        print(f"lab: {e}", file=sys.stderr)
        return BROKEN
    print(f"lab: exit code {code} after {time.monotonic() - begin:.0f} s", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
