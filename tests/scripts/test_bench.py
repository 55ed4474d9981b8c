#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmarks' bookkeeping: figures that must not be trusted are not shown, and the guest's half
computes the same when asked twice. Nothing here is about how long anything takes."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests/support")]
sys.dont_write_bytecode = True
import machine  # noqa: E402
import report  # noqa: E402
import tap  # noqa: E402
from rows import GOALS, ROWS, Goal, Row  # noqa: E402

ABOUT = dict(ours="ours", peer="peer", date="", host="", load="", kernel="", rounds=1, seconds=1)


class Bookkeeping(unittest.TestCase):
    row = Row("one", "group", "the first", "kernel", 100)

    def results(self, *samples, peers=("QEMU",)):
        results = report.Results([self.row], ["soft"], peers=peers)
        for name, value, checksum in samples:
            results.round = len(results.samples.get((self.row.key, name), {}))
            results.add(self.row, name, value)
            results.checksum(self.row, name, checksum)
        return results

    def test_a_row_whose_machines_computed_different_results_is_void_and_says_so(self):
        results = self.results(("native", 0.1, "aa"), ("QEMU", 0.3, "aa"), ("soft", 0.6, "bb"))
        self.assertIsNone(results.ratio(self.row, "soft"))
        self.assertIn("void with soft: one: results differ: native aa, QEMU aa, soft bb", results.table(ABOUT, []))

    def test_a_machine_whose_result_changes_between_rounds_makes_the_row_void(self):
        results = self.results(("QEMU", 0.3, "aa"), ("soft", 0.6, "aa"), ("soft", 0.6, "ab"))
        self.assertIsNone(results.ratio(self.row, "soft"))

    def test_a_row_that_one_machine_could_not_run_is_void_with_its_reason(self):
        results = self.results(("native", 0.1, "aa"), ("soft", 0.6, "aa"))
        results.fail(self.row, "QEMU", "no such device")
        self.assertIn("void with soft: one: QEMU: no such device", results.table(ABOUT, []))

    def test_the_ratio_is_the_median_of_the_rounds_without_the_handshake(self):
        results = self.results(*[("QEMU", 0.2, "a")] * 3, ("soft", 0.5, "a"), ("soft", 9.1, "a"), ("soft", 0.6, "a"))
        for name in ("QEMU", "soft"):
            results.add(Row("null", "", "", "kernel"), name, 0.1)
        self.assertAlmostEqual(results.ratio(self.row, "soft"), 5.0)
        self.assertIn("soft needs more than QEMU in 1 of 1 rows: one 5.0x", results.table(ABOUT, []))

    def test_a_goal_is_short_when_it_is_missed_and_not_measured_when_its_row_is_void(self):
        results = self.results(("QEMU", 0.3, "aa"), ("soft", 0.6, "aa"))
        goals = [Goal("soft", "ratio", "one", 2.5, None, ""), Goal("soft", "ratio", "one", 1.5, 1, ""), Goal("soft", "value", "one", 0.7, 0.6, ""),
                 Goal("soft", "worst", "group", 1.9, None, ""), Goal("soft", "geomean", "group", 3, 1, ""), Goal("soft", "ratio", "other", 1, 1, "")]
        self.assertEqual([word for _, _, word in results.goals(goals)],
                         ["PASS", "short", "PASS, aim", "short", "PASS", "not measured"])

    def test_a_rate_is_good_when_it_is_high_and_figures_of_clones_need_no_peer(self):
        row = Row("forks", "clones", "clones", "clones", unit="/s")
        results = report.Results([row], ["soft"])
        results.add(row, "soft", 120)
        goals = [Goal("soft", "rate", "forks", 100, None, "clones a second"), Goal("soft", "rate", "forks", 100, 110, ""),
                 Goal("soft", "rate", "forks", 130, None, "")]
        self.assertEqual([word for _, _, word in results.goals(goals)], ["PASS", "PASS, aim", "short"])
        table = results.table(ABOUT, goals)
        self.assertIn("PASS          soft  clones a second: 120 /s; at least 100 /s", table)
        self.assertNotIn("void", table)

    def test_a_goal_of_a_group_needs_all_of_its_rows(self):
        results = self.results(("QEMU", 0.3, "aa"), ("soft", 0.6, "aa"))
        results.all_rows = [self.row, Row("two", "group", "the second", "kernel", 1)]
        self.assertEqual([word for _, _, word in results.goals([Goal("soft", "worst", "group", 9, None, "")])], ["not measured"])

    def test_of_two_peers_the_one_that_needed_less_counts_and_the_table_tells_which(self):
        samples = ("QEMU 7.2", 0.4, "aa"), ("QEMU 10.0", 0.3, "aa"), ("soft", 0.6, "aa")
        results = self.results(*samples, peers=("QEMU 7.2", "QEMU 10.0"))
        self.assertAlmostEqual(results.ratio(self.row, "soft"), 2.0)
        self.assertRegex(results.table(ABOUT, []), r"the first +- +300 ms +10\.0 +600 ms +2\.00x more")
        self.assertEqual(results.as_json(ABOUT, [])["rows"][0]["peer"], "QEMU 10.0")
        # The median decides, not the best round.
        results = self.results(*samples, *[("QEMU 10.0", 0.5, "aa")] * 2, peers=("QEMU 7.2", "QEMU 10.0"))
        self.assertEqual(results.peer(self.row), "QEMU 7.2")

    def test_a_peer_that_computed_something_else_or_nothing_leaves_the_row_to_the_other(self):
        peers = ("QEMU 7.2", "QEMU 10.0")
        for wrong in ([("QEMU 10.0", 0.1, "bb")], []):
            results = self.results(("native", 0.1, "aa"), ("QEMU 7.2", 0.3, "aa"), ("soft", 0.6, "aa"), *wrong, peers=peers)
            self.assertEqual(results.peer(self.row), "QEMU 7.2")
            self.assertAlmostEqual(results.ratio(self.row, "soft"), 2.0)

    def test_a_column_that_is_empty_tells_its_reason(self):
        results = self.results(("QEMU", 0.3, "aa"), ("soft", 0.6, "aa"))
        results.fail(self.row, "native", "no chroot here")
        self.assertIn("not measured with native: one: no chroot here", results.table(ABOUT, []))

    def test_a_mean_is_over_its_own_group_alone(self):
        rows = [self.row, *(self.row._replace(key=k) for k in ("two", "three")), Row("alone", "apart", "", "kernel", 1)]
        results = report.Results(rows, ["soft"])
        for row, ours in zip(rows, (1, 2, 4, 1000)):
            results.add(row, "QEMU", 1)
            results.add(row, "soft", ours)
        self.assertEqual(results.group_line("group")[4:], ["2.00x more", "", "-"])
        self.assertEqual([round(v, 3) for _, v, _ in results.goals([Goal("soft", "geomean", "group", 3, 1, "")])], [2])

    DISK = ["read", "read-32", "read-seq", "write", "write-32", "write-seq"]

    def test_the_groups_are_the_rows_that_the_goals_are_about(self):
        groups = {g: [r.key for r in ROWS if r.group == g] for g in {g.key for g in GOALS} if any(r.group == g for r in ROWS)}
        self.assertEqual(groups, {
            "integer": ["sort", "hash", "crc", "sha256", "interp", "calls", "strings", "lz"],
            "FP and SIMD": ["matmul", "mandelbrot", "math", "sse2-int", "sse-float", "avx2"],
            "system": ["syscall", "fault", "forkexec", "pipe", "switch", "signal"],
            "disk": ["disk-" + name for name in self.DISK], "disk, qcow2": ["qcow2-" + name for name in self.DISK],
            "programs": ["python3", "sqlite3", "gzip", "xz", "zstd", "openssl", "gcc", "perl"]})

    def test_a_program_that_counts_is_told_as_the_time_for_a_fixed_number(self):
        row = next(r for r in ROWS if r.key == "openssl")._replace(n=1000)
        output = "+DT:sha256:1:8192\nDoing\n+R:4000:sha256:1.000000\n+R1:1000:2048:1.00\n+R2:2000:2048:1.00\n+F:6:sha256:1.5\n"
        seconds, rest = machine.per_work(row, 3.0, output)
        self.assertAlmostEqual(seconds, 1.5)
        self.assertEqual(rest, "3 counts\nDoing\n")
        for none in (output.replace("1000", "0"), "", "error\n"):
            with self.assertRaises(machine.GuestError):
                machine.per_work(row, 3.0, none)
        self.assertEqual(machine.per_work(row._replace(work=None), 3.0, "x"), (3.0, "x"))

    def test_every_row_has_its_own_name_and_every_goal_a_row(self):
        keys = [r.key for r in ROWS]
        self.assertEqual(len(keys), len(set(keys)))
        self.assertLessEqual({g.key for g in GOALS}, {*keys, *(r.group for r in ROWS)})


