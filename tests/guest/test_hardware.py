#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What machines of the manager are built of: firmware, media, disks without an image, screens, SMBIOS."""
import json
import os
import pathlib
import socket
import subprocess
import unittest

import bootmedia
import manager
import media
import mini
import vivtest
from test_manager import Case
from test_screen import read_png
from test_vnc_tls import greet, log_in

BIOS = pathlib.Path("/usr/share/seabios/bios-256k.bin")
OVMF = pathlib.Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
OVMF_SECURE = pathlib.Path("/usr/share/OVMF/OVMF_CODE_4M.ms.fd")
HERE = pathlib.Path(__file__).parent


class Hardware(Case):
    def file(self, name, data):
        path = self.m.home / name
        path.write_bytes(data)
        return str(path)

    def boots(self, name, word):
        """It has said the word on its serial line."""
        s = self.console(name)
        self.until(s, word.encode())
        return s


@unittest.skipUnless(BIOS.exists(), "seabios is not installed")
class Media(Hardware):
    def test_a_machine_without_an_image_boots_from_a_medium_that_changes_while_it_runs(self):
        self.begin()
        first, second = self.file("first.iso", bootmedia.iso("FIRST")), self.file("second.iso", bootmedia.iso("SECOND"))
        self.m.viv("create", "web", "--image", "none", "--disk", "64M", "--cdrom", first, "--firmware", "bios",
                   "--memory", "32M", "--network", "none", "--start")
        self.boots("web", "FIRST")
        vm = self.api.vm("web")
        self.assertEqual((vm["status"]["medium"], vm["status"]["boots_by"]), (first, "bios"))
        self.assertEqual((self.m.home / "machines" / vm["id"] / "disk.qcow2").exists(), True)
        self.m.viv("cdrom", "insert", "web", second)
        self.assertEqual(self.api.vm("web")["status"]["medium"], second)
        self.m.kill()  # the next one asks what is in the drive
        self.m.start()
        self.m.viv("cdrom", "eject", "web")
        self.assertNotIn("medium", self.api.vm("web")["status"])
        self.m.viv("cdrom", "insert", "web", second)
        self.m.viv("restart", "web", "--timeout", "0")
        self.boots("web", "SECOND")
        self.m.viv("kill", "web")
        self.assertNotIn("medium", self.api.vm("web")["status"])

    def test_what_cannot_be_is_said(self):
        self.begin("tiny")
        iso, vms = self.file("a.iso", bootmedia.iso("A")), "/v1/vms"
        for field, spec in (("spec.image", {}), ("spec.image", {"image": "none"}),
                            ("spec.firmware", {"cdrom": iso, "firmware": "none"}),
                            ("spec.firmware", {"cdrom": iso, "firmware": "/nowhere"}),
                            ("spec.cdrom", {"cdrom": "/nowhere.iso"}),
                            ("spec.cdrom", {"cdrom": str(self.m.home)}),
                            ("spec.append", {"cdrom": iso, "append": "quiet"}),
                            ("spec.boot", {"cdrom": iso, "boot": "disk,disk"}),
                            ("spec.boot", {"cdrom": iso, "boot": "floppy"}),
                            ("spec.smbios", {"cdrom": iso, "smbios": ["colour=red"]}),
                            ("spec.smbios", {"cdrom": iso, "smbios": ["uuid=1"]})):
            self.fails("invalid", field, "POST", vms, {"name": "web", "spec": spec})
        self.fails("invalid", "name", "POST", "/v1/images", {"name": "none"})
        self.m.create("web")
        self.fails("conflict", "spec.cdrom", "POST", "/v1/vms/web/eject")
        self.fails("invalid", "file", "POST", "/v1/vms/web/insert", {"file": "/nowhere.iso"})
        self.fails("invalid", "spec.append", "PATCH", "/v1/vms/web", {"spec": {"firmware": "bios", "append": "x"}})

    def test_viv_run_needs_no_image_with_a_medium(self):
        self.begin()
        self.file("Rescue 1.iso", bootmedia.iso("RESCUE"))
        name = self.m.viv("run", "--firmware", "bios", "--cdrom", "Rescue 1.iso", "--memory", "32M", "--detach",
                          cwd=self.m.home).strip()
        self.assertEqual(name, "rescue1")
        self.boots("rescue1", "RESCUE")

    def test_the_boot_order_is_heeded_and_a_disk_boots_by_itself(self):
        self.begin()
        raw = self.file("disk.raw", bootmedia.sector("DISK").ljust(1 << 20, b"\0"))
        iso = self.file("a.iso", bootmedia.iso("MEDIUM"))
        self.m.viv("image", "import", "box", raw)
        self.assertEqual(self.api.get("/v1/images/box")["status"]["boots_by"], "bios")
        for bus, boot, word in (("virtio", "", "DISK"), ("sata", "", "DISK"), ("scsi", "", "DISK"), ("nvme", "", "DISK"),
                                ("virtio", "cdrom,disk", "MEDIUM")):
            name = f"{bus}-{word.lower()}"
            self.m.create(name, image="box", memory=32 << 20, cdrom=iso, boot=boot, bus=bus, power="on")
            self.api.settled(name)
            self.boots(name, word)

    def test_snapshots_clones_and_templates_of_a_machine_that_boots_by_firmware(self):
        self.begin()
        raw = self.file("disk.raw", bootmedia.sector("DISK").ljust(1 << 20, b"\0"))
        self.m.viv("image", "import", "box", raw)
        self.m.viv("create", "web", "--image", "box", "--memory", "32M", "--network", "none", "--start")
        self.boots("web", "DISK")
        self.m.viv("snapshot", "create", "web", "one")
        self.m.viv("clone", "web", "web2", "--start")
        self.boots("web2", "DISK")
        self.assertNotEqual(self.api.vm("web")["status"]["uuid"], self.api.vm("web2")["status"]["uuid"])
        self.m.viv("snapshot", "revert", "web", "one")
        self.assertEqual(self.api.settled("web")["status"]["state"], "running")
        self.fails("conflict", "spec.generalize", "POST", "/v1/images", {"name": "t", "spec": {"from": "web"}})
        self.m.viv("template", "create", "t", "--from", "web", "--generalize=false")
        self.m.viv("create", "web3", "--template", "t", "--memory", "32M", "--network", "none", "--start")
        self.boots("web3", "DISK")
        # An empty disk is nobody's copy: its first file lies on nothing.
        self.m.viv("create", "bare", "--image", "none", "--disk", "1M", "--memory", "32M", "--network", "none")
        self.m.viv("snapshot", "create", "bare", "one")
        self.m.viv("snapshot", "revert", "bare", "one")
        self.m.viv("clone", "bare", "bare2", "--full")
        self.assertEqual(self.api.settled("bare2")["status"]["state"], "stopped")


    def test_another_disk_boots_after_a_reset_when_the_order_says_so(self):
        self.begin()
        own = self.file("own.raw", bootmedia.sector("OWN").ljust(1 << 20, b"\0"))
        self.m.viv("image", "import", "box", own)
        self.m.viv("volume", "create", "data", "--size", "1M", "--format", "raw")
        volume = self.api.get("/v1/volumes/data")["id"]
        with open(self.m.home / f"volumes/{volume}.raw", "r+b") as f:
            f.write(bootmedia.sector("DATA"))
        self.fails("invalid", "spec.boot", "POST", "/v1/vms", {"name": "web", "spec": {"image": "box", "boot": "volume:data"}})
        self.m.viv("create", "web", "--image", "box", "--volumes", "data", "--memory", "32M", "--network", "none", "--start")
        control = self.m.home / "machines" / self.api.vm("web")["id"] / "control"
        s = self.console("web")
        self.until(s, b"OWN")
        for order, word in (("volume:data,disk", b"DATA"), ("disk", b"OWN"), ("volume:data", b"DATA")):
            self.m.viv("edit", "web", "--boot", order)
            self.assertNotIn("pending", self.api.vm("web")["status"])
            subprocess.run([pathlib.Path(vivtest.PROGRAM).with_name("viv-ctl"), control, "reset"], check=True, stdout=subprocess.DEVNULL)
            self.until(s, word)
        self.m.viv("restart", "web", "--timeout", "0")  # the order is the machine's, not the process's
        self.boots("web", "DATA")
        self.m.viv("clone", "web", "web2", "--start")  # volumes are one machine's
        self.boots("web2", "OWN")
        self.fails("invalid", "spec.boot", "PATCH", "/v1/vms/web", {"spec": {"boot": "volume:other"}})


