#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Every command of viv with --json: what it prints is JSON, or it is one whose output is the guest's or a script."""
import json
import re
import subprocess
import unittest

import bootmedia
import manager
import vivtest

# What a guest says, a stream that has no end, or what others read.
OTHERS = {"console", "vnc", "exec", "cp", "ssh", "logs", "completion", "run", "event follow", "screenshot"}
# In this order; * stands before those that fail in this state, whose failure is JSON all the same.
WORDS = """
image list
image show debian
image info debian
create web --image debian --memory 16M --vga std --cdrom empty
list
show web
start web
wait web --for running
top --once
pause web
resume web
edit web --restart never
*send-key web ctrl-alt-delete
*type web hello
*pointer web 1 1
cdrom insert web {iso}
cdrom eject web
snapshot create web one
snapshot list
snapshot revert web one
snapshot rm web one
suspend web
start web
restart web --timeout 1
stop web --timeout 1
clone web copy --linked
template create base --from web --generalize=false
template list
template show base
template rm base
volume create data --size 1M
volume list
volume show data
volume resize data 2M
volume attach data web
volume detach data
volume rm data
net create lan
net list
net show lan
forward add web {port}:80
forward list
forward rm web {port}:80
nic list
*device add web 0000:ff:1f.7
device list
*device rm web 0000:ff:1f.7
*nic add web lan
*nic rm web lan
*set web
net rm lan
image export debian {out}
image import two {out}
job list
job show {job}
job wait {job}
*job cancel {job}
image rm two
event list
backup create
backup list
apply -f {file}
diff -f {file}
set list
set show {set}
set rm {set}
token create ci
token list
token show ci
token rm ci
portal
portal --close
os list
os show debian-12
doctor
host devices
kill web
rm web copy
*image build nothing
"""


class Json(unittest.TestCase):
    def setUp(self):
        self.m = manager.Manager(self)
        self.m.start().image_with_disk()

    def viv(self, words):
        return subprocess.run([manager.VIV, *words, "--json"], env=self.m.env, capture_output=True, text=True,
                              timeout=manager.LIMIT, stdin=subprocess.DEVNULL, check=False)

    def test_every_command_prints_json(self):
        (self.m.home / "a.iso").write_bytes(bootmedia.iso("A"))
        (self.m.home / "a.yaml").write_text("kind: network\nname: dmz\n")
        known = set(re.findall(r"(?m)^\| `viv ([a-z-]+(?: [a-z-]+)*)", self.m.viv("--help-markdown")))
        used, wrong, port = set(), [], vivtest.free_port()
        for line in WORDS.split("\n"):
            if not line:
                continue
            jobs = self.m.api.get("/v1/jobs")["items"]
            sets = self.m.api.get("/v1/sets")["items"]
            words = line.lstrip("*").format(iso=self.m.home / "a.iso", out=self.m.home / "out.raw", file=self.m.home / "a.yaml", port=port,
                                            job=jobs[-1]["name"] if jobs else "", set=sets[0]["name"] if sets else "").split()
            used |= {k for k in known if words[:len(k.split())] == k.split()}
            done = self.viv(words)
            try:
                value = json.loads(done.stderr if done.returncode else done.stdout)
                good = isinstance(value, (dict, list))
                if done.returncode:
                    self.assertEqual((sorted(value), done.stdout), (["code", "field", "reason", "remedy"], ""), line)
            except ValueError:
                good = False
            if done.returncode and "*" not in line[:1]:
                good = False
            if not good:
                wrong.append((line, done.returncode, done.stdout[:300], done.stderr[:300]))
        self.assertFalse(wrong, "\n".join(map(str, wrong)))
        self.assertEqual(known - used - OTHERS, set())


if __name__ == "__main__":
    vivtest.tap.main()
