#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""OVA files out of the library and into it, also as others write them, and compressed disks."""
import gzip
import hashlib
import os
import shutil
import subprocess
import tarfile
import unittest
import xml.etree.ElementTree

import test_manager
import vivtest

ENVELOPE = "{http://schemas.dmtf.org/ovf/envelope/1}"
# The head of what VirtualBox writes; VMware's has the prefix ovf: everywhere and other ids.
VIRTUALBOX = """<?xml version="1.0"?>
<!-- <File ovf:href="comment.vmdk" ovf:id="file1"/> -->
<Envelope ovf:version="1.0" xml:lang="en-US" xmlns="http://schemas.dmtf.org/ovf/envelope/1"
 xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:vbox="http://www.virtualbox.org/ovf/machine">
  <References>{files}</References>
  <DiskSection><Info>List of the virtual disks used in the package</Info>{disks}</DiskSection>
  <VirtualSystem ovf:id="x"><Info><![CDATA[ <Disk ovf:fileRef="file9"/> ]]></Info></VirtualSystem>
</Envelope>"""


class Case(test_manager.Case):
    def setUp(self):
        super().setUp()
        if not shutil.which("qemu-img"):
            self.skipTest("qemu-img is not installed")
        self.home = self.m.home

    def disk(self, name="disk", size=6 << 20):
        path = self.home / name
        with open(path, "wb") as f:
            f.write(os.urandom(100000))
            f.seek(3 << 20)
            f.write(name.encode() * 1000)
            f.truncate(size)
        return path

    def vmdk(self, disk):
        out = self.home / f"{disk.name}.vmdk"
        subprocess.run(["qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", disk, out], check=True)
        return out

    def archive(self, name, files, descriptor=None, mf=None):
        with tarfile.open(self.home / name, "w", format=tarfile.USTAR_FORMAT) as tar:
            if descriptor is not None:
                (self.home / "x.ovf").write_text(descriptor)
                tar.add(self.home / "x.ovf", "x.ovf")
            if mf is not None:
                (self.home / "x.mf").write_text(mf)
                tar.add(self.home / "x.mf", "x.mf")
            for file in files:
                tar.add(file, file.name)
        return str(self.home / name)

    def descriptor(self, *names, more="", disk=""):
        return VIRTUALBOX.format(
            files="".join(f'<File ovf:href="{n}" ovf:id="file{i}" {more}/>' for i, n in enumerate(names)),
            disks="".join(f'<Disk ovf:capacity="1" ovf:diskId="d{i}" ovf:fileRef="file{i}" {disk}/>'
                          for i, _ in enumerate(names)))

    def came(self, image, disk):
        found = self.api.get(f"/v1/images/{image}")
        self.assertEqual(found["status"]["sha256"], hashlib.sha256(disk.read_bytes()).hexdigest())

    def refused(self, file, word):
        said = self.m.viv("image", "import", "bad", str(file), code=1)
        self.assertIn(word, said)
        self.assertEqual([p for p in (self.home / "images").glob("*/*")], [])


