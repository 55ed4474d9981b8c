#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# run: on every processor backend
"""A stock Debian 12: what a person who types "make run" meets, in the order of the alphabet of its names."""
import socket
import subprocess
import threading
import unittest

import vivtest


class Debian(unittest.TestCase):
    """One boot for all cases but the last, which ends it."""

    @classmethod
    def setUpClass(cls):
        cls.port = vivtest.free_port()
        cls.guest = vivtest.debian(cls, nic=f"user,forward=tcp:127.0.0.1:{cls.port}:22")
        cls.guest.login()

    def test_a_login_on_the_serial_port_works(self):
        self.assertIn("uid=0(root)", self.guest.check("id"))
        self.assertRegex(self.guest.check("uname -a"), r"^Linux vivarium 6\.1\.\S+-cloud-amd64 ")

    def test_b_boot_ends_without_a_failed_unit(self):
        self.guest.run("systemctl is-system-running --wait")
        self.assertEqual(self.guest.check("systemctl --failed --plain --no-legend"), "")

    def test_c_the_root_is_the_virtio_disk_and_keeps_what_is_written(self):
        self.assertRegex(self.guest.check("findmnt -no SOURCE /"), r"^/dev/vda")
        self.guest.check("dd if=/dev/urandom of=/root/x bs=64k count=64 status=none; cp /root/x /root/y; sync")
        self.guest.check("echo 3 >/proc/sys/vm/drop_caches; cmp /root/x /root/y; rm /root/x /root/y")

    def test_d_networkd_gets_a_lease(self):
        self.guest.check("n=120; until ip -4 -br addr show scope global | grep -q '10\\.0\\.2\\.[0-9]*/24'; "
                         "do sleep 1; [ $((n -= 1)) -gt 0 ] || exit 1; done")
        self.assertRegex(self.guest.check("ip route show default"), r"via 10\.0\.2\.2 ")

    def test_e_the_guest_reaches_a_server_on_the_host(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            def serve():
                client, _ = server.accept()
                with client:
                    client.sendall(b"you said " + client.recv(100))

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            script = ("import socket; s = socket.create_connection(('10.0.2.2', %d), 60); "
                      "s.sendall(b'hello'); print(s.recv(100).decode())" % server.getsockname()[1])
            self.assertEqual(self.guest.check(f'python3 -c "{script}"'), "you said hello\n")
            thread.join(10)

    def test_f_ssh_from_the_host_reaches_the_guest_through_a_forward(self):
        # A file of its own, since the key must be readable by nobody else and known hosts are not ours.
        done = subprocess.run(
            ["ssh", "-i", vivtest.GUEST / "id_ed25519", "-p", str(self.port), "-o", "BatchMode=yes",
             "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
             "-o", "ConnectTimeout=120", "root@127.0.0.1", "echo over ssh; hostname"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, "over ssh\nvivarium\n"), done.stderr)

    def test_z_the_power_button_ends_it_with_code_0(self):
        self.assertEqual(self.guest.power_off(), 0)


@vivtest.LONG_ON_REF
class WithoutAcpi(unittest.TestCase):
    def test_debian_boots_from_its_disk_and_has_its_network(self):
        guest = vivtest.debian(self, append="acpi=off")
        guest.login()
        self.assertRegex(guest.check("findmnt -no SOURCE /"), r"^/dev/vda")
        guest.check("n=120; until ip -4 -br addr show scope global | grep -q '10\\.0\\.2\\.[0-9]*/24'; "
                    "do sleep 1; [ $((n -= 1)) -gt 0 ] || exit 1; done")
        self.assertRegex(guest.check("cat /proc/interrupts"), r"XT-PIC +.*virtio")


if __name__ == "__main__":
    vivtest.tap.main()
