#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What is KVM's alone: that auto takes it where it is real, and that software goes on where it gives up. For the lab;
skipped on hosts whose KVM is none."""
import json
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "guest"))
import mini  # noqa: E402
import vivtest  # noqa: E402

IOAPIC = 0xfec00000
PATIENCE = 1200  # software processors in an emulated machine on a busy host
VERSION_OF_ITS = 1
# What it says is worked out anew each time, by floating point and by vectors among others.
COUNT = ("n=0; while n=$((n + 1)); do s=$(echo $n | awk '{ x = $1 / 3.7; print int(x * 3.7 + 0.5) }'); [ $s = $n ] || echo wrong; "
         "[ \"$(echo $n | sha256sum)\" = \"$(echo $s | sha256sum)\" ] || echo wrong; echo n=$n; sleep 0.2; done")
CTL = pathlib.Path(vivtest.PROGRAM).resolve().with_name("viv-ctl")


def needs_kvm():
    done = subprocess.run([vivtest.PROGRAM, "--no-jail", "--cpu", "kvm", "--kernel", "/nowhere", "--serial", "none"],
                          capture_output=True, text=True, check=False)
    if "'kvm'" in done.stderr:
        raise unittest.SkipTest(done.stderr.strip())


def store(address, value):
    return b"\xc7\x05" + struct.pack("<II", address, value)


def exit_with_bits(address, shift, mask):
    """Ends the machine with a part of a register of a device as its code."""
    return (b"\xa1" + struct.pack("<I", address) + b"\xc1\xe8" + bytes([shift]) + b"\x25" + struct.pack("<I", mask) +
            b"\x66\xba\xf4\x00\xef" + mini.STOP)


class Kvm(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        needs_kvm()
        folder = tempfile.TemporaryDirectory(prefix="viv-kvm-")
        cls.addClassCleanup(folder.cleanup)
        cls.dir = pathlib.Path(folder.name)

    def machine(self, kernel, *options, env=None):
        image = self.dir / "kernel"
        image.write_bytes(mini.elf(kernel))
        return subprocess.run([vivtest.PROGRAM, "--name", "kvm", "--memory", "64M", "--kernel", image, "--nic", "none",
                               "--serial", "none", "--debug-exit", "--stats", *options], capture_output=True, text=True,
                              check=False, timeout=120, env=dict(os.environ, **(env or {})))

    def test_an_instruction_that_kvm_cannot_emulate_is_executed_in_software(self):
        # fninit; fildl (one); fistpl IOAPIC's index: KVM emulates no x87 instruction that accesses a device.
        one = 0x300000
        kernel = (store(one, VERSION_OF_ITS) + b"\xdb\xe3" + b"\xdb\x05" + struct.pack("<I", one) +
                  b"\xdb\x1d" + struct.pack("<I", IOAPIC) + exit_with_bits(IOAPIC + 16, 16, 0xff))
        # The same in 32-bit code with PAE paging, whose four topmost entries are in the processor.
        flat = [(0x310000, 0x311001), (0x310018, 0x312001), (0x311000, 0x83), (0x311008, 0x200083), (0x312000 + 8 * 502, 0xfec00083)]
        paging = (b"".join(store(*entry) for entry in flat) + b"\xb8\x00\x00\x31\x00\x0f\x22\xd8" +  # CR3
                  b"\xb8\x20\x06\x00\x00\x0f\x22\xe0" +  # CR4: PAE, OSFXSR, OSXMMEXCPT
                  b"\x0f\x20\xc0\x0d\x00\x00\x00\x80\x0f\x22\xc0")  # CR0: PG
        wanted = 23  # the highest entry of the redirection table
        for code, cpus in ((kernel, "1"), (kernel, "3"), (paging + kernel, "1")):
            done = self.machine(code, "--cpu", "kvm", "--cpus", cpus)
            self.assertEqual(done.returncode, wanted * 2 + 1, done.stderr)
            self.assertIn("the machine goes on with the software processor", done.stderr)
            self.assertRegex(done.stderr, r"cpu backend: soft \(KVM has failed: ")
            self.assertRegex(done.stderr, r"jail: user")

    def test_registers_that_the_model_has_not_are_not_there(self):
        def ends(msr, write):
            kernel = b"\xb9" + struct.pack("<I", msr) + b"\x31\xc0\x31\xd2" + (b"\x0f\x30" if write else b"\x0f\x32")
            return self.machine(kernel + mini.DEBUG_EXIT(5), "--cpu", "kvm", "--no-reboot").returncode
        for msr in (0xfe, 0x8b, 0x277):  # MTRRcap, microcode, PAT
            self.assertEqual(ends(msr, False), 11, hex(msr))
        self.assertEqual(ends(0x277, True), 11)
        for msr in (0x34f, 0x400, 0x480, 0xc0010015, 0x4b564d02, 0x40000000):  # of others, which KVM knows
            self.assertEqual(ends(msr, False), 3, hex(msr))

    def test_auto_takes_it_and_says_so(self):
        for n in range(10):  # a busy host may seem to hang
            (self.dir / "run").mkdir(mode=0o700, exist_ok=True)
            done = self.machine(mini.DEBUG_EXIT(5), "--cpu", "auto", env={"XDG_RUNTIME_DIR": str(self.dir / "run")})
            self.assertEqual(done.returncode, 11, done.stderr)
            if "hangs" not in done.stderr:
                break
        self.assertRegex(done.stderr, r"cpu backend: kvm \(auto: the host's KVM runs \d+ million instructions a second\)")
        kept = (self.dir / "run/vivarium-kvm").read_text(encoding="ascii")
        begin = time.monotonic()
        again = self.machine(mini.DEBUG_EXIT(5), "--cpu", "auto", env={"XDG_RUNTIME_DIR": str(self.dir / "run")})
        self.assertIn(kept.split(" ", 3)[3].strip(), again.stderr, begin)

    def ctl(self, *words):
        done = subprocess.run([CTL, *words], capture_output=True, text=True, timeout=PATIENCE, check=False)
        self.assertEqual(done.returncode, 0, f"{words}: {done.stderr}")
        return done

    def saved(self, cpu, cpus, place, *options):
        guest = vivtest.tiny(self, COUNT, "--cpu", cpu, "--cpus", str(cpus), "--control", f"unix:{self.dir}/save", *options,
                             timeout=PATIENCE)
        guest.expect(r"n=3\n")
        self.ctl(self.dir / "save", "snapshot", place, "--then", "quit")
        self.assertEqual(guest.wait(), 0)
        return int(guest.console.rstrip().rsplit("n=", 1)[1])

    def goes_on(self, cpu, last, place, then=None):
        """A saved machine with other processors: counts on; then ends, or is saved once more."""
        guest = vivtest.Guest([vivtest.VM, "--restore", str(place), "--cpu", cpu, "--control", f"unix:{self.dir}/go"], timeout=PATIENCE)
        self.addCleanup(guest.close)
        for n in range(last + 1, last + 5):  # none is left out, none comes twice
            self.assertEqual(guest.expect(r"n=(\d+)\n")[1], str(n))
        self.assertEqual(json.loads(self.ctl("--json", self.dir / "go", "status").stdout)["cpu"], cpu)
        if then:
            self.ctl(self.dir / "go", "snapshot", then, "--then", "quit")
        else:
            self.ctl(self.dir / "go", "quit")
        guest.wait()
        self.assertNotIn("wrong", guest.console)
        return int(guest.console.rstrip().rsplit("n=", 1)[1])

    def test_a_running_machine_goes_to_the_other_backend_and_back(self):
        for cpus in (1, 2):
            with self.subTest(cpus=cpus):
                places = [self.dir / f"{n}-{cpus}" for n in range(3)]
                last = self.saved("kvm", cpus, places[0])
                last = self.goes_on("soft", last, places[0], places[1])
                last = self.goes_on("kvm", last, places[1], places[2])
                self.goes_on("kvm", last, places[2])

    def test_what_kvm_lacks_is_refused_by_name_and_auto_takes_software(self):
        if "AuthenticAMD" not in pathlib.Path("/proc/cpuinfo").read_text(encoding="ascii"):
            self.skipTest("KVM lacks nothing here")
        place = self.dir / "calls"
        last = self.saved("soft", 2, place)
        words = [vivtest.VM, "--restore", str(place), "--control", f"unix:{self.dir}/go"]
        done = subprocess.run([*words, "--cpu", "kvm"], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
                              check=False)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertRegex(done.stderr, r"was told of features that .* lacks \(.*kvm-kick, kvm-ipi, kvm-yield\)")
        guest = vivtest.Guest([*words, "--cpu", "auto"], timeout=PATIENCE)
        self.addCleanup(guest.close)
        guest.expect(rf"n={last + 4}\n")
        status = json.loads(self.ctl("--json", self.dir / "go", "status").stdout)
        self.assertEqual(status["cpu"], "soft")
        self.assertIn("auto: ", status["cpu_why"])
        self.ctl(self.dir / "go", "quit")
        guest.wait()

    def test_native_is_what_kvm_gives_and_goes_on_under_kvm_only(self):
        place = self.dir / "native"
        last = self.saved("kvm", 2, place, "--cpu-model", "native")
        words = [vivtest.VM, "--restore", str(place), "--control", f"unix:{self.dir}/go"]
        done = subprocess.run([*words, "--cpu", "soft"], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
                              check=False)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("'native' is what the host's KVM gives", done.stderr)
        self.goes_on("kvm", last, place)

    def test_level_interrupts_come_again_and_again(self):
        """Each processor that is plugged in raises the SCI, which comes anew only when the end of the last was reported."""
        guest = vivtest.tiny(self, None, "--cpu", "kvm", "--cpus", "1,max=4", "--stats", "--control", f"unix:{self.dir}/sci",
                             timeout=PATIENCE)
        guest.expect("BOOTED")
        guest.shell()
        for cpus in (2, 3, 4):
            self.ctl(self.dir / "sci", "cpus-set", str(cpus))
            guest.check(f"(n=0; until [ $(cat /sys/devices/system/cpu/present) = 0-{cpus - 1} ]; do sleep 0.1; n=$((n + 1)); "
                        "[ $n = 300 ] && exit 1; done; true)", timeout=PATIENCE)
            guest.check(f"echo 1 >/sys/devices/system/cpu/cpu{cpus - 1}/online; [ $(nproc) = {cpus} ]", timeout=PATIENCE)
        guest.check("taskset 8 true && sleep 0.2", timeout=PATIENCE)
        guest.send_line("poweroff -f")
        self.assertEqual(guest.wait(), 0)
        self.assertGreaterEqual(self.counted(guest, "ends of level interrupts"), 3)

    def counted(self, guest, what):
        found = re.search(rf"(?m)^ *(\d+)  (?:\w+ \()?{what}", guest.stderr)
        return int(found[1]) if found else 0

    def test_kicks_and_interrupts_of_virtio_go_by_descriptors(self):
        disk = self.dir / "disk.raw"
        disk.write_bytes(b"")
        os.truncate(disk, 64 << 20)
        guest = vivtest.tiny(self, None, "--cpu", "kvm", "--cpus", "2", "--disk", str(disk), "--stats", "--control",
                             f"unix:{self.dir}/kicks", append="viv.modules=virtio_pci,virtio_blk", timeout=PATIENCE)
        guest.expect("BOOTED")
        guest.shell()
        guest.check("i=0; while [ $i -lt 40 ]; do dd if=/dev/urandom of=/tmp/a bs=64k count=4 2>/dev/null; "
                    "dd if=/tmp/a of=/dev/vda bs=64k seek=$((i * 4)) conv=fsync 2>/dev/null; "
                    "cat /tmp/a >>/tmp/all; i=$((i + 1)); done", timeout=PATIENCE)
        # Requests are under way at each pause; none is lost.
        guest.send_line("sync; (while :; do echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda of=/dev/null bs=64k count=160 2>/dev/null "
                        "|| echo failed; [ -e /tmp/stop ] && break; done) & echo begun")
        guest.expect("begun")
        for _ in range(20):
            self.ctl(self.dir / "kicks", "pause")
            self.ctl(self.dir / "kicks", "resume")
        guest.send_line("touch /tmp/stop; wait; echo waited")
        guest.expect("waited")
        guest.check("[ \"$(dd if=/dev/vda bs=256k count=40 2>/dev/null | sha256sum)\" = \"$(sha256sum </tmp/all)\" ]", timeout=PATIENCE)
        self.assertNotRegex(guest.console, r"(?m)^failed$")  # the shell repeats the loop when it ends
        guest.send_line("poweroff -f")
        self.assertEqual(guest.wait(), 0)
        self.assertGreater(self.counted(guest, "notifications of guests that came by a descriptor"), 50)
        self.assertGreater(self.counted(guest, "messages that devices raised by a descriptor"), 50)

    def test_a_guest_does_not_notice_that_kvm_failed(self):
        os.environ["VIV_KVM_FAIL_AFTER"] = "24000"  # at the end of a boot, or in what follows
        self.addCleanup(os.environ.pop, "VIV_KVM_FAIL_AFTER", None)
        for cpus in (1, 2):
            with self.subTest(cpus=cpus):
                guest = vivtest.tiny(self, None, "--cpu", "kvm", "--cpus", str(cpus), "--stats", "--control",
                                     f"unix:{self.dir}/control", timeout=PATIENCE)
                guest.expect("BOOTED")
                guest.shell()
                for first in range(1, 20000, 500):
                    status, text = guest.run(f"seq {first} {first + 499}", timeout=PATIENCE)
                    self.assertEqual((status, text.split()), (0, [str(n) for n in range(first, first + 500)]))
                    if "KVM has failed" in guest.stderr:
                        break
                guest.check(f"[ $(nproc) = {cpus} ] && sleep 1", timeout=PATIENCE)
                done = subprocess.run([CTL, "--json", self.dir / "control", "status"],
                                      capture_output=True, text=True, timeout=60, check=True)
                status = json.loads(done.stdout)
                self.assertEqual(status["cpu"], "soft")
                self.assertIn("KVM has failed", status["cpu_why"])
                guest.send_line("poweroff -f")
                self.assertEqual(guest.wait(), 0)


if __name__ == "__main__":
    vivtest.tap.main()
