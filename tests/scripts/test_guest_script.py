#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Where scripts/guest.sh takes Debian from. A program of a few lines stands in for mmdebstrap: it writes down what it is
called with, and fails as apt does."""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests/support")]
import tap  # noqa: E402

GONE = "E: The repository 'http://x {suite} Release' does not have a Release file."
OTHER = "E: Failed to fetch http://x/pool/main/a/apt.deb  404  Not Found"


class Mirrors(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="viv-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        for path in ("bin", "out"):
            (self.folder / path).mkdir()
        self.program("mmdebstrap", f'echo "${{@: -1}}" >>{self.folder}/asked; echo "$MESSAGE" >&2; exit 25')
        self.program("id", "echo 0")
        self.program("apt-get", "echo http://host.example/debian bookworm main Debian; echo http://host.example/debian bullseye main Debian")
        self.program("df", "echo Avail; echo 99999999")

    def program(self, name, text):
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)

    def build(self, *options, message, **env):
        """What mmdebstrap was asked for in turn, and what the script said last."""
        (self.folder / "asked").write_text("")
        env = {k: v for k, v in os.environ.items() if k not in ("VIV_MIRROR", "VIV_ARCHIVE")} | env
        env |= {"PATH": f"{self.folder}/bin:{env['PATH']}", "MESSAGE": message}
        done = subprocess.run([ROOT / "scripts/guest.sh", "--output", self.folder / "out", "--suite", "bullseye", *options],
                              env=env, capture_output=True, text=True, check=False, timeout=120)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        return (self.folder / "asked").read_text().splitlines(), done.stderr

    def test_what_the_host_s_mirror_has_no_more_comes_from_the_archive(self):
        asked, said = self.build(message=GONE)
        self.assertEqual(asked, ["deb http://host.example/debian bullseye main", "http://archive.debian.org/debian"])
        self.assertIn("Debian 11 (bullseye) cannot be had from the mirror of this host and http://archive.debian.org/debian.", said)
        self.assertIn("viv image build --mirror URL", said)
        asked, _ = self.build(message=GONE, VIV_ARCHIVE="http://old.example/debian")
        self.assertEqual(asked[1:], ["http://old.example/debian"])

    def test_a_mirror_that_was_named_is_not_left(self):
        asked, said = self.build("--mirror", "http://mine.example/debian", message=GONE)
        self.assertEqual(asked, ["http://mine.example/debian"])
        self.assertIn("Debian 11 (bullseye) cannot be had from http://mine.example/debian. Name a mirror", said)
        asked, _ = self.build(message=GONE, VIV_MIRROR="http://env.example/debian")
        self.assertEqual(asked, ["http://env.example/debian"])
        asked, _ = self.build("--packages", "vim", "--mirror", "http://mine.example/debian", message=GONE,
                              VIV_MIRROR="http://env.example/debian")
        self.assertEqual(asked, ["http://mine.example/debian"])

    def test_other_failures_are_told_as_they_are(self):
        asked, said = self.build(message=OTHER)
        self.assertEqual(len(asked), 1)
        self.assertIn("E: Failed to fetch http://x/pool", said)
        self.assertIn("--mirror URL of 'viv image build' names another mirror", said)


if __name__ == "__main__":
    tap.main()
