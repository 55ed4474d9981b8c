#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# run: on every processor backend
"""What needs a guest with drivers, in the busybox guest: disks that fail, reboots, the virtio console."""
import hashlib
import os
import resource
import socket
import tempfile
import unittest

import vivtest

MIB = 1 << 20


class Linux(unittest.TestCase):
    def disk(self, name, size):
        if not hasattr(self, "dir"):
            folder = tempfile.TemporaryDirectory()
            self.addCleanup(folder.cleanup)
            self.dir = folder.name
        path = os.path.join(self.dir, name)
        with open(path, "wb") as f:
            f.truncate(size)
        return path

    def test_disks_that_fail_or_only_read_give_errors_and_the_rest_goes_on(self):
        # Writes behind the limit fail with EFBIG, as others do with ENOSPC. The guest's memory is a file too.
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (300 * MIB, 300 * MIB))
        command = """
            write() { dd if=/dev/zero of=$1 bs=64k seek=$2 count=1 conv=fsync 2>/dev/null; echo "$1 $2: $?"; }
            write /dev/vda 16; write /dev/vda 6400; write /dev/vda 6416; write /dev/vda 32
            dd if=/dev/vda bs=64k skip=6400 count=1 2>/dev/null | md5sum
            write /dev/vdb 0; cat /sys/block/vdb/ro
            cat /sys/block/vdc/size; dd if=/dev/vdc bs=512 2>/dev/null | wc -c
            cat /sys/class/net/eth0/address /sys/class/net/eth1/address
            dd if=/dev/hwrng bs=64 count=1 2>/dev/null | wc -c
        """
        guest = vivtest.tiny(
            self, command, "--memory", "128M", "--disk", self.disk("a", 512 * MIB),
            "--disk", self.disk("b", MIB) + ",readonly", "--disk", self.disk("c", 1000),
            "--nic", "user,mac=52:54:00:aa:bb:cc", "--nic", "user",
            append="viv.modules=virtio_pci,virtio_blk,virtio_net,virtio-rng", preexec_fn=limit)
        text = guest.expect(r"(?s)BOOTED\n(.*)EXIT 0\n").group(1)
        self.assertEqual(guest.wait(), 0)
        lines = [line for line in text.splitlines() if line.startswith("/dev/vd")]
        self.assertEqual(lines, ["/dev/vda 16: 0", "/dev/vda 6400: 1", "/dev/vda 6416: 1", "/dev/vda 32: 0",
                                 "/dev/vdb 0: 1"], text)
        self.assertIn("\n1\n2\n1024\n52:54:00:aa:bb:cc\n52:54:00:12:34:57\n64\n", text)
        self.assertRegex(guest.stderr, "disk image .*/a': a write failed: File too large; the guest got the error")
        self.assertEqual(guest.stderr.count("a write failed"), 1)

    def test_a_guest_reboots_and_keeps_its_disk(self):
        command = """
            n=$(head -c1 /dev/vda); echo "start $n"
            [ "$n" = 2 ] && exit 0
            echo $(((n + 0) + 1)) | dd of=/dev/vda conv=notrunc,fsync 2>/dev/null
            reboot -f; sleep 100
        """
        guest = vivtest.tiny(self, command.replace("(n + 0)", "${n:-0}"), "--disk", self.disk("a", MIB),
                             append="viv.modules=virtio_pci,virtio_blk")
        guest.expect(r"start \x00?\n")
        guest.expect(r"start 1\n")
        guest.expect(r"start 2\nEXIT 0\n")
        self.assertEqual(guest.wait(), 0)
        self.assertEqual(guest.stderr, "")

    def test_a_panic_is_a_reboot_or_an_end(self):
        guest = vivtest.tiny(self, "echo c >/proc/sysrq-trigger; sleep 100", "--no-reboot", append="panic=-1")
        guest.expect("Kernel panic")
        self.assertEqual(guest.wait(), 3)
        self.assertIn("asked for a reset", guest.stderr)

    def test_four_serial_ports_talk_at_once_with_two_on_a_wire(self):
        self.disk("unused", 0)
        paths = [os.path.join(self.dir, f"com{i}") for i in (2, 3, 4)]
        command = """
            for n in 1 2 3; do
                { stty raw -echo; echo port $n; head -n 200 | md5sum; } <>/dev/ttyS$n >&0 &
            done
            wait; grep -c . /proc/tty/driver/serial; for n in 2 3 4; do ls -d /sys/bus/acpi/devices/PNP0501:0$((n - 1)); done
        """
        guest = vivtest.tiny(self, command, *(w for p in paths for w in ("--serial", f"unix:{p}")))
        guest.expect(r"BOOTED\n")
        wanted = "".join(f"{i}\n" for i in range(1, 201)).encode()
        clients = []
        for path in paths:
            clients.append(socket.socket(socket.AF_UNIX))
            self.addCleanup(clients[-1].close)
            clients[-1].settimeout(guest.timeout)
            clients[-1].connect(path)
        got = [b""] * 3
        for i, client in enumerate(clients):
            while b"\n" not in got[i]:
                got[i] += client.recv(4096)
            client.sendall(wanted)
        for i, client in enumerate(clients):
            while got[i].count(b"\n") < 2:
                got[i] += client.recv(4096)
            self.assertEqual(got[i].decode(), f"port {i + 1}\n{hashlib.md5(wanted).hexdigest()}  -\n")
        guest.expect(r"PNP0501:03\n")
        guest.expect(r"EXIT 0\n")
        self.assertEqual(guest.wait(), 0)

    def test_the_virtio_console_talks_both_ways(self):
        self.disk("unused", 0)
        path = os.path.join(self.dir, "console")
        guest = vivtest.tiny(self, "{ stty raw -echo; seq 1 5000; head -n 2 >/dev/console; } <>/dev/hvc0 >&0",
                             "--console", f"unix:{path}", append="viv.modules=virtio_pci,virtio_console")
        guest.expect(r"BOOTED\n")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(guest.timeout)
            client.connect(path)
            wanted = "".join(f"{i}\n" for i in range(1, 5001)).encode()
            got = b""
            while len(got) < len(wanted):
                data = client.recv(65536)
                self.assertTrue(data)
                got += data
            self.assertEqual(got, wanted)
            client.sendall(b"one\ntwo\n")
            guest.expect(r"one\ntwo\nEXIT 0\n")
        self.assertEqual(guest.wait(), 0)

    def test_a_disk_is_found_without_acpi_apics_or_messages(self):
        # Interrupts then come by the 8259s, or by INTx: as Interrupt Line, _PRT and $PIR say.
        for words, wire in (("acpi=off", "XT-PIC"), ("nolapic", "XT-PIC"), ("noapic pci=nomsi", "XT-PIC"),
                            ("pci=nomsi", "IO-APIC")):
            with self.subTest(words):
                disk = self.disk("a", MIB)
                with open(disk, "r+b") as f:
                    f.write(b"read by an interrupt\n")
                guest = vivtest.tiny(self, "head -n 1 /dev/vda; grep virtio /proc/interrupts", "--disk", disk,
                                     append=f"viv.modules=virtio_pci,virtio_blk {words}")
                text = guest.expect(r"(?s)BOOTED\n(.*)EXIT 0\n").group(1)
                guest.close()  # without ACPI it cannot power off
                self.assertIn("read by an interrupt\n", text)
                self.assertRegex(text, rf"(10|11|18): +[1-9][0-9]* +{wire}")


if __name__ == "__main__":
    vivtest.tap.main()
