#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""make install and make deb: what is where, and that it works from there; the package goes into a folder of its own by
dpkg, is upgraded, removed and purged, while a machine runs.

The package is installed with --force-depends into a root that has no other package: the whole with its dependencies
takes a Debian (docs/install.md), which would take minutes here."""
import fcntl
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "tests/guest")]
sys.dont_write_bytecode = True
import mini  # noqa: E402
import tap  # noqa: E402

LIMIT = 120
PROGRAMS = ["viv", "viv-ctl", "viv-guest", "viv-img", "viv-net", "viv-oci", "viv-state", "viv-vm", "vivd"]


def run(*words, **kw):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=LIMIT, check=False, **kw)
    if done.returncode:
        raise AssertionError(f"{words}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="viv-install-")
        cls.addClassCleanup(folder.cleanup)
        cls.dir = pathlib.Path(folder.name)

    def machine(self, bin_folder):
        """A manager and a machine of these programs, with nothing of the sources; ended with the test."""
        home = pathlib.Path(tempfile.mkdtemp(dir=self.dir, prefix="home-"))
        env = {"PATH": "/usr/bin:/bin", "VIV_HOME": str(home), "VIV_IMAGE_SOURCE": str(home / "source")}
        (home / "source").mkdir()
        (home / "source/vmlinuz").write_bytes(mini.elf(mini.STOP))
        (home / "source/tiny.cpio.gz").write_bytes(b"none")

        def end():
            for name in ("vivd", "viv-vm"):
                for exe in pathlib.Path("/proc").glob("[0-9]*/exe"):
                    try:
                        if os.readlink(exe).split(" ")[0] == str(bin_folder / name):
                            os.kill(int(exe.parent.name), signal.SIGKILL)
                    except OSError:
                        pass
        self.addCleanup(end)
        return lambda *words, **more: run(bin_folder / "viv", *words, env={**env, **more})


class Install(Case):
    def verify(self, kind, unit):
        """What systemd has to say of it, if it is there."""
        if not shutil.which("systemd-analyze"):
            return
        folder = self.dir / f"units-{kind}"
        folder.mkdir()
        (folder / "vivd.service").write_text(unit)
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", f"--{kind}", folder / "vivd.service"], text=True,
                              env={**os.environ, "XDG_RUNTIME_DIR": str(folder)}, capture_output=True, check=False)
        self.assertEqual([line for line in done.stderr.splitlines() if "vivd" in line], [])

    def test_everything_is_installed_and_finds_its_parts(self):
        top = self.dir / "root"
        run(ROOT / "scripts/install.sh", top, "/opt/viv")
        prefix = top / "opt/viv"
        self.assertEqual(sorted(p.name for p in (prefix / "bin").iterdir()), PROGRAMS)
        self.assertTrue(os.access(prefix / "lib/vivarium/viv-agent", os.X_OK))
        for name in PROGRAMS:
            page = prefix / "share/man/man1" / f"{name}.1"
            self.assertTrue(page.read_text().startswith(".TH "), name)
            self.assertIn(".SH SYNOPSIS", page.read_text())
        for script in (prefix / "share/bash-completion/completions").iterdir():
            run("bash", "-n", script)
        self.assertTrue((prefix / "share/zsh/vendor-completions/_viv").read_text().startswith("#compdef viv"))
        self.assertIn("complete -c viv", (prefix / "share/fish/vendor_completions.d/viv.fish").read_text())
        for kind in ("system", "user"):
            unit = (prefix / "lib/systemd" / kind / "vivd.service").read_text()
            self.assertRegex(unit, r"(?m)^ExecStart=/opt/viv/bin/vivd ")
            self.assertRegex(unit, r"(?m)^KillMode=process$")  # machines outlive it
            self.assertNotIn("@", re.sub(r"(?m)^#.*", "", unit))
            self.assertNotIn("MemoryDenyWriteExecute", re.sub(r"(?m)^#.*", "", unit))
            self.verify(kind, unit.replace("/opt/viv", str(prefix)))
        self.assertEqual(len(files(prefix)), 2 * len(PROGRAMS) + 10)
        viv = self.machine(prefix / "bin")
        viv("image", "build", "tiny")
        viv("create", "m", "--image", "tiny", "--memory", "16M", "--network", "none", "--start")
        self.assertIn("running", viv("list"))
        viv("rm", "m", "--force")
        # The script for images finds its agent; without one it would say so first.
        agent = prefix / "lib/vivarium/viv-agent"
        script = prefix / "share/vivarium/guest.sh"
        fake = self.dir / "fake"
        fake.mkdir()
        (fake / "mmdebstrap").write_text("#!/bin/sh\necho 'no network here' >&2\nexit 9\n")
        (fake / "mmdebstrap").chmod(0o755)
        env = dict(os.environ, PATH=f"{fake}:{os.environ['PATH']}")
        said = subprocess.run([script, "--output", self.dir / "guest"], env=env, capture_output=True, text=True,
                              timeout=LIMIT, check=False).stderr
        self.assertIn("no network here", said)
        with self.assertRaises(AssertionError) as failed:
            self.machine(prefix / "bin")("image", "build", "debian:13", PATH=env["PATH"])
        self.assertIn("no network here", str(failed.exception))
        log = re.search(r"'(/.*/build\.log)'", str(failed.exception))[1]
        self.assertEqual(pathlib.Path(log).read_text().splitlines()[-1], "no network here")
        agent.unlink()
        said = subprocess.run([script, "--output", self.dir / "guest"], env=env, capture_output=True, text=True,
                              timeout=LIMIT, check=False).stderr
        self.assertIn("the agent", said)
        self.assertNotIn("no network here", said)

    def test_a_relative_prefix_is_refused(self):
        done = subprocess.run([ROOT / "scripts/install.sh", self.dir, "usr"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("absolute", done.stderr)


@unittest.skipUnless(shutil.which("dpkg-shlibdeps"), "dpkg-dev is not installed")
class Package(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if not (ROOT / "build/web/dist/licences.txt").is_file():
            raise unittest.SkipTest("the portal was not built (npm or its registry was missing), and a package must have it")
        run(ROOT / "scripts/deb.sh", cls.dir)
        cls.deb = next(cls.dir.glob("vivarium_*.deb"))

    def field(self, name):
        return run("dpkg-deb", "-f", self.deb, name).strip()

    def test_the_package_says_what_it_is_and_what_it_needs(self):
        self.assertEqual((self.field("Package"), self.field("Version")),
                         ("vivarium", re.search(r"version: '(.*)'", (ROOT / "meson.build").read_text())[1]))
        needs = {word.split()[0] for word in self.field("Depends").split(", ")}
        self.assertGreaterEqual(needs, {"libc6", "libslirp0", "libsqlite3-0", "passwd"})
        self.assertNotIn("@", self.field("Depends") + self.field("Installed-Size"))
        listed = run("dpkg-deb", "-c", self.deb).splitlines()
        self.assertTrue(all(" root/root " in line for line in listed))
        self.assertFalse([line for line in listed if re.match(r".{5}w|.{8}w|.{3}[sS]", line)])  # writable, setuid
        for script in ("preinst", "postinst", "prerm", "postrm"):
            if (path := self.control() / script).exists():
                run("sh", "-n", path)
                self.assertNotRegex(path.read_text(), r"kill|systemctl stop|read ")

    def control(self):
        folder = self.dir / "control"
        if not folder.exists():
            run("dpkg-deb", "-e", self.deb, folder)
        return folder

    def test_the_sums_are_those_of_the_files(self):
        tree = self.dir / "tree"
        run("dpkg-deb", "-x", self.deb, tree)
        run("md5sum", "--quiet", "-c", self.control() / "md5sums", cwd=tree)
        self.assertEqual(len((self.control() / "md5sums").read_text().splitlines()), len(files(tree)))

    def test_the_same_sources_give_the_same_package(self):
        again = self.dir / "again"
        again.mkdir()
        run(ROOT / "scripts/deb.sh", again)
        self.assertEqual((again / self.deb.name).read_bytes(), self.deb.read_bytes())

    @unittest.skipUnless(os.geteuid() == 0, "dpkg installs as root only")
    def test_it_is_installed_upgraded_removed_and_purged_while_a_machine_runs(self):
        root = self.dir / "system"
        for folder in ("var/lib/dpkg/updates", "var/lib/dpkg/info", "var/log"):
            (root / folder).mkdir(parents=True)
        (root / "var/lib/dpkg/status").touch()
        # Its scripts act on the system that they run in: here they only say that they were called. What they do
        # is tried by themselves below.
        mute = self.dir / "mute"
        run("dpkg-deb", "-R", self.deb, mute)
        calls = self.dir / "calls"
        for script in ("postinst", "prerm", "postrm"):
            (mute / "DEBIAN" / script).write_text(f'#!/bin/sh\necho {script} "$1" >>{calls}\n')
        run("dpkg-deb", "--build", "--root-owner-group", mute, self.dir / "one.deb")
        control = (mute / "DEBIAN/control").read_text()
        (mute / "DEBIAN/control").write_text(re.sub(r"(?m)^Version: .*", "Version: 99", control))
        run("dpkg-deb", "--build", "--root-owner-group", mute, self.dir / "two.deb")
        dpkg = ("dpkg", f"--root={root}", "--force-depends", "--force-script-chrootless", "--force-not-root")
        run(*dpkg, "-i", self.dir / "one.deb")
        viv = self.machine(root / "usr/bin")
        viv("image", "build", "tiny")
        viv("create", "m", "--image", "tiny", "--memory", "16M", "--network", "none", "--start")
        pid = re.search(r"(?m)^pid +(\d+)", viv("show", "m"))[1]
        run(*dpkg, "-i", self.dir / "two.deb")
        self.assertEqual(re.search(r"(?m)^pid +(\d+)", viv("show", "m"))[1], pid)  # the same process, still running
        self.assertIn("running", viv("list"))
        run(*dpkg, "-r", "vivarium")
        self.assertFalse((root / "usr").exists() and files(root / "usr"))
        os.kill(int(pid), 0)
        run(*dpkg, "-P", "vivarium")
        self.assertEqual(calls.read_text().splitlines(),
                         ["postinst configure", "prerm upgrade", "postrm upgrade", "postinst configure",
                          "prerm remove", "postrm remove", "postrm purge"])

    @unittest.skipUnless(os.geteuid() == 0, "a folder of the system is needed")
    def test_a_purge_removes_what_is_ours_unless_a_machine_runs(self):
        top = self.dir / "purge"
        lock = top / "var/lib/vivarium/machines/vm-1/lock"
        lock.parent.mkdir(parents=True)
        lock.touch()
        other = top / "var/lib/other"
        other.mkdir()
        # The script with its folders below ours and with programs that only say what they were asked.
        text = (self.control() / "postrm").read_text()
        self.assertEqual(text.count("/var/lib/vivarium"), 3)
        script = self.dir / "postrm"
        script.write_text(re.sub(r"/(var/lib|run)/vivarium", rf"{top}/\1/vivarium", text))
        said = self.dir / "userdel.said"
        tools = self.dir / "tools"
        tools.mkdir()
        (tools / "userdel").write_text(f'#!/bin/sh\necho "$@" >>{said}\n')
        (tools / "getent").write_text("#!/bin/sh\nexit 0\n")
        for tool in tools.iterdir():
            tool.chmod(0o755)
        env = {"PATH": f"{tools}:/usr/bin:/bin"}
        with open(lock, "rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            done = subprocess.run(["sh", script, "purge"], env=env, capture_output=True, text=True, check=False,
                                  stdin=subprocess.DEVNULL)
            self.assertEqual(done.returncode, 0)
            self.assertIn("still run", done.stderr)
            self.assertTrue(lock.exists())
            self.assertFalse(said.exists())
        run("sh", script, "remove", env=env)
        self.assertTrue(lock.exists())  # only a purge takes data away
        run("sh", script, "purge", env=env)
        self.assertFalse((top / "var/lib/vivarium").exists())
        self.assertTrue(other.exists())
        self.assertEqual(said.read_text(), "vivarium\n")


if __name__ == "__main__":
    tap.main()