class Ova(Case):
    def test_an_image_goes_out_and_comes_back(self):
        self.begin()
        disk = self.disk()
        self.m.viv("image", "import", "mine", str(disk))
        ova = self.home / "it's <one> & more.ova"
        self.m.viv("image", "export", "mine", str(ova), "--format", "ova")
        with tarfile.open(ova) as tar:
            names = tar.getnames()
            self.assertEqual([n.rsplit(".")[-1] for n in names], ["ovf", "mf", "vmdk"])
            text = [tar.extractfile(n).read() for n in names]
        root = xml.etree.ElementTree.fromstring(text[0])
        file = root.find(f"{ENVELOPE}References/{ENVELOPE}File")
        self.assertEqual((file.get(f"{ENVELOPE}href"), int(file.get(f"{ENVELOPE}size"))), (names[2], len(text[2])))
        self.assertEqual(root.find(f"{ENVELOPE}DiskSection/{ENVELOPE}Disk").get(f"{ENVELOPE}capacity"), str(6 << 20))
        for name, data in zip((names[0], names[2]), (text[0], text[2])):
            self.assertIn(f"SHA256({name})= {hashlib.sha256(data).hexdigest()}\n", text[1].decode())
        (self.home / "out.vmdk").write_bytes(text[2])
        info = subprocess.run(["qemu-img", "info", self.home / "out.vmdk"], capture_output=True, text=True, check=True)
        self.assertIn("streamOptimized", info.stdout)
        self.assertEqual(sorted(p.name for p in self.home.glob("*.part*")), [])
        self.m.viv("image", "import", "back", str(ova))
        self.came("back", disk)

    def test_those_of_others_are_understood(self):
        self.begin()
        one, two = self.disk("one"), self.disk("two")
        files = [self.vmdk(one), self.vmdk(two)]
        self.m.viv("image", "import", "plain", self.archive("plain.ova", files[:1], self.descriptor("one.vmdk")))
        self.came("plain", one)
        vmware = self.descriptor("two.vmdk").replace("<File", "<ovf:File").replace("<Disk ", "<ovf:Disk ") \
            .replace("<Envelope", "<ovf:Envelope").replace("</Envelope", "</ovf:Envelope")
        sums = "SHA1(x.ovf)= 00\nSHA256(two.vmdk)= " + hashlib.sha256(files[1].read_bytes()).hexdigest() + "\n"
        self.m.viv("image", "import", "vmware", self.archive("vmware.ova", files[::-1], vmware, sums))
        self.came("vmware", two)
        both = self.archive("both.ova", files, self.descriptor("one.vmdk", "two.vmdk"))
        self.assertIn("--reference NAME (one.vmdk, two.vmdk)", self.m.viv("image", "import", "both", both, code=1))
        self.m.viv("image", "import", "both", both, "--reference", "two.vmdk")
        self.came("both", two)
        packed = self.home / "one.gz"
        packed.write_bytes(gzip.compress(files[0].read_bytes()))
        self.m.viv("image", "import", "packed",
                   self.archive("packed.ova", [packed], self.descriptor("one.gz", more='ovf:compression="gzip"')))
        self.came("packed", one)

    def test_what_cannot_be_is_refused(self):
        self.begin()
        file = self.vmdk(self.disk())
        good = self.descriptor("disk.vmdk")
        for word, descriptor, mf in (
                ("is damaged", good, "SHA256(disk.vmdk)= " + "0" * 64),
                ("not in it", self.descriptor("other.vmdk"), None),
                ("no descriptor", "text", None),
                ("several files", self.descriptor("disk.vmdk", more='ovf:chunkSize="1000"'), None),
                ("what differs", self.descriptor("disk.vmdk", disk='ovf:parentRef="d9"'), None),
                ("not in it", self.descriptor("../../../etc/passwd"), None)):
            with self.subTest(word):
                self.refused(self.archive("bad.ova", [file], descriptor, mf), word)
        other = self.home / "other"
        other.write_bytes(b"other")
        self.refused(self.archive("bad.ova", [other], VIRTUALBOX.format(files="", disks="")), "holds no disk")
        (self.home / "disk.vmdk").write_bytes(b"# Disk DescriptorFile\nRW 1 FLAT \"/etc/passwd\" 0\n".ljust(4096))
        self.refused(self.archive("bad.ova", [file], good), "refers to other files")


class Compressed(Case):
    def test_compressed_disks_are_unpacked(self):
        self.begin()
        disk = self.disk()
        qcow2 = self.home / "q.qcow2"
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", disk, qcow2], check=True)
        for name, source, program in (("gz", disk, ["gzip", "-c"]), ("zst", qcow2, ["zstd", "-qc"]),
                                      ("xz", disk, ["xz", "-c"])):
            if not shutil.which(program[0]):
                continue
            data = subprocess.run([*program, source], check=True, capture_output=True).stdout
            (self.home / f"d.{name}").write_bytes(data)
            self.m.viv("image", "import", name, str(self.home / f"d.{name}"))
            self.came(name, disk)
        self.m.viv("image", "rm", *[i["name"] for i in self.api.get("/v1/images")["items"]])
        self.m.wait_for(lambda: not self.api.get("/v1/images")["items"], "the end of the images")
        (self.home / "cut.gz").write_bytes(gzip.compress(os.urandom(100000))[:50000])
        self.refused(self.home / "cut.gz", "truncated")


if __name__ == "__main__":
    vivtest.tap.main()
