#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What machines use: /metrics, the resource usage, viv top and viv show."""
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import unittest

import manager
import mini
import vivtest
from test_manager_agent import image_with_agent

sys.path.insert(0, str(vivtest.ROOT / "tests/support"))
import prometheus  # noqa: E402

GOOD = "# HELP a_total b\n# TYPE a_total counter\n"
HISTOGRAM = ('# HELP b c\n# TYPE b histogram\nb_bucket{le="1"} 2\nb_bucket{le="+Inf"} 3\nb_sum 1.5\nb_count 3\n')


class Grammar(unittest.TestCase):
    """The checker itself: it must see what it is for."""

    def test_good_text_is_read(self):
        read = prometheus.parse(GOOD + 'a_total{x="1",y="\\""} 2\na_total{x="2"} 1e3\n')
        self.assertEqual(sorted(read["a_total"]["samples"].values()), [2, 1000])
        self.assertEqual(len(prometheus.parse(HISTOGRAM)["b"]["samples"]), 4)

    def test_bad_text_is_refused(self):
        for bad in ("a_total 1", GOOD + "a_total  1\n", GOOD + 'a_total{x="1} 1\n', GOOD + 'a_total{x="1"y="2"} 1\n',
                    GOOD + 'a_total{x="1",} 1\n', GOOD + "a_total 1\na_total 1\n", GOOD + "a_total -1\n",
                    GOOD + "b 1\n", GOOD + "a_total 1\n" + GOOD, "# HELP a b\n# TYPE a counter\na 1\n",
                    "# TYPE a gauge\na 1\n", "# HELP a_ms b\n# TYPE a_ms gauge\na_ms 1\n",
                    HISTOGRAM.replace("1.5", "1.5\nb_bucket{le=\"2\"} 4"), HISTOGRAM.replace("_sum", "_summ"),
                    HISTOGRAM.replace('{le="1"} 2', "{} 2"), HISTOGRAM.replace("b_count 3", "b_count 2"),
                    "# HELP a_total b\n# TYPE a_total gauge\na_total 1\n", GOOD + "a_total one\n", GOOD + "\n"):
            with self.subTest(bad), self.assertRaises((prometheus.Malformed, ValueError, IndexError)):
                prometheus.parse(bad)