@unittest.skipUnless(BIOS.exists(), "seabios is not installed")
class Screens(Hardware):
    def test_viewers_come_by_tls_with_a_password_and_past_the_manager(self):
        self.begin("tiny")
        port, password = vivtest.free_port(), self.file("password", b"a long word of its own\n")
        place = f"127.0.0.1:{port}"
        for field, spec in (("spec.vnc", {"vnc": place}), ("spec.vnc", {"vga": "std", "vnc": "127.0.0.1:99999"}),
                            ("spec.vnc_password_file", {"vga": "std", "vnc": "0.0.0.0:5901"}),
                            ("spec.vnc_password_file", {"vga": "std", "vnc_password_file": "/nowhere"})):
            self.fails("invalid", field, "POST", "/v1/vms", {"name": "web", "spec": {"image": "tiny", **spec}})
        self.m.viv("create", "web", "--image", "tiny", "--vga", "std", "--vnc", place, "--vnc-tls", "--vnc-password-file",
                   password, "--network", "none", "--start")
        certificate = self.m.home / "machines" / self.api.vm("web")["id"] / "vnc-tls/cert.pem"
        self.m.kill()
        for word, result in ((b"wrong", 1), (b"a long word of its own", 0)):
            s = socket.create_connection(("127.0.0.1", port), timeout=manager.LIMIT)
            self.addCleanup(s.close)
            greet(s)
            s, said = log_in(s, certificate, word)
            self.addCleanup(s.close)
            self.assertEqual(said, result)
        self.m.start()
        self.assertEqual(read_png(self.api.raw("GET", "/v1/vms/web/screenshot")[2])[0] > 0, True)
        self.m.viv("snapshot", "create", "web", "one")  # whatever is in a memory, the place is the spec's
        self.m.viv("edit", "web", "--vnc", "none")
        self.assertEqual(set(self.api.vm("web")["status"]["pending"]), {"vnc"})
        self.m.viv("clone", "web", "web2", "--live")
        self.assertEqual(self.api.vm("web2")["spec"]["vnc"], "none")
        self.assertEqual(self.api.vm("web2")["status"]["state"], "running")

    def test_a_screen_is_pictured_and_typed_at(self):
        self.begin("tiny")
        iso = self.file("a.iso", bootmedia.iso("ON THE SCREEN"))
        self.m.create("web", image="none", cdrom=iso, firmware="bios", vga="std", memory=32 << 20, power="on")
        self.api.settled("web")
        s = self.console("web")
        s.settimeout(0.5)
        typed = b""
        while b"ready" not in typed:  # keys that come before the guest looks are lost
            self.m.viv("type", "web", "ready")
            try:
                typed += s.recv(100)
            except socket.timeout:
                pass
        s.settimeout(manager.LIMIT)
        self.m.viv("type", "web", "Hello 42%", "--enter")
        self.until(s, b"Hello 42%\r")
        self.m.viv("send-key", "web", "shift-x")
        self.until(s, b"X")
        self.m.viv("pointer", "web", "10", "20", "--click", "left")
        self.api.post("/v1/vms/web/pointer", {"x": 1, "y": 2, "buttons": [], "wheel": -1})
        status, headers, png = self.api.raw("GET", "/v1/vms/web/screenshot")
        self.assertEqual((status, headers["Content-Type"], png[:8]), (200, "image/png", b"\x89PNG\r\n\x1a\n"))
        width, height, rows = read_png(png)
        lit = sum(any(row[3 * x:3 * x + 3]) for row in rows for x in range(width))
        self.assertEqual((width, height, lit > 500), (720, 400, True))
        self.m.viv("screenshot", "web", str(self.m.home / "web.png"))
        self.assertEqual(read_png((self.m.home / "web.png").read_bytes())[:2], (720, 400))
        self.fails("invalid", "", "POST", "/v1/vms/web/send-key", {"keys": "any-key"})
        self.fails("invalid", "x", "POST", "/v1/vms/web/pointer", {"x": -1, "y": 2})
        self.m.viv("kill", "web")
        self.fails("conflict", "status.state", "GET", "/v1/vms/web/screenshot")
        self.m.create("blind", power="on")
        said = self.fails("conflict", "spec.vga", "POST", "/v1/vms/blind/type", {"text": "x"})
        self.assertIn("--vga std", said["remedy"])


