#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent in a guest by way of the manager: viv exec, cp, logs, wait, stop, and what the status says.
The guest is the tiny one with the agent added."""
import gzip
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import unittest

import manager
import mini
import vivtest

LIMIT = manager.LIMIT
AGENT = vivtest.ROOT / "build/viv-agent"


def member(name, mode, data):
    """One file of a cpio archive (newc)."""
    fields = (1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    text = b"070701" + b"".join(b"%08x" % f for f in fields) + name.encode() + b"\0"
    text += b"\0" * (-len(text) % 4)
    return text + data + b"\0" * (-len(data) % 4)


def image_with_agent(m, files=None):
    """`files`: more of them, data by name."""
    source = pathlib.Path(tempfile.mkdtemp(dir=m.home))
    (source / "vmlinuz").symlink_to(vivtest.GUEST / "vmlinuz")
    archive = member("bin/viv-agent", 0o100755, AGENT.read_bytes()) + member("sbin", 0o40755, b"")
    archive += b"".join(member(name, 0o100644, data) for name, data in (files or {}).items())
    # What the agent runs first: the guest's init is a shell that does not heed busybox' signal.
    archive += member("sbin/poweroff", 0o100755, b"#!/bin/sh\nexec /bin/busybox poweroff -f\n") + member("TRAILER!!!", 0, b"")
    (source / "tiny.cpio.gz").write_bytes((vivtest.GUEST / "tiny.cpio.gz").read_bytes() + gzip.compress(archive, 1))
    m.wait_for_image("tiny", source)


WITH_AGENT = {"memory": 128 << 20, "power": "on",
              "append": "viv.modules=virtio_pci,vmw_vsock_virtio_transport viv.run=viv-agent"}


class Agent(unittest.TestCase):
    def setUp(self):
        self.m = manager.Manager(self)
        self.api = self.m.api
        self.m.start()

    def ready(self, name="web", **spec):
        image_with_agent(self.m)
        self.m.create(name, **{**WITH_AGENT, **spec})
        self.m.viv("wait", name, "--for", "ready", "--timeout", str(LIMIT))

    def test_a_guest_without_cloud_init_is_told_who_it_is(self):
        keys = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE9wZW4gdGhlIGRvb3IgZm9yIHRoaXMga2V5ISE= a@b\n" \
               "# work\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE9wZW4gdGhlIGRvb3IgZm9yIHRoYXQga2V5ISE= c d\n"
        image_with_agent(self.m, {"etc/passwd": b"root:x:0:0::/root:/bin/sh\nada:x:7:8::/home/ada:/bin/sh\n"})
        self.m.create("web", **WITH_AGENT, ssh_key=keys, user="ada", hostname="box.example.org", user_data="#cloud-config\n{}\n")
        self.m.viv("wait", "web", "--for", "ready", "--timeout", str(LIMIT))
        script = "hostname; cat /home/ada/.ssh/authorized_keys; stat -c '%a %u:%g' /home/ada/.ssh /home/ada/.ssh/authorized_keys"
        code, out, said = self.run_viv("exec", "web", "--", "sh", "-c", script)
        self.assertEqual(code, 0, said)
        self.assertEqual(out.decode().splitlines(), ["box.example.org", *keys.splitlines(),
                                                     "700 7:8", "600 7:8"])
        failed = [e["text"] for e in self.api.get("/v1/events?name=web")["items"] if e["what"] == "introduce-failed"]
        self.assertEqual(len(failed), 1, failed)
        self.assertIn("no cloud-init", failed[0])
        self.assertIn("user_data", failed[0])

    def run_viv(self, *words, data=b""):
        done = subprocess.run([manager.VIV, *words], env=self.m.env, capture_output=True, timeout=LIMIT, input=data, check=False)
        return done.returncode, done.stdout, done.stderr

    def test_a_guest_with_an_agent_is_served(self):
        self.ready(network="user")
        status = self.api.vm("web")["status"]
        self.assertEqual((status["calls_itself"], "ready" in [e["what"] for e in self.api.get("/v1/events?kind=vm")["items"]]),
                         ("tiny", True))
        self.assertEqual(self.run_viv("exec", "web", "--", "sh", "-c", "cat; echo to errors >&2; exit 7", data=b"to output\n"),
                         (7, b"to output\n", b"to errors\n"))
        self.assertEqual(self.run_viv("exec", "web", "-w", "/tmp", "pwd"), (0, b"/tmp\n", b""))
        self.assertEqual(self.run_viv("exec", "-t", "web", "--", "tty")[1][:9], b"/dev/pts/")
        much = os.urandom(3 << 20)
        code, out, _ = self.run_viv("exec", "web", "cat", data=much)
        self.assertTrue((code, out) == (0, much))
        code, _, said = self.run_viv("exec", "web", "--", "/nonexistent")
        self.assertEqual(code, 127)
        self.assertIn(b"/nonexistent", said)
        self.assertEqual(self.run_viv("exec", "web", "--", "/tmp")[0], 126)
        self.assertEqual(self.run_viv("exec", "web", "-w", "/nonexistent", "true")[0], 125)
        # Files
        file = self.m.home / "file"
        file.write_bytes(much)
        self.m.viv("cp", str(file), "web:/root/file")
        self.m.viv("cp", "web:/root/file", str(self.m.home / "back"))
        self.assertTrue((self.m.home / "back").read_bytes() == much)
        self.assertIn("/nowhere", self.m.viv("cp", "web:/nowhere", "-", code=1))
        (self.m.home / "tree/sub").mkdir(parents=True)
        (self.m.home / "tree/sub/x").write_text("x")
        self.assertIn("-r", self.m.viv("cp", str(self.m.home / "tree"), "web:/root", code=1))
        self.m.viv("cp", "-r", str(self.m.home / "tree"), "web:/root")
        self.m.viv("cp", "web:/root/tree/sub/x", "--recursive", str(self.m.home / "tree"))
        self.assertEqual((self.m.home / "tree/x").read_text(), "x")
        self.assertIn("one of the two", self.m.viv("cp", "a", "b", code=2))
        self.assertIn("needs a FROM TO", self.m.viv("cp", "web:/a", code=2))
        # Addresses, once the guest has one
        self.run_viv("exec", "web", "--", "sh", "-c", "modprobe virtio_net; ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up")

        def told():  # who asks has it asked for again, at most every few seconds
            return "10.0.2.15" in self.api.vm("web")["status"]["addresses"]
        self.m.wait_for(told, "the address in the status")

    def test_a_command_ends_with_its_client_and_survives_the_manager_not(self):
        self.ready()
        with subprocess.Popen([manager.VIV, "exec", "web", "--", "sh", "-c", "echo begun; exec sleep 4711"], env=self.m.env,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as p:
            self.assertEqual(p.stdout.readline(), b"begun\n")
            p.kill()
        self.m.wait_for(lambda: b"sleep 4711" not in self.run_viv("exec", "web", "ps")[1], "its end")
        with subprocess.Popen([manager.VIV, "exec", "web", "--", "sh", "-c", "echo begun; exec sleep 4712"], env=self.m.env,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p:
            self.assertEqual(p.stdout.readline(), b"begun\n")
            p.send_signal(signal.SIGTERM)
            self.assertEqual(p.wait(LIMIT), 128 + signal.SIGTERM)
        with subprocess.Popen([manager.VIV, "exec", "web", "--", "sh", "-c", "echo begun; exec sleep 4713"], env=self.m.env,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p:
            self.assertEqual(p.stdout.readline(), b"begun\n")
            self.m.kill()
            self.assertEqual(p.wait(LIMIT), 123)
        self.m.start()
        self.m.viv("wait", "web", "--for", "ready", "--timeout", str(LIMIT))

    def test_stop_asks_the_agent(self):
        self.ready()  # its init leaves the power button alone
        self.m.viv("stop", "web", "--timeout", str(LIMIT))
        status = self.api.vm("web")["status"]
        self.assertEqual((status["state"], status["reason"]), ("stopped", "the guest powered off"))
        self.assertNotIn("agent", status)
        self.assertEqual(self.run_viv("exec", "web", "true")[0], 124)

    def test_who_does_not_read_holds_the_command_up_and_loses_nothing(self):
        self.ready()
        with subprocess.Popen([manager.VIV, "exec", "web", "--", "sh", "-c", "head -c 8000000 /dev/zero; echo end >&2"],
                              env=self.m.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p:
            self.assertEqual(len(p.stdout.read(1000)), 1000)
            self.assertEqual(self.run_viv("exec", "web", "echo", "others")[1], b"others\n")
            self.assertEqual(len(p.stdout.read()), 8000000 - 1000)
            self.assertEqual(p.stderr.read(), b"end\n")
            self.assertEqual(p.wait(LIMIT), 0)

    def test_a_guest_without_an_agent_is_told_of(self):
        self.m.image(mini.STOP)
        self.m.create("bare", power="on")
        self.api.settled("bare")
        code, _, said = self.run_viv("exec", "bare", "--wait-agent", "0", "true")
        self.assertEqual(code, 124)
        self.assertIn(b"agent", said)
        code, _, said = self.run_viv("exec", "bare", "--wait-agent", "1", "true")
        self.assertEqual(code, 124)
        self.assertIn(b"no agent answers in 'bare' after 1 s", said)
        self.assertIn("no agent", self.m.viv("ssh", "bare", "--wait-agent", "0", code=3))
        self.m.viv("wait", "bare", "--for", "ready", "--timeout", "0", code=7)
        self.assertEqual(self.run_viv("exec", "nope", "true")[0], 125)
        with self.assertRaises(manager.Failure) as caught:
            self.api.get("/v1/vms/bare/agent")
        self.assertEqual(caught.exception.body["field"], "Upgrade")
        self.m.viv("kill", "bare")
        self.assertEqual(self.run_viv("exec", "bare", "--wait-agent", "3600", "true")[0], 124)  # at once

    def test_who_comes_while_the_guest_boots_waits_for_its_agent(self):
        image_with_agent(self.m)
        self.m.create("web", **WITH_AGENT)
        self.assertEqual(self.run_viv("exec", "web", "echo", "up"), (0, b"up\n", b""))
        self.m.viv("restart", "web", "--timeout", "0")
        code, out, said = self.run_viv("cp", "web:/init", "-")
        self.assertEqual((code, said), (0, b""))
        self.assertIn(b"viv.run", out)
        self.m.viv("pause", "web")
        code, _, said = self.run_viv("exec", "web", "--wait-agent", "3600", "true")  # it is not waited for
        self.assertEqual(code, 124)
        self.assertIn(b"'web' is paused", said)

    def test_ssh_takes_the_way_and_the_user_that_there_are(self):
        bin_folder = self.m.home / "bin"
        bin_folder.mkdir()
        (bin_folder / "ssh").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 9\n')
        (bin_folder / "ssh").chmod(0o755)
        self.m.env["PATH"] = f"{bin_folder}:{self.m.env['PATH']}"
        server = socket.create_server(("127.0.0.1", 0))
        port = server.getsockname()[1]
        server.close()
        self.ready(network="user", forward=[f"{port}:22/udp"], user="bob", ssh_key="ssh-ed25519 AAAA bob")
        code, said, _ = self.run_viv("ssh", "web", "--", "uptime", "-p")
        words = said.decode().splitlines()
        self.assertEqual((code, words[-3:], "-lbob" in words), (9, ["web", "uptime", "-p"], True))
        self.assertTrue(any(w.startswith("ProxyCommand=") and "exec 'web'" in w for w in words), words)
        self.m.viv("forward", "add", "web", f"127.0.0.1:{port}:22")
        words = self.run_viv("ssh", "web", "-u", "root", "-i", "key")[1].decode().splitlines()
        self.assertEqual(([w for w in words if w.startswith(("-p", "-l"))], words[-1]), ([f"-p{port}", "-lroot"][::-1], "127.0.0.1"))
        self.assertEqual(words[words.index("-i") + 1], "key")

    def test_the_log_of_a_machine_is_shown_without_what_a_terminal_obeys(self):
        self.m.image(mini.STOP)
        vm = self.m.create("web")
        self.api.settled("web")
        self.assertEqual(self.m.viv("logs", "web", "--vm"), "")
        (self.m.home / "machines" / vm["id"] / "log").write_bytes(b"viv-vm: \x1b[2Jword\n")
        (self.m.home / "machines" / vm["id"] / "log.old").write_bytes(b"before\n")
        self.assertEqual(self.m.viv("logs", "web", "--vm"), "viv-vm: word\n")
        self.assertEqual(self.m.viv("logs", "web", "--old"), "before\n")


if __name__ == "__main__":
    vivtest.tap.main()
