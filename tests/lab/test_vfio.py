#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# lab: --vfio
"""A device of the host for a guest: in the lab, whose machine has an IOMMU and drives of its own."""
import base64
import fcntl
import functools
import hashlib
import http.server
import json
import mmap
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/guest"), str(ROOT / "tests/lab")]
import initrd  # noqa: E402
import lab  # noqa: E402
import vivtest  # noqa: E402

PCI = pathlib.Path("/sys/bus/pci")
CTL = pathlib.Path(vivtest.PROGRAM).with_name("viv-ctl")
LIMIT = 900
DRIVERS = ["nvme", "e1000e"]


def modules(names):
    """The lab's kernel's, what is needed first."""
    dep = lab.dependencies(lab.KEPT / "kernel")
    return dep.parent, lab.in_order(names, dep.read_text(encoding="utf-8").splitlines())


def wait_for(condition):
    end = time.monotonic() + LIMIT
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError("it does not come")
        time.sleep(0.1)
    return found


def drive(serial):
    """The PCI address of the drive of this serial number, once the host's driver has it with its disk."""
    for one in pathlib.Path("/sys/class/nvme").glob("nvme*"):
        if (one / "serial").read_text().strip() == serial and list(pathlib.Path("/dev").glob(f"{one.name}n1")):
            return (one / "device").resolve().name, pathlib.Path("/dev") / f"{one.name}n1"
    return None


def bind(address, driver):
    device = PCI / "devices" / address
    (device / "driver_override").write_text(driver)
    if (device / "driver").exists():
        (device / "driver/unbind").write_text(address)
    (PCI / "drivers_probe").write_text(address)


def virtualize(address, controller, action, resource=0, count=0):
    """NVMe's Virtualization Management (NVM Express base specification 2.0c, 5.38) to the physical function."""
    cdw10 = controller << 16 | resource << 8 | action
    command = bytearray(struct.pack("<BBHIIIQQIIIIIIIIII", 0x1c, 0, 0, 0, 0, 0, 0, 0, 0, 0, cdw10, count, 0, 0, 0, 0, 0, 0))
    name = next((PCI / "devices" / address / "nvme").iterdir()).name
    fd = os.open(f"/dev/{name}", os.O_RDWR)
    try:
        status = fcntl.ioctl(fd, 0xc0484e41, command)  # NVME_IOCTL_ADMIN_CMD
    finally:
        os.close(fd)
    if status:
        raise AssertionError(f"virtualization management {cdw10:#x}: status {status:#x}")


def virtual_function(address):
    """The first of a drive's, given two queues and two vectors, and no driver of the host's yet."""
    function = PCI / "devices" / address
    own, assign, online, queues, vectors = 1, 8, 9, 0, 1
    virtualize(address, 0, own, queues)
    virtualize(address, 0, own, vectors)
    (next((function / "nvme").iterdir()) / "reset_controller").write_text("1")
    (function / "sriov_drivers_autoprobe").write_text("0")
    (function / "sriov_numvfs").write_text("1")
    virtualize(address, 1, assign, queues, 2)
    virtualize(address, 1, assign, vectors, 2)
    virtualize(address, 1, online)
    return (function / "virtfn0").resolve().name


