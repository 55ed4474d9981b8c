#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""viv-img against qemu-img: each reads what the other made, and both agree on what is in it."""
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))
import tap  # noqa: E402

IMG = os.environ.get("VIV_IMG", str(ROOT / "build/meson/viv-img"))
SIZE = 6 << 20


def viv(*args, code=0):
    done = subprocess.run([IMG, *map(str, args)], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == code, f"viv-img {args}: {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout if code == 0 else done.stdout + done.stderr


def qemu(*args, code=0):
    done = subprocess.run(["qemu-img", *map(str, args)], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == code, f"qemu-img {args}: {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def io(image, *commands):
    argv = ["qemu-io", "-f", "qcow2", image]
    for c in commands:
        argv += ["-c", c]
    subprocess.run(argv, check=True, capture_output=True, timeout=200)


@unittest.skipUnless(shutil.which("qemu-img"), "qemu-img is not installed")
class Images(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.TemporaryDirectory(prefix="viv-img-")
        self.addCleanup(self.tmp.cleanup)
        self.dir = pathlib.Path(self.tmp.name)

    def raw(self, name, seed, size=SIZE):
        """Data that compress, data that do not, zeroes and holes."""
        rng = random.Random(seed)
        path = self.dir / name
        with open(path, "wb") as f:
            f.truncate(size)
            for _ in range(60):
                f.seek(rng.randrange(0, size - 70000) & ~511)
                kind = rng.randrange(4)
                n = rng.randrange(512, 70000) & ~511
                f.write(rng.randbytes(n) if kind == 0 else bytes(n) if kind == 1 else
                        bytes([rng.randrange(256)]) * n if kind == 2 else rng.randbytes(512) * (n // 512))
        return path

    def same(self, a, b):
        qemu("compare", a, b)
        viv("compare", "-q", a, b)

    def test_images_of_qemu_img_read_the_same_in_all_their_kinds(self):
        source = self.raw("a.raw", 1)
        kinds = [(["-o", f"cluster_size={c}"], []) for c in (512, 1024, 4096, 65536, 2 << 20)]
        kinds += [(["-o", "compat=0.10"], []), (["-o", "compat=0.10"], ["-c"]), ([], ["-c"]),
                  (["-o", "compression_type=zstd"], ["-c"]), (["-o", "cluster_size=512"], ["-c"]),
                  (["-o", "cluster_size=2M"], ["-c"]), (["-o", "extended_l2=on,cluster_size=128k"], []),
                  (["-o", "preallocation=metadata"], []), (["-o", "preallocation=falloc"], []),
                  (["-o", "preallocation=full"], [])]
        kinds += [(["-o", f"refcount_bits={b}"], []) for b in (1, 2, 4, 8, 32, 64)]
        for options, compress in kinds:
            with self.subTest(options=options, compress=compress):
                image = self.dir / "b.qcow2"
                qemu("convert", "-O", "qcow2", *options, *compress, source, image)
                viv("compare", "-q", source, image)
                ours, theirs = (json.loads(f("check", "--output", "json", image)) for f in (viv, qemu))
                self.assertEqual(ours, theirs)
                back = self.dir / "c.raw"
                viv("convert", "-f", "qcow2", "-O", "raw", image, back)
                qemu("compare", "-f", "raw", "-F", "raw", source, back)
                ours, theirs = (json.loads(f("info", "--output", "json", image)) for f in (viv, qemu))
                for key in ("virtual-size", "format", "cluster-size", "format-specific", "dirty-flag"):
                    self.assertEqual(ours.get(key), theirs.get(key), key)

    def test_images_of_viv_img_are_clean_and_equal_for_qemu_img(self):
        source = self.raw("a.raw", 2)
        for options in (["-o", "cluster_size=512"], ["-o", "cluster_size=64k"], ["-o", "cluster_size=2M"],
                        ["-o", "compat=0.10"], ["-o", "refcount_bits=1"], ["-o", "refcount_bits=64"], ["-c"],
                        ["-c", "-o", "compression_type=zstd"], ["-c", "-o", "cluster_size=4k"], ["-m", "1"]):
            with self.subTest(options=options):
                image = self.dir / "b.qcow2"
                viv("convert", "-O", "qcow2", *options, source, image)
                qemu("check", image)
                self.same(source, image)

    def test_a_sparse_source_stays_sparse(self):
        path = self.dir / "sparse.raw"
        with open(path, "wb") as f:
            f.truncate(4 << 40)
            f.seek(3 << 40)
            f.write(b"x" * 4096)
        viv("convert", "-O", "qcow2", path, self.dir / "s.qcow2")
        self.assertLess((self.dir / "s.qcow2").stat().st_blocks * 512, 2 << 20)
        qemu("check", self.dir / "s.qcow2")
        viv("convert", "-O", "raw", self.dir / "s.qcow2", self.dir / "t.raw")
        self.assertLess((self.dir / "t.raw").stat().st_blocks * 512, 2 << 20)
        viv("compare", "-q", path, self.dir / "t.raw")

    def chain(self):
        base = self.raw("base.raw", 3)
        viv("create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", self.dir / "mid.qcow2")
        viv("create", "-q", "-f", "qcow2", "-b", "mid.qcow2", "-F", "qcow2", self.dir / "top.qcow2", "8M")
        io(self.dir / "mid.qcow2", "write -P 7 100k 300k", "write -z 1M 1M", "discard 3M 200k")
        io(self.dir / "top.qcow2", "write -P 9 300k 100k", "write -z 2M 64k", "write -P 5 6M 70k")
        return base, self.dir / "mid.qcow2", self.dir / "top.qcow2"

    def test_chains_are_read_as_qemu_img_reads_them(self):
        _, _, top = self.chain()
        viv("convert", "-O", "raw", top, self.dir / "flat.raw")
        qemu("compare", "-f", "raw", "-F", "qcow2", self.dir / "flat.raw", top)
        self.assertEqual(len(json.loads(viv("info", "--backing-chain", "--output", "json", top))), 3)
        ours, theirs = (json.loads(f("map", "--output", "json", top)) for f in (viv, qemu))
        flat = [[(m["start"], m["start"] + m["length"], m["data"]) for m in side if m["data"]] for side in (ours, theirs)]

        def merge(runs):
            out = []
            for start, end, _ in runs:
                if out and out[-1][1] == start:
                    out[-1] = (out[-1][0], end)
                else:
                    out.append((start, end))
            return out
        self.assertEqual(merge(flat[0]), merge(flat[1]))

    def test_commit_and_rebase_keep_the_contents(self):
        base, mid, top = self.chain()
        flat = self.dir / "flat.raw"
        qemu("convert", "-O", "raw", top, flat)
        other = self.raw("other.raw", 4, 12 << 20)
        shutil.copy(top, self.dir / "top2.qcow2")
        viv("rebase", "-b", other, "-F", "raw", self.dir / "top2.qcow2")
        self.same(flat, self.dir / "top2.qcow2")
        qemu("check", self.dir / "top2.qcow2")
        shutil.copy(top, self.dir / "top3.qcow2")
        viv("rebase", "-b", "", self.dir / "top3.qcow2")
        self.same(flat, self.dir / "top3.qcow2")
        self.assertNotIn("backing-filename", json.loads(viv("info", "--output", "json", self.dir / "top3.qcow2")))
        viv("commit", top)
        qemu("check", mid)
        qemu("check", top)
        self.same(flat, top)
        self.same(flat, mid)
        viv("commit", "-q", mid)
        qemu("compare", "-f", "raw", "-F", "raw", flat, base)

    def dirty(self, image, bitmap):
        """What QEMU reads from a bitmap, through its NBD server."""
        sock = self.dir / "nbd"
        server = subprocess.Popen(["qemu-nbd", "-r", "-k", str(sock), "-B", bitmap, "-f", "qcow2", str(image)])
        try:
            for _ in range(200):
                if sock.exists():
                    break
                time.sleep(0.05)
            extents = json.loads(qemu("map", "--output=json", "--image-opts",
                                      f"driver=nbd,server.type=unix,server.path={sock},"
                                      f"x-dirty-bitmap=qemu:dirty-bitmap:{bitmap}"))
        finally:
            server.wait(60)  # it goes with its client
        return [(e["start"], e["length"]) for e in extents if not e["data"]]

    @unittest.skipUnless(shutil.which("qemu-nbd"), "qemu-nbd is not installed")
    def test_bitmaps_are_those_of_qemu_img(self):
        image, other = self.dir / "a.qcow2", self.dir / "b.qcow2"
        for cluster in (512, 65536):
            viv("create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster}", image, SIZE)
            viv("bitmap", "--add", "-g", "4k", image, "one")
            qemu("bitmap", "--add", "-g", "512", image, "fine")
            io(image, "write -P 1 70k 3k", "write -P 1 1M 200k", f"write -P 2 {SIZE - 512} 512")
            before = [self.dirty(image, b) for b in ("one", "fine")]
            self.assertIn((1 << 20, 200 << 10), before[0])
            viv("bitmap", "--add", "--disable", image, "two")  # all are written anew
            qemu("check", image)
            self.assertEqual([self.dirty(image, b) for b in ("one", "fine")], before)
            viv("bitmap", "--merge", "one", image, "two")
            self.assertEqual(self.dirty(image, "two"),
                             [(s & ~65535, ((s + n + 65535) & ~65535) - (s & ~65535)) for s, n in before[0][:-1]]
                             + [(SIZE - 65536, 65536)])
            ours, theirs = (json.loads(f("info", "--output", "json", image)) for f in (viv, qemu))
            self.assertEqual(ours["format-specific"], theirs["format-specific"])
            viv("create", "-q", "-f", "qcow2", other, SIZE)
            viv("bitmap", "--add", "-g", "512", "--merge", "fine", "-b", image, "-F", "qcow2", other, "copy")
            self.assertEqual(self.dirty(other, "copy"), before[1])
            viv("bitmap", "--clear", image, "one")
            self.assertEqual(self.dirty(image, "one"), [])
            for name in ("one", "two", "fine"):
                viv("bitmap", "--remove", image, name)
            self.assertEqual((viv("check", image).count("leaked"), qemu("check", image).count("leaked")), (0, 0))

    def test_bitmaps_that_cannot_be_are_refused_with_a_sentence(self):
        image = self.dir / "a.qcow2"
        viv("create", "-q", "-f", "qcow2", image, SIZE)
        viv("bitmap", "--add", image, "one")
        for words, text in ((("--add", image, "one"), "has a bitmap 'one' already"),
                            (("--remove", image, "two"), "has no bitmap 'two'"),
                            (("--merge", "two", image, "one"), "has no bitmap 'two'"),
                            (("--add", "-g", "3k", image, "two"), "a power of two"),
                            ((image, "one"), "say what to do")):
            self.assertIn(text, viv("bitmap", *words, code=1))
        viv("create", "-q", "-f", "qcow2", "-o", "compat=0.10", image, SIZE)
        self.assertIn("version 2", viv("bitmap", "--add", image, "one", code=1))
        self.assertIn("raw image", viv("bitmap", "--add", self.raw("r", 1), "one", code=1))

    def test_bitmaps_of_a_machine_that_was_killed_are_of_no_use_for_both(self):
        image = self.dir / "a.qcow2"
        viv("create", "-q", "-f", "qcow2", image, SIZE)
        viv("bitmap", "--add", image, "one")
        data = bytearray(image.read_bytes())
        at = int.from_bytes(data[112 + 24:112 + 32], "big")  # of the directory, which the extension names
        self.assertEqual(data[112:116], bytes.fromhex("23852875"))
        data[at + 15] |= 1  # in use
        image.write_bytes(data)
        ours, theirs = (json.loads(f("info", "--output", "json", image)) for f in (viv, qemu))
        self.assertEqual(ours["format-specific"], theirs["format-specific"])
        self.assertEqual(ours["format-specific"]["data"]["bitmaps"][0]["flags"], ["in-use", "auto"])
        self.assertIn("of no use", viv("bitmap", "--clear", image, "one", code=1))
        qemu("check", image)
        viv("bitmap", "--remove", image, "one")
        self.assertEqual(qemu("check", image).count("leaked"), 0)

    def test_resize_grows_with_zeroes_and_shrinks_only_when_asked(self):
        source = self.raw("a.raw", 5)
        image = self.dir / "r.qcow2"
        for cluster in ("512", "4k", "64k"):
            with self.subTest(cluster=cluster):
                viv("convert", "-O", "qcow2", "-o", f"cluster_size={cluster}", source, image)
                viv("resize", image, "1M", code=1)
                viv("resize", "--shrink", image, str((1 << 20) + 1536))
                qemu("check", image)
                viv("resize", image, "+40M" if cluster != "512" else "+4M")
                qemu("check", image)
                model = self.dir / "m.raw"
                shutil.copy(source, model)
                os.truncate(model, (1 << 20) + 1536)
                os.truncate(model, json.loads(viv("info", "--output", "json", image))["virtual-size"])
                self.same(model, image)

    def test_leaks_and_wrong_refcounts_are_found_and_repaired(self):
        source = self.raw("a.raw", 6)
        image = self.dir / "d.qcow2"
        for damage, found in (("leak", 3), ("low", 2), ("table", 2)):
            with self.subTest(damage=damage):
                qemu("convert", "-O", "qcow2", source, image)
                with open(image, "r+b") as f:
                    f.seek(48)
                    table = int.from_bytes(f.read(8), "big")
                    f.seek(table)
                    block = int.from_bytes(f.read(8), "big")
                    if damage == "table":  # the refcount block is gone
                        f.seek(table)
                        f.write(bytes(8))
                    else:
                        f.seek(block + 2 * (20 if damage == "low" else 3000))
                        f.write(bytes([0, 0 if damage == "low" else 1]))
                viv("check", image, code=found)
                if damage == "leak":
                    viv("check", "-r", "leaks", image)
                else:
                    viv("check", "-r", "all", image)
                qemu("check", image)
                self.same(source, image)

    def test_an_image_that_was_not_closed_is_repaired_when_written(self):
        image = self.dir / "dirty.qcow2"
        qemu("create", "-f", "qcow2", "-o", "lazy_refcounts=on", image, "8M")
        subprocess.run(["qemu-io", "-f", "qcow2", image, "-c", "write -P 3 0 1M", "-c", "flush", "-c", "abort"],
                       capture_output=True, check=False, timeout=100)
        self.assertTrue(json.loads(viv("info", "--output", "json", image))["dirty-flag"])
        viv("resize", "-q", image, "9M")
        self.assertFalse(json.loads(viv("info", "--output", "json", image))["dirty-flag"])
        qemu("check", image)
        io(image, "read -P 3 0 1M")

    def test_internal_snapshots_survive_our_writing(self):
        image, source = self.dir / "snap.qcow2", self.raw("a.raw", 7)
        qemu("convert", "-O", "qcow2", source, image)
        qemu("snapshot", "-c", "one", image)
        other = self.raw("b.raw", 8)
        viv("convert", "-n", "-O", "qcow2", other, image)
        qemu("check", image)
        self.same(other, image)
        qemu("snapshot", "-a", "one", image)
        self.same(source, image)

    def test_what_is_not_supported_is_refused_with_a_sentence(self):
        image = self.dir / "x.qcow2"
        qemu("create", "-f", "qcow2", "-o", f"data_file={self.dir}/x.data", image, "1M")
        self.assertIn("external data file", viv("info", image, code=1))
        for bit, word in ((17, "bit 17"), (1, "damaged")):
            qemu("create", "-f", "qcow2", image, "1M")
            with open(image, "r+b") as f:
                f.seek(72)
                f.write((1 << bit).to_bytes(8, "big"))
            self.assertIn(word, viv("resize", image, "2M", code=1))
        loop = self.dir / "loop.qcow2"
        viv("create", "-q", "-u", "-f", "qcow2", "-b", loop, "-F", "qcow2", loop, "1M")
        self.assertIn("comes back", viv("map", loop, code=1))
        self.assertIn("-F", viv("create", "-f", "qcow2", "-b", loop, image, code=1))

    def test_other_formats_go_through_qemu_img(self):
        source = self.raw("a.raw", 9)
        for fmt in ("vmdk", "vpc", "vhdx", "vdi"):
            with self.subTest(format=fmt):
                image, back = self.dir / f"a.{fmt}", self.dir / "b.qcow2"
                extra = ["-o", "force_size=on"] if fmt == "vpc" else []
                viv("convert", "-f", "raw", "-O", fmt, *extra, source, image)
                viv("convert", "-O", "qcow2", image, back)
                self.same(source, back)
        qemu("convert", "-O", "vmdk", "-o", "subformat=streamOptimized", source, self.dir / "disk1.vmdk")
        (self.dir / "vm.ovf").write_text("<Envelope/>")
        subprocess.run(["tar", "-cf", "vm.ova", "--format=ustar", "vm.ovf", "disk1.vmdk"], cwd=self.dir, check=True)
        viv("convert", "-O", "qcow2", self.dir / "vm.ova", self.dir / "ova.qcow2")
        self.same(source, self.dir / "ova.qcow2")


if __name__ == "__main__":
    tap.main()
