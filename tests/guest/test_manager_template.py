#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Templates: what makes a machine itself is taken away, so that machines of it have identities of their own.

VIV_TEMPLATE_MACHINES says how many machines are compared.
"""
import os
import random
import time
import unittest

import manager
import mini
import vivtest
from test_manager_snapshot import Machines

LIMIT = manager.LIMIT

# Once its ssh server is up it has keys.
IDENTITY = """
for i in $(seq 200); do systemctl -q is-active ssh && break; sleep 0.5; done
cat /etc/machine-id; cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub; cat /run/systemd/netif/leases/* | grep CLIENTID
"""


class Templates(Machines):
    def template(self, name="base", **spec):
        return self.api.post("/v1/images", {"name": name, "spec": {"from": "web", **spec}})

    def job_of(self, image):
        return self.api.get(f"/v1/jobs/{image['status']['job']}/wait?timeout={LIMIT}")["status"]

    def leaves_nothing(self):
        """An image goes after the answer, as its folder does."""
        def same():
            return {p.name for p in (self.m.home / "images").iterdir()} == {i["id"] for i in self.api.get("/v1/images")["items"]}
        self.m.wait_for(same, "the end of folders")

    def text_of(self, image):
        return (self.m.home / "images" / image["id"] / "disk.raw").read_bytes()[:512].strip(b"\0").decode()

    def booted(self, name):
        """Debian, on a host that may be busy with much else."""
        for _ in range(5):
            try:
                self.api.get(f"/v1/vms/{name}/wait?for=ready&timeout={LIMIT - 20}")
                return
            except manager.Failure as e:
                self.assertEqual(e.code, "timeout")
        self.fail(f"{name} did not boot")

    @unittest.skipUnless((vivtest.GUEST / "debian12.raw").exists(), "no Debian guest")
    def test_machines_of_a_template_are_themselves(self):
        self.m.wait_for_image("debian", vivtest.GUEST)
        self.m.create("web", image="debian")
        self.api.settled("web")
        self.m.viv("template", "create", "base", "--from", "web")
        self.assertEqual(self.m.viv("template", "list", "--quiet"), "base\n")
        self.m.viv("rm", "web")
        seen, count = set(), int(os.environ.get("VIV_TEMPLATE_MACHINES", "2"))
        for i in range(count):
            own = ("--user", "ada", "--ssh-key", str(vivtest.GUEST / "id_ed25519.pub")) if i == 0 else ()
            self.m.viv("create", f"m{i}", "--template", "base", "--memory", "512M", *own)
            self.m.viv("start", f"m{i}")
            self.booted(f"m{i}")
            self.assertEqual(self.run_in("hostname", name=f"m{i}").strip(), f"m{i}")
            if own:
                self.assertEqual(self.run_in("sh", "-c", "cut -c1-11 ~ada/.ssh/authorized_keys; "
                                             "id -un ada; stat -c '%a %U' ~ada/.ssh", name="m0"), "ssh-ed25519\nada\n700 ada\n")
            words = self.run_in("sh", "-c", IDENTITY, name=f"m{i}").split()
            self.assertEqual(len(words), 3, words)
            self.assertRegex(words[0], "^[0-9a-f]{32}$")
            seen.update(words)
            self.assertEqual(self.run_in("ls", "-A", "/root/.ssh", name=f"m{i}"), "authorized_keys\n")
            self.m.viv("kill", f"m{i}")
        self.assertEqual(len(seen), 3 * count, sorted(seen))
        self.m.viv("template", "rm", "base", code=3)

    def test_a_template_is_a_copy_that_stands_on_nothing(self):
        self.m.image_with_disk()
        self.m.create("web", image="debian")
        self.api.settled("web")
        self.put("source")
        image = self.template(generalize=False)
        self.assertEqual(self.job_of(image)["state"], "done")
        self.assertEqual(self.api.get("/v1/images?kind=template")["items"][0]["name"], "base")
        self.put("later")
        self.assertEqual(self.text_of(image), "source")
        self.m.create("other", image="base", power="on")
        self.assertEqual(self.api.settled("other")["status"]["state"], "running")
        self.m.viv("rm", "web")
        self.m.viv("kill", "other")
        self.assertEqual(self.get("other"), "source")
        self.assertEqual({p.name for p in (self.m.home / "images" / image["id"]).iterdir()}, {"disk.raw", "vmlinuz", "initrd.img"})

    def test_what_cannot_be_is_refused_and_leaves_nothing(self):
        self.m.image_with_disk()
        self.m.image(mini.STOP)
        self.m.create("web", image="debian")
        self.m.create("bare")
        self.api.settled("web")
        self.api.settled("bare")
        self.assertIn("no disk", self.m.viv("template", "create", "t", "--from", "bare", code=3))
        self.m.viv("template", "create", "t", "--from", "nope", code=4)
        self.m.viv("template", "create", "t", code=2)
        self.m.viv("image", "build", "t", "--from", "web", code=2)
        # A guest that never runs the script: it is given up.
        image = self.template()
        self.m.wait_for(lambda: self.api.get(f"/v1/jobs/{image['status']['job']}")["status"].get("stage", "").startswith("taking"),
                        "the helper guest")
        self.api.post(f"/v1/jobs/{image['status']['job']}/cancel")
        self.assertEqual(self.job_of(image)["state"], "cancelled")
        self.assertEqual(self.api.get("/v1/images/base")["status"]["state"], "failed")
        self.m.viv("template", "rm", "base")
        self.leaves_nothing()

    def test_a_manager_that_is_killed_goes_on(self):
        self.m.image_with_disk(16 << 20)
        self.m.create("web", image="debian")
        self.api.settled("web")
        dice = random.Random(int(os.environ.get("VIV_STORM_SEED", "1")))
        for i in range(int(os.environ.get("VIV_STORM_KILLS", "10"))):
            self.put(f"text {i}")
            image = self.template(f"t{i}", generalize=False)
            if dice.random() < 0.3:
                self.api.post("/v1/vms/web/clone", {"name": f"c{i}"}) if dice.random() < 0.3 and \
                    "work" not in self.api.vm("web")["status"] else None
            time.sleep(dice.random() * 0.1)
            self.m.kill()
            self.m.start()
            job = self.job_of(image)
            self.assertEqual(job["state"], "done", job)
            self.assertEqual(self.text_of(image), f"text {i}")
            if dice.random() < 0.5:
                self.api.delete(f"/v1/images/t{i}")
                self.m.kill()
                self.m.start()
        self.tidied()
        self.m.wait_for(lambda: all(i["status"]["state"] == "ready" for i in self.api.get("/v1/images")["items"]), "its end")
        self.leaves_nothing()

    def test_the_helper_guest_ends_with_the_manager(self):
        self.m.image_with_disk()
        self.m.create("web", image="debian")
        self.api.settled("web")
        image = self.template()

        def helpers():
            folder = str(self.m.home / "images" / image["id"])
            found = []
            for p in os.listdir("/proc"):
                try:
                    if p.isdigit() and os.readlink(f"/proc/{p}/cwd") == folder:
                        found.append(p)
                except OSError:
                    pass
            return found
        self.m.wait_for(helpers, "the helper guest")
        self.m.kill()
        self.m.wait_for(lambda: not helpers(), "its end")
        self.m.start()
        self.m.wait_for(helpers, "the next one")
        self.api.post(f"/v1/jobs/{image['status']['job']}/cancel")
        self.assertEqual(self.job_of(image)["state"], "cancelled")
        self.m.wait_for(lambda: not helpers(), "the end of that one and its jail's helper")


if __name__ == "__main__":
    vivtest.tap.main()