@unittest.skipUnless(OVMF.exists(), "ovmf is not installed")
class Uefi(Hardware):
    def test_variables_of_uefi_are_the_machines_own_and_go_with_its_copies(self):
        self.begin()
        self.m.viv("create", "win", "--image", "none", "--disk", "64M", "--firmware", "uefi", "--memory", "256M",
                   "--network", "none", "--start")
        s = self.console("win")
        self.until(s, b"seconds to skip")
        s.sendall(b"\x1b")
        self.until(s, b"Shell> ")
        s.sendall(b"set color blue\r")
        self.until(s, b"Shell> ")
        self.m.viv("clone", "win", "win2", "--start")
        s = self.console("win2")
        self.until(s, b"seconds to skip")
        s.sendall(b"\x1b")
        self.until(s, b"Shell> ")
        s.sendall(b"set color\r")
        self.until(s, b"blue")


    @unittest.skipUnless(OVMF_SECURE.exists(), "this ovmf has no build with Secure Boot and keys")
    def test_what_nobody_signed_boots_without_secure_boot_alone(self):
        media.need("mformat", "objcopy")
        self.begin()
        app, disk = self.m.home / "app.efi", self.m.home / "esp.raw"
        subprocess.run([os.environ.get("CC", "cc"), "-c", "-o", self.m.home / "app.o", HERE / "efi.S"], check=True)
        subprocess.run(["objcopy", "-O", "binary", "-j", ".text", self.m.home / "app.o", app], check=True)
        media.esp(disk, 34 << 20, {"EFI/BOOT/BOOTX64.EFI": app})
        self.m.viv("image", "import", "box", str(disk), "--firmware", "uefi-secure")
        self.m.viv("create", "web", "--image", "box", "--memory", "256M", "--network", "none", "--start")
        self.assertEqual(self.api.vm("web")["status"]["boots_by"], "uefi-secure")
        self.assertRegex(self.until_one_of("web", b"Access Denied", b"Security Violation").decode(), r"fail")
        self.m.viv("create", "web2", "--image", "box", "--firmware", "uefi", "--memory", "256M", "--network", "none", "--start")
        self.boots("web2", "efi application")

    def until_one_of(self, name, *words):
        s, text = self.console(name), b""
        while not any(w in text for w in words):
            more = s.recv(4096)
            self.assertTrue(more, text)
            text += more
        return text


