#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's own cloud-init obeys the seed disk: user, key, host name, user data, static network.

It builds an image (scripts/guest.sh, some minutes, once) and boots it slowly, so it runs only with VIV_LONG=1.
VIV_CLOUD_GUEST names a folder with such an image that is there already; VIV_NETWORK=1 has it install a package too.
"""
import json
import os
import pathlib
import re
import socket
import subprocess
import sys

import manager
import test_manager
import vivtest

LIMIT = 900  # seconds, of a boot with cloud-init on a busy host
FOLDER = pathlib.Path(os.environ.get("VIV_CLOUD_GUEST", vivtest.ROOT / "build/guest-cloud"))

USER_DATA = """#cloud-config
write_files:
  - path: /etc/viv-test
    content: written by cloud-init
    permissions: '0640'
packages: {packages}
runcmd:
  - [sh, -c, 'echo run >/root/ran']
"""


class CloudInit(test_manager.Case):
    def sh(self, name, script, code=0):
        done = subprocess.run([manager.VIV, "exec", name, "--", "sh", "-c", script], env=self.m.env, text=True,
                              capture_output=True, timeout=LIMIT, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout

    def up(self, name, *flags):
        self.m.viv("create", name, "--image", "debian", "--memory", "512M", "--start", *flags)
        end = subprocess.run([manager.VIV, "wait", name, "--for", "ready", "--timeout", str(LIMIT)], env=self.m.env,
                             timeout=LIMIT + 60, check=False)
        self.assertEqual(end.returncode, 0)
        self.assertIn("status: done", self.sh(name, "cloud-init status --wait --long"))
        result = json.loads(self.sh(name, "cat /run/cloud-init/result.json"))["v1"]
        self.assertEqual(result["errors"], [])
        self.assertIn("NoCloud", result["datasource"])

    def test_a_stock_debian_becomes_what_the_flags_say(self):
        self.begin()
        self.m.wait_for_image("debian", FOLDER)
        key = self.m.home / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, stdin=subprocess.DEVNULL)
        data = self.m.home / "user-data"
        data.write_text(USER_DATA.format(packages="[tree]" if os.environ.get("VIV_NETWORK") else "[]"))
        self.up("one", "--user", "ada", "--ssh-key", f"{key}.pub", "--hostname", "box.example.org", "--user-data",
                str(data), "--forward", f"{self.port()}:22")
        said = self.sh("one", "hostname; hostname -f; cat /etc/viv-test; echo; stat -c %a /etc/viv-test; cat /root/ran;"
                              "id -un ada; passwd -S ada | cut -d' ' -f2; sudo -u ada sudo -n id -u;"
                              "ls -1d /home/* | wc -l")
        self.assertEqual(said.split("\n"), ["box", "box.example.org", "written by cloud-init", "640", "run", "ada", "L",
                                            "0", "1", ""])
        if os.environ.get("VIV_NETWORK"):
            self.sh("one", "command -v tree")
        ssh = subprocess.run(["ssh", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o",
                              "BatchMode=yes", "-i", key, "-p", str(self.ssh_port), "ada@127.0.0.1", "sudo", "id", "-u"],
                             capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(ssh.stdout, "0\n", ssh.stderr)
        self.assertIn("10.0.2.15", self.sh("one", "ip -4 -o addr"))
        nic = re.search(r": (e\w+) +inet", self.sh("one", "ip -4 -o addr")).group(1)
        self.m.viv("stop", "one")
        network = self.m.home / "network"
        network.write_text(f"version: 2\nethernets:\n  {nic}:\n    addresses: [10.0.2.77/24]\n    gateway4: 10.0.2.2\n"
                           "    nameservers: {addresses: [10.0.2.3]}\n")
        self.up("two", "--hostname", "static", "--network-config", str(network))
        addresses = self.sh("two", "ip -4 -o addr; ip route")
        self.assertIn("10.0.2.77/24", addresses)
        self.assertIn("default via 10.0.2.2", addresses)
        self.assertNotIn("10.0.2.15", addresses)
        self.assertEqual(self.sh("two", "hostname"), "static\n")

    def port(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.ssh_port = s.getsockname()[1]
        return self.ssh_port


def main():
    if not os.environ.get("VIV_LONG") and "VIV_CLOUD_GUEST" not in os.environ:
        print("skipped: VIV_LONG=1 builds an image with cloud-init and boots it, which takes ten minutes")
        sys.exit(77)
    if "VIV_CLOUD_GUEST" not in os.environ:
        subprocess.run([vivtest.ROOT / "scripts/guest.sh", "--output", FOLDER, "--packages", "cloud-init"], check=True)
    vivtest.tap.main()


if __name__ == "__main__":
    main()