class GuestHalf(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.out = pathlib.Path(folder.name)
        subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-O1", "-o", cls.out / "bench",
                        *(ROOT / "bench/guest").glob("*.c"), "-lm"], check=True)
        subprocess.run([cls.out / "bench", "mkdisk", cls.out / "disk.raw", "1"], check=True)
        cls.server = machine.Server()

    def setUp(self):
        self.native = machine.Native(self.out)
        self.native.serve()
        self.addCleanup(self.native.close)

    def test_every_kernel_of_the_table_gives_the_same_result_twice_and_another_for_more_work(self):
        for row in (r for r in ROWS if r.kind == "kernel"):
            row = row._replace(n=row.n // 64 + 2)
            try:
                sums = [self.native.kernel(r, self.server.port)[1] for r in (row, row, row._replace(n=row.n * 2 + 257))]
            except machine.GuestError as e:
                self.assertIn("Operation not supported", str(e), row.key)
                continue
            self.assertEqual(sums[0], sums[1], row.key)
            self.assertNotEqual(sums[0], sums[2], row.key)

    def test_what_cannot_be_run_is_refused_and_the_next_request_is_served(self):
        disk = next(r for r in ROWS if r.key == "disk-read")
        for bad in (Row("nothing", "", "", "kernel", 1), disk._replace(arg="/nowhere"),
                    next(r for r in ROWS if r.key == "tcp-in")._replace(arg="127.0.0.1:1")):
            with self.assertRaises(machine.GuestError):
                self.native.kernel(bad, 0)
        self.assertEqual(self.native.kernel(Row("null", "", "", "kernel", 5), 0)[1], f"{5:016x}")

    def test_memory_beyond_ram_needs_a_mapping_that_can_be_the_ram(self):
        with self.assertRaises(machine.GuestError):
            machine.beyond_ram(self.native.guest.process.pid, 1 << 40)


if __name__ == "__main__":
    tap.main()
