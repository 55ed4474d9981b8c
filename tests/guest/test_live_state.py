#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# run: long
"""A machine with a device of every kind is saved, ended and restored at random moments while all of them work.

VIV_LIVE_ROUNDS says how often (6), VIV_LIVE_SEED repeats the moments."""
import base64
import functools
import http.server
import json
import os
import pathlib
import random
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import initrd
import vivtest
from packages import unpacked
from png import read_png
from test_plug_drivers import kernel_package

CTL = pathlib.Path(vivtest.PROGRAM).with_name("viv-ctl")
HERE = pathlib.Path(__file__).parent
ROUNDS = int(os.environ.get("VIV_LIVE_ROUNDS", "6"))
SEED = int(os.environ.get("VIV_LIVE_SEED", random.randrange(1 << 30)))
MIB = 1 << 20
DRIVERS = ("virtio_pci", "virtio_blk", "nvme", "virtio_scsi", "ahci", "ata_piix", "sd_mod", "sr_mod", "e1000e", "virtio_net",
           "virtio_balloon", "virtio_mem", "virtiofs", "vmw_vsock_virtio_transport", "virtio-gpu", "virtio_input", "evdev",
           "virtio_rng")
# Each disk is written in stretches, each with the number of its round, which are read back past the cache.
DISK = """
disk() {
    n=0
    while :; do
        n=$((n + 1))
        yes "$1 $n of this disk" | head -c 300000 >/tmp/$1.data
        dd if=/tmp/$1.data of=/dev/$1 bs=20000 seek=$((n % 20 * 15)) conv=notrunc,fsync 2>/tmp/$1.err || { cp /tmp/$1.err /tmp/bad.$1; return; }
        echo 1 >/proc/sys/vm/drop_caches
        dd if=/dev/$1 bs=20000 skip=$((n % 20 * 15)) count=15 2>/dev/null | cmp - /tmp/$1.data || { echo differs >/tmp/bad.$1; return; }
        echo $n >/tmp/ok.$1
        usleep 50000
    done
}
"""
# Of the medium, the folder, the clock: what is to be the same each time. A download may break, as its connection
# ends with the process; what comes whole is right.
REST = """
again() { # NAME COMMAND, whose output stays
    first=$(sh -c "$2" 2>&1); n=0
    while :; do
        [ "$(sh -c "$2" 2>&1)" = "$first" ] || { echo "not $first" >/tmp/bad.$1; return; }
        echo $((n += 1)) >/tmp/ok.$1
        usleep 50000
    done
}
folder() {
    n=0
    while :; do
        echo $((n += 1)) >/s/in.new && mv /s/in.new /s/in && [ "$(cat /s/in)" = $n ] || { echo $n >/tmp/bad.folder; return; }
        echo $n >/tmp/ok.folder
        usleep 50000
    done
}
clock() {
    n=0; last=0
    while :; do
        now=$(cut -d' ' -f1 /proc/uptime | tr -d .)
        [ $now -ge $last ] || { echo "$now after $last" >/tmp/bad.clock; return; }
        last=$now; usleep 20000; echo $((n += 1)) >/tmp/ok.clock
    done
}
net() {
    n=0
    while :; do
        sum=$(timeout 5 wget -q -O- $1 2>/dev/null | md5sum | cut -d' ' -f1)
        [ $sum = $2 ] && echo $((n += 1)) >/tmp/ok.net
        usleep 100000
    done
}
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Machine(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="viv-live-")
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)
        self.random = random.Random(SEED)
        self.saved = 0

    def file(self, name, size):
        with open(self.dir / name, "wb") as f:
            f.truncate(size)
        return self.dir / name

    def ctl(self, *words):
        done = subprocess.run([CTL, "--json", self.dir / "ctl", *map(str, words)], capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, f"{words}: {done.stderr} (VIV_LIVE_SEED={SEED})")
        return json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else {}

    def save(self, guest):
        """Saved as a whole or as an increment, ended, and restored: the guest of the next life."""
        name, before = self.dir / f"s{self.saved}", self.dir / f"s{self.saved - 1}"
        more = ["--parent", before] if self.saved % 2 else []
        self.ctl("snapshot", name, "--then", "quit", *more)
        self.assertEqual(guest.wait(120), 0, guest.stderr)
        self.saved += 1
        again = vivtest.Guest([vivtest.PROGRAM, "--cpu", vivtest.CPU, "--restore", str(name), "--serial", "stdio", "--control",
                               f"unix:{self.dir}/ctl"], timeout=300)
        self.addCleanup(again.close)
        self.until("the socket", lambda: (self.dir / "ctl").exists())
        if self.saved > 2:
            shutil.rmtree(self.dir / f"s{self.saved - 3}", ignore_errors=True)
        return again

    def until(self, what, condition, seconds=120):
        end = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), end, f"{what} (VIV_LIVE_SEED={SEED})")
            time.sleep(0.1)


class Everything(Machine):
    def drivers(self, folder):
        """The drivers of Debian's usual kernel, and two programs of ours."""
        files = unpacked(kernel_package())
        version = next((files / "lib/modules").iterdir()).name
        base = files / "lib/modules" / version
        there = {f.stem.replace("-", "_"): f for f in base.rglob("*.ko")}
        needs = {}  # without depmod: a module tells itself what it needs

        def take(name):
            if name in needs or name not in there:  # or built in
                return
            text = re.search(rb"depends=([^\0]*)\0", there[name].read_bytes())[1].decode().replace("-", "_")
            needs[name] = [n for n in text.split(",") if n in there]
            for n in needs[name]:
                take(n)

        def all_of(name):
            return [n for one in needs[name] for n in [one, *all_of(one)]]

        for name in DRIVERS:
            take(name.replace("-", "_"))
        path = {n: str(there[n].relative_to(base)) for n in needs}
        (folder / "modules.dep").write_text("".join(
            f"{path[n]}: {' '.join(path[x] for x in [*dict.fromkeys(all_of(n)[::-1])][::-1])}\n" for n in needs))
        (folder / "work.sh").write_text(DISK + REST)
        subprocess.run([os.environ.get("CC", "gcc"), "-O2", "-static", "-o", folder / "vsock", HERE / "vsock.c"], check=True)
        tree = {f"lib/modules/{version}/{f}": base / f for f in path.values()}
        tree |= {f"lib/modules/{version}/modules.dep": folder / "modules.dep", "work.sh": folder / "work.sh",
                 "vsock": folder / "vsock"}
        return next(files.glob("boot/vmlinuz-*")), initrd.with_tree(tree, folder / "initrd")

    def serve(self):
        (self.dir / "www").mkdir()
        (self.dir / "www/file").write_bytes(self.random.randbytes(200000))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=self.dir / "www"))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f"http://10.0.2.2:{server.server_port}/file"

    def boot(self, *options):
        kernel, initial = self.drivers(self.dir)
        (self.dir / "cd").write_bytes(self.random.randbytes(3 * MIB))
        (self.dir / "share").mkdir()
        disks = [w for bus in ("virtio", "nvme", "scsi", "sata", "ide")
                 for w in ("--disk", f"{self.file(bus, 8 * MIB)},bus={bus},serial={bus}")]
        guest = vivtest.Guest([
            vivtest.PROGRAM, "--cpu", vivtest.CPU, "--kernel", str(kernel), "--initrd", initial, "--append",
            "console=ttyS0 quiet vt.global_cursor_default=0 clocksource=hpet memhp_default_state=online_movable viv.modules=" + ",".join(DRIVERS),
            "--cpus", "2,max=4", "--memory", "512M,max=1G", *disks, "--cdrom", str(self.dir / "cd"), "--nic",
            "user,model=e1000e", "--nic", "user", "--hpet", "on", "--vga", "virtio", "--display", "none", "--balloon", "--vsock",
            f"unix:{self.dir}/vsock.sock", "--share", f"work={self.dir}/share", "--serial", "stdio", "--control",
            f"unix:{self.dir}/ctl", *options], timeout=300)
        self.addCleanup(guest.close)
        guest.expect("BOOTED")
        guest.shell()
        return guest

    def find(self, guest):
        """The disks by what they are called here."""
        guest.check("n=0; until [ -e /dev/vda -a -e /dev/nvme0n1 -a -e /dev/sda -a -e /dev/sdb -a -e /dev/sdc -a -e /dev/sr0 ] || "
                    "[ $n = 300 ]; do usleep 100000; n=$((n + 1)); done; ls /dev/sdc /dev/sr0 /dev/nvme0n1 /dev/vda")
        return ["vda", "nvme0n1", "sda", "sdb", "sdc"]

    def echo(self, text):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(120)
            s.connect(str(self.dir / "vsock.sock"))
            s.sendall(b"CONNECT 1000\n")
            f = s.makefile("rwb")
            self.assertTrue(f.readline().startswith(b"OK"))
            f.write(text)
            f.flush()
            self.assertEqual(f.read(len(text)), text)

    def counts(self, guest):
        text = guest.check("cd /tmp; grep . ok.*; for f in bad.*; do [ -e $f ] && echo WRONG $f $(cat $f); done; true")
        return dict((n, int(v)) for n, v in re.findall(r"^ok\.(\S+?):(\d+)$", text, re.M)), text

    def go_on(self, guest, names):
        """All of them get further than they are."""
        before, _ = self.counts(guest)
        end = time.monotonic() + 240
        while True:
            now, text = self.counts(guest)
            stuck = [n for n in names if now.get(n, 0) <= before.get(n, 0)]
            self.assertNotIn("WRONG", text, f"VIV_LIVE_SEED={SEED}")
            if re.search("Segmentation|BUG:", guest.console):
                self.fail(guest.check("dmesg | grep -v drop_caches | tail -n 12") + f" (VIV_LIVE_SEED={SEED})")
            if not stuck:
                return
            if time.monotonic() > end:
                more = guest.check("dmesg | grep -v drop_caches | tail -n 30; ls -l /sys/block; cat /proc/interrupts; "
                                   "grep . /sys/block/*/inflight; for p in /proc/[0-9]*; do grep -q '(dd)' $p/stat && "
                                   "cat $p/stat $p/wchan; done; true")
                self.fail(f"{stuck} stand still: {text}{more} (VIV_LIVE_SEED={SEED})")
            time.sleep(0.2)

    def keys(self, guest):
        """The keyboard of virtio has a reader."""
        before = int(guest.check("wc -c </tmp/keys"))
        self.until("a key", lambda: (self.ctl("send-key", "a"), int(guest.check("wc -c </tmp/keys")) > before)[1])

    def picture(self):
        return read_png(base64.b64decode(self.ctl("screenshot")["png"]))

    def calm_picture(self):
        last = None
        while (now := self.picture()) != last:
            last = now
            time.sleep(0.5)
        return now

    def test_all_devices_go_on_from_any_moment(self):
        guest = self.boot()
        disks = self.find(guest)
        self.assertEqual(guest.check("cat /sys/devices/system/clocksource/clocksource0/current_clocksource").strip(), "hpet")
        url = self.serve()
        sum_ = subprocess.run(["md5sum", self.dir / "www/file"], capture_output=True, text=True, check=True).stdout.split()[0]
        e1000e = guest.check("basename $(ls -d /sys/bus/pci/drivers/e1000e/*/net/*)").strip()
        guest.check(f"ip link set {e1000e} up; ip addr add 10.0.2.15/24 dev {e1000e}; mkdir -p /s; mount -t virtiofs work /s")
        keyboard = guest.check("grep -l 'Vivarium keyboard' /sys/class/input/event*/device/name").split("/")[4]
        guest.check(f"mknod /dev/keys c $(tr : ' ' </sys/class/input/{keyboard}/dev); cat /dev/keys >/tmp/keys 2>/dev/null & true")
        guest.check(". /work.sh; " + " ".join(f"disk {d} & " for d in disks) +
                    "again cd 'echo 3 >/proc/sys/vm/drop_caches; md5sum </dev/sr0' & folder & clock & "
                    f"net {url} {sum_} 2>/dev/null & /vsock 1000 & true")
        names = [*disks, "cd", "folder", "clock", "net"]
        self.go_on(guest, names)
        self.echo(b"before")
        blank = self.picture()
        guest.check("echo A LINE ON THE SCREEN >/dev/tty1")
        self.until("the line on the screen", lambda: self.picture() != blank)  # which is drawn a little later
        cpus, memory = 2, 512
        for number in range(ROUNDS):
            before = self.calm_picture()
            time.sleep(self.random.uniform(0, 1.5))  # a moment of the work, not a wait
            guest = self.save(guest)
            guest.shell()
            self.assertTrue(self.picture() == before, f"another picture (VIV_LIVE_SEED={SEED})")
            self.go_on(guest, names)
            self.keys(guest)
            self.echo(f"round {number}".encode() * 1000)
            # What can change changes, and is that in the next life.
            self.assertEqual(int(guest.check("ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l")), cpus)
            cpus = self.random.randint(1, 4)
            self.ctl("cpus-set", cpus)
            if cpus > 1:
                guest.check(f"n=0; until [ $(ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l) = {cpus} ] || [ $n = 300 ]; do "
                            "usleep 100000; n=$((n + 1)); done; cd /sys/devices/system/cpu; for c in cpu[1-9]; do "
                            "[ -e $c/online ] && [ $(cat $c/online) = 0 ] && echo 1 >$c/online; done; true")
            memory = self.random.choice((512, 640, 768))
            self.ctl("memory-set", memory * MIB)
            self.ctl("balloon-set", self.random.choice((400, 450, 512)) * MIB)
            guest.check(f"n=0; until [ $(ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l) = {cpus} ] || [ $n = 300 ]; do "
                        "usleep 100000; n=$((n + 1)); done")
        self.ctl("balloon-set", 1024 * MIB)
        self.until("the memory", lambda: abs(self.ctl("status")["memory_plugged_bytes"] - memory * MIB) < 2 * MIB)
        self.go_on(guest, names)
        self.assertNotRegex(guest.check("dmesg"), r"(?i)\b(exception|timed out|timeout|hung|stall|I/O error|reset controller|BUG:|Oops)")


if __name__ == "__main__":
    vivtest.tap.main()