class Metrics(unittest.TestCase):
    def setUp(self):
        self.m = manager.Manager(self)
        self.api = self.m.api

    def metrics(self):
        status, headers, text = self.api.raw("GET", "/metrics")
        self.assertEqual(status, 200)
        self.assertTrue(headers["Content-Type"].startswith("text/plain; version=0.0.4"))
        self.text = text.decode()
        return prometheus.parse(self.text)

    def of(self, families, family, vm):
        """The sample of a machine, or None."""
        found = [v for labels, v in families[family]["samples"].items() if ("vm", vm) in labels]
        self.assertLess(len(found), 2)
        return found[0] if found else None

    def test_metrics_tell_of_the_manager_and_each_machine(self):
        self.m.start().image()
        self.m.create("off")
        self.m.create("on", power="on")
        self.assertEqual(self.api.settled("on")["status"]["state"], "running")
        self.api.settled("off")
        # It is asked at most once a second, and may not have come to its first halt, or answer too late.
        self.m.wait_for(lambda: (self.of(self.metrics(), "viv_vm_halts_total", "on") or 0) >= 1, "a halt")
        self.m.wait_for(lambda: self.of(self.metrics(), "viv_vm_resident_bytes", "on"), "its figures")
        read = self.metrics()
        states = {(dict(k)["vm"], dict(k)["state"]): v for k, v in read["viv_vm_state"]["samples"].items()}
        self.assertEqual(states, {("off", "stopped"): 1, ("on", "running"): 1})
        self.assertEqual(self.of(read, "viv_vm_memory_bytes", "off"), 16 << 20)
        self.assertEqual(self.of(read, "viv_vm_cpus", "on"), 1)
        self.assertGreater(self.of(read, "viv_vm_resident_bytes", "on"), 1 << 20)
        self.assertGreater(self.of(read, "viv_vm_cpu_seconds_total", "on"), 0)
        self.assertGreaterEqual(self.of(read, "viv_vm_halts_total", "on"), 1)
        self.assertIsNone(self.of(read, "viv_vm_resident_bytes", "off"))  # it has no process
        self.assertEqual(read["viv_vms"]["samples"], {frozenset(): 2})
        self.assertGreater(read["process_resident_memory_bytes"]["samples"][frozenset()], 1 << 20)
        self.assertGreater(read["viv_api_requests_total"]["samples"][frozenset()], 3)
        own = pathlib.Path(f"/proc/{self.m.process.pid}/fd")
        self.assertAlmostEqual(read["process_open_fds"]["samples"][frozenset()], len(list(own.iterdir())), delta=2)
        status, _, _ = self.api.raw("POST", "/metrics", "{}")
        self.assertEqual(status, 404)
        if shutil.which("promtool"):
            done = subprocess.run(["promtool", "check", "metrics"], input=self.text, capture_output=True, text=True,
                                  check=False)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_a_guest_that_works_is_seen_in_its_counters(self):
        self.m.start()
        self.m.linux()
        self.api.post("/v1/vms", {"name": "busy", "spec": {
            "image": "tiny", "memory": 96 << 20, "power": "on",
            "append": "viv.modules=virtio_pci,virtio_net viv.net=10.0.2.15/24"}})
        self.api.settled("busy")
        self.m.wait_for(lambda: self.api.get("/v1/usage/busy").get("net_sent_frames", 0) > 0, "a frame")
        use = self.api.get("/v1/usage/busy")
        self.assertGreaterEqual(use["net_sent_bytes"], 42 * use["net_sent_frames"])
        self.assertGreater(use["kicks"], 0)
        self.assertGreaterEqual(use["exits"], use["kicks"])
        self.assertGreater(use["interrupts"], 0)
        self.assertEqual(self.api.get("/v1/usage")["items"][0]["name"], "busy")
        self.assertRegex(self.m.viv("show", "busy"), r"(?m)^net_sent_bytes +[1-9]")

    def test_requests_to_disks_are_in_histograms(self):
        self.m.start()
        image_with_agent(self.m)
        self.api.post("/v1/volumes", {"name": "data", "spec": {"size": 8 << 20}})
        self.m.create("web", memory=128 << 20, power="on", volumes=["data"],
                      append="viv.modules=virtio_pci,virtio_blk,vmw_vsock_virtio_transport viv.run=viv-agent")
        self.m.viv("wait", "web", "--for", "ready", "--timeout", str(manager.LIMIT))
        self.m.viv("exec", "web", "--", "sh", "-c", "dd if=/dev/zero of=/dev/vda bs=64k count=64 conv=fsync 2>/dev/null")
        self.m.wait_for(lambda: self.api.get("/v1/usage/web")["disk_writes"] > 0, "a write")
        use = self.api.get("/v1/usage/web")
        for field, count in ("disk_read_latency", "disk_reads"), ("disk_write_latency", "disk_writes"):
            self.assertEqual(sum(use[field]["counts"]), use[count], use)
        self.assertGreater(sum(use["disk_flush_latency"]["counts"]), 0)
        self.assertGreater(use["disk_write_latency"]["sum_us"], 0)
        family = self.metrics()["viv_vm_disk_write_seconds"]
        counts = [v for k, v in family["samples"].items() if ("__part__", "count") in k]
        self.assertEqual(counts, [use["disk_writes"]])

    def test_ten_thousand_machines_are_told_without_holding_anybody_up(self):
        self.m.start().image()
        self.m.create("first")
        self.api.settled("first")
        self.m.stop()
        with sqlite3.connect(self.m.home / "store.db") as db:
            row = db.execute("SELECT kind, tenant, revision, created, spec, status, wanted FROM resource WHERE kind='vm'").fetchone()
            db.executemany("INSERT INTO resource (kind, id, tenant, name, revision, created, spec, status, wanted) "
                           "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                           [(row[0], f"vm-{n:012d}", "other" if n % 2 else row[1], f"m{n}", *row[2:]) for n in range(10000)])
        self.m.start()
        done, others = [], 0
        thread = threading.Thread(target=lambda: done.append(self.api.raw("GET", "/metrics")), daemon=True)
        self.api.get("/v1/hosts/local")
        thread.start()
        while thread.is_alive():
            self.api.raw("GET", "/v1/hosts/local")
            others += 1
        self.assertEqual(len(prometheus.parse(done[0][2].decode())["viv_vm_state"]["samples"]), 10001)
        print(f"# {others} others were answered meanwhile", flush=True)
        self.assertGreater(others, 8)  # it is told in some 150 pieces; by one piece two would be

    def test_usage_is_a_list_in_pages_and_an_item(self):
        self.m.start().image()
        for name in ("a", "b", "c"):
            self.m.create(name)
        self.api.settled("c")
        page = self.api.get("/v1/usage?limit=2")
        self.assertEqual(([u["name"] for u in page["items"]], page["next"]), (["a", "b"], "b"))
        page = self.api.get("/v1/usage?after=b")
        self.assertEqual(([u["name"] for u in page["items"]], "next" in page), (["c"], False))
        self.assertNotIn("resident", self.api.get("/v1/usage/a"))
        with self.assertRaises(manager.Failure) as caught:
            self.api.get("/v1/usage/nope")
        self.assertEqual(caught.exception.code, "not-found")

    def test_many_that_ask_make_a_machine_answer_once(self):
        self.m.start().image()
        self.m.create("one", power="on")
        vm = self.api.settled("one")
        control = str(self.m.home / "machines" / vm["id"] / "control")

        def messages():
            said = json.loads(subprocess.run([vivtest.ROOT / "build/viv-ctl", "--json", control, "stats"], check=True,
                                             capture_output=True, text=True).stdout)
            return {c["name"]: c["value"] for c in said["counters"]}["control_messages"]
        before, begin = messages(), time.monotonic()
        for _ in range(100):
            self.metrics()
        rounds = (time.monotonic() - begin) / 0.9 + 2  # one a second, the history's among them
        self.assertLessEqual(messages() - before - 1, rounds)

    def test_a_machine_that_does_not_answer_holds_nobody_up(self):
        self.m.start().image()
        self.m.create("deaf", power="on")
        self.m.create("fine", power="on")
        vm = self.api.settled("deaf")
        self.api.settled("fine")
        os.kill(vm["status"]["pid"], signal.SIGSTOP)
        self.m.wait_for(lambda: self.of(self.metrics(), "viv_vm_resident_bytes", "deaf") is None, "its absence")
        self.assertIsNotNone(self.of(self.metrics(), "viv_vm_resident_bytes", "fine"))
        os.kill(vm["status"]["pid"], signal.SIGCONT)
        self.m.wait_for(lambda: self.of(self.metrics(), "viv_vm_resident_bytes", "deaf"), "its figures")
        os.kill(vm["status"]["pid"], signal.SIGKILL)
        self.m.wait_for(lambda: self.of(self.metrics(), "viv_vm_resident_bytes", "deaf") is None, "its end")

    def test_top_shows_the_busiest_first(self):
        self.m.start().image(mini.forever(b"\x90"))
        self.m.create("busy", power="on")
        self.m.create("asleep")
        self.api.settled("busy")
        lines = self.m.viv("top", "--once", "--interval", "1").splitlines()
        self.assertRegex(lines[0], r"^NAME +STATE +CPU % +RESIDENT +MEMORY +READ/S")
        self.assertRegex(lines[1], r"^busy +running +[1-9][0-9.]* +[0-9.]+[KM] +16M ")
        self.assertRegex(lines[2], r"^asleep +stopped +- +- +16M ")
        self.assertEqual([u["name"] for u in json.loads(self.m.viv("top", "--json"))], ["asleep", "busy"])
        ours, theirs = pty.openpty()
        top = subprocess.Popen([manager.VIV, "top", "--interval", "1"], env=self.m.env, stdin=theirs, stdout=theirs)
        os.close(theirs)
        said = b""
        while said.count(b"\033[H\033[J") < 2:  # it looks again
            said += os.read(ours, 4096)
        top.send_signal(signal.SIGINT)
        self.assertEqual(top.wait(manager.LIMIT), -signal.SIGINT)
        os.close(ours)
        self.assertTrue(re.search(rb"busy +running +[1-9]", said))


if __name__ == "__main__":
    vivtest.tap.main()
