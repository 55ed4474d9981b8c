#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""viv run oci:FILE: small machines of OCI images with our init, seen from the host; and viv run with a command for
any image."""
import os
import pty
import subprocess
import sys
import time
import unittest

import manager
import mini
import test_manager
import vivtest
from test_manager_agent import WITH_AGENT, image_with_agent

sys.path.insert(0, str(vivtest.ROOT / "tests/support"))
import ociimage as oci  # noqa: E402
from ociimage import entry, layer  # noqa: E402

LIMIT = manager.LIMIT


class Case(test_manager.Case):
    def begin_oci(self, *layers, **config):
        self.begin("linux")
        self.tar = self.image("box", *layers, **config)

    def image(self, name, *layers, **config):
        image = oci.Image()
        image.add(image.manifest([oci.busybox(), *layers], "+gzip", **config), "latest")
        return f"oci:{image.tar(self.m.home / f'{name}.tar')}"

    def run_it(self, *words, code=0, stdin=""):
        """stdout and stderr of viv run --rm."""
        done = subprocess.run([manager.VIV, "run", "--rm", "--memory", "128M", *words], env=self.m.env, text=True,
                              capture_output=True, timeout=LIMIT, check=False, input=stdin)
        self.assertEqual(done.returncode, code, f"{words}: {done.stdout}{done.stderr}")
        return done.stdout, done.stderr

    def sh(self, script, *flags, **kw):
        return self.run_it(*flags, self.tar, "--", "/bin/sh", "-c", script, **kw)


class Commands(Case):
    def test_a_command_is_what_it_is_here(self):
        self.begin_oci(Cmd=["/bin/false"])
        self.assertEqual(self.run_it(self.tar, "--", "/bin/echo", "hello"), ("hello\n", ""))
        images = self.api.get("/v1/images")["items"]
        self.assertEqual([i["name"][:4] for i in images], ["oci-", "tiny"])
        self.assertEqual(self.sh("cat; echo bad >&2; exit 7", code=7, stdin="in\n"), ("in\n", "bad\n"))
        self.assertEqual(self.sh("kill -9 $$", code=137), ("", ""))
        self.assertIn("cannot be run", self.run_it(self.tar, "--", "/nothing", code=127)[1])
        self.assertIn("cannot be run", self.run_it(self.tar, "--", "/etc", code=126)[1])
        self.assertEqual(self.api.get("/v1/vms")["items"], [])
        self.assertEqual([i["id"] for i in self.api.get("/v1/images")["items"]], [i["id"] for i in images])
        self.assertEqual(list((self.m.home / "machines").iterdir()), [])

    def test_the_image_says_how_it_is_run(self):
        self.begin_oci(layer(entry("app/run", b"#!/bin/sh\nid -un; id -G; pwd; echo $A $B $HOME; echo \"$@\"; cat /proc/self/comm\n",
                                   mode=0o755)),
                       Entrypoint=["/app/run", "first"], Cmd=["standard"], Env=["A=1", "B=two words"], User="user",
                       WorkingDir="/made/here")
        said, _ = self.run_it(self.tar)
        self.assertEqual(said.splitlines()[:5],
                         ["user", "1000 2000", "/made/here", "1 two words /home/user", "first standard"])
        said, _ = self.run_it("-e", "A=x,y", "-e", "HERE", "-e", "B=", self.tar, "--", "-v", "other")
        self.assertEqual(said.splitlines()[3:5], ["x,y /home/user", "first -v other"])
        self.tar = self.image("other", User="1234:70", Cmd=["/bin/sh", "-c", "id -u; id -g; pwd; exit 3"])
        self.assertEqual(self.run_it(self.tar, code=3)[0], "1234\n70\n/\n")
        self.assertEqual(self.run_it("--user", "user", self.tar, "--", "id", "-un")[0], "user\n")

    def test_the_machine_is_ready_for_it(self):
        self.begin_oci()
        said, _ = self.sh("hostname; cat /etc/hostname; grep -c nameserver /etc/resolv.conf; ip -4 -o addr show eth0 | wc -l;"
                          "ip route | grep -c default; echo x >/dev/shm/f && cat /dev/shm/f; echo err >/dev/stderr;"
                          "ls /dev/pts >/dev/null && echo pts; ping -c 1 -W 1 127.0.0.1 >/dev/null && echo up; "
                          "df / | tail -1 | grep -c /dev/vda; umask; touch /new && stat -c %u:%a /new", "--hostname", "boat")
        self.assertEqual(said.split(), ["boat", "boat", "1", "1", "1", "x", "pts", "up", "1", "0022", "0:644"])

    def test_orphans_are_buried(self):
        self.begin_oci()
        said, _ = self.sh("sh -c 'sleep 0.2 & sleep 0.1' ; sleep 0.5; ps | grep -c '[Z]ombie\\|\\[sleep\\]'", code=1)
        self.assertEqual(said, "0\n")

    def test_a_terminal_is_passed_through(self):
        self.begin_oci()
        self.sh("true")
        child, master = pty.fork()
        if child == 0:
            os.execvpe(manager.VIV, [manager.VIV, "run", "--rm", "--memory", "128M", self.tar, "--", "/bin/sh", "-c",
                                     "tty; read x; echo got $x; exit 5"], self.m.env)
        said = b""
        end = time.monotonic() + LIMIT
        while b"/dev/pts/" not in said and time.monotonic() < end:
            said += os.read(master, 1000)
        os.write(master, b"words\r")
        try:
            while time.monotonic() < end:
                said += os.read(master, 1000)
        except OSError:
            pass
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 5, said)
        self.assertIn(b"got words", said)

    def test_any_image_with_an_agent_runs_a_command(self):
        self.m.start()
        image_with_agent(self.m)
        self.assertEqual(self.run_it("--append", WITH_AGENT["append"], "-e", "A=b", "tiny", "--", "sh", "-c",
                                     "echo $A; exit 4", code=4)[0], "b\n")
        self.assertEqual(self.api.get("/v1/vms")["items"], [])
        done = self.m.viv("run", "--append", WITH_AGENT["append"], "--memory", "128M", "tiny", "--", "hostname")
        self.assertEqual(done, "tiny\n")
        self.assertEqual(self.api.vm("tiny")["status"]["state"], "stopped")

    def test_a_machine_that_ends_first_is_a_failure(self):
        self.m.start()
        self.m.image(mini.POWER_OFF)
        done = subprocess.run([manager.VIV, "run", "--rm", "--memory", "16M", "tiny", "--", "true"], env=self.m.env,
                              text=True, capture_output=True, timeout=LIMIT, check=False)
        self.assertEqual(done.returncode, 124, done.stderr)
        self.assertIn("has ended", done.stderr)
        self.assertIn("left running", self.m.viv("run", "--detach", "tiny", "--", "true", code=2))


class Machines(Case):
    def test_the_image_runs_its_own_command_and_tells_its_code(self):
        self.begin_oci(Cmd=["/bin/sh", "-c", "echo from the command; read word; exit 3"])
        self.m.viv("image", "import", "box", self.tar + ":latest")
        image = self.api.get("/v1/images/box")
        self.assertRegex(image["status"]["digest"], "^sha256:[0-9a-f]{64}$")
        self.m.viv("create", "one", "--image", "box", "--memory", "128M", "--start")
        console = self.console("one")
        self.until(console, b"from the command")
        console.sendall(b"end\r")
        self.api.get(f"/v1/vms/one/wait?for=stopped&timeout={LIMIT}")
        status = self.api.vm("one")["status"]
        self.assertEqual((status["state"], status.get("command_exit")), ("stopped", 3))
        # What it said is known after its end, and what it said before is not lost by another start.
        self.assertEqual(self.m.viv("logs", "one").count("from the command\n"), 1)
        self.m.viv("start", "one")
        self.m.wait_for(lambda: self.m.viv("logs", "one").count("from the command\n") == 2, "its word")
        self.m.kill()
        self.m.start()
        self.assertEqual(self.m.viv("logs", "one").count("from the command\n"), 2)

    def test_the_code_of_the_shortest_command_is_told(self):
        self.begin_oci(Cmd=["/bin/sh", "-c", "exit 5"])
        self.m.viv("image", "import", "box", self.tar + ":latest")
        self.m.create("one", image="box", memory=128 << 20, power="on")
        self.m.wait_for(lambda: self.api.vm("one")["status"]["state"] == "stopped", "its end")
        self.assertEqual(self.api.vm("one")["status"].get("command_exit"), 5)

    def test_a_template_of_one_runs_the_command_as_well(self):
        self.begin_oci(Cmd=["/bin/sh", "-c", "test -f /made && exit 7; echo x >/made; exit 3"])
        self.m.viv("image", "import", "box", self.tar + ":latest")
        for name, image, code in ("one", "box", 3), ("two", "base", 7), ("three", "again", 7):
            self.m.create(name, image=image, memory=128 << 20, power="on")
            self.m.wait_for(lambda: self.api.vm(name)["status"]["state"] == "stopped", "its end")
            self.assertEqual(self.api.vm(name)["status"].get("command_exit"), code)
            if name != "three":
                made = {"one": "base", "two": "again"}[name]
                self.m.viv("template", "create", made, "--from", name)
                self.assertEqual(self.api.get(f"/v1/images/{made}")["status"]["digest"],
                                 self.api.get("/v1/images/box")["status"]["digest"])

    def test_disks_live_on_and_grow_and_stop_is_heard(self):
        self.begin_oci(Cmd=["/bin/sh", "-c", "trap 'echo bye >/said; exit 0' TERM; while :; do sleep 0.1; done"])
        self.m.viv("image", "import", "box", self.tar)
        self.m.viv("create", "one", "--image", "box", "--memory", "128M", "--disk", "20G", "--start")
        self.m.viv("wait", "one", "--for", "ready", "--timeout", "100")
        blocks = int(self.m.viv("exec", "one", "--", "sh", "-c", "echo kept >/file; df -m / | tail -1 | awk '{print $2}'"))
        self.assertGreater(blocks, 19000)
        begin = time.monotonic()
        self.m.viv("stop", "one")
        self.assertLess(time.monotonic() - begin, 20)
        self.m.viv("start", "one")
        self.m.viv("wait", "one", "--for", "ready", "--timeout", "100")
        self.assertEqual(self.m.viv("exec", "one", "--", "cat", "/file", "/said"), "kept\nbye\n")

    def test_what_is_no_image_is_refused(self):
        self.begin_oci()
        self.assertIn("no image 'other'", self.run_it(self.tar + ":other", code=2)[1])
        self.assertIn("cannot be read", self.run_it("oci:/nonexistent", code=2)[1])
        bad = self.m.home / "bad.tar"
        data = bytearray((self.m.home / "box.tar").read_bytes())
        data[len(data) // 2] ^= 1
        bad.write_bytes(data)
        self.assertIn("damaged", self.run_it(f"oci:{bad}", "--", "true", code=1)[1])
        self.assertEqual([i["status"]["state"] for i in self.api.get("/v1/images")["items"] if i["name"] != "tiny"],
                         ["failed"])
        self.run_it(self.tar, "--", "true")


class Freeze(Case):
    def test_a_disk_that_was_frozen_for_its_snapshot_is_whole(self):
        self.begin("linux")
        self.tar = self.image("busy", layer(entry("busy")), Cmd=["/bin/sh", "-c",
                              "while :; do i=$((i+1)); echo $i >/busy/$((i % 50)); rm -f /busy/$((i % 37)); done"])
        self.m.viv("image", "import", "busy", self.tar)
        self.m.viv("create", "one", "--image", "busy", "--memory", "128M", "--start")
        self.m.viv("wait", "one", "--for", "ready", "--timeout", "100")
        self.m.viv("exec", "one", "--", "sh", "-c", "echo safe >/marker; sync; echo late >/marker2")
        self.m.viv("snapshot", "create", "one", "snap", "--memory=false")
        folder = self.m.home / "machines" / self.api.vm("one")["id"]
        self.assertTrue((folder / "disk.1.qcow2").exists())
        raw = self.m.home / "frozen.raw"
        subprocess.run([vivtest.ROOT / "build/viv-img", "convert", "-O", "raw", folder / "disk.qcow2", raw], check=True)
        env = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
        check = subprocess.run(["e2fsck", "-fn", raw], capture_output=True, text=True, check=False, env=env)
        self.assertEqual(check.returncode, 0, check.stdout)
        self.assertNotIn("recover", check.stdout)  # the journal has nothing to say
        for name, text in ("marker", b"safe\n"), ("marker2", b"late\n"):
            said = subprocess.run(["debugfs", "-R", f"cat /{name}", raw], capture_output=True, check=True, env=env)
            self.assertEqual(said.stdout, text)
        self.assertEqual(self.m.viv("exec", "one", "--", "sh", "-c", "echo thawed >/t; cat /t /marker"), "thawed\nsafe\n")


if __name__ == "__main__":
    vivtest.tap.main()
