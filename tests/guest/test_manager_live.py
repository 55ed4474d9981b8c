#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What is changed of a machine while it runs: by viv, by the API and by files, seen in the guest; and what its status
says of the rest."""
import json
import pathlib
import subprocess
import unittest

import bootmedia
import drivers
import manager
import vivtest
from test_manager_agent import image_with_agent

LIMIT = manager.LIMIT
MODULES = "viv.modules=virtio_pci,virtio_net,vmw_vsock_virtio_transport viv.run=viv-agent"
MIB = 1 << 20


def module(path):
    """One of the guest's kernel."""
    names = drivers.debugfs("ls -p /lib/modules").decode().split("/")
    return drivers.debugfs(f"cat /lib/modules/{next(n for n in names if n.endswith('-amd64'))}/kernel/{path}.ko")


class Live(unittest.TestCase):
    def setUp(self):
        self.m = manager.Manager(self)
        self.api = self.m.api
        self.m.start()

    def begin(self, files=None, **spec):
        image_with_agent(self.m, files)
        self.m.create("web", **{"memory": 128 * MIB, "network": "none", "append": MODULES, "power": "on", **spec})
        self.ready()

    def ready(self):
        self.m.viv("wait", "web", "--for", "ready", "--timeout", str(LIMIT))

    def run_in(self, text):
        return self.m.viv("exec", "web", "--", "sh", "-c", text)

    def status(self):
        return self.api.vm("web")["status"]

    def fails(self, code, field, method, target, body=None):
        with self.assertRaises(manager.Failure) as caught:
            self.api.call(method, target, body)
        self.assertEqual((caught.exception.code, caught.exception.body["field"]), (code, field), caught.exception.body)

    def apply(self, **spec):
        path = self.m.home / "web.yaml"
        path.write_text(json.dumps({"kind": "vm", "name": "web", "spec": spec}), encoding="utf-8")
        return self.m.viv("apply", "-f", str(path))

    def until(self, what, condition):
        self.m.wait_for(condition, what)


class Interfaces(Live):
    def macs(self):
        return sorted(self.run_in("cat /sys/class/net/e*/address 2>/dev/null; true").split())

    def test_interfaces_come_and_go_while_the_machine_runs(self):
        self.api.post("/v1/networks", {"name": "lan", "spec": {"subnet": "10.81.0.0/24"}})
        self.begin()
        self.assertEqual(self.macs(), [])
        self.m.viv("nic", "add", "web", "lan")
        lan = self.status()["networks"]["lan"]["mac"]
        self.until("it is in the guest", lambda: self.macs() == [lan])
        mine = "52:54:00:aa:bb:cc"
        self.api.post("/v1/vms/web/nic-add", {"network": "user", "mac": mine.upper()})
        self.until("the second", lambda: self.macs() == sorted([lan, mine]))
        self.until("its end", lambda: "pending" not in self.status())
        self.assertEqual(self.status()["nics"], [f"lan/virtio/{lan}", f"user/virtio/{mine}"])
        self.assertEqual(self.api.vm("web")["spec"]["network"], f"lan,user/{mine}")
        # What cannot be.
        self.fails("conflict", "spec.network", "POST", "/v1/vms/web/nic-add", {"network": "lan"})
        self.fails("conflict", "spec.network", "POST", "/v1/vms/web/nic-add", {"network": "nowhere"})
        self.fails("conflict", "spec.network", "POST", "/v1/vms/web/nic-remove", {"network": "nowhere"})
        self.fails("invalid", "spec.network", "PATCH", "/v1/vms/web", {"spec": {"network": "user/03:00:00:00:00:01"}})
        self.fails("invalid", "spec.network", "PATCH", "/v1/vms/web", {"spec": {"network": "none/e1000e"}})
        self.fails("invalid", "spec.network", "PATCH", "/v1/vms/web", {"spec": {"network": f"lan/{mine},user/{mine}"}})
        self.fails("conflict", "spec.network", "POST", "/v1/vms", {"name": "b", "spec": {"image": "tiny", "network": f"lan/{lan}"}})
        # Another manager finds what there is; a memory that is kept as well.
        self.m.kill()
        self.m.start()
        self.m.viv("suspend", "web")
        self.m.viv("start", "web")
        self.assertEqual(self.macs(), sorted([lan, mine]))
        # A file takes one away; forwards lead through the one that is left.
        self.assertIn("changed", self.apply(network="user", forward=[]))
        self.until("one has gone", lambda: self.macs() == [mine] or self.macs())
        self.m.viv("nic", "rm", "web", "user", "--force")
        self.until("the last has gone", lambda: self.macs() == [])
        self.assertEqual(self.api.vm("web")["spec"]["network"], "none")
        rows = json.loads(self.m.viv("nic", "list", "--json"))
        self.assertEqual(rows, [])

    def test_another_model_holds_from_the_next_start(self):
        self.begin(network="user")
        self.m.viv("edit", "web", "--nic-model", "e1000e")
        self.assertEqual(self.status()["pending"], {"nic_model": "after the next restart"})
        self.m.viv("edit", "web", "--nic-model", "virtio")
        self.assertNotIn("pending", self.status())
        said = self.m.viv("edit", "web", "--network", "user/e1000e/02:00:5e:10:00:01")
        self.until("it is told", lambda: "next restart" in self.status().get("pending", {}).get("network", ""))
        self.m.viv("restart", "web", "--timeout", "0")
        self.ready()
        self.assertIn("0x10d3", self.run_in("cat /sys/bus/pci/devices/*/device"))
        self.until("it is seen", lambda: self.status().get("nics") == ["user/e1000e/02:00:5e:10:00:01"])
        self.assertNotIn("pending", self.status(), said)


