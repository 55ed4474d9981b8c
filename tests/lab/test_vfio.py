#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# lab: --vfio
"""A device of the host for a guest: in the lab, whose machine has an IOMMU and drives of its own."""
import base64
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/guest"), str(ROOT / "tests/lab")]
import initrd  # noqa: E402
import lab  # noqa: E402
import vivtest  # noqa: E402

PCI = pathlib.Path("/sys/bus/pci")
LIMIT = 900


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


class Vfio(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not list(pathlib.Path("/sys/kernel/iommu_groups").glob("*")) or not (lab.KEPT / "kernel").exists():
            raise unittest.SkipTest("this host has no IOMMU; tests/lab/lab.py --vfio makes one that has")
        base, order = modules(["vfio_pci", "vfio_iommu_type1", "nvme"])
        for name in order:
            subprocess.run(["busybox", "insmod", base / name], capture_output=True, check=False)  # or it is there
        folder = tempfile.TemporaryDirectory(prefix="viv-vfio-")
        cls.addClassCleanup(folder.cleanup)
        cls.dir = pathlib.Path(folder.name)
        cls.kernel = next((lab.KEPT / "kernel/boot").glob("vmlinuz-*"))
        cls.initrd = cls.make_initrd()

    @classmethod
    def make_initrd(cls):
        base, order = modules(["nvme"])
        needs = (base / "modules.dep").read_text(encoding="utf-8").splitlines()
        own = cls.dir / "modules.dep"
        own.write_text("".join(f"{line}\n" for line in needs if line.partition(":")[0] in order), encoding="utf-8")
        files = {f"lib/modules/{base.name}/{name}": base / name for name in order}
        files[f"lib/modules/{base.name}/modules.dep"] = own
        return initrd.with_tree(files, cls.dir / "initrd.gz")

    def run_guest(self, address, script):
        # The kernel looks for machine checks, which KVM's processors have not.
        append = ("console=ttyS0 quiet nowatchdog mitigations=off viv.modules=nvme viv.run64=" +
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

    def test_a_drive_is_the_guests_and_then_the_hosts_again(self):
        address, _ = wait_for(lambda: drive("PLAIN"))
        bind(address, "vfio-pci")
        done = self.run_guest(address, "while ! [ -e /dev/nvme0n1 ]; do sleep 1; done; "
                              "dd if=/dev/urandom of=/tmp/x bs=64k count=16; dd if=/tmp/x of=/dev/nvme0n1 bs=64k; sync; "
                              "echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/nvme0n1 bs=64k count=16 | md5sum; "
                              "md5sum /tmp/x; grep nvme0q /proc/interrupts")
        self.assertIn("EXIT 0", done.stdout, done.stderr)
        sums = re.findall(r"\b[0-9a-f]{32}\b", done.stdout)
        self.assertEqual(len(sums), 2, done.stdout)
        self.assertEqual(sums[0], sums[1])
        self.assertRegex(done.stdout, r"[1-9][0-9]* +PCI-MSI .*nvme0q1")
        bind(address, "nvme")
        _, disk = wait_for(lambda: drive("PLAIN"))
        read = subprocess.run(f"head -c 1M {disk} | md5sum", shell=True, capture_output=True, text=True, check=True)
        self.assertEqual(read.stdout.split()[0], sums[0])


if __name__ == "__main__":
    unittest.main(verbosity=2)
