#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The kept history: samples of machines and the host, over the end of a manager, in pieces that are asked for."""
import time
import unittest

import manager
import mini
import vivtest


class History(unittest.TestCase):
    def setUp(self):
        self.m = manager.Manager(self)
        self.api = self.m.api

    def points(self, field="cpu", target="/v1/vms/busy", query="last=600&step=1"):
        answer = self.api.get(f"{target}/history?{query}")
        series = answer["series"][field]
        self.assertEqual(len({len(series[k]) for k in ("min", "avg", "max")}), 1)
        return [v for v in series["avg"] if v is not None]

    def test_what_a_machine_used_is_kept(self):
        self.m.start().image(mini.forever(b"\x90"))
        self.m.create("busy", power="on")
        self.api.settled("busy")
        self.m.wait_for(lambda: len(self.points()) >= 4, "some samples")
        self.assertGreater(max(self.points()), 0.05)
        self.assertLess(max(self.points()), 1.5)
        self.assertGreater(min(self.points("resident")), 1 << 20)
        self.m.wait_for(lambda: self.points("memory_used", "/v1/hosts/local"), "one of the host")
        self.assertGreater(self.points("manager_resident", "/v1/hosts/local")[0], 1 << 20)
        only = self.api.get("/v1/vms/busy/history?fields=cpu&last=60&step=10")
        self.assertEqual((list(only["series"]), only["step"]), (["cpu"], 10))
        self.assertIn(len(only["series"]["cpu"]["avg"]), (6, 7))
        before = self.points()
        self.m.stop()  # writes what waits
        self.m.start()
        self.api.settled("busy")
        after = self.points()
        self.assertGreaterEqual(len(after), len(before))
        # The machine's file goes with it.
        vm = self.api.vm("busy")
        self.assertTrue((self.m.home / "machines" / vm["id"] / "history").exists())
        self.assertIn("busy", self.m.viv("top", "--history"))
        self.assertRegex(self.m.viv("show", "busy"), r"(?m)^last_hour +.*cpu")
        self.m.viv("rm", "--force", "busy")
        self.assertEqual(list((self.m.home / "machines").iterdir()), [])

    def test_what_cannot_be_asked_is_refused(self):
        self.m.start().image()
        self.m.create("off")
        self.api.settled("off")
        self.assertEqual(self.points(target="/v1/vms/off"), [])
        for query, field in (("fields=nonsense", "fields"), ("last=86400&step=1", "step"), ("from=yesterday", "from"),
                             ("from=2026-01-02T00:00:00.000Z&to=2026-01-01T00:00:00.000Z", "from")):
            with self.subTest(query), self.assertRaises(manager.Failure) as caught:
                self.api.get(f"/v1/vms/off/history?{query}")
            self.assertEqual((caught.exception.code, caught.exception.body["field"]), ("invalid", field))
        year = self.api.get("/v1/vms/off/history?last=31536000")
        self.assertGreaterEqual(year["step"], 3600)
        with self.assertRaises(manager.Failure):
            self.api.get("/v1/hosts/other/history")

    def test_an_idle_manager_stays_idle(self):
        self.m.start().image()
        self.m.create("asleep", power="on")
        self.api.settled("asleep")
        time.sleep(2)

        def ticks():
            fields = open(f"/proc/{self.m.process.pid}/stat", encoding="ascii").read().rsplit(")", 1)[1].split()
            return int(fields[11]) + int(fields[12])
        before, begin = ticks(), time.monotonic()
        time.sleep(15)
        used = (ticks() - before) / 100 / (time.monotonic() - begin)
        print(f"# the manager of an idle machine takes {used * 100:.2f} % of a processor", flush=True)
        self.assertLess(used, 0.02)  # 0.2 % on a quiet host; a tick is 10 ms


if __name__ == "__main__":
    vivtest.tap.main()
