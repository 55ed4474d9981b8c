# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests of the manager share: a manager in a folder of its own, its API with every answer checked
against the declared schema, viv, and a look at what is left on the host.

VIVD and VIV name other programs to test.
"""
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time

import jsonschema
import mini
import vivtest

LIMIT = 120  # seconds; a host that does ten things at once is slow
VIVD = os.environ.get("VIVD", str(vivtest.ROOT / "build/vivd"))
VIV = os.environ.get("VIV", str(vivtest.ROOT / "build/viv"))


def stat_of(pid):
    """Name, state and parent of a process that has not ended, or None."""
    try:
        name, rest = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)
    except OSError:
        return None
    state, parent = rest.split()[:2]
    return None if state in "ZX" else (name.split("(", 1)[1], int(parent))


def pids_in(folder):
    """Processes that were started in a folder below this one. One in a jail has left it: there its helper still is,
    which is a child of it, and ends a moment later."""
    pids = set()
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if not entry.name.isdigit() or not os.readlink(entry / "cwd").startswith(f"{folder}/"):
                continue
        except OSError:
            continue
        found = stat_of(entry.name)
        if found and found[0] == "viv-helper":
            parent = stat_of(found[1])
            if parent and parent[0] in ("viv-vm", "viv-net"):
                pids.add(found[1])
        elif found:
            pids.add(int(entry.name))
    return sorted(pids)


class Failure(Exception):
    def __init__(self, status, body):
        super().__init__(f"{status}: {body}")
        self.status, self.body, self.code = status, body, body.get("code")


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("vivarium", timeout=LIMIT)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(LIMIT)
        self.sock.connect(self.path)


class Api:
    """One connection a call. Every answer is checked against the OpenAPI document of the manager."""
    exercised = set()  # operationIds, in the whole program
    document = None

    def __init__(self, path):
        self.path = path

    def raw(self, method, target, body=None, headers=None):
        connection = UnixConnection(self.path)
        try:
            connection.request(method, target, body, headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def schema(self):
        if Api.document is None:
            Api.document = json.loads(self.raw("GET", "/openapi.json")[2])
        return Api.document

    def operation(self, method, target):
        path = target.split("?")[0]
        for pattern, methods in self.schema()["paths"].items():
            parts, given = pattern.split("/"), path.split("/")
            if len(parts) == len(given) and all(p == g or p[:1] == "{" for p, g in zip(parts, given)):
                return methods.get(method.lower())
        return None

    def check(self, method, target, status, text):
        operation = self.operation(method, target)
        if operation is None:
            assert status in (400, 401, 403, 404, 405, 429), f"{method} {target}: {status}"
            shape = {"$ref": "#/components/schemas/Failure"}
        else:
            answer = operation["responses"].get(str(status), operation["responses"]["default"])
            if status < 400:
                assert str(status) in operation["responses"], f"{operation['operationId']}: {status} is not declared"
                Api.exercised.add(operation["operationId"])
            if "application/json" not in answer.get("content", {}):
                return
            shape = answer["content"]["application/json"]["schema"]
        jsonschema.Draft202012Validator({**shape, "components": self.schema()["components"]},
                                        format_checker=jsonschema.FormatChecker()).validate(json.loads(text))

    def call(self, method, target, body=None, headers=None):
        status, got, text = self.raw(method, target, None if body is None else json.dumps(body), headers)
        self.check(method, target, status, text)
        value = json.loads(text) if text else None
        if status >= 400:
            raise Failure(status, value)
        self.headers = got
        return value

    def get(self, target, **headers):
        return self.call("GET", target, headers=headers)

    def post(self, target, body=None, **headers):
        return self.call("POST", target, body, {k.replace("_", "-"): v for k, v in headers.items()})

    def delete(self, target):
        return self.call("DELETE", target)

    def vm(self, name):
        return self.get(f"/v1/vms/{name}")

    def settled(self, name):
        return self.get(f"/v1/vms/{name}/wait?for=settled&timeout={LIMIT}")


class Manager:
    """A folder, and a manager on it that ends with the test."""

    def __init__(self, test):
        folder = tempfile.TemporaryDirectory(prefix="viv-")
        self.test, self.home, self.process = test, pathlib.Path(folder.name), None
        self.env = dict(os.environ, VIV_HOME=folder.name, VIV_VM=vivtest.PROGRAM)
        self.api = Api(str(self.home / "run/api"))
        test.addCleanup(folder.cleanup)
        test.addCleanup(self.clean)

    def start(self, *options):
        ready, told = os.pipe()
        self.log = open(self.home / "test.log", "ab")
        self.process = subprocess.Popen([VIVD, "--idle", "0", "--ready-fd", str(told), *options], env=self.env,
                                        pass_fds=[told], stdin=subprocess.DEVNULL, stderr=self.log)
        os.close(told)
        word = os.read(ready, 10)
        os.close(ready)
        self.log.close()
        self.test.assertEqual(word, b"ready\n", (self.home / "test.log").read_text())
        return self

    def stop(self):
        self.process.terminate()
        self.test.assertEqual(self.process.wait(LIMIT), 0)
        self.process = None

    def kill(self):
        self.process.kill()
        self.process.wait(LIMIT)
        self.process = None

    def clean(self):
        if self.process:
            self.kill()
        lock = self.home / "lock"
        if lock.exists() and (text := lock.read_text().strip()):  # one that viv started
            try:
                if str(self.home) in pathlib.Path(f"/proc/{text}/environ").read_text():
                    os.kill(int(text), signal.SIGKILL)
            except (OSError, ValueError):
                pass
        for pid in self.machine_pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.wait_for(lambda: not self.machine_pids(), "the end of all machines")

    def machine_pids(self):
        return pids_in(self.home / "machines")

    def wait_for(self, condition, what):
        end = time.monotonic() + LIMIT
        while not condition():
            if time.monotonic() > end:
                self.test.fail(f"{what} did not happen; {self.told()}")
            time.sleep(0.01)

    def told(self):
        """What it wrote down, for one who looks for the reason of a failure."""
        log = self.home / "test.log"
        text = log.read_text() if log.exists() else ""
        for list_of in ("vms", "snapshots", "events"):
            try:
                text += f"\n{list_of}: {self.api.raw('GET', f'/v1/{list_of}')[2]}"
            except (OSError, http.client.HTTPException) as e:
                text += f"\n{list_of}: {e}"
        return text + "\n" + "\n".join(str(p) for p in sorted((self.home / "machines").glob("*/*")))

    def viv(self, *words, code=0, stdin=subprocess.DEVNULL, **kw):
        done = subprocess.run([VIV, *words], env=self.env, capture_output=True, text=True, timeout=LIMIT,
                              stdin=stdin, check=False, **kw)
        self.test.assertEqual(done.returncode, code, f"viv {' '.join(words)}: {done.stdout}{done.stderr}")
        self.output = done.stdout
        return done.stdout if code == 0 else done.stderr

    def image(self, code=mini.STOP):
        """The image tiny, with a kernel of a few bytes that is there at once and stays."""
        self.make_image("tiny", code, "tiny.cpio.gz")

    def image_with_disk(self, size=64 << 20, code=mini.STOP):
        """The image debian, with such a kernel and a disk."""
        self.make_image("debian", code, "initrd.img", size)

    def linux(self):
        """The image tiny as it is: a shell on the serial line."""
        self.wait_for_image("tiny", vivtest.GUEST)

    def make_image(self, name, code, initrd, size=0):
        source = pathlib.Path(tempfile.mkdtemp(dir=self.home))
        (source / "vmlinuz").write_bytes(mini.elf(code))
        (source / initrd).write_bytes(b"none")
        if size:
            with open(source / "debian12.raw", "wb") as disk:
                disk.write(b"vivarium" * 512)
                disk.truncate(size)
        self.wait_for_image(name, source)

    def wait_for_image(self, name, source):
        image = self.api.post("/v1/images", {"name": name, "spec": {"source": str(source)}})
        job = self.api.get(f"/v1/jobs/{image['status']['job']}/wait?timeout={LIMIT}")
        self.test.assertEqual(job["status"]["state"], "done", job)

    def create(self, name, **spec):
        return self.api.post("/v1/vms", {"name": name, "spec": {"image": "tiny", "memory": 16 << 20,
                                                               "network": "none", **spec}})
