#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# run: alone
"""The manager is killed at random moments while machines are made, started, stopped and deleted; after each
time the next one finds everything: what was promised is there, once, and nothing else.

VIV_STORM_KILLS says how often (default 200), VIV_STORM_SEED repeats a run.
"""
import http.client
import os
import random
import threading
import time
import unittest

import manager
import vivtest

KILLS = int(os.environ.get("VIV_STORM_KILLS", "200"))
SEED = int(os.environ.get("VIV_STORM_SEED", str(random.randrange(1 << 30))))
NAMES = [f"m{i}" for i in range(6)]


class Storm(unittest.TestCase):
    def setUp(self):
        self.m = manager.Manager(self)
        self.random = random.Random(SEED)
        self.promised = {}  # what an answer has said of a name: "there", "gone", or nothing while it is not known
        self.stop = False
        self.broken = []

    def work(self, seed):
        """Asks for random things; whatever breaks off is not known, the rest is a promise."""
        rng = random.Random(seed)
        while not self.stop:
            name = rng.choice(self.mine[seed])
            verb = rng.choice(["create", "create", "start", "start", "stop", "kill", "restart", "pause", "resume", "delete"])
            before = self.promised.pop(name, None)
            try:
                if verb == "create":
                    self.m.create(name, power=rng.choice(["on", "off"]), image=rng.choice(["tiny", "debian"]),
                                  restart=rng.choice(["never", "always"]))
                    self.promised[name] = "there"
                elif verb == "delete":
                    self.m.api.delete(f"/v1/vms/{name}?force=true")
                    before = None
                    self.m.api.get(f"/v1/vms/{name}/wait?for=deleted&timeout={manager.LIMIT}")
                    self.promised[name] = "gone"
                else:
                    self.m.api.post(f"/v1/vms/{name}/{verb}", {"timeout": 1} if verb in ("stop", "restart") else None)
                    self.promised[name] = "there"
            except manager.Failure as e:
                if e.code in ("conflict", "exists"):
                    self.promised[name] = before
                elif e.code == "not-found":
                    self.promised[name] = "gone"
                    if before == "there":
                        self.broken.append(f"{name} was promised and is gone ({verb}: {e})")
                        return
                else:
                    self.broken.append(f"{verb} {name}: {e}")
                    return
            except (OSError, http.client.HTTPException):
                time.sleep(0.005)  # the manager was killed; what became of it is not known

    def look(self):
        """Store, processes and folders agree once everything has settled."""
        rows = {}
        for name in NAMES:
            try:
                rows[name] = self.m.api.settled(name)
            except manager.Failure as e:
                self.assertEqual(e.code, "not-found")
        for name, promise in self.promised.items():
            if promise == "there":
                self.assertIn(name, rows)
            elif promise == "gone":
                self.assertNotIn(name, rows)
        listed = self.m.api.get("/v1/vms")["items"]
        self.assertEqual(sorted(rows), [v["name"] for v in listed])
        folders = {p.name for p in (self.m.home / "machines").iterdir()}
        self.assertEqual(folders, {v["id"] for v in rows.values()})
        wanted = {v["status"]["pid"] for v in rows.values() if v["spec"]["power"] != "off"}
        self.assertEqual(set(self.m.machine_pids()), wanted)
        for v in rows.values():
            state = {"off": ("stopped",), "on": ("running",), "paused": ("paused",)}[v["spec"]["power"]]
            self.assertIn(v["status"]["state"], state, v)

    def test_no_kill_of_the_manager_loses_doubles_or_leaks_anything(self):
        print(f"# VIV_STORM_SEED={SEED}", flush=True)
        self.m.start()
        self.m.image()
        self.m.image_with_disk()
        for round in range(8):
            self.stop = False
            self.mine = {self.random.random(): NAMES[i::2] for i in range(2)}
            threads = [threading.Thread(target=self.work, args=(seed,), daemon=True) for seed in self.mine]
            for t in threads:
                t.start()
            for _ in range(KILLS // 8):
                time.sleep(self.random.choice([0, 0.005, 0.03, 0.15, 0.4]) * self.random.random())
                self.m.kill()
                self.m.start()
            self.stop = True
            for t in threads:
                t.join()
            self.assertEqual(self.broken, [])
            self.look()
        for name in NAMES:
            if self.promised.get(name) != "gone":
                try:
                    self.m.api.delete(f"/v1/vms/{name}?force=true")
                except manager.Failure as e:
                    self.assertEqual(e.code, "not-found")
        self.m.wait_for(lambda: not self.m.api.get("/v1/vms")["items"], "the end of all machines")
        self.assertEqual(self.m.machine_pids(), [])
        self.assertEqual(list((self.m.home / "machines").iterdir()), [])


if __name__ == "__main__":
    vivtest.tap.main()
