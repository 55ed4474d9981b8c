#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a machine's memory and threads are, as the host's /proc has it (docs/placement.md). What this host does not have
is tried by `make test-lab T=placement`, in a machine with two NUMA nodes and a page of 1 GiB."""
# lab: --nodes 2 --cpus 2 --append "hugepagesz=1G hugepages=2 hugepagesz=2M"
import fcntl
import json
import os
import pathlib
import re
import resource
import subprocess
import tempfile
import time
import unittest

import manager
import mini
import vivtest

CTL = str(pathlib.Path(vivtest.PROGRAM).with_name("viv-ctl"))
POOL = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
ROOT = os.geteuid() == 0


def figure(name):
    return int((POOL / name).read_text())


class Pool:
    """So many free huge pages on the host, as before afterwards."""
    def __init__(self, test, pages):
        if not POOL.exists() or not os.access(POOL / "nr_hugepages", os.W_OK):
            test.skipTest("the host's pool of huge pages cannot be changed: needs root")
        lock = open("/run/lock/viv-hugepages" if os.path.isdir("/run/lock") else "/tmp/viv-hugepages", "w", encoding="ascii")
        test.addCleanup(lock.close)
        fcntl.flock(lock, fcntl.LOCK_EX)  # there is one pool for all that run tests here
        before = figure("nr_hugepages")
        test.addCleanup((POOL / "nr_hugepages").write_text, str(before))
        used = before - figure("free_hugepages") + figure("resv_hugepages")
        (POOL / "nr_hugepages").write_text(str(used + pages))
        if figure("free_hugepages") - figure("resv_hugepages") != pages:
            test.skipTest("the host has no memory for huge pages, or another takes them")


def mappings(pid, size=0):
    """Of smaps: one dictionary a mapping, sizes in KiB."""
    found = []
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match("[0-9a-f]+-[0-9a-f]+ ", line):
            found.append({"address": line.split("-")[0]})
        else:
            key, _, value = line.partition(":")
            found[-1][key] = value.split() if key == "VmFlags" else int(value.split()[0]) if "kB" in value else value
    return [m for m in found if m.get("Size", 0) >= size]


class Placement(unittest.TestCase):
    memory = 64

    def setUp(self):
        vivtest.one_process(self)  # whose threads and maps are looked at
        folder = tempfile.TemporaryDirectory(prefix="viv-place-")
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)
        self.control = self.dir / "ctl"
        (self.dir / "kernel").write_bytes(mini.elf(mini.STOP))

    def words(self, *words):
        return [vivtest.VM, "--kernel", self.dir / "kernel", "--serial", "none", *words]

    def start(self, *words):
        return self.launch(*self.words(*words))

    def launch(self, *words):
        """Its number, once it has answered: then it is in the jail."""
        self.vm = subprocess.Popen([*words, "--control", f"unix:{self.control}"], stdin=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)
        self.addCleanup(self.end, self.vm)
        vivtest.wait_for_listener(self, self.vm, self.control)
        return self.ctl("status")["pid"]

    def end(self, vm):
        vm.kill()
        vm.wait()
        vm.stderr.close()
        self.control.unlink(missing_ok=True)

    def ctl(self, *words):
        done = subprocess.run([CTL, "--json", self.control, *map(str, words)], capture_output=True, text=True,
                              timeout=100, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return json.loads(done.stdout.splitlines()[-1])

    def refused(self, *words, **how):
        done = subprocess.run(self.words(*words), capture_output=True, text=True, timeout=100, check=False, **how)
        self.assertIn(done.returncode, (1, 2), done.stderr)
        return done.stderr

    def threads(self, pid):
        """Name to (processors, policy, real-time priority, nice) of the threads, which come and go."""
        found = {}
        for tid in os.listdir(f"/proc/{pid}/task"):
            try:
                task = pathlib.Path(f"/proc/{pid}/task/{tid}")
                stat = (task / "stat").read_text().rsplit(")", 1)[1].split()
                found[(task / "comm").read_text().strip()] = (
                    re.search(r"Cpus_allowed_list:\s*(\S+)", (task / "status").read_text())[1],
                    int(stat[38]), int(stat[37]), int(stat[16]))
            except (FileNotFoundError, ProcessLookupError):
                pass
        return found

    def vcpus(self, pid, count):
        while True:  # they are named after they are made, and placed after that
            found = self.threads(pid)
            if all(f"vcpu{i}" in found for i in range(count)):
                return found

    def until(self, pid, count, check):
        end = time.monotonic() + 60
        while not check(found := self.vcpus(pid, count)):
            self.assertLess(time.monotonic(), end, found)
        return found

    # ------------------------------------------------------------------ memory

    def test_huge_pages_of_the_pool_are_taken_at_once_and_given_back(self):
        Pool(self, 40)
        free = figure("free_hugepages")
        pid = self.start("--memory", "64M,hugepages=2M")
        ram = [m for m in mappings(pid) if m.get("KernelPageSize") == 2048]
        self.assertEqual(sum(m["Private_Hugetlb"] for m in ram), 64 << 10)
        self.assertIn("ht", ram[0]["VmFlags"])
        self.assertEqual(figure("free_hugepages"), free - 32)
        self.ctl("quit")
        self.vm.wait(100)
        self.assertEqual(figure("free_hugepages"), free)

    def test_pages_of_a_gibibyte_hold_the_whole_machine(self):
        pool = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-1048576kB")
        if not pool.exists() or int((pool / "free_hugepages").read_text()) < 1:
            self.assertRegex(self.refused("--memory", "1G,hugepages=1G"), "no pages of 1 GiB|needs 1 pages of 1 GiB")
            self.skipTest("the host has no free page of 1 GiB")
        pid = self.start("--memory", "1G,hugepages=1G")
        ram = [m for m in mappings(pid) if m.get("KernelPageSize") == 1 << 20]
        self.assertEqual(sum(m["Private_Hugetlb"] for m in ram), 1 << 20)
        self.assertEqual(int((pool / "free_hugepages").read_text()), 0)
        self.assertIn("0 free", self.refused("--memory", "1G,hugepages=1G"))

    def test_huge_pages_come_from_the_node_that_memory_is_bound_to(self):
        nodes = sorted(pathlib.Path("/sys/devices/system/node").glob("node[0-9]*"))
        if len(nodes) < 2 or not ROOT:
            self.skipTest("the host has one NUMA node")
        far = nodes[-1] / "hugepages/hugepages-2048kB"
        self.addCleanup((far / "nr_hugepages").write_text, (far / "nr_hugepages").read_text())
        (far / "nr_hugepages").write_text("40")
        number = nodes[-1].name[4:]
        pid = self.start("--memory", "64M,hugepages=2M", "--numa", f"node=0,host-node={number}")
        self.assertRegex(pathlib.Path(f"/proc/{pid}/numa_maps").read_text(), f"bind:{number} .*huge.* N{number}=32 ")
        self.assertEqual(int((far / "free_hugepages").read_text()), 8)
        near = self.refused("--memory", "64M,hugepages=2M", "--numa", f"node=0,host-node={nodes[0].name[4:]}")
        self.assertIn("hugepages", near)

    def test_what_may_be_plugged_is_taken_from_the_pool_as_well(self):
        Pool(self, 64)
        free = figure("free_hugepages")
        self.start("--memory", "64M,max=128M,hugepages=2M")
        self.assertEqual(figure("free_hugepages"), free - 64)

    def test_a_pool_that_is_too_small_is_a_sentence_with_the_remedy(self):
        Pool(self, 8)
        said = self.refused("--memory", "64M,hugepages=2M")
        for part in ("needs 32 pages of 2 MiB", "8 free", "nr_hugepages"):
            self.assertIn(part, said)

    def test_a_snapshot_on_huge_pages_holds_the_guest_and_is_restored_onto_others(self):
        Pool(self, 40)
        self.start("--memory", "64M,hugepages=2M")
        self.ctl("snapshot", self.dir / "snap")
        self.assertEqual(self.ctl("status")["state"], "running")
        self.end(self.vm)
        for kind, of_pool in (("hugepages=2M", 64 << 10), ("hugepages=thp", 0)):
            pid = self.launch(vivtest.VM, "--restore", self.dir / "snap", "--memory", kind)
            self.assertEqual(sum(m.get("Private_Hugetlb", 0) for m in mappings(pid)), of_pool)
            self.end(self.vm)

    def test_locked_memory_stays_in_ram(self):
        if not ROOT:
            self.skipTest("only root may lock as much as it wants")
        pid = self.start("--memory", "64M,lock=on")
        text = pathlib.Path(f"/proc/{pid}/status").read_text()
        for figure_of in ("VmLck", "VmRSS"):  # smaps leaves out what NUMA balancing looks at just now
            self.assertGreaterEqual(int(re.search(figure_of + r":\s*(\d+)", text)[1]), (64 << 10) - 1024)  # the hole below 1 MiB
        self.assertIn("lo", max(mappings(pid), key=lambda m: m["Size"] if "lo" in m["VmFlags"] else 0)["VmFlags"])

    def test_a_limit_of_locked_memory_is_named(self):
        if not ROOT:
            self.skipTest("needs root, who can become somebody with a limit")

        def limit():
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (8 << 20, 8 << 20))
            os.setgid(65534)
            os.setuid(65534)
        vivtest.program_for_everybody(self, self.dir)
        said = self.refused("--memory", "64M,lock=on", preexec_fn=limit)
        self.assertIn("8192 KiB", said)
        self.assertIn("ulimit -l", said)

    def test_without_thp_no_page_is_huge(self):
        for words in ("64M,thp=off", "64M,hugepages=off"):
            pid = self.start("--memory", words)
            self.assertRegex(pathlib.Path(f"/proc/{pid}/status").read_text(), r"THP_enabled:\s*0")
            for m in mappings(pid, size=60 << 10):
                self.assertEqual(m.get("AnonHugePages", 0), 0)
                self.assertNotIn("hg", m["VmFlags"])
            self.end(self.vm)

    def test_memory_is_bound_to_the_hosts_nodes(self):
        nodes = sorted(int(p.name[4:]) for p in pathlib.Path("/sys/devices/system/node").glob("node[0-9]*"))
        far = nodes[-1]
        pid = self.start("--memory", "128M,lock=on" if ROOT else "128M", "--cpus", "2",
                         "--numa", f"node=0,host-node={nodes[0]}", "--numa", f"node=1,host-node={far}")
        maps = [line.split() for line in pathlib.Path(f"/proc/{pid}/numa_maps").read_text().splitlines()]
        bound = {}
        for m in maps:
            if m[1].startswith("bind:"):
                for part in m[2:]:
                    if re.match(r"N\d+=", part):
                        bound.setdefault((m[1], part.split("=")[0]), 0)
                        bound[m[1], part.split("=")[0]] += int(part.split("=")[1])
        self.assertTrue({m[1] for m in maps} >= {f"bind:{nodes[0]}", f"bind:{far}"})
        for (policy, node), pages in bound.items():
            self.assertEqual(policy[5:], node[1:], bound)
        if ROOT and far != nodes[0]:  # all of it is there
            self.assertGreater(bound[f"bind:{far}", f"N{far}"], 60 << 8)
        cpus = pathlib.Path(f"/sys/devices/system/node/node{far}/cpulist").read_text().strip()
        self.until(pid, 2, lambda t: t["vcpu1"][0] == cpus)

    def test_nodes_that_the_host_lacks_are_named(self):
        said = self.refused("--memory", "64M", "--numa", "node=0,host-node=63")
        self.assertIn("no NUMA node 63", said)

    def test_linux_sees_the_nodes_that_it_has(self):
        guest = vivtest.tiny(self, None, "--memory", "256M", "--cpus", "2", "--numa", "node=0,cpus=0,memory=96M",
                             "--numa", "node=1,cpus=1,memory=160M,distance=0:25", timeout=240)
        guest.expect("BOOTED")
        guest.shell()
        nodes = "/sys/devices/system/node/node"
        self.assertEqual([guest.check(f"cat {nodes}{i}/cpulist").strip() for i in range(2)], ["0", "1"])
        self.assertEqual([guest.check(f"cat {nodes}{i}/distance").split() for i in range(2)], [["10", "25"], ["25", "10"]])
        total = [int(guest.check(f"grep MemTotal: {nodes}{i}/meminfo").split()[-2]) >> 10 for i in range(2)]
        self.assertTrue(96 - 64 < total[0] <= 96 and 160 - 64 < total[1] <= 160, total)

    # ------------------------------------------------------------------ threads

    def test_threads_are_pinned_those_of_disks_too(self):
        cpus = sorted(os.sched_getaffinity(0))
        if len(cpus) < 2:
            self.skipTest("there is one processor")
        a, b = cpus[:2]
        disk = self.dir / "disk"
        with open(disk, "wb") as f:
            f.truncate(1 << 20)
        pid = self.start("--cpus", "2", "--pin", f"vcpu0={a},vcpu1={b},io={b}", "--disk", f"{disk},aio=threads")
        found = self.until(pid, 2, lambda t: t["vcpu0"][0] == str(a) and t["vcpu1"][0] == str(b))
        others = {n: t for n, t in found.items() if not n.startswith("vcpu")}
        self.assertTrue(others)
        for name, t in others.items():
            self.assertEqual(t[0], str(b), name)
        new = self.dir / "new"
        self.ctl("snapshot", new)  # flushes by a thread that is made in the jail
        self.until(pid, 2, lambda t: all(v[0] == str(b) for n, v in t.items() if not n.startswith("vcpu")))

    def test_those_that_are_not_pinned_run_where_the_process_might(self):
        cpus = sorted(os.sched_getaffinity(0))
        pid = self.start("--cpus", "2", "--pin", f"vcpu0={cpus[0]},io={cpus[0]}")
        own = re.search(r"Cpus_allowed_list:\s*(\S+)", pathlib.Path("/proc/self/status").read_text())[1]
        self.until(pid, 2, lambda t: t["vcpu1"][0] == own and t["vcpu0"][0] == str(cpus[0]))

    def test_priorities_are_the_threads_own(self):
        if not ROOT:
            self.skipTest("real-time priorities are root's")
        pid = self.start("--cpus", "2", "--priority", "fifo:10,io=nice:-3")
        found = self.until(pid, 2, lambda t: all(t[f"vcpu{i}"][1:3] == (1, 10) for i in range(2)))
        self.until(pid, 2, lambda t: all(v[1:] == (0, 0, -3) for n, v in t.items() if n == "viv-vm"))
        self.assertIn("viv-vm", found)
        self.end(self.vm)
        pid = self.start("--cpus", "1", "--priority", "rr:7")
        self.until(pid, 1, lambda t: t["vcpu0"][1:3] == (2, 7) and t["viv-vm"][1:] == (0, 0, 0))
        self.end(self.vm)
        pid = self.start("--cpus", "1", "--priority", "nice:5")
        self.until(pid, 1, lambda t: t["vcpu0"][3] == 5 and t["viv-vm"][3] == 0)

    def test_a_priority_that_is_not_allowed_is_a_sentence(self):
        if not ROOT:
            self.skipTest("needs root, who can become somebody without rights")

        def nobody():
            resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
            resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
            os.setgid(65534)
            os.setuid(65534)
        vivtest.program_for_everybody(self, self.dir)
        self.assertIn("ulimit -r 10", self.refused("--priority", "fifo:10", preexec_fn=nobody))
        self.assertIn("ulimit -e 25", self.refused("--priority", "nice:-5", preexec_fn=nobody))

    def test_processors_that_the_host_lacks_are_named(self):
        self.assertIn("no processor 1000", self.refused("--pin", "vcpu0=1000"))
        self.assertIn("there is no vcpu3", self.refused("--cpus", "2", "--pin", "vcpu3=0"))

    # ------------------------------------------------------------------ by the manager

    def test_the_manager_passes_it_all_on_and_lists_what_there_is(self):
        if not ROOT:
            self.skipTest("real-time priorities and locked memory are root's")
        Pool(self, 40)
        cpu = str(min(os.sched_getaffinity(0)))
        m = manager.Manager(self)
        m.env["VIV_VM"] = vivtest.PROGRAM
        m.start().image()
        m.viv("create", "web", "--image", "tiny", "--memory", "64M", "--cpus", "2", "--network", "none", "--hugepages", "2M",
              "--lock-memory", "--numa", "node=0,host-node=0", "--numa", "node=1", "--pin", f"vcpu1={cpu}", "--pin", f"io={cpu}",
              "--priority", "rr:3", "--priority", "io=nice:-2", "--start")
        pid = m.api.vm("web")["status"]["pid"]
        self.until(pid, 2, lambda t: t["vcpu0"][1:3] == (2, 3) and t["vcpu1"][0] == cpu)
        self.assertEqual(sum(x.get("Private_Hugetlb", 0) for x in mappings(pid)), 64 << 10)
        self.assertRegex(pathlib.Path(f"/proc/{pid}/numa_maps").read_text(), "bind:0.*huge")
        hardware = json.loads(m.viv("host", "devices", "--json"))
        self.assertEqual({d["address"] for d in hardware["devices"]}, set(os.listdir("/sys/bus/pci/devices"))
                         if os.path.exists("/sys/bus/pci/devices") else set())
        m.viv("set", "web", "--pin", "vcpu=x", code=2)


if __name__ == "__main__":
    vivtest.tap.main()