class Serial(Hardware):
    def test_each_serial_port_has_a_console(self):
        self.begin("linux")
        self.m.viv("create", "web", "--image", "tiny", "--memory", "96M", "--network", "none", "--serial-ports", "3", "--start")
        first, third = self.console("web"), self.upgraded("web", "console?port=3", "serial")
        self.until(first, b"/ # ")
        first.sendall(b"exec 3<>/dev/ttyS2; echo to the third >&3; read word <&3; echo it was $word\n")
        self.until(third, b"to the third")
        third.sendall(b"typed\n")
        self.until(first, b"it was typed")
        self.fails("conflict", "port", "GET", "/v1/vms/web/console?port=4", None, Connection="Upgrade", Upgrade="serial")
        self.fails("conflict", "port", "POST", "/v1/vms/web/ticket", {"port": 4})
        self.api.post("/v1/vms/web/ticket", {"port": 3})
        # A memory that is kept has as many as it had.
        self.m.viv("edit", "web", "--serial-ports", "1")
        self.m.viv("clone", "web", "web2", "--live")
        second = self.upgraded("web2", "console?port=3", "serial")
        again = self.console("web2")
        again.sendall(b"echo again >/dev/ttyS2\n")
        self.until(second, b"again")


class Tables(Hardware):
    def test_the_guest_reads_what_smbios_is_told_and_a_uuid_of_its_own(self):
        self.begin("linux")
        self.m.viv("create", "web", "--image", "tiny", "--memory", "96M", "--network", "none", "--smbios",
                   "serial=A-17,product=Box", "--smbios", "board-asset=7", "--start")
        uuid = self.api.vm("web")["status"]["uuid"]
        s = self.console("web")
        self.until(s, b"/ # ")
        s.sendall(b"cd /sys/class/dmi/id; cat product_serial product_name board_asset_tag product_uuid; echo do''ne\n")
        self.assertIn("\r\n".join(["", "A-17", "Box", "7", uuid, "done"]), self.until(s, b"done").decode())
        self.m.viv("restart", "web", "--timeout", "0")
        self.assertEqual(self.api.vm("web")["status"]["uuid"], uuid)
        self.m.viv("edit", "web", "--smbios", "uuid=6f0d3a52-7c1e-4f0a-9d68-2a4c8e1b9f37")
        self.m.viv("restart", "web", "--timeout", "0")
        self.assertEqual(self.api.vm("web")["status"]["uuid"], "6f0d3a52-7c1e-4f0a-9d68-2a4c8e1b9f37")


