#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""viv-oci: image layouts made by hand and, where they are installed, by umoci and skopeo become file systems that
e2fsck has nothing to say about and debugfs shows as the layers mean them. Hostile ones are refused."""
import gzip
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
import ociimage as oci  # noqa: E402
import tap  # noqa: E402
from ociimage import entry, hardlink, layer, symlink  # noqa: E402

PROGRAM = os.environ.get("VIV_OCI", str(ROOT / "build/viv-oci"))
os.environ["PATH"] += ":/usr/sbin:/sbin"


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="viv-oci-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.count = 0

    def run_it(self, *words, code=0, **kw):
        done = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, timeout=120, check=False,
                              **kw)
        self.assertEqual(done.returncode, code, f"{words}: {done.stdout}{done.stderr}")
        return done.stdout if code == 0 else done.stderr

    def inspect(self, word, code=0):
        out = self.run_it("inspect", word, code=code)
        return json.loads(out) if code == 0 else out

    def pack(self, word, *more, code=0):
        """The disk of an image, checked; or the complaint."""
        self.count += 1
        self.disk = self.folder / f"disk{self.count}.raw"
        out = self.run_it("pack", word, "--disk", self.disk, *more, code=code)
        if code:
            self.assertFalse(self.disk.exists())
            return out
        check = subprocess.run(["e2fsck", "-fn", self.disk], capture_output=True, text=True, check=False)
        self.assertEqual(check.returncode, 0, check.stdout)
        return self.disk

    def layers(self, *layers, packing="", code=0, more=(), **config):
        image = oci.Image()
        image.add(image.manifest(list(layers), packing, **config))
        self.count += 1
        return self.pack(f"oci:{image.tar(self.folder / f'image{self.count}.tar')}", *more, code=code)

    def debugfs(self, request, check=True):
        done = subprocess.run(["debugfs", "-R", request, self.disk], capture_output=True, check=True)
        if check:
            self.assertNotIn(b"not found", done.stderr, request)
        return done.stdout

    def names(self, folder):
        lines = self.debugfs(f"ls -p {folder}").decode().splitlines()
        return sorted(line.split("/")[5] for line in lines if line.startswith("/") and
                      line.split("/")[5] not in (".", "..", "lost+found"))

    def stat(self, path):
        text = self.debugfs(f"stat {path}").decode()
        found = {"text": text}
        for name, value in re.findall(r"(Inode|Type|Mode|User|Group|Size|Links): *(\w+)", text):
            found.setdefault(name.lower(), value)
        return found

    def cat(self, path):
        return self.debugfs(f"cat {path}")


class Layers(Case):
    def test_owners_modes_links_devices_times_and_attributes_are_kept(self):
        caps = b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
        self.layers(layer(
            entry("./", mode=0o751, uid=3),
            entry("bin/su", b"program", mode=0o4755),
            entry("bin/ping", b"ping", mode=0o755, pax_headers={"SCHILY.xattr.user.color": "red"}),
            entry("big/owner", b"x", uid=300000, gid=70000, mtime=4000000000),
            hardlink("bin/su2", "bin/su"), symlink("link", "/bin/su"), symlink("long", "a/" * 60),
            entry("dev/tty9", type=tarfile.CHRTYPE, devmajor=4, devminor=9),
            entry("dev/big", type=tarfile.BLKTYPE, devmajor=259, devminor=70000),
            entry("pipe", type=tarfile.FIFOTYPE, mode=0o600), entry("tmp", mode=0o1777),
            entry("empty", b""), entry("deep/" * 30 + "end", b"deep"),
            entry("äöü.txt", "ä".encode()), entry("x" * 200, b"long")))
        self.assertEqual(len(caps), 20)
        su = self.stat("/bin/su")
        self.assertEqual((su["mode"], su["links"], su["size"]), ("04755", "2", "7"))
        self.assertEqual(su["inode"], self.stat("/bin/su2")["inode"])
        self.assertIn('user.color (3) = "red"', self.stat("/bin/ping")["text"])
        owner = self.stat("/big/owner")
        self.assertRegex(owner["text"], r"User: *300000 *Group: *70000")
        self.assertIn("2096", owner["text"])
        self.assertEqual(self.stat("/tmp")["mode"], "01777")
        self.assertEqual((self.stat("/")["mode"], self.stat("/")["user"]), ("0751", "3"))
        self.assertIn('"/bin/su"', self.stat("/link")["text"])
        self.assertEqual(self.stat("/long")["size"], "120")
        self.assertIn("character special", self.stat("/dev/tty9")["text"])
        self.assertRegex(self.stat("/dev/tty9")["text"], r"major/minor number: 0?4:0?9")
        self.assertRegex(self.stat("/dev/big")["text"], r"major/minor number: 259:70000")
        self.assertEqual(self.stat("/pipe")["type"], "FIFO")
        self.assertEqual(self.cat("/" + "deep/" * 30 + "end"), b"deep")
        self.assertEqual(self.cat("/äöü.txt"), "ä".encode())
        self.assertEqual(self.cat("/" + "x" * 200), b"long")

    def test_layers_lie_on_each_other(self):
        for packing in "", "+gzip", "+zstd":
            with self.subTest(packing):
                self.layers(
                    layer(entry("etc"), entry("etc/a", b"old", uid=5), entry("etc/b", b"b"), entry("file", b"file"),
                          entry("dir"), entry("dir/x", b"x"), entry("swap", b"s"), entry("lib", b"l"),
                          symlink("sym", "etc")),
                    layer(entry("etc", mode=0o700), entry("etc/a", b"new and longer", mode=0o600),
                          entry("file"), entry("file/in", b"it"), entry("dir", b"now a file"),
                          entry("sym"), entry("sym/own", b"own")),
                    packing=packing)
                self.assertEqual(self.cat("/etc/a"), b"new and longer")
                self.assertEqual((self.stat("/etc/a")["user"], self.stat("/etc")["mode"]), ("0", "0700"))
                self.assertEqual(self.names("/etc"), ["a", "b"])
                self.assertEqual(self.cat("/file/in"), b"it")
                self.assertEqual(self.cat("/dir"), b"now a file")
                self.assertEqual(self.names("/sym"), ["own"])

    def test_whiteouts_remove_what_lower_layers_have_and_nothing_of_their_own(self):
        low = layer(entry("a"), entry("a/1", b"1"), entry("a/2", b"2"), entry("a/sub"), entry("a/sub/x", b"x"),
                    entry("b"), entry("b/low", b"low"), entry("b/sub"), entry("b/sub/low", b"low"), entry("c", b"c"),
                    entry("keep", b"k"), hardlink("keep2", "keep"))
        top = layer(entry("a/.wh.1", b""), entry("a/.wh.sub", b""), entry("b/own", b"own"),
                    entry("b/sub/own", b"own"), entry("b/.wh..wh..opq", b""), entry(".wh.c", b""),
                    entry(".wh.nothing", b""), entry("no/.wh.folder", b""), entry(".wh.keep", b""),
                    entry(".wh..wh.plnk", b""), entry("d", b"d"), entry(".wh.d", b""))
        self.layers(low, top)
        self.assertEqual(self.names("/a"), ["2"])
        self.assertEqual(self.names("/b"), ["own", "sub"])
        self.assertEqual(self.names("/b/sub"), ["own"])
        self.assertEqual(self.names("/"), ["a", "b", "d", "keep2"])
        self.assertEqual((self.cat("/keep2"), self.stat("/keep2")["links"]), (b"k", "1"))
        self.layers(low, layer(entry(".wh..wh..opq", b""), entry("new", b"new")))
        self.assertEqual(self.names("/"), ["new"])

    def test_links_are_followed_within_the_image_only(self):
        self.layers(layer(entry("usr"), entry("usr/lib"), symlink("lib", "usr/lib"), symlink("abs", "/usr"),
                          symlink("up", "../../../../usr"), entry("lib/one", b"1"), entry("abs/lib/two", b"2"),
                          entry("up/lib/three", b"3"), symlink("out", "/new/place"), entry("out/four", b"4"),
                          entry("/etc/abs", b"5"), entry("usr/../etc/dots", b"6"), hardlink("hard", "up/lib/three")))
        self.assertEqual(self.names("/usr/lib"), ["one", "three", "two"])
        self.assertEqual(self.cat("/new/place/four"), b"4")
        self.assertEqual(self.names("/etc"), ["abs", "dots"])
        self.assertEqual(self.cat("/hard"), b"3")

    def test_what_cannot_be_is_refused_and_leaves_no_file(self):
        loop = [symlink("a", "b"), symlink("b", "a")]
        for what, word, *entries in (
                ("a path above the root", "leads out", entry("../etc/passwd", b"x")),
                ("one in the middle", "leads out", entry("a/../../etc/passwd", b"x")),
                ("a loop of links", "without end", *loop, entry("a/x", b"x")),
                ("a way through a file", "through a file", entry("f", b"x"), entry("f/x", b"x")),
                ("a hard link to nothing", "not there", hardlink("a", "nothing")),
                ("a hard link out of it", "leads out", hardlink("a", "../../etc/passwd")),
                ("a hard link to a folder", "folder", entry("d"), hardlink("a", "d")),
                ("a whiteout without a name", "without a name", entry("d/.wh.", b"")),
                ("the root as a file", "root", entry(".", b"x")),
                ("a whiteout of ..", "without a name", entry("a/.wh...", b"")),
                ("large attributes", "too large", entry("f", b"", pax_headers={"SCHILY.xattr.user.a": "x" * 60000}))):
            with self.subTest(what):
                self.assertIn(word, self.layers(layer(*entries), code=1))

    def test_too_much_of_anything_is_refused_before_it_fills_the_disk(self):
        bomb = layer(entry("zero", b"\0" * (40 << 20)))
        self.assertIn("does not fit", self.layers(bomb, packing="+gzip", code=1, more=["--size", "32M"]))
        many = layer(entry("zero", b"\0" * (20 << 20)), *[entry("zero", b"\0" * (20 << 20)) for _ in range(15)])
        self.assertIn("becomes larger", self.layers(many, packing="+gzip", code=1, more=["--size", "32M"]))
        files = layer(*[entry(f"f{i}", b"") for i in range(9000)])
        self.assertIn("does not fit", self.layers(files, code=1, more=["--size", "32M"]))
        info, _ = entry("huge", b"")
        info.size = 1 << 50
        self.assertRegex(self.layers(info.tobuf(tarfile.GNU_FORMAT), code=1), "does not fit|damaged")

    def test_a_damaged_archive_is_refused(self):
        good = layer(entry("f", b"0123456789" * 1000))
        self.assertIn("damaged", self.layers(good[:5000], code=1))
        self.assertIn("damaged", self.layers(b"no tar at all" * 100, code=1))
        self.layers(b"\0" * 1024)
        self.assertEqual(self.names("/"), [])

    def test_sparse_files_keep_their_contents(self):
        path = self.folder / "sparse"
        with open(path, "wb") as f:
            f.seek(3 << 20)
            f.write(b"middle")
            f.truncate(9 << 20)
        done = subprocess.run(["tar", "-C", self.folder, "-S", "--format=posix", "-cf", "-", "sparse"],
                              capture_output=True, check=True)
        self.assertLess(len(done.stdout), 1 << 20)
        self.layers(done.stdout)
        self.assertEqual(self.cat("/sparse"), path.read_bytes())


class Choice(Case):
    def test_tag_digest_and_platform_choose(self):
        image = oci.Image()
        one = image.manifest([layer(entry("one", b"1"))])
        two = image.manifest([layer(entry("two", b"2"))])
        arm = image.manifest([layer(entry("arm", b"a"))], architecture="arm64")
        index = image.document({"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": [
            {**arm, "platform": {"os": "linux", "architecture": "arm64"}},
            {**two, "platform": {"os": "linux", "architecture": "amd64"}}]}, oci.INDEX)
        image.add(one, "1.0").add(index, "docker.io/library/two:latest").add(arm, "arm")
        for path in image.tar(self.folder / "i.tar"), image.folder(self.folder / "layout"):
            with self.subTest(path=path):
                self.assertIn("choose one", self.inspect(f"oci:{path}", code=1))
                self.assertEqual(self.inspect(f"oci:{path}:1.0")["digest"], one["digest"])
                for word in "docker.io/library/two:latest", "latest":
                    self.assertEqual(self.inspect(f"oci:{path}:{word}")["digest"], two["digest"])
                self.assertEqual(self.inspect(f"oci:{path}@{two['digest']}")["digest"], two["digest"])
                self.assertEqual(self.inspect(f"oci:{path}@{index['digest']}")["digest"], two["digest"])
                self.assertIn("arm64", self.inspect(f"oci:{path}:arm", code=1))
                self.assertIn("no image '2.0'", self.inspect(f"oci:{path}:2.0", code=1))
                self.assertIn("no digest", self.inspect(f"oci:{path}@sha256:12", code=1))
        self.pack(f"oci:{self.folder / 'i.tar'}:latest")
        self.assertEqual(self.names("/"), ["two"])

    def test_an_index_of_platforms_without_ours_says_so(self):
        image = oci.Image()
        image.add(image.manifest([layer()], architecture="arm64"), platform="arm64")
        self.assertIn("no image for linux on amd64", self.inspect(f"oci:{image.tar(self.folder / 'i')}", code=1))

    def test_archives_of_docker_save(self):
        low, top = layer(entry("a", b"a")), layer(entry("b", b"b"))
        path = oci.docker_save(self.folder / "saved.tar", [low, top, low], ["web:1", "web:2"], Cmd=["/a"])
        self.pack(f"oci:{path}:web:2")
        self.assertEqual(self.names("/"), ["a", "b"])
        self.assertEqual(self.inspect(f"docker-archive:{path}")["run"]["cmd"], ["/a"])
        self.assertIn("no image", self.inspect(f"oci:{path}:3", code=1))

    def test_compressed_archives(self):
        image = oci.Image()
        image.add(image.manifest([layer(entry("f", b"f"))]))
        for compress in gzip.compress, oci.zstd:
            self.pack(f"oci:{image.tar(self.folder / f'{compress.__name__}.tar.x', compress)}")
            self.assertEqual(self.names("/"), ["f"])

    def test_the_configuration_is_read(self):
        image = oci.Image()
        image.add(image.manifest([layer()], Entrypoint=["/e"], Cmd=["c", "d"], Env=["A=1"], User="u:g",
                                 WorkingDir="/w", StopSignal="SIGINT"))
        run = self.inspect(f"oci:{image.tar(self.folder / 'i')}")["run"]
        self.assertEqual(run, {"entrypoint": ["/e"], "cmd": ["c", "d"], "env": ["A=1"], "user": "u:g",
                               "workdir": "/w", "stop_signal": "SIGINT"})
        for bad in {"Cmd": "text"}, {"Env": [1]}, {"User": ["u"]}, {"Entrypoint": {"a": 1}}:
            image = oci.Image()
            image.add(image.manifest([layer()], **bad))
            self.assertIn(next(iter(bad)), self.inspect(f"oci:{image.tar(self.folder / 'i')}", code=1))


class Damage(Case):
    def image(self):
        image = oci.Image()
        self.layer = layer(entry("f", b"contents of a file"))
        self.manifest = image.manifest([self.layer], "+gzip")
        return image.add(self.manifest)

    def test_every_blob_is_compared_with_its_digest(self):
        names = list(self.image().blobs)
        self.assertEqual(len(names), 3)
        for name in names:
            for where in 9, -9:
                image = self.image()
                data = bytearray(image.blobs[name])
                data[where] ^= 1
                image.blobs[name] = bytes(data)
                with self.subTest(name=name, where=where):
                    self.assertRegex(self.pack(f"oci:{image.folder(self.folder / 'bad')}", code=1),
                                     "damaged|unpacked|no JSON")

    def test_sizes_are_compared(self):
        for name in list(self.image().blobs):
            image = self.image()
            image.blobs[name] += b" "
            self.assertIn("bytes", self.pack(f"oci:{image.tar(self.folder / 'bad')}", code=1))

    def test_what_layers_hold_is_compared_with_the_diff_ids(self):
        image = oci.Image()
        image.add(image.manifest([layer(entry("f", b"f"))], "+gzip", diff_ids=[oci.digest(b"other")]))
        self.assertIn("that of what it holds", self.pack(f"oci:{image.tar(self.folder / 'bad')}", code=1))

    def test_missing_blobs_and_strange_names(self):
        for name in list(self.image().blobs):
            image = self.image()
            del image.blobs[name]
            self.assertIn("has no file", self.pack(f"oci:{image.tar(self.folder / 'bad')}", code=1))
        for digest in "sha256:../../../../etc/passwd", "md5:12", "", "sha256:" + "A" * 64:
            image = self.image()
            image.manifests[0]["digest"] = digest
            self.assertIn("no digest", self.inspect(f"oci:{image.tar(self.folder / 'bad')}", code=1))

    def test_links_out_of_a_folder_are_not_followed(self):
        for name in list(self.image().blobs):
            image = self.image()
            path = image.folder(self.folder / f"layout{name[-6:]}")
            blob = path / "blobs/sha256" / name[7:]
            shutil.move(blob, self.folder / "outside")
            blob.symlink_to(self.folder / "outside")
            self.assertIn("has no file", self.pack(f"oci:{path}", code=1))

    def test_indexes_that_lead_nowhere(self):
        image = oci.Image()
        digest = None
        for _ in range(8):
            digest = image.document({"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": [
                digest or image.manifest([layer()])]}, oci.INDEX)
        image.add(digest)
        self.assertIn("without end", self.inspect(f"oci:{image.tar(self.folder / 'deep')}", code=1))
        for text in b"", b"{}", b"[]", b'{"manifests": 3}', b"\xff", b'{"manifests": [1, null, "x"]}', b"[" * 3000:
            (self.folder / "index.json").write_bytes(text)
            self.inspect(f"oci:{self.folder}", code=1)
        (self.folder / "index.json").unlink()
        self.assertIn("neither", self.inspect(f"oci:{self.folder}", code=1))
        for text in b"{}", b"[{}]", b'[{"Config": 1, "Layers": 2}]', b'[{"Config": "../x", "Layers": ["a"]}]':
            (self.folder / "manifest.json").write_bytes(text)
            self.inspect(f"oci:{self.folder}", code=1)

    def test_other_files_are_refused_with_a_sentence(self):
        other = self.folder / "other"
        other.write_bytes(b"text" * 1000)
        self.assertIn("no tar archive", self.inspect(f"oci:{other}", code=1))
        self.assertIn("cannot be read", self.inspect(f"oci:{self.folder}/missing", code=1))
        self.assertIn("neither a file nor a folder", self.inspect("oci:/dev/null", code=1))
        self.image().tar(other)
        other.write_bytes(other.read_bytes()[:2000])
        self.assertRegex(self.inspect(f"oci:{other}", code=1), "cut off|has no file")
        self.run_it("pack", f"oci:{other}", code=1)
        self.run_it("unknown", "x", code=2)


class Tools(Case):
    def setUp(self):
        super().setUp()
        for tool in "umoci", "skopeo":
            if not shutil.which(tool):
                self.skipTest(f"{tool} is not installed")

    def test_layouts_of_umoci_and_copies_of_skopeo(self):
        tree, layout = self.folder / "tree", self.folder / "layout"
        (tree / "rootfs").mkdir(parents=True)

        def tool(*words):
            subprocess.run(list(map(str, words)), check=True, capture_output=True, timeout=60)
        tool("umoci", "init", "--layout", layout)
        tool("umoci", "new", "--image", f"{layout}:t")
        tool("umoci", "unpack", "--rootless", "--image", f"{layout}:t", tree / "b")
        root = tree / "b/rootfs"
        (root / "etc").mkdir()
        (root / "etc/one").write_text("one")
        (root / "gone").write_text("gone")
        (root / "link").symlink_to("etc/one")
        tool("umoci", "repack", "--image", f"{layout}:t", tree / "b")
        shutil.rmtree(tree / "b")
        tool("umoci", "unpack", "--rootless", "--image", f"{layout}:t", tree / "b")
        (root / "gone").unlink()
        (root / "etc/two").write_text("two")
        tool("umoci", "repack", "--image", f"{layout}:t", tree / "b")
        tool("umoci", "config", "--image", f"{layout}:t", "--config.cmd", "/bin/x", "--config.env", "A=b")
        copies = [f"oci:{layout}:t"]
        for kind, name in ("oci-archive", "a.tar"), ("docker-archive", "d.tar"):
            tool("skopeo", "--insecure-policy", "copy", f"oci:{layout}:t", f"{kind}:{self.folder / name}:web:t")
            copies.append(f"{kind}:{self.folder / name}")
        for word in copies:
            with self.subTest(word):
                self.pack(word)
                self.assertEqual(self.names("/"), ["etc", "link"])
                self.assertEqual((self.cat("/etc/one"), self.cat("/etc/two")), (b"one", b"two"))
                self.assertEqual(self.inspect(word)["run"]["cmd"], ["/bin/x"])


if __name__ == "__main__":
    tap.main()