class Memory(Live):
    def usable(self):
        return self.api.get("/v1/usage/web").get("usable")

    def test_a_balloon_takes_memory_and_gives_it_back(self):
        self.begin({"virtio_balloon.ko": module("drivers/virtio/virtio_balloon")}, balloon=112 * MIB)
        self.until("the figure", lambda: self.usable() == 128 * MIB)  # there is no driver yet
        self.run_in("insmod /virtio_balloon.ko")
        self.until("what was wanted at the start", lambda: self.usable() == 112 * MIB)
        self.m.viv("set", "web", "--balloon", "96M")
        self.until("less", lambda: self.usable() == 96 * MIB)
        self.assertIn("viv_vm_usable_bytes", self.api.raw("GET", "/metrics")[2].decode())
        self.apply(balloon="0")
        self.until("all", lambda: self.usable() == 128 * MIB)
        self.assertNotIn("pending", self.status())


    def test_memory_comes_and_goes_as_far_as_it_was_started_for(self):
        self.begin({"virtio_mem.ko": module("drivers/virtio/virtio_mem")}, memory=256 * MIB, memory_max=512 * MIB)
        self.run_in("echo online_movable >/sys/devices/system/memory/auto_online_blocks; insmod /virtio_mem.ko")
        total = lambda: int(self.run_in("sed -n 's/MemTotal: *//p' /proc/meminfo").split()[0]) << 10  # noqa: E731
        before = total()
        self.m.viv("set", "web", "--memory", "384M")
        self.until("more", lambda: total() > before + 100 * MIB)
        self.until("nothing waits", lambda: "pending" not in self.status())
        self.m.viv("set", "web", "--memory", "1G")
        self.assertIn("at most 512M", self.status()["pending"]["memory"])
        self.apply(memory="256M")
        self.until("less again", lambda: total() < before + 100 * MIB)


class Processors(Live):
    def test_processors_come_and_go_as_far_as_it_was_started_for(self):
        self.begin(cpus_max=3)
        self.m.viv("set", "web", "--cpus", "3", "--memory", "160M")
        self.until("two more", lambda: "cpu2" in self.run_in("ls /sys/devices/system/cpu 2>/dev/null; true"))
        self.run_in("echo 1 >/sys/devices/system/cpu/cpu2/online; grep -c ^processor /proc/cpuinfo")
        self.until("memory has to wait", lambda: set(self.status().get("pending", {})) == {"memory"})
        self.assertIn("next restart", self.status()["pending"]["memory"])
        self.apply(cpus=5, memory="128M")
        self.until("no more than that", lambda: set(self.status().get("pending", {})) == {"cpus"})
        self.assertIn("at most 3", self.status()["pending"]["cpus"])
        self.api.call("PATCH", "/v1/vms/web", {"spec": {"cpus": 2}})
        self.until("one has gone", lambda: "cpu2" not in self.run_in("ls /sys/devices/system/cpu 2>/dev/null; true"))
        self.until("nothing waits", lambda: "pending" not in self.status())