class Partitions(Hardware):
    def test_partitions_tell_what_boots_a_disk(self):
        self.begin()
        esp = bytes.fromhex("28732ac11ff8d211ba4b00a0c93ec93b")
        bios = bytes.fromhex("4861682149646f6e744e656564454649")

        def gpt(*types):
            disk = bytearray(1 << 20)
            disk[512:520] = b"EFI PART"
            disk[512 + 72:512 + 88] = (2).to_bytes(8, "little") + (128).to_bytes(4, "little") + (128).to_bytes(4, "little")
            for i, kind in enumerate(types):
                disk[1024 + 128 * i:1040 + 128 * i] = kind
            return disk

        mbr = bytearray(1 << 20)
        mbr[450], mbr[510:512] = 0xef, b"\x55\xaa"
        for name, data, by in (("a", gpt(esp), "uefi"), ("b", gpt(bios, esp), "bios"), ("c", mbr, "uefi"),
                               ("d", bytes(1 << 20), "bios")):
            self.m.viv("image", "import", name, self.file(name, bytes(data)))
            self.assertEqual(self.api.get(f"/v1/images/{name}")["status"]["boots_by"], by, name)
        self.m.viv("image", "import", "e", str(self.m.home / "a"), "--firmware", "bios")
        self.assertEqual(json.loads(self.m.viv("image", "show", "e", "--json"))["status"]["boots_by"], "bios")
        kernel = self.file("kernel", mini.elf(mini.STOP))
        self.m.viv("image", "import", "f", str(self.m.home / "a"), "--kernel", kernel)
        self.assertEqual(self.api.get("/v1/images/f")["status"]["boots_by"], "kernel")


if __name__ == "__main__":
    vivtest.tap.main()
