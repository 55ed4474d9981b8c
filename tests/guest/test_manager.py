#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The manager and viv, the whole way: machines by the API and by commands, crashes, limits, rude clients.
Every answer of the API is held against the OpenAPI document, and at the end every operation was used."""
import concurrent.futures
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import time
import unittest

import bootmedia
import hostbus
import manager
import mini
import vivtest
import ws
from test_manager_agent import WITH_AGENT, image_with_agent

LIMIT = manager.LIMIT
LINUX = {"memory": 96 << 20, "power": "on"}  # its shell waits for input


class Case(unittest.TestCase):
    def setUp(self):
        self.m = manager.Manager(self)
        self.api = self.m.api

    def begin(self, *images):
        self.m.start()
        for name in images:
            {"tiny": self.m.image, "debian": self.m.image_with_disk, "linux": self.m.linux}[name]()

    def fails(self, code, field, method, target, body=None, **headers):
        with self.assertRaises(manager.Failure) as caught:
            self.api.call(method, target, body, {k.replace("_", "-"): v for k, v in headers.items()})
        self.assertEqual((caught.exception.code, caught.exception.body["field"]), (code, field),
                         caught.exception.body)
        return caught.exception.body

    def console(self, name):
        """The serial line as a socket, by the API."""
        return self.upgraded(name, "console", "serial")

    def upgraded(self, name, operation, protocol=None):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(LIMIT)
        self.addCleanup(s.close)
        s.connect(self.api.path)
        s.sendall(f"GET /v1/vms/{name}/{operation} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
                  f"Upgrade: {protocol or operation}\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += s.recv(1)
        self.assertIn(b" 101 ", head)
        manager.Api.exercised.add(f"vm.{operation}")
        return s

    def until(self, s, word):
        text = b""
        while word not in text:
            more = s.recv(4096)
            self.assertTrue(more, f"the console ended before {word}: {text}")
            text += more
        return text

    def follow(self, **headers):
        """Events as they come; a function that waits for one."""
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(LIMIT)
        self.addCleanup(s.close)
        s.connect(self.api.path)
        more = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in headers.items())
        s.sendall(f"GET /v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n{more}\r\n".encode())
        lines = s.makefile("r")
        for line in lines:
            if line.startswith(":"):
                break

        def wait(what, name=None):
            for line in lines:
                if line.startswith("data: "):
                    event = json.loads(line[6:])
                    if event["what"] == what and name in (None, event["name"]):
                        return event
            self.fail("the stream ended")
        return wait


class Life(Case):
    def test_a_machine_is_made_started_paused_stopped_and_deleted(self):
        self.begin("debian")
        made = self.api.post("/v1/vms", {"name": "web", "spec": {"image": "debian", "memory": 16 << 20, "disk": 1 << 30,
                                                                "network": "none"}})
        self.assertEqual(made["status"]["state"], "creating")
        vm = self.api.settled("web")
        self.assertEqual((vm["status"]["state"], vm["spec"]["power"]), ("stopped", "off"))
        disk = self.m.home / "machines" / vm["id"] / "disk.qcow2"
        self.assertLess(disk.stat().st_blocks * 512, 1 << 20)  # an overlay, not a copy
        info = json.loads(subprocess.run([vivtest.ROOT / "build/viv-img", "info", "--output", "json", disk], check=True,
                                         stdout=subprocess.PIPE).stdout)
        self.assertEqual((info["virtual-size"], info["backing-filename"]),
                         (1 << 30, f"../../images/{vm['status']['image_id']}/disk.raw"))
        self.assertEqual(self.api.post("/v1/vms/web/start")["status"]["state"], "starting")
        vm = self.api.settled("web")
        self.assertEqual(vm["status"]["state"], "running")
        self.assertEqual(self.m.machine_pids(), [vm["status"]["pid"]])
        self.api.post("/v1/vms/web/pause")
        self.assertEqual(self.api.settled("web")["status"]["state"], "paused")
        self.fails("conflict", "spec.power", "POST", "/v1/vms/web/start")
        self.api.post("/v1/vms/web/resume")
        self.assertEqual(self.api.settled("web")["status"]["state"], "running")
        self.fails("conflict", "status.state", "DELETE", "/v1/vms/web")
        self.api.post("/v1/vms/web/restart", {"timeout": 0})
        again = self.api.settled("web")
        self.assertEqual(again["status"]["state"], "running")
        self.assertNotEqual(again["status"]["pid"], vm["status"]["pid"])
        self.api.post("/v1/vms/web/kill")
        self.assertEqual(self.api.settled("web")["status"]["state"], "stopped")
        self.assertNotIn("pid", self.api.vm("web")["status"])
        self.assertEqual(self.m.machine_pids(), [])
        self.fails("conflict", "status.state", "DELETE", "/v1/images/debian")
        self.api.delete("/v1/vms/web")
        try:
            self.api.get("/v1/vms/web/wait?for=deleted")
        except manager.Failure as e:
            self.assertEqual(e.code, "not-found")
        self.assertEqual(list((self.m.home / "machines").iterdir()), [])
        self.api.delete("/v1/images/debian")
        self.m.wait_for(lambda: not list((self.m.home / "images").iterdir()), "the end of the image")
        what = [e["what"] for e in self.api.get("/v1/events?kind=vm")["items"]]
        for word in ("created", "made", "running", "paused", "stopped", "deleted"):
            self.assertIn(word, what)

    def test_a_guest_that_powers_off_is_stopped_and_says_why(self):
        self.begin()
        self.m.image(mini.POWER_OFF)
        self.m.create("once", power="on")
        self.m.wait_for(lambda: self.api.vm("once")["status"]["state"] == "stopped", "the end")
        vm = self.api.vm("once")
        self.assertEqual((vm["status"]["reason"], vm["status"]["exit_code"], vm["spec"]["power"]),
                         ("the guest powered off", 0, "off"))

    def test_stop_presses_the_power_button_and_ends_by_force_what_does_not_listen(self):
        self.begin("debian")
        self.m.image(mini.until_button() + mini.POWER_OFF)
        self.m.create("kind", power="on")
        self.api.settled("kind")
        self.api.post("/v1/vms/kind/stop")
        vm = self.api.settled("kind")
        self.assertEqual((vm["status"]["state"], vm["status"]["reason"]), ("stopped", "the guest powered off"))
        self.m.create("deaf", power="on", image="debian")
        self.api.settled("deaf")
        begin = time.monotonic()
        self.api.post("/v1/vms/deaf/stop", {"timeout": 2})
        vm = self.api.settled("deaf")
        self.assertEqual((vm["status"]["state"], vm["status"]["reason"]), ("stopped", "it was ended by force"))
        self.assertGreater(time.monotonic() - begin, 1.9)

    def test_a_start_that_cannot_be_fails_with_the_last_words(self):
        self.begin("tiny")
        port = vivtest.free_port()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", port))
            taken.listen()
            self.m.create("web", network="user", forward=[f"{port}:80"])
            self.api.post("/v1/vms/web/start")
            vm = self.api.settled("web")
        self.assertEqual((vm["status"]["state"], vm["status"]["exit_code"], vm["spec"]["power"]), ("failed", 2, "off"))
        self.assertIn(str(port), vm["status"]["last_words"])
        said = self.m.viv("show", "web")
        self.assertIn(str(port), said)
        self.api.call("PATCH", "/v1/vms/web", {"spec": {"forward": []}})
        self.api.post("/v1/vms/web/start")
        self.assertEqual(self.api.settled("web")["status"]["state"], "running")

    def test_a_process_that_dies_is_seen_and_started_again_if_its_policy_says_so(self):
        self.begin("tiny")
        wait = self.follow()
        self.m.create("left", power="on")
        self.m.create("kept", power="on", restart="on-failure")
        for name in ("left", "kept"):
            os.kill(self.api.settled(name)["status"]["pid"], signal.SIGKILL)
        event = wait("failed", "left")
        self.assertIn("signal 9", event["text"])
        vm = self.api.vm("left")
        self.assertEqual((vm["status"]["exit_signal"], vm["spec"]["power"]), (9, "off"))
        self.m.wait_for(lambda: self.api.vm("kept")["status"].get("restarts") == 1, "the restart")
        self.m.wait_for(lambda: self.api.vm("kept")["status"]["state"] == "running", "the new process")
        self.api.post("/v1/vms/kept/kill")
        self.assertEqual(self.api.settled("kept")["status"]["state"], "stopped")

    def test_a_hundred_machines_asked_to_start_at_once_all_come_up(self):
        self.begin("tiny")
        names = [f"m{i:03}" for i in range(100)]
        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            list(pool.map(self.m.create, names))
            list(pool.map(lambda n: self.api.post(f"/v1/vms/{n}/start"), names))
        for name in names:
            self.m.wait_for(lambda: self.api.vm(name)["status"]["state"] not in ("creating", "starting"), name)
            self.assertEqual(self.api.vm(name)["status"]["state"], "running")
        self.assertEqual(len({e["id"] for e in self.api.get("/v1/events?what=running&limit=1000")["items"]}), 100)
        for name in names:
            self.api.delete(f"/v1/vms/{name}?force=true")
        self.m.wait_for(lambda: not self.api.get("/v1/vms")["items"], "the end of all")
        self.assertEqual(self.m.machine_pids(), [])


class Crash(Case):
    def test_machines_run_on_while_the_manager_is_gone_and_are_found_again(self):
        self.begin("linux")
        self.m.create("web", **LINUX)
        pid = self.api.settled("web")["status"]["pid"]
        self.m.kill()
        self.assertEqual(self.m.machine_pids(), [pid])
        self.m.start()
        self.m.wait_for(lambda: self.api.settled("web")["status"]["state"] == "running", "the machine")
        self.assertEqual(self.api.vm("web")["status"]["pid"], pid)
        s = self.console("web")
        self.until(s, b"/ # ")
        s.sendall(b"echo al''ive\n")
        self.until(s, b"alive")
        self.m.stop()
        self.assertEqual(self.m.machine_pids(), [pid])
        os.kill(pid, signal.SIGKILL)  # while nobody looks
        self.m.start()
        vm = self.api.get(f"/v1/vms/web/wait?for=stopped&timeout={LIMIT}")
        self.assertIn("nobody saw", vm["status"]["reason"])

    def test_a_process_number_that_is_used_again_is_not_taken_for_the_machine(self):
        self.begin("tiny")
        self.m.create("web", power="on")
        vm = self.api.settled("web")
        self.m.kill()
        os.kill(vm["status"]["pid"], signal.SIGKILL)
        self.m.wait_for(lambda: not self.m.machine_pids(), "the end")
        bystander = subprocess.Popen(["sleep", "1000"])
        self.addCleanup(bystander.wait)
        self.addCleanup(bystander.kill)
        run = self.m.home / "machines" / vm["id"] / "run"
        cycle, _, start = run.read_text().split()
        run.write_text(f"{cycle} {bystander.pid} {start}\n")
        self.m.start()
        self.api.get(f"/v1/vms/web/wait?for=stopped&timeout={LIMIT}")
        self.api.delete("/v1/vms/web")
        self.m.wait_for(lambda: not self.api.get("/v1/vms")["items"], "the deletion")
        self.assertIsNone(bystander.poll())

    def test_a_second_manager_on_the_folder_is_refused_with_a_sentence(self):
        self.begin()
        done = subprocess.run([manager.VIVD], env=self.m.env, capture_output=True, text=True, timeout=LIMIT, check=False)
        self.assertEqual(done.returncode, 3)
        self.assertIn(f"another manager, process {self.m.process.pid}, looks after the folder", done.stderr)

    def test_messages_are_objects_if_that_is_wanted(self):
        self.m.start("--log-format", "json")
        done = subprocess.run([manager.VIVD, "--log-format", "json"], env=self.m.env, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 3)
        first, second = (json.loads(line) for line in ((self.m.home / "test.log").read_text(), done.stderr))
        self.assertEqual((first["level"], first["component"], second["level"]), ("notice", "vivd", "error"))
        self.assertRegex(first["time"], r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertIn("another manager", second["message"])

    def test_a_damaged_store_is_refused_with_the_remedy(self):
        self.begin("tiny")
        self.m.stop()
        store = self.m.home / "store.db"
        with open(store, "r+b") as f:
            f.seek(4096)
            f.write(b"\x5a" * 8192)
        done = subprocess.run([manager.VIVD], env=self.m.env, capture_output=True, text=True, timeout=LIMIT, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, "is damaged .*backup")

    def test_an_idle_manager_ends_by_itself_and_one_with_machines_does_not(self):
        self.m.start("--idle", "1")
        self.m.wait_for(lambda: self.m.process.poll() is not None, "the end of the idle manager")
        self.assertEqual(self.m.process.returncode, 0)
        self.m.start("--idle", "1")
        self.m.image()
        self.m.create("web", power="on")
        self.api.settled("web")
        time.sleep(3)
        self.assertIsNone(self.m.process.poll())

    def test_folders_that_belong_to_nothing_are_removed(self):
        (self.m.home / "machines/vm-lost").mkdir(parents=True)
        (self.m.home / "machines/vm-lost/disk.qcow2").write_bytes(b"x")
        (self.m.home / "images/image-lost/sub").mkdir(parents=True)
        self.begin()
        for folder in ("machines", "images"):
            self.m.wait_for(lambda: not list((self.m.home / folder).iterdir()), "the removal")


class Rules(Case):
    def test_wrong_requests_are_refused_with_field_reason_and_remedy(self):
        self.begin("tiny")
        vms = "/v1/vms"
        self.fails("invalid", "name", "POST", vms, {"name": "Web", "spec": {"image": "tiny"}})
        self.fails("invalid", "spec.memory", "POST", vms, {"name": "web", "spec": {"image": "tiny", "memory": 1}})
        self.fails("conflict", "spec.image", "POST", vms, {"name": "web", "spec": {"image": "nope"}})
        self.fails("invalid", "spec.disk", "POST", vms, {"name": "web", "spec": {"image": "tiny", "disk": 1 << 30}})
        self.fails("invalid", "spec.cpus", "POST", vms, {"name": "web", "spec": {"image": "tiny", "cpus": 33}})
        self.fails("invalid", "spec.forward", "POST", vms, {"name": "w", "spec": {"image": "tiny", "forward": ["99999:1"]}})
        self.fails("invalid", "name", "POST", "/v1/images", {"name": "nonsense"})
        self.fails("not-found", "name", "GET", "/v1/vms/nope")
        self.fails("not-found", "", "GET", "/v1/nope")
        self.fails("not-found", "", "POST", "/v1/vms/web/explode")
        self.fails("not-allowed", "", "PATCH", "/v1/vms")
        self.fails("invalid", "nope", "GET", "/v1/vms?nope=1")
        self.fails("invalid", "limit", "GET", "/v1/vms?limit=0")
        self.m.create("web")
        self.fails("exists", "name", "POST", vms, {"name": "web", "spec": {"image": "tiny"}})
        self.fails("invalid", "spec.image", "PATCH", "/v1/vms/web", {"spec": {"image": "other"}})
        self.fails("invalid", "timeout", "POST", "/v1/vms/web/stop", {"timeout": -1})
        self.fails("conflict", "status.state", "POST", "/v1/vms/web/pause")
        self.fails("invalid", "Upgrade", "GET", "/v1/vms/web/console")
        self.fails("invalid", "Upgrade", "GET", "/v1/vms/web/screen")
        self.fails("conflict", "status.state", "GET", "/v1/vms/web/screen", Upgrade="rfb", Connection="Upgrade")
        self.fails("timeout", "", "GET", "/v1/vms/web/wait?for=running&timeout=0")
        for body in ("[]", "{", '{"name": "a", "name": "b"}', "[" * 5000, '{"a":' * 100 + "1" + "}" * 100):
            status, _, text = self.api.raw("POST", vms, body)
            self.assertEqual((status, json.loads(text)["code"]), (400, "invalid"), body[:50])
        status, _, text = self.api.raw("POST", vms, "x" * (1 << 20) + "y")
        self.assertEqual((status, json.loads(text)["code"]), (413, "too-large"))

    def test_changes_are_made_only_to_what_the_caller_knows(self):
        self.begin("tiny")
        self.m.create("web")
        self.api.settled("web")
        vm = self.api.get("/v1/vms/web")
        etag = self.api.headers["ETag"]
        self.assertEqual(etag, f'"{vm["revision"]}"')
        self.assertEqual(self.api.raw("GET", "/v1/vms/web", headers={"If-None-Match": etag})[0], 304)
        self.api.call("PATCH", "/v1/vms/web", {"spec": {"memory": 128 << 20}}, {"If-Match": etag})
        self.fails("changed", "revision", "PATCH", "/v1/vms/web", {"spec": {"memory": 64 << 20}}, If_Match=etag)
        self.assertEqual(self.api.vm("web")["spec"]["memory"], 128 << 20)

    def test_a_request_that_is_repeated_with_its_key_is_done_once(self):
        self.begin("tiny")
        body = {"name": "web", "spec": {"image": "tiny"}}
        first = self.api.post("/v1/vms", body, Idempotency_Key="k1")
        again = self.api.post("/v1/vms", body, Idempotency_Key="k1")
        self.assertEqual(first, again)
        self.assertEqual(self.api.headers["Idempotent-Replayed"], "true")
        self.m.kill()
        self.m.start()
        self.assertEqual(self.api.post("/v1/vms", body, Idempotency_Key="k1"), first)
        self.fails("key-reused", "Idempotency-Key", "POST", "/v1/vms", {**body, "name": "other"}, Idempotency_Key="k1")
        self.fails("exists", "name", "POST", "/v1/vms", body, Idempotency_Key="k2")

    def test_lists_come_in_pages_and_by_filters(self):
        self.begin("tiny", "debian")
        for i in range(7):
            self.m.create(f"m{i}", image="debian" if i % 2 else "tiny")
        names, after = [], ""
        while True:
            page = self.api.get(f"/v1/vms?limit=3{after}")
            names += [v["name"] for v in page["items"]]
            if "next" not in page:
                break
            after = "&after=" + page["next"]
        self.assertEqual(names, [f"m{i}" for i in range(7)])
        self.assertEqual([v["name"] for v in self.api.get("/v1/vms?image=debian")["items"]], ["m1", "m3", "m5"])
        events = self.api.get("/v1/events?what=created&limit=2")
        more = self.api.get(f"/v1/events?what=created&after={events['next']}")
        self.assertEqual([e["name"] for e in events["items"] + more["items"]], [f"m{i}" for i in range(7)])

    def test_events_are_followed_without_a_gap_across_a_crash(self):
        self.begin("tiny")
        wait = self.follow()
        self.m.create("a")
        seq = wait("created", "a")["seq"]
        self.m.kill()
        self.m.start()
        self.m.create("b")
        wait = self.follow(Last_Event_ID=seq)
        self.assertGreater(wait("created", "b")["seq"], seq)

    def test_viv_follows_events_through_the_end_of_a_manager(self):
        self.begin("tiny")
        p = subprocess.Popen([manager.VIV, "event", "follow", "--json", "--kind", "vm"], env=self.m.env,
                             stdout=subprocess.PIPE, text=True)
        self.addCleanup(p.wait)
        self.addCleanup(p.kill)
        # The first event is told only to who follows already: ask until one comes.
        names, told = iter(range(1000)), []
        while not told:
            self.m.create(f"a{next(names)}")
            if select.select([p.stdout], [], [], 0.3)[0]:
                told.append(json.loads(p.stdout.readline()))
        self.m.kill()  # viv starts the next one
        self.m.viv("create", "b", "--image", "tiny")
        while told[-1]["name"] != "b":
            told.append(json.loads(p.stdout.readline()))
        self.assertEqual([e["seq"] for e in told], sorted({e["seq"] for e in told}))

    def test_the_newest_events_alone_and_before_those_that_follow(self):
        self.begin("tiny")
        for name in "abc":
            self.m.create(name)
            self.api.settled(name)
        made = [e["seq"] for e in self.api.get("/v1/events?what=created&kind=vm")["items"]]
        listed = json.loads(self.m.viv("event", "list", "-n", "2", "--what", "created", "--kind", "vm", "--json"))
        self.assertEqual([e["seq"] for e in listed], made[-2:])
        listed = json.loads(self.m.viv("event", "list", "--newest", "--json"))
        self.assertEqual([e["seq"] for e in listed], [e["seq"] for e in self.api.get("/v1/events?newest=true&limit=20")["items"]])
        p = subprocess.Popen([manager.VIV, "event", "follow", "--number", "2", "--what", "created", "--kind", "vm", "--json"],
                             env=self.m.env, stdout=subprocess.PIPE, text=True)
        self.addCleanup(p.wait)
        self.addCleanup(p.kill)
        self.assertEqual([json.loads(p.stdout.readline())["seq"] for _ in range(2)], made[-2:])
        self.m.create("d")
        self.assertEqual(json.loads(p.stdout.readline())["name"], "d")

    def test_others_may_not_use_the_manager(self):
        if os.geteuid() != 0:
            self.skipTest("only root can be two users")
        self.begin()
        os.chmod(self.m.home, 0o755)
        os.chmod(self.m.home / "run", 0o755)
        os.chmod(self.api.path, 0o666)
        code = ("import os,socket; os.setuid(65534); s=socket.socket(socket.AF_UNIX); s.connect(%r);"
                "s.sendall(b'GET /v1/vms HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n');"
                "print(s.makefile().read())" % self.api.path)
        said = subprocess.run(["python3", "-c", code], capture_output=True, text=True, timeout=LIMIT, check=True).stdout
        self.assertIn(" 403 ", said)
        self.assertIn('"code":"forbidden"', said)
        os.chmod(self.api.path, 0o600)
        viv = shutil.copy(manager.VIV, self.m.home / "viv")  # the tree may be where nobody else may look
        done = subprocess.run([viv, "list"], env=self.m.env, user=65534, capture_output=True, text=True, timeout=LIMIT,
                              check=False)
        self.assertEqual(done.returncode, 6)
        self.assertIn("only that one and root may use it", done.stderr)

    def test_rude_clients_hold_nobody_up(self):
        self.begin("tiny")
        idle = []
        for _ in range(260):  # more than there may be
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(LIMIT)
            s.connect(self.api.path)
            idle.append(s)
        self.assertIn(b" 429 ", idle[-1].recv(4096))
        for s in idle:
            s.close()
        slow = socket.socket(socket.AF_UNIX)
        slow.connect(self.api.path)
        slow.sendall(b"POST /v1/vms HTTP/1.1\r\nHost: x\r\nContent-Le")
        deaf = socket.socket(socket.AF_UNIX)  # asks and asks, and reads nothing
        deaf.connect(self.api.path)
        deaf.setblocking(False)
        try:
            while True:
                deaf.send(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        except BlockingIOError:
            pass
        self.m.wait_for(lambda: self.api.raw("GET", "/v1/vms")[0] == 200, "an answer")
        slow.close()
        deaf.close()

    def test_requests_in_a_pipeline_are_answered_in_order(self):
        self.begin()
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(LIMIT)
            s.connect(self.api.path)
            s.sendall(b"GET /v1/vms HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/nope HTTP/1.1\r\nHost: x\r\n\r\n"
                      b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            text = s.makefile().read()
        self.assertEqual(re.findall(r"HTTP/1.1 (\d+)", text), ["200", "404", "200"])


class Console(Case):
    def look_and_type(self, name):
        """Without a look at what comes of it: test_hardware.py has that."""
        self.assertEqual(self.api.raw("GET", f"/v1/vms/{name}/screenshot")[1]["Content-Type"], "image/png")
        manager.Api.exercised.add("vm.screenshot")
        for operation, args in (("send-key", {"keys": "a"}), ("type", {"text": "b"}), ("pointer", {"x": 1, "y": 1})):
            self.assertEqual(self.api.post(f"/v1/vms/{name}/{operation}", args), {"done": True})

    def test_a_machine_with_a_screen_shows_it(self):
        self.begin("linux")
        self.m.create("web", vga="std", **LINUX)
        self.api.settled("web")
        s = self.upgraded("web", "screen", "rfb")
        self.assertEqual(s.recv(12, socket.MSG_WAITALL), b"RFB 003.008\n")
        self.look_and_type("web")
        viewer = subprocess.Popen([manager.VIV, "vnc", "web"], env=self.m.env, stdout=subprocess.PIPE, text=True,
                                  stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        self.addCleanup(viewer.communicate)
        self.addCleanup(viewer.kill)
        port = int(viewer.stdout.readline().rsplit(":", 1)[1])
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", port), LIMIT) as far:
                self.assertEqual(far.recv(12, socket.MSG_WAITALL), b"RFB 003.008\n")

    def test_several_clients_share_a_console(self):
        self.begin("linux")
        self.m.create("web", **LINUX)
        self.api.settled("web")
        a = self.console("web")
        self.until(a, b"/ # ")
        b = self.console("web")
        b.sendall(b"echo so''me words\n")
        self.until(a, b"some words")
        self.until(b, b"some words")
        a.close()
        b.sendall(b"poweroff -f\n")
        while b.recv(4096):
            pass
        self.m.wait_for(lambda: self.api.vm("web")["status"]["state"] == "stopped", "the end")
        self.fails("conflict", "status.state", "GET", "/v1/vms/web/console", Upgrade="serial", Connection="Upgrade")

    def test_a_console_of_viv_goes_on_when_the_manager_was_killed(self):
        self.begin("linux")
        self.m.create("web", **LINUX)
        self.api.settled("web")
        terminal, end = pty.openpty()
        p = subprocess.Popen([manager.VIV, "console", "web"], env=self.m.env, stdin=end, stdout=end, stderr=end,
                             start_new_session=True)
        os.close(end)
        self.addCleanup(p.wait)
        self.addCleanup(p.kill)

        def until(word):
            text = b""
            while word not in text:
                self.assertTrue(select.select([terminal], [], [], LIMIT)[0], f"no {word}: {text}")
                text += os.read(terminal, 4096)
        until(b"/ # ")
        self.m.kill()  # viv starts another one
        seen = b""

        def prompt():  # what is typed while nobody listens may be lost, as on any serial line
            nonlocal seen
            os.write(terminal, b"\n")
            if select.select([terminal], [], [], 0.5)[0]:
                seen += os.read(terminal, 4096)
            return b"/ # " in seen
        self.m.wait_for(prompt, "a prompt")
        os.write(terminal, b"echo still the''re\n")
        until(b"still there")
        os.write(terminal, b"\x1dq")
        until(b"runs on")
        self.assertEqual(p.wait(LIMIT), 0)


class Guest(Case):
    def test_the_agent_is_reached_and_the_log_is_text(self):
        self.begin()
        image_with_agent(self.m)
        self.m.create("web", **WITH_AGENT)
        self.api.get(f"/v1/vms/web/wait?for=ready&timeout={LIMIT}")
        with self.upgraded("web", "agent") as s:
            request = json.dumps({"do": "info"}).encode()
            s.sendall(struct.pack("<IB", len(request), 0) + request)
            size, kind = struct.unpack("<IB", s.recv(5, socket.MSG_WAITALL))
            self.assertEqual((kind, json.loads(s.recv(size, socket.MSG_WAITALL))["hostname"]), (1, "tiny"))
        self.assertEqual(self.api.get("/v1/snapshots")["items"], [])
        made = self.api.post("/v1/snapshots", {"name": "web.a", "spec": {"vm": "web"}})
        self.assertEqual(made["status"]["state"], "creating")
        self.fails("conflict", "status.state", "POST", "/v1/snapshots", {"name": "web.b", "spec": {"vm": "web"}})
        self.assertTrue(self.api.get(f"/v1/snapshots/web.a/wait?timeout={LIMIT}")["status"]["live"])
        self.assertEqual(self.api.post("/v1/snapshots/web.a/revert")["status"]["state"], "reverting")
        self.assertEqual(self.api.get(f"/v1/snapshots/web.a/wait?timeout={LIMIT}")["status"]["state"], "ready")
        self.api.get(f"/v1/vms/web/wait?for=ready&timeout={LIMIT}")
        self.api.get("/v1/snapshots/web.a")
        self.api.delete("/v1/snapshots/web.a")
        status, _, text = self.api.raw("GET", "/v1/vms/web/log")
        self.api.check("GET", "/v1/vms/web/log", status, text)
        self.assertEqual((status, text), (200, b""))
        status, headers, text = self.api.raw("GET", "/v1/vms/web/output")
        self.api.check("GET", "/v1/vms/web/output", status, text)
        self.assertTrue(headers["Content-Type"].startswith("text/plain"))
        self.assertIn(b"BOOTED\n", text)


class Words(Case):
    def test_viv_run_starts_everything_and_passes_the_console_on(self):
        self.addCleanup(self.m.clean)
        said = self.m.viv("run", "--rm", "tiny", "--memory", "96M", "--network", "none",
                          "--append", "viv.run=echo\\040so\\040it\\040is")
        self.assertIn("so it is", said)
        self.assertIn("EXIT 0", said)
        self.assertEqual(json.loads(self.m.viv("list", "--json")), [])
        self.assertEqual(self.m.viv("image", "list", "--quiet"), "tiny\n")

    def test_commands_have_their_exit_codes(self):
        self.begin("tiny")
        self.m.viv("create", "web", "--image", "tiny", "--memory", "16M", "--network", "none")
        self.assertIn("'web'", self.m.viv("create", "web", "--image", "tiny", code=3))
        self.assertIn("there is no machine 'nope'", self.m.viv("start", "nope", code=4))
        self.assertIn("16M to 128G", self.m.viv("create", "x", "--image", "tiny", "--memory", "1K", code=2))
        self.assertIn("--help", self.m.viv("frobnicate", code=2))
        self.assertIn("give it an image", self.m.viv("create", "x", code=2))
        self.m.viv("wait", "web", "--for", "running", "--timeout", "0", code=7)
        self.m.viv("start", "web")
        self.assertIn("running", self.m.viv("list"))
        self.m.viv("rm", "web", code=3)
        self.m.viv("pause", "web")
        self.assertEqual(json.loads(self.m.viv("show", "web", "--json"))["status"]["state"], "paused")
        self.m.viv("resume", "web")
        self.m.viv("stop", "web", "--timeout", "1")
        self.m.viv("edit", "web", "--memory", "128M", "--restart", "always")
        self.assertRegex(self.m.viv("show", "web"), r"(?m)^memory +128M$")
        failure = json.loads(self.m.viv("start", "nope", "--json", code=4))
        self.assertEqual(sorted(failure), ["code", "field", "reason", "remedy"])
        self.assertIn("created", self.m.viv("event", "list", "--name", "web"))
        self.m.viv("rm", "web")
        self.assertEqual(self.m.viv("list", "--quiet"), "")
        self.assertIn("processor", self.m.viv("doctor"))
        self.m.viv("image", "rm", "tiny")

    def test_every_command_has_help_with_an_example_and_completion_parses(self):
        table = self.m.viv("--help-markdown")
        self.assertIn(table, (vivtest.ROOT / "docs/manager.md").read_text())
        names = re.findall(r"(?m)^\| `viv ([a-z-]+(?: [a-z-]+)*)", table)
        self.assertGreater(len(names), 20)
        for words in names:
            with self.subTest(command=words):
                self.assertIn("Example:\n  viv " + words, self.m.viv(*words.split(), "--help"))
        script = self.m.viv("completion", "bash")
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        probe = script + "\nCOMP_WORDS=(viv image b); COMP_CWORD=2; _viv; echo ${COMPREPLY[@]}" \
                         "\nCOMP_WORDS=(viv edit x --res); COMP_CWORD=3; _viv; echo ${COMPREPLY[@]}" \
                         "\nCOMP_WORDS=(viv edit x --restart on); COMP_CWORD=4; _viv; echo ${COMPREPLY[@]}"
        said = subprocess.run(["bash"], input=probe, text=True, capture_output=True, check=True).stdout
        self.assertEqual(said, "build\n--restart\non-failure\n")
        for shell in ("zsh", "fish"):
            self.assertIn("viv", self.m.viv("completion", shell))
        self.m.viv("completion", "nonsense", code=2)
        self.assertFalse((self.m.home / "store.db").exists())  # none of it needed a manager

    def test_a_manager_that_cannot_start_is_told_with_its_reason(self):
        self.m.home.joinpath("machines").write_text("a file")
        said = self.m.viv("list", code=6)
        self.assertIn("the manager could not be started", said)
        self.assertIn("machines", said)


class Document(Case):
    def test_every_operation_is_declared_with_its_permission(self):
        self.begin()
        document = self.api.schema()
        self.assertEqual(document["openapi"], "3.1.0")
        ids = [op["operationId"] for path in document["paths"].values() for verb, op in path.items() if verb != "parameters"]
        self.assertEqual(len(ids), len(set(ids)))
        for path in document["paths"].values():
            for verb, op in path.items():
                if verb != "parameters" and op["tags"] != ["session"]:
                    self.assertRegex(op["x-permission"], r"^[a-z]+\.[a-z]+$")
        manager.jsonschema.Draft202012Validator.check_schema(document["components"]["schemas"]["Vm"])


class Volumes(Case):
    def test_a_volume_goes_through_all_its_operations(self):
        self.begin("tiny")
        self.api.post("/v1/volumes", {"name": "data", "spec": {"size": 1 << 20}})
        self.assertEqual(self.api.get("/v1/volumes/data/wait")["status"]["state"], "ready")
        self.api.call("PATCH", "/v1/volumes/data", {"spec": {"size": 2 << 20}})
        self.m.create("web")
        self.api.post("/v1/volumes/data/attach", {"vm": "web"})
        self.assertEqual(self.api.get("/v1/volumes?vm=web")["items"][0]["name"], "data")
        self.api.settled("web")
        self.api.post("/v1/volumes/data/detach")
        self.assertNotIn("vm", self.api.get("/v1/volumes/data")["status"])
        self.api.delete("/v1/volumes/data")


class Copies(Case):
    def test_a_machine_is_suspended_and_cloned(self):
        self.begin("tiny")
        self.m.create("web", power="on")
        self.assertEqual(self.api.settled("web")["status"]["state"], "running")
        self.api.post("/v1/vms/web/clone", {"name": "copy", "mode": "live"})
        self.assertEqual(self.api.settled("copy")["status"]["state"], "running")
        self.assertEqual(self.api.post("/v1/vms/web/suspend")["status"]["state"], "suspending")
        self.assertEqual(self.api.settled("web")["status"]["state"], "suspended")
        self.api.post("/v1/vms/web/start")
        self.assertEqual(self.api.settled("web")["status"]["state"], "running")
class Networks(Case):
    def test_networks_and_forwards_answer_as_declared(self):
        self.m.env["VIV_SYSFS"] = str(hostbus.Bus(self, self.m.home / "sys").root)
        self.begin("tiny")
        self.assertEqual(self.api.post("/v1/networks", {"name": "lan"})["status"]["state"], "idle")
        self.m.create("web", network="lan")
        self.assertEqual(self.api.get("/v1/networks/lan")["spec"]["subnet"], "10.77.0.0/24")
        self.api.post("/v1/vms/web/forward", {"port": "18080:80"})
        self.assertEqual(self.api.post("/v1/vms/web/unforward", {"port": "18080:80"})["spec"]["forward"], [])
        self.assertEqual(self.api.post("/v1/vms/web/nic-add", {"network": "user"})["spec"]["network"], "lan,user")
        self.assertEqual(self.api.post("/v1/vms/web/nic-remove", {"network": "user"})["spec"]["network"], "lan")
        device = {"device": hostbus.NIC}
        self.assertEqual(self.api.post("/v1/vms/web/device-add", device)["spec"]["devices"], [hostbus.NIC])
        self.assertEqual(self.api.post("/v1/vms/web/device-remove", device)["spec"]["devices"], [])
        self.fails("conflict", "status.machines", "DELETE", "/v1/networks/lan")
        self.api.settled("web")
        self.api.delete("/v1/vms/web")
        self.m.wait_for(lambda: not self.api.get("/v1/vms")["items"], "the deletion")
        self.api.delete("/v1/networks/lan")
        self.m.wait_for(lambda: not self.api.get("/v1/networks")["items"], "the deletion")


class ZLast(Case):
    """After all others, in the order of names."""

    def test_jobs_are_told_and_every_operation_was_used(self):
        self.begin("tiny", "debian")
        job = self.api.get("/v1/jobs?state=done")["items"][0]
        self.assertEqual(self.api.get(f"/v1/jobs/{job['id']}")["status"]["progress"], 100)
        self.fails("conflict", "status.state", "POST", f"/v1/jobs/{job['id']}/cancel")
        self.api.get("/v1/hosts/local")
        self.m.create("some")
        self.api.settled("some")
        self.assertEqual(self.api.get("/v1/vms/some/history")["name"], "some")
        self.assertEqual(self.api.get("/v1/usage")["items"][0], self.api.get("/v1/usage/some"))
        self.access()
        (self.m.home / "a.iso").write_bytes(bootmedia.iso("A"))
        self.assertEqual(self.api.post("/v1/vms/some/insert", {"file": str(self.m.home / "a.iso")})["spec"]["cdrom"],
                         str(self.m.home / "a.iso"))
        self.assertEqual(self.api.post("/v1/vms/some/eject")["spec"]["cdrom"], "empty")
        self.api.delete("/v1/vms/some")
        self.api.get("/v1/hosts/local/doctor")
        hardware = self.api.get("/v1/hosts/local/devices")["hardware"]
        self.assertIsInstance(hardware["numa_nodes"], list)
        self.assertEqual(json.loads(self.m.viv("host", "devices", "--json"))["devices"], hardware["devices"])
        self.systems()
        self.sets()
        self.assertIn(self.api.post("/v1/hosts/local/backup")["file"], self.api.get("/v1/hosts/local/backups")["files"])
        self.assertEqual(self.api.get("/v1/hosts/local/history?last=60&step=60")["step"], 60)
        self.assertEqual([i["name"] for i in self.api.get("/v1/images")["items"]], ["debian", "tiny"])
        self.assertEqual(self.api.get("/v1/images/debian")["status"]["size"], 64 << 20)
        image = self.api.post("/v1/images/debian/export", {"file": str(self.m.home / "out")})
        self.fails("invalid", "file", "POST", "/v1/images/debian/export", {"file": "out"})
        self.assertEqual(self.api.get(f"/v1/jobs/{image['status']['job']}/wait")["status"]["state"], "done")
        self.assertEqual((self.m.home / "out").stat().st_size, 64 << 20)
        # A script that takes its time stands in for the one that builds images.
        script = self.m.home / "guest.sh"
        script.write_text("#!/bin/bash\necho 'guest:   1 s   40%  cooking'\nsleep 1000 & wait\n")
        script.chmod(0o755)
        self.api.delete("/v1/images/debian")
        self.m.wait_for(lambda: not self.api.get("/v1/images?state=deleting")["items"], "the deletion")
        self.m.stop()
        self.m.env["VIV_IMAGE_SCRIPT"] = str(script)
        self.m.env["VIV_IMAGE_SOURCE"] = "/nonexistent"
        self.m.start()
        image = self.api.post("/v1/images", {"name": "debian"})
        target = f"/v1/jobs/{image['status']['job']}"
        self.m.wait_for(lambda: self.api.get(target)["status"].get("stage") == "cooking", "the progress")
        self.assertEqual(self.api.get(target)["status"]["progress"], 40)
        self.api.post(target + "/cancel")
        self.assertEqual(self.api.get(f"{target}/wait?timeout={LIMIT}")["status"]["state"], "cancelled")
        self.assertEqual(self.api.get("/v1/images/debian")["status"]["state"], "failed")
        ids = {op["operationId"] for path in self.api.schema()["paths"].values()
               for verb, op in path.items() if verb != "parameters"}
        self.assertEqual(ids - manager.Api.exercised, set())

    def systems(self):
        """The catalogue of guest systems names tests that there are, each system once and in order."""
        systems = self.api.get("/v1/systems")["items"]
        names = [s["name"] for s in systems]
        self.assertEqual(names, sorted(set(names)))
        for s in systems:
            self.assertEqual(s, self.api.get(f"/v1/systems/{s['name']}"))
            self.assertTrue((vivtest.ROOT / s["test"]).exists(), s)
            self.assertTrue({b.split("/")[0] for b in s["boots"]} <= {"direct", "bios", "uefi", "uefi-secure"}, s)
            self.assertRegex(s["tested"], r"^20\d\d-\d\d-\d\d$")
        page = self.api.get("/v1/systems?limit=1")
        self.assertEqual(self.api.get(f"/v1/systems?limit=1&after={page['next']}")["items"][0], systems[1])
        self.assertIn("debian-12", self.m.viv("os", "list"))
        self.assertIn("test_debian.py", self.m.viv("os", "show", "debian-12"))
        self.m.viv("os", "show", "nothing", code=4)

    def sets(self):
        """What viv apply writes down; test_apply.py has what it is for."""
        spec = {"source": "/x.yaml", "members": ["vm/web/vm-0123/made"]}
        self.assertEqual(self.api.post("/v1/sets", {"name": "lab", "spec": spec})["spec"], spec)
        self.fails("exists", "name", "POST", "/v1/sets", {"name": "lab"})
        self.api.call("PATCH", "/v1/sets/lab", {"spec": {"members": []}})
        self.assertEqual(self.api.get("/v1/sets")["items"][0], self.api.get("/v1/sets/lab"))
        self.fails("invalid", "spec.members", "PATCH", "/v1/sets/lab", {"spec": {"members": ["web"]}})
        self.api.delete("/v1/sets/lab")

    def access(self):
        """What is for callers of the network works on the local socket as well; test_network.py has the rest."""
        token = self.api.post("/v1/tokens", {"name": "ci", "spec": {"role": "viewer"}})
        self.assertEqual(self.api.get("/v1/tokens")["items"][0]["id"], self.api.get("/v1/tokens/ci")["id"])
        session = self.api.post("/v1/session", {"token": token["status"]["secret"]})
        self.assertEqual((session["caller"], session["role"]), ("token:ci", "viewer"))
        self.assertEqual(self.api.get("/v1/session")["caller"], f"uid:{os.getuid()}")
        self.api.delete("/v1/session")
        self.api.delete("/v1/tokens/ci")
        self.assertEqual(self.api.post("/v1/portals/local/open", {"listen": "127.0.0.1:0"})["address"],
                         self.api.get("/v1/portals/local")["address"])
        self.assertEqual(self.api.post("/v1/portals/local/close")["state"], "closed")
        self.api.post("/v1/vms/some/start")
        self.api.settled("some")
        ticket = self.api.post("/v1/vms/some/ticket", {"what": "serial"})
        line = socket.socket(socket.AF_UNIX)
        self.addCleanup(line.close)
        line.connect(self.api.path)
        ws.WebSocket(line, ticket["url"])
        manager.Api.exercised.add("socket.open")
        self.api.post("/v1/vms/some/kill")
        self.api.settled("some")


if __name__ == "__main__":
    vivtest.tap.main()
