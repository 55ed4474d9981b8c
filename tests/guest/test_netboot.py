#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Firmware boots over the network: from an HTTP server of the host, and from the gateway's TFTP. UEFI, which takes
longer, if VIV_LONG is set."""
import functools
import http.server
import os
import pathlib
import subprocess
import tempfile
import threading
import unittest

import vivtest

HERE = pathlib.Path(__file__).parent
ROM = pathlib.Path("/usr/lib/ipxe/qemu/efi-virtio.rom")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@unittest.skipUnless(ROM.exists(), "package ipxe-qemu is not installed")
class Netboot(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="viv-net-")
        cls.addClassCleanup(folder.cleanup)
        cls.dir = pathlib.Path(folder.name)
        cc = os.environ.get("CC", "gcc")
        subprocess.run([cc, "-m32", "-nostdlib", "-static", "-no-pie", "-DVERSION=1", "-o", cls.dir / "kernel",
                        "-Wl,--build-id=none,-n,--no-warn-rwx-segments,-Ttext=0x100000,-e,start",
                        HERE / "multiboot.S"], check=True)
        subprocess.run([cc, "-c", "-o", cls.dir / "efi.o", HERE / "efi.S"], check=True)
        subprocess.run(["objcopy", "-O", "binary", "-j", ".text", cls.dir / "efi.o", cls.dir / "app.efi"], check=True)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder.name))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cls.addClassCleanup(server.server_close)
        cls.addClassCleanup(server.shutdown)
        cls.url = f"http://10.0.2.2:{server.server_port}"

    def boot(self, firmware, nic, *says):
        guest = vivtest.Guest([vivtest.VM, "--cpu", vivtest.CPU, "--memory", "256M", "--firmware", firmware, "--nic",
                               f"user,{nic}", "--debug-exit"], timeout=120)
        self.addCleanup(guest.close)
        for text in says:
            guest.expect(text)
        self.assertEqual(guest.wait(), 0x21)

    def test_ipxe_of_the_virtio_interface_starts_a_kernel_by_http(self):
        self.boot("bios", f"bootfile={self.url}/kernel", r"iPXE", r"/kernel\.* ok", r"iPXE 1")

    def test_the_rom_that_was_chosen_for_it_is_a_restored_machines_too(self):
        control, saved = self.dir / "ctl", self.dir / "saved"
        options = ["--control", f"unix:{control}", "--serial", "stdio"]
        guest = vivtest.Guest([vivtest.PROGRAM, "--cpu", vivtest.CPU, "--memory", "256M", "--firmware", "bios", "--nic",
                               f"user,bootfile={self.url}/kernel", "--debug-exit", *options], timeout=120)
        self.addCleanup(guest.close)
        guest.expect("iPXE")  # the firmware has given it an address
        subprocess.run([pathlib.Path(vivtest.PROGRAM).with_name("viv-ctl"), control, "snapshot", saved, "--then", "quit"],
                       check=True, capture_output=True, timeout=100)
        self.assertEqual(guest.wait(), 0)
        guest = vivtest.Guest([vivtest.PROGRAM, "--restore", str(saved), *options], timeout=120)
        self.addCleanup(guest.close)
        guest.expect("iPXE 1")
        self.assertEqual(guest.wait(), 0x21)

    @vivtest.LONG
    def test_its_part_for_uefi_starts_an_application(self):
        self.boot("uefi", f"bootfile={self.url}/app.efi", r"iPXE", r"/app.efi\.* ok", r"efi application")

    @vivtest.LONG
    def test_ovmf_itself_starts_one_by_tftp(self):
        self.boot("uefi", f"rom=none,bootfile=app.efi,tftp={self.dir}", r"Start PXE over IPv4", r"efi application")

    def test_what_is_no_rom_is_refused(self):
        got = subprocess.run([vivtest.VM, "--firmware", "bios", "--nic", f"user,rom={self.dir}/kernel"],
                             capture_output=True, text=True, timeout=30)
        self.assertEqual(got.returncode, 2)
        self.assertIn("is no expansion ROM", got.stderr)


if __name__ == "__main__":
    vivtest.tap.main()
