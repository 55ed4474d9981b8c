# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent in a Debian guest, asked through vsock by viv-guest; and sockets from the guest to the host."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time
import unittest

from vivtest import PROGRAM, VM, CPU, debian, tap

VIV_GUEST = str(pathlib.Path(PROGRAM).parent / "viv-guest")
VIV_CTL = str(pathlib.Path(PROGRAM).parent / "viv-ctl")
SECONDS = 120


class Agent(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = folder.name
        cls.vsock = os.path.join(cls.folder, "vsock")
        cls.control = os.path.join(cls.folder, "control")
        cls.guest = debian(cls, "--vsock", f"unix:{cls.vsock}", "--control", f"unix:{cls.control}")
        cls.guest.login()
        deadline = time.monotonic() + SECONDS
        while cls.ask("info").returncode == 124 and time.monotonic() < deadline:
            time.sleep(0.5)

    @classmethod
    def ask(cls, *words, options=(), **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run([VIV_GUEST, *options, cls.vsock, *words], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=SECONDS, **kw)

    def test_the_guest_says_what_it_is(self):
        got = json.loads(self.ask("info", options=["--json"]).stdout)
        self.assertEqual(got["hostname"], "vivarium")
        self.assertIn("Debian", got["system"])
        addresses = [a for i in got["interfaces"] for a in i["addresses"]]
        self.assertIn("10.0.2.15", addresses)

    def test_a_command_has_its_streams_and_its_exit_code(self):
        got = self.ask("exec", "--", "sh", "-c", "cat; echo to errors >&2; exit 7",
                       stdin=None, input=b"to output\n")
        self.assertEqual((got.returncode, got.stdout, got.stderr), (7, b"to output\n", b"to errors\n"))

    def test_much_goes_through_a_command_unchanged(self):
        data = os.urandom(3 << 20)
        got = self.ask("exec", "--", "cat", stdin=None, input=data)
        self.assertEqual(got.returncode, 0)
        self.assertTrue(got.stdout == data)

    def test_user_folder_and_environment_can_be_chosen(self):
        got = self.ask("exec", "-u", "nobody", "-w", "/tmp", "-e", "WORD=here", "--", "sh", "-c",
                       "id -un; pwd; echo $WORD")
        self.assertEqual(got.stdout, b"nobody\n/tmp\nhere\n")

    def test_a_command_can_have_a_terminal(self):
        got = self.ask("exec", "-t", "--", "sh", "-c", "tty; stty size")
        self.assertRegex(got.stdout, rb"^/dev/pts/\d+\r\n24 80\r\n$")

    def test_a_signal_reaches_the_command(self):
        with subprocess.Popen([VIV_GUEST, self.vsock, "exec", "--", "sh", "-c", "echo begun; sleep 1000"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as p:
            self.assertEqual(p.stdout.readline(), b"begun\n")
            p.send_signal(signal.SIGTERM)
            self.assertEqual(p.wait(SECONDS), 128 + signal.SIGTERM)

    def test_a_command_ends_with_its_connection(self):
        with subprocess.Popen([VIV_GUEST, self.vsock, "exec", "--", "sh", "-c", "echo begun; exec sleep 4711"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as p:
            self.assertEqual(p.stdout.readline(), b"begun\n")
            p.kill()
        deadline = time.monotonic() + SECONDS
        while self.ask("exec", "--", "pgrep", "-xf", "sleep 4711").returncode == 0:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.2)

    def test_what_cannot_be_run_is_told(self):
        got = self.ask("exec", "--", "/no/such/thing")
        self.assertEqual(got.returncode, 127)
        self.assertIn(b"'/no/such/thing' cannot be run: No such file", got.stderr)
        self.assertEqual(self.ask("exec", "--", "no-such-command").returncode, 127)
        got = self.ask("exec", "--", "/etc/passwd")
        self.assertEqual(got.returncode, 126)
        self.assertIn(b"'/etc/passwd' cannot be run: Permission denied", got.stderr)
        got = self.ask("exec", "-w", "/no/such/folder", "--", "true")
        self.assertEqual(got.returncode, 125)
        self.assertIn(b"folder '/no/such/folder': No such file", got.stderr)
        got = self.ask("exec", "-u", "nobody-like-that", "--", "true")
        self.assertEqual(got.returncode, 125)
        self.assertIn(b"no user 'nobody-like-that'", got.stderr)

    def test_files_go_in_and_out(self):
        path, back = (os.path.join(self.folder, n) for n in ("in", "out"))
        data = os.urandom(1 << 20)
        pathlib.Path(path).write_bytes(data)
        os.chmod(path, 0o640)
        self.assertEqual(self.ask("copy", path, "guest:/root/file").returncode, 0)
        self.assertEqual(self.ask("exec", "--", "stat", "-c", "%a", "/root/file").stdout, b"640\n")
        self.assertEqual(self.ask("copy", "guest:/root/file", back).returncode, 0)
        self.assertTrue(pathlib.Path(back).read_bytes() == data)
        got = self.ask("copy", "guest:/root", back)
        self.assertEqual(got.returncode, 125)
        self.assertIn(b"it is a folder", got.stderr)
        self.assertTrue(pathlib.Path(back).read_bytes() == data)
        self.assertEqual(self.ask("exec", "--", "ls", "/root").stdout.count(b"viv-"), 0)
        # Into folders by their names
        self.assertEqual(self.ask("copy", path, "guest:/root/").returncode, 0)
        self.assertEqual(self.ask("copy", "guest:/root/in", os.path.join(self.folder, "")).returncode, 0)
        self.assertTrue(pathlib.Path(path).read_bytes() == data)
        os.mkdir(os.path.join(self.folder, "sub"))
        self.assertEqual(self.ask("copy", "guest:/root/in", os.path.join(self.folder, "sub")).returncode, 0)
        self.assertTrue(pathlib.Path(self.folder, "sub/in").read_bytes() == data)

    def test_folders_go_in_and_out(self):
        top = pathlib.Path(self.folder, "tree")
        (top / "a" / "b").mkdir(parents=True)
        for n in range(100):
            (top / "a" / f"f{n}").write_bytes(os.urandom(n * 1000))
        (top / "a" / "b" / "link").symlink_to("../f1")
        (top / os.fsdecode(b"\xff")).write_text("a name that is no text")
        os.mkfifo(top / "pipe")
        os.chmod(top / "a" / "b", 0o750)
        got = self.ask("copy", top, "guest:/root")
        self.assertEqual(got.returncode, 125)
        self.assertIn(b"-r", got.stderr)
        got = self.ask("copy", "-r", top, "guest:/root")
        self.assertEqual(got.returncode, 0, got.stderr)
        self.assertIn(b"left out", got.stderr)
        self.assertEqual(self.ask("exec", "--", "stat", "-c", "%a", "/root/tree/a/b").stdout, b"750\n")
        back = pathlib.Path(self.folder, "back")
        got = self.ask("copy", "-r", "guest:/root/tree", back)
        self.assertEqual(got.returncode, 0, got.stderr)
        os.unlink(top / "pipe")
        self.assertEqual(subprocess.run(["diff", "-r", "--no-dereference", top, back], check=False).returncode, 0)
        # What is in it, into one that is there
        self.ask("exec", "--", "sh", "-c", "echo new > /root/tree/a/f5")
        self.assertEqual(self.ask("copy", "-r", "guest:/root/tree/.", back).returncode, 0)
        self.assertEqual((back / "a/f5").read_text(), "new\n")
        self.assertFalse((back / "tree").exists())
        got = self.ask("copy", "-r", "guest:/root/tree", "-")
        self.assertEqual(got.returncode, 125)
        self.assertIn(b"the output cannot take", got.stderr)
        (back / "b").mkdir()
        (back / "b" / "a").write_text("a file where a folder is to come")
        got = self.ask("copy", "-r", "guest:/root/tree/.", back / "b")
        self.assertEqual(got.returncode, 125)
        self.assertIn(b"a' cannot be written: Not a directory", got.stderr)
        got = self.ask("copy", "-r", "guest:/nowhere", back)
        self.assertIn(b"/nowhere", got.stderr)
        got = self.ask("copy", "-r", top, "guest:/nowhere/x")
        self.assertIn(b"'/nowhere/x' in the guest cannot be made", got.stderr)

    def test_the_clock_is_set(self):
        self.ask("exec", "--", "date", "-s", "2001-01-01")
        self.assertEqual(self.ask("time").returncode, 0)
        self.assertLess(abs(int(self.ask("exec", "--", "date", "+%s").stdout) - time.time()), 60)

    def test_frozen_file_systems_take_no_write_until_the_command_ends(self):
        script = (f"{VIV_GUEST} {self.vsock} exec -- sh -c 'timeout 2 touch /root/frozen'; echo $?;"
                  f"{VIV_GUEST} {self.vsock} exec -- sh -c 'touch /run/other'; echo $?")
        got = self.ask("freeze", "--", "sh", "-c", script)
        self.assertEqual(got.returncode, 0, got.stderr)
        # A write that waits for the thaw ends with it or by the signal: only /run is free meanwhile.
        self.assertEqual(got.stdout.split()[-1], b"0")
        self.assertNotEqual(got.stdout.split()[0], b"0")
        self.assertEqual(self.ask("exec", "--", "touch", "/root/thawed").returncode, 0)

    def test_the_guest_reaches_programs_of_the_host(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(self.vsock + "_7000")
            s.listen()
            s.settimeout(SECONDS)
            code = ("import socket as k; s = k.socket(k.AF_VSOCK); s.connect((2, 7000)); s.sendall(b'ask');"
                    "s.shutdown(k.SHUT_WR); print(s.recv(100).decode()); print(s.recv(100))")
            with subprocess.Popen([VIV_GUEST, self.vsock, "exec", "--", "python3", "-c", code],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as p:
                c, _ = s.accept()
                with c:
                    c.settimeout(SECONDS)
                    self.assertEqual(c.recv(100), b"ask")
                    self.assertEqual(c.recv(100), b"")
                    c.sendall(b"answer")
                self.assertEqual(p.stdout.read(), b"answer\nb''\n")
        got = self.ask("exec", "--", "python3", "-c",
                       "import socket as k; k.socket(k.AF_VSOCK).connect((2, 7001))")
        self.assertIn(b"reset", got.stderr)

    def test_a_restored_guest_is_told_that_connections_are_gone(self):
        folder = os.path.join(self.folder, "snapshot")
        with subprocess.Popen([VIV_GUEST, self.vsock, "freeze", "--", "sh", "-c",
                               f"{VIV_CTL} {self.control} snapshot {folder} >&2 && echo saved; sleep 1000"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True) as p:
            said = p.stdout.readline()
            os.killpg(p.pid, signal.SIGKILL)
        self.assertEqual(said, b"saved\n")
        other, control = os.path.join(self.folder, "other"), os.path.join(self.folder, "control2")
        disk = os.path.join(self.folder, "disk.raw")
        path = json.loads((pathlib.Path(folder) / "machine.json").read_text())["disks"][0]["path"]
        subprocess.run(["cp", "--reflink=auto", "--sparse=always", path, disk], check=True)
        with subprocess.Popen([VM, "--cpu", CPU, "--restore", folder, "--disk", disk, "--serial", "none", "--nic",
                               "user", "--vsock", f"unix:{other}", "--control", f"unix:{control}"]) as vm:
            try:
                deadline = time.monotonic() + SECONDS
                words = [VIV_GUEST, other, "exec", "--", "touch", "/root/thawed-by-restore"]
                while (code := subprocess.run(words, stdin=subprocess.DEVNULL, timeout=SECONDS).returncode) != 0:
                    self.assertIn(code, (123, 124))
                    self.assertLess(time.monotonic(), deadline)
                    time.sleep(0.2)
            finally:
                vm.kill()

    def test_clients_that_greet_wrongly_or_never_harm_nobody(self):
        def connect():
            s = socket.socket(socket.AF_UNIX)
            self.addCleanup(s.close)
            s.connect(self.vsock)  # waits while many others connect
            s.settimeout(SECONDS)
            return s

        def ended(s):
            try:
                return s.recv(1) == b""
            except ConnectionResetError:  # what it had sent was not read
                return True

        for greeting in (b"GET / HTTP/1.1\r\n", b"CONNECT\n", b"CONNECT -1\n", b"CONNECT 4294967296\n",
                         b"CONNECT 1 2\n", b"CONNECT " + b"1" * 100, b"\0\n", b"CONNECT 9\n"):
            s = connect()
            s.sendall(greeting)
            self.assertTrue(ended(s), greeting)
        silent = [connect() for _ in range(70)]
        self.assertEqual(self.ask("info").returncode, 0)
        self.assertTrue(ended(silent[0]))  # the oldest gave its place
        silent[-1].sendall(b"CONN")
        time.sleep(0.1)
        silent[-1].sendall(b"ECT 22089\n")
        self.assertEqual(silent[-1].recv(3), b"OK ")

    def test_nobody_there_is_told_from_refusals(self):
        got = subprocess.run([VIV_GUEST, "/no/such/socket", "info"], stderr=subprocess.PIPE)
        self.assertEqual(got.returncode, 124)
        self.assertIn(b"there is no socket", got.stderr)
        for words in (["nonsense"], ["exec"], ["copy", "a", "b"], ["freeze"], ["exec", "-u"]):
            self.assertEqual(self.ask(*words).returncode, 2, words)


if __name__ == "__main__":
    tap.main()
