#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The manager's store in bad times: damaged, brought back from a backup, begun anew, on a full disk, and under a
clock that jumps."""
import json
import os
import pathlib
import subprocess
import tempfile
import time
import unittest

import manager
import vivtest

LIMIT = manager.LIMIT
CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* The wall clock is ahead by as many seconds as the file says. */
static long offset(void) {
    FILE *f = fopen(getenv("CLOCK_FILE"), "re");
    long n = 0;

    if (f) {
        if (fscanf(f, "%ld", &n) != 1)
            n = 0;
        fclose(f);
    }
    return n;
}

int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    int r;

    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    r = real(id, t);
    if (id == CLOCK_REALTIME)
        t->tv_sec += offset();
    return r;
}

time_t time(time_t *out) {
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    if (out)
        *out = t.tv_sec;
    return t.tv_sec;
}
"""


class Care(unittest.TestCase):
    def setUp(self):
        self.m = manager.Manager(self)
        self.api = self.m.api

    def vivd(self, *words, code=0):
        done = subprocess.run([manager.VIVD, *words], env=self.m.env, capture_output=True, text=True, timeout=LIMIT,
                              check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def damage(self):
        store = self.m.home / "store.db"
        data = bytearray(store.read_bytes())
        for at in range(4096, len(data)):
            data[at] ^= 0x5a
        store.write_bytes(data)
        for end in ("-wal", "-shm"):
            (self.m.home / ("store.db" + end)).unlink(missing_ok=True)

    def test_a_damaged_store_is_seen_and_a_backup_brings_it_back(self):
        self.m.start().image_with_disk()
        self.m.create("old", image="debian")
        self.api.settled("old")
        name = self.m.viv("backup", "create").strip()
        self.assertEqual(self.m.viv("backup", "list").split(), [name])
        self.assertEqual(self.api.get("/v1/hosts/local/backups")["files"], [name])
        self.m.create("late", image="debian")
        late = self.api.settled("late")["id"]
        self.m.stop()
        self.damage()
        said = self.vivd(code=1)
        self.assertIn("is damaged", said)
        self.assertIn("vivd --restore latest", said)
        self.assertIn(name, said)
        self.assertIn("cannot be read", self.vivd("--restore", "nothing.db", code=1))
        said = self.vivd("--restore", "latest")
        self.assertIn(name, said)
        self.assertIn("1 machines, images or volumes", said)
        self.m.start()
        self.assertEqual([v["name"] for v in self.api.get("/v1/vms")["items"]], ["old"])
        self.api.post("/v1/vms/old/start")
        self.assertEqual(self.api.settled("old")["status"]["state"], "running")
        # What the backup does not know is kept, and so is the damaged store.
        self.assertEqual([p.parent.name for p in (self.m.home / "lost").glob(f"*/machines/{late}/disk.qcow2")], [late])
        self.assertEqual(len(list(self.m.home.glob("store.db.2*"))), 1)

    def test_a_restore_needs_a_folder_of_its_own(self):
        self.m.start()
        self.m.viv("backup", "create")
        self.assertIn("another manager", self.vivd("--restore", "latest", code=3))

    def test_a_store_that_is_begun_anew_takes_no_disks_away(self):
        self.m.start().image_with_disk()
        self.m.create("web", image="debian")
        vm = self.api.settled("web")["id"]
        self.m.stop()
        for p in self.m.home.glob("store.db*"):
            p.unlink()
        self.m.start()
        self.assertEqual(self.api.get("/v1/vms")["items"], [])
        self.assertEqual(len(list((self.m.home / "lost").glob(f"*/machines/{vm}/disk.qcow2"))), 1)
        self.assertEqual(len(list((self.m.home / "lost").glob("*/images/*/disk.raw"))), 1)

    def test_backups_are_whole_while_much_is_written_and_old_ones_go(self):
        self.m.start().image()
        for n in range(9):
            self.m.create(f"m{n}")
            if n >= 7:
                time.sleep(1.1)  # their names are of seconds
                self.m.viv("backup", "create")
        folder = self.m.home / "backups"
        for n in range(8):
            (folder / f"store-2020010{n + 1}T000000Z.db").write_bytes(b"old")
        time.sleep(1.1)
        newest = self.m.viv("backup", "create").strip()
        names = self.m.viv("backup", "list").split()
        self.assertEqual((len(names), names[0]), (7, newest))
        import sqlite3
        with sqlite3.connect(folder / newest) as db:
            self.assertEqual(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
            self.assertEqual(db.execute("SELECT count(*) FROM resource WHERE kind='vm'").fetchone(), (9,))

    @unittest.skipUnless(os.geteuid() == 0, "needs to mount a small disk")
    def test_a_full_disk_loses_nothing_that_was_promised(self):
        folder = tempfile.mkdtemp(prefix="viv-", dir="/tmp")
        self.addCleanup(os.rmdir, folder)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder], check=False).returncode:
            self.skipTest("no small disk can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", folder], check=False)
        self.m.home = pathlib.Path(folder)
        self.m.env["VIV_HOME"] = folder
        self.m.api = self.api = manager.Api(str(self.m.home / "run/api"))
        self.m.start().image()
        filler = open(self.m.home / "filler", "wb")  # noqa: SIM115
        try:
            while True:
                filler.write(b"x" * 65536)
                filler.flush()
        except OSError:
            pass
        promised, failures = [], 0
        for n in range(400):
            try:
                self.m.create(f"m{n}", append="x" * 1000)
                promised.append(f"m{n}")
            except manager.Failure as e:
                self.assertEqual(e.code, "failed")
                self.assertIn("the disk is full", e.body["reason"])
                failures += 1
                if failures == 3:
                    break
        self.assertEqual(failures, 3)
        self.assertEqual(self.api.get("/v1/hosts/local")["name"], "local")  # it goes on answering
        filler.truncate(0)
        filler.close()
        self.m.create("after")
        promised.append("after")
        self.assertLess({v["status"]["state"] for v in (self.api.settled(n) for n in promised)}, {"stopped", "failed", ""})
        self.m.kill()
        self.m.start()
        listed = [v["name"] for v in self.api.get("/v1/vms?limit=1000")["items"]]
        self.assertEqual(listed, sorted(promised))
        self.m.stop()

    def test_a_clock_that_jumps_holds_nothing_up(self):
        shim = self.m.home / "clock.so"
        (self.m.home / "clock.c").write_text(CLOCK)
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shim, self.m.home / "clock.c"], check=True)
        clock = self.m.home / "offset"
        clock.write_text("0")
        self.m.env.update(LD_PRELOAD=str(shim), CLOCK_FILE=str(clock))
        self.m.start().image()
        self.m.create("web", power="on", restart="always")
        pid = self.api.settled("web")["status"]["pid"]
        for seconds in (86400, -86400 * 30, 0):
            clock.write_text(str(seconds))
            begin = time.monotonic()
            self.api.post("/v1/vms/web/stop", {"timeout": 2})
            self.assertEqual(self.api.settled("web")["status"]["state"], "stopped")
            self.assertLess(time.monotonic() - begin, 60)
            self.api.post("/v1/vms/web/start")
            vm = self.api.settled("web")
            self.assertNotEqual(vm["status"]["pid"], pid)
            pid = vm["status"]["pid"]
            os.kill(pid, 9)  # the policy starts it again, whatever the clock says meanwhile
            self.m.wait_for(lambda: self.api.vm("web")["status"].get("next_start"), "the wait of the policy")
            clock.write_text(str(seconds - 86400))
            self.m.wait_for(lambda: self.api.vm("web")["status"].get("pid", pid) != pid, "the next start")
            pid = self.api.settled("web")["status"]["pid"]
        self.m.kill()
        clock.write_text("-100000")
        self.m.start()
        self.assertEqual(self.api.settled("web")["status"]["pid"], pid)
        self.assertTrue(json.dumps(self.api.get("/v1/vms/web/history")))


if __name__ == "__main__":
    vivtest.tap.main()