class Booting(Live):
    def test_the_boot_order_holds_from_the_next_reset_on(self):
        raw, iso = self.m.home / "disk.raw", self.m.home / "a.iso"
        raw.write_bytes(bootmedia.sector("DISK").ljust(MIB, b"\0"))
        iso.write_bytes(bootmedia.iso("MEDIUM"))
        self.m.viv("image", "import", "box", str(raw))
        self.m.viv("create", "web", "--image", "box", "--cdrom", str(iso), "--memory", "32M", "--network", "none", "--start")
        control = self.m.home / "machines" / self.api.vm("web")["id"] / "control"
        heard = lambda: self.m.viv("logs", "web")  # noqa: E731
        self.until("the disk", lambda: "DISK" in heard())
        self.m.viv("set", "web", "--boot", "cdrom,disk")
        self.assertNotIn("pending", self.status())
        subprocess.run([pathlib.Path(vivtest.PROGRAM).with_name("viv-ctl"), control, "reset"], check=True, stdout=subprocess.DEVNULL)
        self.until("the medium", lambda: "MEDIUM" in heard())


class Shares(Live):
    def test_a_folder_of_the_host_is_seen_in_the_guest(self):
        for name in ("plain", "fixed"):
            (self.m.home / name).mkdir()
            (self.m.home / name / "word").write_text(name, encoding="utf-8")
        self.begin({f"{n}.ko": module(f"fs/fuse/{n}") for n in ("fuse", "virtiofs")},
                   share=[f"a={self.m.home}/plain", f"b={self.m.home}/fixed,ro"])
        self.run_in("insmod /fuse.ko; insmod /virtiofs.ko; mkdir /a /b; mount -t virtiofs a /a && mount -t virtiofs b /b")
        self.assertEqual(self.run_in("cat /a/word /b/word"), "plainfixed")
        self.run_in("echo more >/a/more; ! echo more >/b/more")
        self.assertEqual((self.m.home / "plain/more").read_text(encoding="utf-8"), "more\n")
        self.assertFalse((self.m.home / "fixed/more").exists())
        self.fails("invalid", "spec.share", "PATCH", "/v1/vms/web", {"spec": {"share": ["a=/nowhere"]}})
        self.fails("invalid", "spec.share", "PATCH", "/v1/vms/web", {"spec": {"share": [f"a={self.m.home}", f"a={self.m.home}"]}})
        self.m.viv("edit", "web", "--share", f"a={self.m.home}/plain")
        self.assertEqual(self.status()["pending"], {"share": "after the next restart"})


class Hardware(Live):
    def test_details_of_the_hardware_reach_the_guest(self):
        self.begin(hpet=True, cpu_model="x86-64-v2", network="user", nic_rom="none", cdrom="empty", cdrom_bus="ide")
        self.assertNotIn("avx", self.run_in("cat /proc/cpuinfo"))
        self.assertIn("hpet", self.run_in("cat /sys/devices/system/clocksource/clocksource0/available_clocksource"))
        self.m.viv("edit", "web", "--hpet=false", "--bootfile", "http://10.0.2.2/x")
        self.assertEqual(set(self.status()["pending"]), {"hpet", "bootfile"})
        self.fails("invalid", "spec.tftp", "PATCH", "/v1/vms/web", {"spec": {"tftp": "/nowhere"}})
        self.fails("invalid", "spec.nic_rom", "PATCH", "/v1/vms/web", {"spec": {"nic_rom": "/nowhere"}})
        self.m.viv("restart", "web", "--timeout", "0")
        self.ready()
        self.assertNotIn("hpet", self.run_in("cat /sys/devices/system/clocksource/clocksource0/available_clocksource"))
        self.assertNotIn("pending", self.status())


if __name__ == "__main__":
    vivtest.tap.main()
