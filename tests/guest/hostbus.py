# SPDX-License-Identifier: GPL-2.0-or-later
"""A tree such as /sys with PCI devices, and the kernel that binds them to drivers when it is told to.

VIV_SYSFS of a manager names it. What is written is read from pipes, in the order in which the kernel looks at it.
"""
import os
import pathlib
import select
import threading

NIC, DRIVE, OTHER, PORT, LONE = "0000:03:00.0", "0000:04:00.0", "0000:04:00.1", "0000:00:01.0", "0000:05:00.0"


class Bus:
    def __init__(self, test, root):
        self.root, self.pipes, self.stubborn, self.seen = pathlib.Path(root), {}, set(), []
        for driver in ("vfio-pci", "e1000e", "nvme"):
            (self.root / "bus/pci/drivers" / driver).mkdir(parents=True)
            self.pipe(self.root / "bus/pci/drivers" / driver / "unbind", "unbind", None)
        for name in ("class/block", "class/net"):
            (self.root / name).mkdir(parents=True)
        self.add(NIC, "0x020000", "e1000e", 3)
        self.add(DRIVE, "0x010802", "nvme", 4)
        self.add(OTHER, "0x010802", "nvme", 4)
        self.add(PORT, "0x060400", "", 3)
        self.add(LONE, "0x030000", "", None)
        self.pipe(self.root / "bus/pci/drivers_probe", "probe", None)
        self.wake, self.woken = os.pipe()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        test.addCleanup(self.stop)

    def device(self, name):
        return self.root / "bus/pci/devices" / name

    def pipe(self, path, what, name):
        os.mkfifo(path)
        self.pipes[os.open(path, os.O_RDWR)] = (what, name)

    def add(self, name, kind, driver, group):
        folder = self.device(name)
        folder.mkdir(parents=True)
        (folder / "class").write_text(f"{kind}\n")
        (folder / "own").write_text(driver)
        self.pipe(folder / "driver_override", "override", name)
        if group is not None:
            members = self.root / f"kernel/iommu_groups/{group}/devices"
            members.mkdir(parents=True, exist_ok=True)
            (members / name).symlink_to("nowhere")
            (folder / "iommu_group").symlink_to(f"../../../../kernel/iommu_groups/{group}")
        self.bind(name, driver)

    def bind(self, name, driver):
        link = self.device(name) / "driver"
        link.unlink(missing_ok=True)
        if driver:
            link.symlink_to(f"../../drivers/{driver}")

    def driver(self, name):
        link = self.device(name) / "driver"
        return os.readlink(link).rsplit("/", 1)[1] if link.is_symlink() else ""

    def serve(self):
        overrides = {}
        poll = select.poll()
        for fd in (*self.pipes, self.wake):
            poll.register(fd, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if self.wake in ready:
                return
            for fd in sorted(ready, key=lambda fd: ("override", "unbind", "probe").index(self.pipes[fd][0])):
                what, name = self.pipes[fd]
                text = os.read(fd, 200).decode()
                self.seen.append((what, name or text, text.strip()))
                if what == "override":
                    overrides[name] = text.strip()
                elif text in self.stubborn:
                    continue
                elif what == "unbind":
                    self.bind(text, "")
                elif not self.driver(text):
                    self.bind(text, overrides.get(text) or (self.device(text) / "own").read_text())

    def stop(self):
        os.write(self.woken, b".")
        self.thread.join()
        for fd in (*self.pipes, self.wake, self.woken):
            os.close(fd)
