#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""viv apply and viv diff: what files want is made once, and what is so already stays as it is."""
import json
import unittest

import manager
import vivtest

WEB = """
kind: vm
name: web
spec:
  image: tiny
  memory: 16M
  network: none
"""


class Apply(unittest.TestCase):
    def setUp(self):
        self.m = manager.Manager(self)
        self.api = self.m.api
        self.m.start()
        self.m.image()

    def write(self, text, name="x.yaml"):
        path = self.m.home / name
        path.write_text(text)
        return str(path)

    def test_the_second_time_is_no_change(self):
        f = self.write(WEB + "  forward: [18080:80]\n")
        self.assertIn("vm/web would be created", self.m.viv("apply", "-f", f, "--dry-run"))
        self.assertEqual(self.api.get("/v1/vms")["items"], [])
        self.assertEqual(self.m.viv("apply", "-f", f), "vm/web created\n")
        self.assertEqual(self.api.vm("web")["status"]["state"], "stopped")
        before = self.api.vm("web")["revision"]
        self.assertEqual(self.m.viv("apply", "-f", f), "vm/web unchanged\n")
        self.m.viv("diff", "-f", f)
        self.assertEqual(self.api.vm("web")["revision"], before)

    def test_what_is_shown_as_yaml_is_what_is_taken(self):
        self.m.viv("apply", "-f", self.write(WEB + "  append: '0123'\n  restart: on-failure\n"
                                                   "  user_data: |\n    #cloud-config\n    hostname: x\n"))
        shown = self.m.viv("show", "web", "--yaml")
        self.assertIn("memory: 16M", shown)
        listed = self.m.viv("list", "--yaml")
        self.assertEqual(self.m.viv("apply", "-f", self.write(shown)), "vm/web unchanged\n")
        self.m.viv("diff", "-f", self.write(listed))
        self.m.viv("diff", "-f", self.write(self.m.viv("show", "web", "--json"), "x.json"))
        self.m.viv("diff", "-f", self.write(self.m.viv("list", "--json"), "x.json"))
        self.m.viv("rm", "web")
        self.m.viv("apply", "-f", self.write(listed))
        self.assertEqual(self.m.viv("show", "web", "--yaml"), shown)

    def two(self, *names):
        return "---".join(WEB.replace("name: web", f"name: {name}") for name in names)

    def test_prune_deletes_what_an_earlier_apply_made_and_nothing_else(self):
        self.m.create("found")
        self.m.create("foreign")
        f = self.write(self.two("a", "b", "c", "found"))
        self.m.viv("apply", "-f", f)
        # One is made anew by hand under its name, one leads a life of its own, one was there before.
        self.m.viv("rm", "b")
        self.m.create("b")
        self.api.post("/v1/vms/c/start")
        self.api.settled("c")
        self.write(self.two("a"))
        self.assertEqual(self.m.viv("apply", "-f", f), "vm/a unchanged\n")  # without the word nothing goes
        self.m.viv("diff", "-f", f)
        self.m.viv("diff", "-f", f, "--prune", code=1)
        shown = self.m.output
        self.assertIn("vm/c would be deleted", shown)
        for name in ("vm/a ", "vm/b", "found", "foreign"):
            self.assertNotIn(name, shown)
        self.assertIn("vm/c would be deleted", self.m.viv("apply", "-f", f, "--prune", "--dry-run"))
        said = self.m.viv("apply", "-f", f, "--prune", code=2)  # nobody is there to ask
        self.assertIn("--yes", said)
        self.assertIn("it runs", said)
        self.assertEqual(self.api.vm("c")["status"]["state"], "running")
        self.assertEqual(self.m.viv("apply", "-f", f, "--prune", "--yes"), "vm/a unchanged\nvm/c deleted\n")
        self.assertEqual([v["name"] for v in self.api.get("/v1/vms")["items"]], ["a", "b", "foreign", "found"])
        self.assertEqual(self.m.viv("apply", "-f", f, "--prune"), "vm/a unchanged\n")

    def test_prune_holds_when_something_fails_and_when_another_set_has_it(self):
        f = self.write(self.two("a", "b"))
        self.m.viv("apply", "-f", f, "--set", "lab")
        self.write(self.two("a") + "---" + WEB.replace("web", "bad").replace("tiny", "nothing"))
        self.m.viv("apply", "-f", f, "--set", "lab", "--prune", "--yes", code=3)
        self.assertEqual(self.api.vm("b")["name"], "b")
        g = self.write(self.two("b"), "y.yaml")
        self.m.viv("apply", "-f", g, "--set", "other")
        self.write(self.two("a"))
        self.m.viv("apply", "-f", f, "--set", "lab", "--prune")
        self.assertEqual(self.api.vm("b")["name"], "b")
        self.assertIn("other", self.m.viv("set", "list"))
        self.m.viv("set", "rm", "other")
        self.assertIn("vm/b deleted", self.m.viv("apply", "-f", f, "--set", "lab", "--prune", "-y"))
        with open(f, encoding="utf-8") as text:
            self.assertIn("--set", self.m.viv("apply", "-f", "-", "--prune", code=2, stdin=text))

    def test_prune_takes_what_refers_to_others_first(self):
        volume = "kind: volume\nname: data\nspec: {size: 1M}\n---"
        f = self.write(volume + self.two("a", "b").replace("name: b\nspec:", "name: b\nspec:\n  volumes: [data]"))
        self.m.viv("apply", "-f", f)
        self.write(self.two("a"))
        results = json.loads(self.m.viv("apply", "-f", f, "--prune", "--yes", "--json"))
        self.assertEqual([(r["kind"], r["name"], r["result"]) for r in results],
                         [("vm", "a", "unchanged"), ("vm", "b", "deleted"), ("volume", "data", "deleted")])

    def test_diff_shows_fields_and_its_exit_code_tells(self):
        f = self.write(WEB)
        self.assertIn("vm/web would be created", self.differs(f))
        self.m.viv("apply", "-f", f)
        f = self.write(WEB.replace("16M", "32M"))
        self.assertEqual(self.differs(f), "vm/web\n-   memory: 16M\n+   memory: 32M\n")
        self.assertIn("\033[32m+   memory: 32M", self.differs(f, "--color", "always"))
        change = json.loads(self.differs(f, "--json"))
        self.assertEqual(change, [{"kind": "vm", "name": "web", "result": "change", "changes": [
            {"field": "memory", "from": 16 << 20, "to": 32 << 20, "in_place": True}]}])
        self.assertEqual(self.m.viv("apply", "-f", f), "vm/web changed: memory\n")
        self.m.viv("diff", "-f", f)
        f = self.write(WEB.replace("tiny", "other"))
        self.assertIn("image cannot be changed later", self.differs(f))
        self.assertIn("x.yaml:5: 'image' of the machine 'web' cannot be changed later",
                      self.m.viv("apply", "-f", f, code=3))
        self.m.viv("diff", "-f", self.write("kind: vm\n"), code=2)
        self.m.viv("diff", "-f", "/nowhere", code=2)

    def differs(self, f, *flags):
        done = self.m.viv("diff", "-f", f, *flags, code=1)
        return done or self.m.output

    def test_mistakes_are_all_told_before_anything_is_done(self):
        f = self.write(WEB + "---\nkind: vm\nname: b\nspec:\n  memory: 1\n  power: 5\n")
        said = self.m.viv("apply", "-f", f, code=2)
        self.assertIn("x.yaml:12: 'memory' cannot be 1", said)
        self.assertIn("x.yaml:13: 'power' must be one of", said)
        self.assertEqual(self.api.get("/v1/vms")["items"], [])
        self.assertIn("x.yaml:2: 'size' is missing", self.m.viv("apply", "-f", self.write("\nkind: volume\nname: a\n"), code=2))

    def test_one_that_fails_does_not_hold_up_the_others(self):
        f = self.write("kind: snapshot\nname: b.one\nspec: {vm: b, memory: false}\n---\n" + WEB +
                       "---\nkind: vm\nname: b\nspec: {image: nothing, memory: 16M}\n")
        done = self.m.viv("apply", "-f", f, code=3)
        self.assertIn("vm/b failed: there is no image 'nothing'", done)
        self.assertIn("snapshot/b.one left out: it needs the machine 'b', which failed", done)
        self.assertIn("2 of 3 things were not applied", done)
        self.assertEqual([v["name"] for v in self.api.get("/v1/vms")["items"]], ["web"])
        results = self.m.viv("apply", "--json", "-f", f, code=3)
        self.assertIn("not applied", results)

    def test_images_come_before_machines_and_are_waited_for(self):
        source = next(p for p in self.m.home.iterdir() if (p / "vmlinuz").exists())
        folder = self.m.home / "files"
        folder.mkdir()
        (folder / "a.yaml").write_text(WEB.replace("web", "late") + "  power: on\n")
        (folder / "b.json").write_text(json.dumps({"kind": "image", "name": "debian",
                                                   "spec": {"source": f"../{source.name}"}}))
        (folder / "note.txt").write_text("not one of them")
        (source / "initrd.img").write_bytes(b"none")
        with open(source / "debian12.raw", "wb") as disk:
            disk.truncate(1 << 20)
        text = (folder / "a.yaml").read_text().replace("tiny", "debian")
        (folder / "a.yaml").write_text(text)
        self.assertEqual(self.m.viv("apply", "-f", str(folder)), "image/debian created\nvm/late created\n")
        self.assertIn(self.api.vm("late")["status"]["state"], ("running", "stopped"))
        self.assertEqual(self.m.viv("apply", "-f", str(folder / "b.json"), "-f", str(folder / "b.json").replace("b.json", "a.yaml"),
                                    "--no-wait").splitlines()[0], "image/debian unchanged")

    def test_standard_input_is_a_file_as_well(self):
        path = self.m.home / "in"
        path.write_text(WEB)
        with open(path, "rb") as stdin:
            self.assertEqual(self.m.viv("apply", "-f", "-", stdin=stdin), "vm/web created\n")


if __name__ == "__main__":
    vivtest.tap.main()
