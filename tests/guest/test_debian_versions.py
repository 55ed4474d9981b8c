#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian 11 and 13, as scripts/guest.sh builds them, with everything that a person does first: the login on the
serial line, viv run with an exit code, exec, ssh, a live clone, stop.

It builds images (some minutes each), so it runs only with VIV_LONG=1. VIV_DEBIAN_GUESTS names a folder with the
images that are there already, in 11 and 13; VIV_MIRROR another mirror, which Debian 11 may need.
"""
import os
import pathlib
import subprocess
import sys

import manager
import test_manager
import vivtest

LIMIT = 900  # seconds, of a boot on a busy host
FOLDER = pathlib.Path(os.environ.get("VIV_DEBIAN_GUESTS", vivtest.ROOT / "build/guest-debian"))
SUITES = {"11": "bullseye", "13": "trixie"}


class Debian(test_manager.Case):
    def run_viv(self, *words, data=""):
        done = subprocess.run([manager.VIV, *words], env=self.m.env, text=True, input=data, capture_output=True,
                              timeout=LIMIT, check=False)
        return done.returncode, done.stdout, done.stderr

    def out(self, *words):
        code, out, err = self.run_viv(*words)
        self.assertEqual(code, 0, out + err)
        return out

    def lives(self, version):
        self.begin()
        image = f"debian-{version}"
        self.m.wait_for_image(image, FOLDER / version)
        self.out("create", "web", "--image", image, "--memory", "512M", "--start")
        s = self.console("web")
        s.settimeout(LIMIT)
        self.until(s, b"login: ")
        self.out("wait", "web", "--for", "ready", "--timeout", str(LIMIT))
        self.assertEqual(self.out("exec", "web", "--", "cut", "-d.", "-f1", "/etc/debian_version"), f"{version}\n")
        self.assertEqual(self.out("exec", "web", "--", "systemctl", "is-system-running", "--wait"), "running\n")
        self.assertEqual(self.run_viv("ssh", "web", "--", "cat; exit 4", data="through ssh\n")[:2], (4, "through ssh\n"))
        self.out("clone", "web", "web2", "--live")
        self.m.wait_for(lambda: [e for e in self.api.get("/v1/events?what=renewed")["items"] if e["name"] == "web2"],
                        "an identity of its own")
        ids = {self.out("exec", name, "--", "cat", "/etc/machine-id") for name in ("web", "web2")}
        self.assertEqual((len(ids), self.out("exec", "web2", "hostname")), (2, "web2\n"))
        self.out("rm", "web2", "--force")
        self.out("stop", "web")
        self.assertEqual(self.api.vm("web")["status"]["state"], "stopped")
        self.assertEqual(self.run_viv("run", "--rm", image, "--", "sh", "-c", "wc -l; exit 7", data="a\nb\n"), (7, "2\n", ""))

    def test_debian_11(self):
        self.lives("11")

    def test_debian_13(self):
        self.lives("13")


def main():
    if not os.environ.get("VIV_LONG") and "VIV_DEBIAN_GUESTS" not in os.environ:
        print("skipped: VIV_LONG=1 builds images of Debian 11 and 13 and boots them, which takes some twenty minutes")
        sys.exit(77)
    if "VIV_DEBIAN_GUESTS" not in os.environ:
        for version, suite in SUITES.items():
            subprocess.run([vivtest.ROOT / "scripts/guest.sh", "--output", FOLDER / version, "--suite", suite], check=True)
    vivtest.tap.main()


if __name__ == "__main__":
    main()
