#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# lab: --vfio
"""A device of the host for a guest: in the lab, whose machine has an IOMMU and drives of its own."""
import base64
import fcntl
import functools
import hashlib
import http.server
import os
import pathlib
import re
import signal
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
import manager  # noqa: E402
import vivtest  # noqa: E402

PCI = pathlib.Path("/sys/bus/pci")
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


class Case(unittest.TestCase):
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

    def is_on(self, disk, sum_):
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
        read = subprocess.run(f"head -c 1M {disk} | md5sum", shell=True, capture_output=True, text=True, check=True)
        self.assertEqual(read.stdout.split()[0], sum_)


class Vfio(Case):
    def run_guest(self, address, script):
        append = (f"console=ttyS0 quiet nowatchdog mitigations=off viv.modules={','.join(DRIVERS)} viv.run64=" +
                  base64.b64encode(script.encode()).decode())
        return subprocess.run([vivtest.PROGRAM, "--memory", "256M", "--cpu", "kvm", "--kernel", self.kernel, "--initrd",
                               self.initrd, "--append", append, "--nic", "none", "--device", f"vfio={address}"],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
                              timeout=LIMIT)

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
        return sums[0]

    def test_a_drive_is_the_guests_and_then_the_hosts_again(self):
        address, _ = wait_for(lambda: drive("PLAIN"))
        bind(address, "vfio-pci")
        sum_ = self.use_drive(address)
        bind(address, "nvme")
        self.is_on(wait_for(lambda: drive("PLAIN"))[1], sum_)

    def test_a_virtual_function_is_the_guests_and_the_rest_stays_the_hosts(self):
        address, _ = wait_for(lambda: drive("MANY"))
        function = virtual_function(address)
        bind(function, "vfio-pci")
        sum_ = self.use_drive(function)
        self.is_on(drive("MANY")[1], sum_)

    def test_a_network_adapter_is_the_guests(self):
        address, _ = wait_for(lambda: adapter("52:54:00:11:00:01"))
        _, own = wait_for(lambda: adapter("52:54:00:11:00:02"))
        subprocess.run(["ip", "addr", "add", "10.9.0.1/24", "dev", own], check=True)
        subprocess.run(["ip", "link", "set", own, "up"], check=True)
        data = os.urandom(1 << 20)
        (self.dir / "data").write_bytes(data)
        with http.server.ThreadingHTTPServer(("10.9.0.1", 0), functools.partial(Quiet, directory=self.dir)) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.addCleanup(server.shutdown)
            bind(address, "vfio-pci")
            done = self.run_guest(address, "n=0; until [ -d /sys/bus/pci/drivers/e1000e/*/net ] || [ $n = 60 ]; do sleep 1; "
                                  "n=$((n + 1)); done; i=$(basename /sys/bus/pci/drivers/e1000e/*/net/*); ip link set $i up; "
                                  "ip addr add 10.9.0.2/24 dev $i; n=0; until ping -c 1 -W 2 10.9.0.1 || [ $n = 60 ]; do "
                                  f"n=$((n + 1)); done; wget -q -O- http://10.9.0.1:{server.server_port}/data | md5sum; "
                                  "cat /sys/class/net/$i/address; grep $i /proc/interrupts")
        self.assertIn(hashlib.md5(data).hexdigest(), done.stdout, done.stdout + done.stderr)
        self.assertIn("52:54:00:11:00:01", done.stdout)
        self.assertRegex(done.stdout, r"[1-9][0-9]* +PCI-MSI ")


class Managed(Case):
    """The same through a manager, which is root: it takes a device from the host's driver, and gives it back."""
    def setUp(self):
        self.m = manager.Manager(self)
        self.m.start()
        source = self.m.home / "source"
        source.mkdir()
        (source / "vmlinuz").symlink_to(self.kernel)
        (source / "tiny.cpio.gz").symlink_to(self.initrd)
        self.m.wait_for_image("tiny", source)
        self.address, self.disk = wait_for(lambda: drive("PLAIN"))

    def driver(self):
        link = PCI / "devices" / self.address / "driver"
        return link.resolve().name if link.exists() else ""

    def create(self, script, **spec):
        append = f"viv.modules={','.join(DRIVERS)} viv.run64=" + base64.b64encode(script.encode()).decode()
        self.m.create("web", memory=256 << 20, cpu="kvm", append=append, power="on", **spec)
        vm = self.m.api.settled("web")
        self.assertEqual(vm["status"]["state"], "running", vm)
        return vm

    def said(self, pattern):
        return wait_for(lambda: re.search(pattern, self.m.viv("logs", "web")))

    WRITE = ("while ! [ -e /dev/nvme0n1 ]; do sleep 1; done; dd if=/dev/urandom of=/dev/nvme0n1 bs=64k count=16; sync; "
             "echo 3 >/proc/sys/vm/drop_caches; echo sum $(dd if=/dev/nvme0n1 bs=64k count=16 | md5sum); ")

    def test_a_drive_is_taken_at_the_start_and_given_back_after_any_end(self):
        vm = self.create(self.WRITE + "while true; do sleep 1; done", devices=[self.address])
        sum_ = self.said(r"sum ([0-9a-f]{32})")[1]
        self.assertEqual((self.driver(), vm["status"]["lent"], vm["status"]["pid"] > 0), ("vfio-pci", {self.address: "nvme"}, True))
        self.m.kill()
        for pid in self.m.machine_pids():
            os.kill(pid, signal.SIGKILL)
        self.m.start()
        self.m.wait_for(lambda: "lent" not in self.m.api.vm("web")["status"], "the way back")
        self.assertEqual(self.driver(), "nvme")
        self.is_on(wait_for(lambda: drive("PLAIN"))[1], sum_)

    def test_a_drive_comes_and_goes_while_the_machine_runs(self):
        vm = self.create(self.WRITE + "while [ -e /dev/nvme0n1 ]; do sleep 1; done; echo it is gone; while true; do sleep 1; done")
        self.m.viv("device", "add", "web", self.address)
        sum_ = self.said(r"sum ([0-9a-f]{32})")[1]
        self.assertEqual(self.m.api.vm("web")["status"]["host_devices"], [self.address])
        limits = pathlib.Path(f"/proc/{vm['status']['pid']}/limits").read_text()
        hard = re.search(r"Max locked memory +\S+ +(\S+)", limits)[1]
        self.assertTrue(hard == "unlimited" or int(hard) > (256 << 20) + (1 << 30), limits)
        self.m.viv("device", "rm", "web", self.address)
        self.assertEqual(self.driver(), "nvme")
        self.said("it is gone")
        self.assertEqual(self.m.api.vm("web")["status"]["state"], "running")
        self.is_on(wait_for(lambda: drive("PLAIN"))[1], sum_)

    def test_a_drive_that_the_host_uses_stays_with_it(self):
        for words in (["mkswap", self.disk], ["swapon", self.disk]):
            subprocess.run(["busybox", *words], capture_output=True, check=True)
        self.addCleanup(subprocess.run, ["busybox", "swapoff", self.disk], check=True)
        self.m.create("web", devices=[self.address], power="on")
        vm = self.m.api.settled("web")
        self.assertEqual(vm["status"]["state"], "failed", vm)
        self.assertRegex(vm["status"]["reason"], f"{self.disk.name}, which is in use")
        self.assertEqual(self.driver(), "nvme")


if __name__ == "__main__":
    unittest.main(verbosity=2)
