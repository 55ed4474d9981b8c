#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the manager costs: memory and processor time when idle, a list of many resources, requests in parallel,
and what it adds to the start of a machine.

usage: manager.py [MACHINES]        default 10000; prints one line a figure, medians with the range
"""
import concurrent.futures
import json
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests/guest")]
import manager  # noqa: E402
import mini  # noqa: E402
import vivtest  # noqa: E402


def figure(what, values, unit):
    values = sorted(values)
    print(f"{what:58} {statistics.median(values):9.2f} {unit}  ({values[0]:.2f} to {values[-1]:.2f})", flush=True)


def timed(fn, times, scale=1000):
    out = []
    for _ in range(times):
        begin = time.perf_counter()
        fn()
        out.append((time.perf_counter() - begin) * scale)
    return out


def cpu_seconds(pid):
    """To the nanosecond, of all threads."""
    return sum(int((task / "schedstat").read_text().split()[0])
               for task in pathlib.Path(f"/proc/{pid}/task").iterdir()) / 1e9


def resident(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0


def until(condition):
    while not condition():
        time.sleep(0.0005)


def alone(folder):
    """A machine without the manager: from its start to the first answer of its control socket."""
    control = pathlib.Path(folder) / "control"
    control.unlink(missing_ok=True)
    vm = subprocess.Popen([vivtest.PROGRAM, "--memory", "16M", "--kernel", f"{folder}/kernel", "--nic", "none", "--serial",
                           "none", "--control", f"unix:{control}"])
    with socket.socket(socket.AF_UNIX) as s:
        until(lambda: s.connect_ex(str(control)) == 0)
        assert s.recv(10)
    vm.kill()
    vm.wait()


class Bench(unittest.TestCase):
    def runTest(self):
        many = int(sys.argv[1]) if len(sys.argv) > 1 else 10000
        m = manager.Manager(self)
        m.start()
        m.image()
        pid, api = m.process.pid, m.api
        figure("resident memory, nothing to do", [resident(pid)], "MiB")

        def start_one():
            m.create("one", power="on")
            state = json.loads(api.raw("GET", "/v1/vms/one/wait?timeout=100")[2])["status"]["state"]
            assert state == "running", state

        def remove_one():
            api.delete("/v1/vms/one?force=true")
            until(lambda: api.raw("GET", "/v1/vms/one")[0] == 404)
        managed = []
        for _ in range(20):
            managed += timed(start_one, 1)
            remove_one()
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "kernel").write_bytes(mini.elf(mini.STOP))
            own = timed(lambda: alone(folder), 20)
        figure("create a machine until it runs", managed, "ms")
        figure("viv-vm alone until its control socket greets", own, "ms")

        start_one()
        before, begin = cpu_seconds(pid), time.monotonic()
        time.sleep(20)
        used = (cpu_seconds(pid) - before) / (time.monotonic() - begin) * 100
        figure("processor, one machine that rests, of one processor", [used], "%")
        figure("resident memory, one machine", [resident(pid)], "MiB")

        connection = threading.local()  # one a thread, kept open

        def fast(method, target, body=None):
            if not hasattr(connection, "c"):
                connection.c = manager.UnixConnection(api.path)
            connection.c.request(method, target, body and json.dumps(body))
            answer = connection.c.getresponse()
            text = answer.read()
            assert answer.status < 400, text
        begin = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            list(pool.map(lambda i: fast("POST", "/v1/vms", {"name": f"m{i}", "spec": {"image": "tiny"}}), range(many)))
        took = time.monotonic() - begin
        figure(f"create {many} machines from 50 clients, each safe on disk", [many / took], "a second")
        until(lambda: not json.loads(api.raw("GET", "/v1/vms?state=creating&limit=1")[2])["items"])
        before = cpu_seconds(pid)
        figure(f"list {many} machines, one page", timed(lambda: fast("GET", "/v1/vms?limit=10000"), 20), "ms")
        figure("the same, processor time of the manager", [(cpu_seconds(pid) - before) / 20 * 1000], "ms")
        figure("one of them", timed(lambda: fast("GET", "/v1/vms/m77"), 200), "ms")
        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            begin = time.monotonic()
            list(pool.map(lambda i: fast("GET", f"/v1/vms/m{i % many}"), range(5000)))
            figure("answers to 50 clients at the same time", [5000 / (time.monotonic() - begin)], "a second")
        figure(f"resident memory, {many} machines that rest", [resident(pid)], "MiB")
        m.stop()
        begin = time.perf_counter()
        m.start()
        figure(f"start of the manager with {many} machines", [(time.perf_counter() - begin) * 1000], "ms")


if __name__ == "__main__":
    result = unittest.TextTestRunner(stream=open("/dev/null", "w")).run(Bench())
    for _, text in result.failures + result.errors:
        print(text, file=sys.stderr)
    sys.exit(not result.wasSuccessful())
