#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The portal in a browser, with a real manager and real machines: web/test/portal.mjs does what a person does and prints
the results. Here are the manager, its tokens, and the types of the portal's code against the manager's own document."""
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import unittest
import urllib.request

import bootmedia
import manager
import vivtest

WEB = vivtest.ROOT / "web"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def skip(why):
    print(f"1..0 # SKIP {why}")
    sys.exit(77)


class Browser(unittest.TestCase):
    def runTest(self):
        m = manager.Manager(self).start("--remote-files", str(vivtest.GUEST))
        m.api.schema()
        opened = m.api.post("/v1/portals/local/open", {"listen": f"127.0.0.1:{vivtest.free_port()}"})
        url = opened["url"].split("#")[0].rstrip("/")
        self.check_files(url)
        self.check_types(m)

        secret = {role: m.api.post("/v1/tokens", {"name": role, "spec": {"role": role}})["status"]["secret"]
                  for role in ("admin", "viewer")}
        (m.home / "media/keys.iso").write_bytes(bootmedia.iso("WHAT IS TYPED HERE IS SENT"))
        settings = m.home / "settings.json"
        settings.write_text(json.dumps({
            "url": url, "code": opened["code"], "token": secret["admin"], "viewer": secret["viewer"], "chromium": CHROMIUM,
            "folder": str(m.home), "guest": str(vivtest.GUEST), "vivd": manager.VIVD}), encoding="utf-8")
        code = self.run_cases(settings, m.env)
        m.process.wait(manager.LIMIT)  # a case killed it and started another one
        m.process = None
        self.assertEqual(code, 0)

    def run_cases(self, settings, env):
        """Its results are ours, as they come; the plan counts more."""
        with subprocess.Popen(["node", str(WEB / "test/portal.mjs"), str(settings)], env=env, text=True,
                              stdout=subprocess.PIPE) as cases:
            for line in cases.stdout:
                if not re.match(r"1\.\.\d+$", line):
                    print(line, end="", flush=True)
        return cases.returncode

    def check_files(self, url):
        """What a browser gets beside the page: a policy without exceptions, names that may be kept."""
        trust = ssl._create_unverified_context()
        with urllib.request.urlopen(url + "/", context=trust) as answer:
            policy, page = answer.headers["Content-Security-Policy"], answer.read().decode()
        self.assertIn("default-src 'self'", policy)
        self.assertNotIn("unsafe", policy)
        self.assertNotRegex(page, r"<script>|<style|style=|https?://")
        for path in re.findall(r'(?:src|href)="(/assets/[^"]+)"', page):
            with urllib.request.urlopen(url + path, context=trust) as answer:
                self.assertIn("immutable", answer.headers["Cache-Control"])

    def check_types(self, m):
        document = m.home / "openapi.json"
        document.write_text(json.dumps(m.api.schema()), encoding="utf-8")
        done = subprocess.run([str(vivtest.ROOT / "scripts/web.sh"), "check", str(document)], check=False, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertEqual(done.returncode, 0, done.stdout)


def packages():
    """Those of the test, where the sources lie; the lock file says which."""
    done = subprocess.run([str(vivtest.ROOT / "scripts/web.sh"), "test"], check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return None if done.returncode == 0 else done.stdout.strip().splitlines()[-1]


if __name__ == "__main__":
    if not CHROMIUM:
        skip("chromium is not installed")
    if not shutil.which("node"):
        skip("node is not installed")
    if not (vivtest.ROOT / "build/web/dist/index.html").exists():
        skip("vivd was built without the portal")
    if why := packages():
        skip(why)
    with tempfile.TemporaryDirectory(prefix="viv-chromium-") as home:
        os.environ["HOME"] = home
        result = unittest.TestResult()
        Browser().run(result)
    for _, trace in result.errors + result.failures:
        print("# " + trace.replace("\n", "\n# "))
    print(f"{'ok' if result.wasSuccessful() else 'not ok'} - the_portal_is_served_its_types_are_those_of_the_api_and_every_case_passed")
    cases = re.findall(r"^test\(", (WEB / "test/portal.mjs").read_text(encoding="utf-8"), re.M)
    print(f"1..{1 + len(cases)}")