def adapter(mac):
    """The PCI address and the name of the network adapter with this address."""
    for one in pathlib.Path("/sys/class/net").iterdir():
        if (one / "address").read_text().strip() == mac:
            return (one / "device").resolve().name, one.name
    return None


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Vfio(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not list(pathlib.Path("/sys/kernel/iommu_groups").glob("*")) or not (lab.KEPT / "kernel").exists():
            raise unittest.SkipTest("this host has no IOMMU; tests/lab/lab.py --vfio makes one that has")
        base, order = modules(["vfio_pci", "vfio_iommu_type1", *DRIVERS])
        for name in order:
            subprocess.run(["busybox", "insmod", base / name], capture_output=True, check=False)  # or it is there
        folder = tempfile.TemporaryDirectory(prefix="viv-vfio-")
        cls.addClassCleanup(folder.cleanup)
        cls.dir = pathlib.Path(folder.name)
        cls.kernel = next((lab.KEPT / "kernel/boot").glob("vmlinuz-*"))
        cls.initrd = cls.make_initrd()

    @classmethod
    def make_initrd(cls):
        base, order = modules(DRIVERS)
        needs = (base / "modules.dep").read_text(encoding="utf-8").splitlines()
        own = cls.dir / "modules.dep"
        own.write_text("".join(f"{line}\n" for line in needs if line.partition(":")[0] in order), encoding="utf-8")
        files = {f"lib/modules/{base.name}/{name}": base / name for name in order}
        files[f"lib/modules/{base.name}/modules.dep"] = own
        return initrd.with_tree(files, cls.dir / "initrd.gz")

    def command(self, *more, append=""):
        words = f"console=ttyS0 quiet nowatchdog mitigations=off viv.modules={','.join(DRIVERS)} {append}"
        return [vivtest.PROGRAM, "--memory", "256M", "--cpu", "kvm", "--kernel", self.kernel, "--initrd", self.initrd,
                "--append", words, "--nic", "none", "--stats", *more]

    def run_guest(self, address, script, append=""):
        append += " viv.run64=" + base64.b64encode(script.encode()).decode()
        return subprocess.run(self.command("--device", f"vfio={address}", append=append), stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, errors="replace", check=False, timeout=LIMIT)

    def counted(self, said, name):
        """What --stats says of a counter, which leaves out those that are 0."""
        self.assertIn("io_accesses", said)
        found = re.search(rf"^ *(\d+)  {name} ", said, re.M)
        return int(found[1]) if found else 0

    def check_past_the_process(self, said):
        """Messages went to KVM, and accesses to BARs to the device, without our process between."""
        self.assertEqual(self.counted(said, "msi_by_loop"), 0)
        self.assertGreater(self.counted(said, "windows"), 0)
        self.assertEqual(self.counted(said, "vfio_accesses"), 0)

    def test_what_the_host_uses_is_refused(self):
        address, _ = wait_for(lambda: drive("MANY"))
        done = self.run_guest(address, "true")
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, rf"{address}.*'nvme'.*unbind")

    def use_drive(self, address):
        """By a guest, which writes a MiB and reads it back: its sum."""
        done = self.run_guest(address, "while ! [ -e /dev/nvme0n1 ]; do sleep 1; done; "
                              "dd if=/dev/urandom of=/tmp/x bs=64k count=16; dd if=/tmp/x of=/dev/nvme0n1 bs=64k; sync; "
                              "echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/nvme0n1 bs=64k count=16 | md5sum; "
                              "md5sum /tmp/x; grep nvme0q /proc/interrupts")
        self.assertIn("EXIT 0", done.stdout, done.stderr)
        sums = re.findall(r"\b[0-9a-f]{32}\b", done.stdout)
        self.assertEqual(len(sums), 2, done.stdout)
        self.assertEqual(sums[0], sums[1])
        self.assertRegex(done.stdout, r"[1-9][0-9]* +PCI-MSI .*nvme0q1")
        self.check_past_the_process(done.stderr)
        return sums[0]

    def is_on(self, disk, sum_):
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
        read = subprocess.run(f"head -c 1M {disk} | md5sum", shell=True, capture_output=True, text=True, check=True)
        self.assertEqual(read.stdout.split()[0], sum_)

    def test_a_drive_is_the_guests_and_then_the_hosts_again(self):
        address, _ = wait_for(lambda: drive("PLAIN"))
        bind(address, "vfio-pci")
        sum_ = self.use_drive(address)
        bind(address, "nvme")
        self.is_on(wait_for(lambda: drive("PLAIN"))[1], sum_)

    def test_a_drive_comes_and_goes_while_the_guest_runs(self):
        address, _ = wait_for(lambda: drive("PLAIN"))
        bind(address, "vfio-pci")
        control = self.dir / "control"
        guest = vivtest.Guest(self.command("--serial", "stdio", "--control", f"unix:{control}"), timeout=LIMIT)
        self.addCleanup(guest.close)
        guest.expect("BOOTED")
        guest.shell()

        def ask(*words):
            done = subprocess.run([CTL, "--json", control, *words], capture_output=True, text=True, check=False, timeout=LIMIT)
            self.assertEqual(done.returncode, 0, done.stderr)
            return json.loads(done.stdout) if done.stdout.strip() else {}
        for turn in range(2):
            number = str(ask("device-add", f"vfio={address}")["device"])
            guest.check("until [ -e /dev/nvme0n1 ]; do sleep 1; done")
            guest.check(f"dd if=/dev/urandom of=/tmp/x bs=64k count=16; dd if=/tmp/x of=/dev/nvme0n1 bs=64k seek={16 * turn}; "
                        "sync; echo 3 >/proc/sys/vm/drop_caches")
            sums = re.findall(r"\b[0-9a-f]{32}\b", guest.check(f"dd if=/dev/nvme0n1 bs=64k count=16 skip={16 * turn} | md5sum; "
                                                               "md5sum /tmp/x"))
            self.assertEqual(sums[0], sums[1])
            self.assertRegex(guest.check("grep nvme0q1 /proc/interrupts"), r"[1-9][0-9]* +PCI-MSI")
            ask("device-remove", number)
            guest.check("while [ -e /dev/nvme0n1 ]; do sleep 1; done")
            wait_for(lambda: not ask("status")["devices"])
        guest.process.stdin.write(b"poweroff -f\n")
        self.assertEqual(guest.wait(), 0, guest.stderr)
        self.check_past_the_process(guest.stderr)
        bind(address, "nvme")
        disk = wait_for(lambda: drive("PLAIN"))[1]
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
        read = subprocess.run(f"tail -c +{(1 << 20) + 1} {disk} | head -c 1M | md5sum", shell=True, capture_output=True,
                              text=True, check=True)
        self.assertEqual(read.stdout.split()[0], sums[0])

    def test_a_virtual_function_is_the_guests_and_the_rest_stays_the_hosts(self):
        address, _ = wait_for(lambda: drive("MANY"))
        function = virtual_function(address)
        bind(function, "vfio-pci")
        sum_ = self.use_drive(function)
        self.is_on(drive("MANY")[1], sum_)

    def test_a_bar_of_gigabytes_is_the_guests(self):
        address = next(d.name for d in (PCI / "devices").iterdir() if (d / "device").read_text() == "0x1110\n")
        place, value = 7 << 30, 0x600df00d
        bind(address, "vfio-pci")
        done = self.run_guest(address, "d=$(dirname $(grep -l 0x1110 /sys/bus/pci/devices/*/device)); echo 1 >$d/enable; "
                              "b=$(sed -n '3s/ .*//p' $d/resource); echo bar $b; "
                              f"busybox devmem $((b + {place})) 32 {value}; busybox devmem $((b + {place})) 32")
        self.assertIn("EXIT 0", done.stdout, done.stderr)
        base = int(re.search(r"bar (0x[0-9a-f]+)", done.stdout)[1], 16)
        self.assertGreaterEqual(base, 4 << 30)
        self.assertIn(f"0x{value:08X}", done.stdout)
        self.check_past_the_process(done.stderr)
        (PCI / "devices" / address / "driver/unbind").write_text(address)
        (PCI / "devices" / address / "enable").write_text("1")
        with open(PCI / "devices" / address / "resource2", "r+b") as file, \
                mmap.mmap(file.fileno(), mmap.PAGESIZE, offset=place) as memory:
            self.assertEqual(struct.unpack_from("<I", memory)[0], value)

    def fetch(self, append=""):
        """A MiB by a guest that has the adapter, from the host: what came of it."""
        address, _ = wait_for(lambda: adapter("52:54:00:11:00:01"))
        _, own = wait_for(lambda: adapter("52:54:00:11:00:02"))
        subprocess.run(["ip", "addr", "replace", "10.9.0.1/24", "dev", own], check=True)
        subprocess.run(["ip", "link", "set", own, "up"], check=True)
        data = os.urandom(1 << 20)
        (self.dir / "data").write_bytes(data)
        with http.server.ThreadingHTTPServer(("10.9.0.1", 0), functools.partial(Quiet, directory=self.dir)) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.addCleanup(server.shutdown)
            bind(address, "vfio-pci")
            self.addCleanup(bind, address, "e1000e")
            done = self.run_guest(address, "n=0; until [ -d /sys/bus/pci/drivers/e1000e/*/net ] || [ $n = 60 ]; do sleep 1; "
                                  "n=$((n + 1)); done; i=$(basename /sys/bus/pci/drivers/e1000e/*/net/*); ip link set $i up; "
                                  "ip addr add 10.9.0.2/24 dev $i; n=0; until ping -c 1 -W 2 10.9.0.1 || [ $n = 60 ]; do "
                                  f"n=$((n + 1)); done; wget -q -O- http://10.9.0.1:{server.server_port}/data | md5sum; "
                                  "cat /sys/class/net/$i/address; grep $i /proc/interrupts", append)
        self.assertIn(hashlib.md5(data).hexdigest(), done.stdout, done.stdout + done.stderr)
        self.assertIn("52:54:00:11:00:01", done.stdout)
        return done

    def test_a_network_adapter_is_the_guests(self):
        done = self.fetch()
        self.assertRegex(done.stdout, r"[1-9][0-9]* +PCI-MSI ")
        self.check_past_the_process(done.stderr)

    def test_a_guest_without_messages_has_levels(self):
        done = self.fetch("pci=nomsi")
        self.assertRegex(done.stdout, r"[1-9][0-9]* +IO-APIC .*fasteoi")
        self.assertGreater(self.counted(done.stderr, "vfio_accesses"), 0)


if __name__ == "__main__":
    vivtest.tap.main()
