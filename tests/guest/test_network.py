#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The manager's door to the network: TLS, tokens and roles, sessions, tickets and WebSockets, viv from afar, and
callers who do not behave. Every answer is held against the OpenAPI document."""
import gzip
import hashlib
import http.client
import json
import os
import re
import socket
import ssl
import struct
import subprocess
import threading
import time
import unittest

import manager
import vivtest
import ws
from test_manager_agent import WITH_AGENT, image_with_agent

LIMIT = manager.LIMIT
LINUX = {"memory": 96 << 20, "power": "on"}
SECRET = re.compile(r"^viv_[0-9a-f]{64}$")


class HttpsApi(manager.Api):
    """The API as a caller from the network has it: one connection a call."""

    def __init__(self, door, **headers):
        super().__init__(None)
        self.door, self.own = door, {k.replace("_", "-"): v for k, v in headers.items()}

    def raw(self, method, target, body=None, headers=None):
        connection = http.client.HTTPSConnection("localhost", self.door.port, timeout=LIMIT,
                                                 context=self.door.context)
        connection._create_connection = lambda *_: self.door.tcp()
        try:
            connection.request(method, target, body, {**self.own, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, {k.title(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()


class Door:
    """Where a manager listens to the network."""

    def __init__(self, m):
        self.portal = m.api.get("/v1/portals/local")
        self.port = int(self.portal["address"].rsplit(":", 1)[1])
        self.context = ssl.create_default_context(cafile=self.portal["certificate"])

    def tcp(self):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT)
        return s

    def tls(self, name="localhost", context=None):
        return (context or self.context).wrap_socket(self.tcp(), server_hostname=name)


class Case(unittest.TestCase):
    def setUp(self):
        self.m = manager.Manager(self)
        self.api = self.m.api

    def begin(self, *options):
        self.m.start("--https", "127.0.0.1:0", *options)
        self.door = Door(self.m)

    def token(self, role, name=None, **spec):
        made = self.api.post("/v1/tokens", {"name": name or role, "spec": {"role": role, **spec}})
        self.assertRegex(made["status"]["secret"], SECRET)
        return made["status"]["secret"]

    def caller(self, role, **spec):
        return HttpsApi(self.door, Authorization="Bearer " + self.token(role, **spec))

    def fails(self, api, status, method, target, body=None, **headers):
        with self.assertRaises(manager.Failure) as caught:
            api.call(method, target, body, {k.replace("_", "-"): v for k, v in headers.items()})
        self.assertEqual(caught.exception.status, status, caught.exception)
        return caught.exception.body

    def socket_to(self, api, name, what="serial", **how):
        s = self.door.tls()
        self.addCleanup(s.close)
        return ws.WebSocket(s, api.post(f"/v1/vms/{name}/ticket", {"what": what})["url"], **how)

    def ends(self, s):
        """The other side ends the connection, in order or not."""
        try:
            while s.recv(4096):
                pass
        except OSError as e:
            self.assertNotIsInstance(e, TimeoutError)


class Tls(Case):
    def test_the_certificate_is_made_once_for_the_names_of_this_host(self):
        self.begin()
        folder = self.m.home / "tls"
        self.assertEqual((folder / "key.pem").stat().st_mode & 0o777, 0o600)
        for name in ("localhost", "127.0.0.1", socket.gethostname()):
            der = self.door.tls(name).getpeercert(binary_form=True)
        before = self.door.portal["fingerprint"]
        self.assertEqual(before, hashlib.sha256(der).hexdigest())
        with self.assertRaises(ssl.SSLCertVerificationError):
            self.door.tls("example.org")
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            self.door.tls(context=old)
        self.m.stop()
        self.begin()
        self.assertEqual(self.door.portal["fingerprint"], before)
        # A kill between key and certificate: both are made anew. Neither can be used if one is damaged.
        self.m.stop()
        (folder / "cert.pem").unlink()
        self.begin()
        self.assertNotEqual(self.door.portal["fingerprint"], before)
        self.door.tls()
        self.m.stop()
        (folder / "key.pem").write_text("nonsense")
        done = subprocess.run([manager.VIVD, "--https", "127.0.0.1:0"], env=self.m.env, capture_output=True, text=True,
                              timeout=LIMIT, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("key.pem' cannot be used", done.stderr)

    def test_ones_own_certificate_is_shown(self):
        cert, key = self.m.home / "own.pem", self.m.home / "own.key"

        def make(name):
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert,
                            "-days", "9", "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost"], check=True,
                           capture_output=True)
        make("own")
        self.begin("--tls-cert", str(cert), "--tls-key", str(key))
        self.assertEqual(self.door.tls().getpeercert()["subject"], ((("commonName", "own"),),))
        kept, before = self.door.tls(), self.door.portal["fingerprint"]
        make("next")
        self.m.wait_for(lambda: self.api.get("/v1/portals/local")["fingerprint"] != before, "the new certificate")
        self.door = Door(self.m)
        self.assertEqual(self.door.tls().getpeercert()["subject"], ((("commonName", "next"),),))
        kept.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertIn(b" 200 ", kept.recv(100))
        key.write_text("nonsense")  # the one before is kept
        time.sleep(11)
        self.door.tls()
        make("last")
        for options, word in ((["--tls-cert", str(cert)], "belong together"),
                              (["--tls-cert", "/nowhere", "--tls-key", str(key)], "'/nowhere' cannot be read"),
                              (["--https", "nonsense"], "is no address"), (["--https", "192.0.2.77:1"], "cannot listen"),
                              (["--https"], "needs a value")):
            env = dict(self.m.env, VIV_HOME=str(self.m.home / "other"))
            done = subprocess.run([manager.VIVD, *options], env=env, capture_output=True, text=True, timeout=LIMIT,
                                  check=False)
            self.assertIn(done.returncode, (1, 2), options)
            self.assertIn(word, done.stderr)

    def test_who_speaks_no_tls_is_told_so_or_dropped(self):
        self.begin()
        s = self.door.tcp()
        s.sendall(b"GET /v1/vms HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while more := s.recv(4096):
            answer += more
        self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)
        self.assertIn(b"speaks HTTPS", answer)
        for data in (b"\x00" * 100, b"\x16\x03\x01\xff\xff" + b"x" * 1000, b"\x16\x03\x01\x00\x05hello", b"ssh-2.0\r\n"):
            s = self.door.tcp()
            try:
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it is gone already
            self.ends(s)
        self.assertEqual(self.caller("viewer").get("/v1/vms")["items"], [])

    def test_a_handshake_has_its_time(self):
        self.begin()
        slow = [self.door.tcp() for _ in range(3)]
        slow[1].sendall(b"\x16")
        slow[2].sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        begun = time.monotonic()
        self.caller("viewer").get("/v1/vms")  # nobody waits for them
        self.assertLess(time.monotonic() - begun, 5)
        for s in slow:
            self.ends(s)
        self.assertLess(time.monotonic() - begun, 25)

    def test_connections_of_an_address_are_limited_and_others_are_not(self):
        self.begin()
        viewer = self.caller("viewer")
        kept = []
        for _ in range(64):
            kept.append(self.door.tls())
        status, headers, text = viewer.raw("GET", "/v1/vms")
        self.assertEqual((status, json.loads(text)["code"]), (429, "limit"))
        many = [self.door.tcp() for _ in range(200)]
        self.assertEqual(self.api.get("/v1/vms")["items"], [])  # the local socket has its own
        for s in kept + many:
            s.close()

        def let_in():
            try:
                return viewer.raw("GET", "/v1/vms")[0] == 200
            except OSError:
                return False
        self.m.wait_for(let_in, "room")

    def test_large_answers_and_streams_go_through_tls(self):
        self.begin("--rate", "100000")
        viewer = self.caller("viewer")
        for i in range(300):
            self.api.post("/v1/tokens", {"name": f"t{i}"})
        events = viewer.get("/v1/events?limit=10000")["items"]
        self.assertGreaterEqual(len(events), 300)
        s = self.door.tls()
        s.sendall(f"GET /v1/events?after=0 HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n"
                  f"Authorization: {viewer.own['Authorization']}\r\n\r\n".encode())
        lines = s.makefile("r")
        seen = 0
        for line in lines:
            seen += line.startswith("data: ")
            if seen == len(events):
                break
        self.api.post("/v1/tokens", {"name": "one-more"})
        for line in lines:
            if line.startswith("data: "):
                self.assertEqual(json.loads(line[6:])["name"], "one-more")
                break
        s.close()
        # A follower that has left is noticed, though it only ends what it says.
        for _ in range(70):
            t = self.door.tls()
            t.sendall(f"GET /v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n"
                      f"Authorization: {viewer.own['Authorization']}\r\n\r\n".encode())
            self.assertIn(b" 200 ", t.recv(100))
            t.close()
            time.sleep(0.01)


class Callers(Case):
    def operations(self):
        for path, methods in self.api.schema()["paths"].items():
            for verb, op in methods.items():
                if verb != "parameters" and op["tags"] != ["session"]:
                    yield verb.upper(), path.replace("{name}", "nobody"), op["x-permission"]

    def test_who_has_not_said_who_it_is_gets_nothing(self):
        self.begin("--rate", "100000")
        nobody = HttpsApi(self.door)
        for method, path, _ in self.operations():
            self.assertEqual(self.fails(nobody, 401, method, path)["code"], "unauthorized")
        status, headers, _ = nobody.raw("GET", "/v1/vms")
        self.assertEqual((status, headers["Www-Authenticate"]), (401, 'Bearer realm="vivarium"'))
        self.assertEqual(nobody.raw("GET", "/metrics")[0], 401)
        self.assertEqual(nobody.raw("GET", "/v1/session")[0], 401)
        self.assertEqual(nobody.raw("GET", "/openapi.json")[0], 200)
        status, headers, _ = HttpsApi(self.door, Authorization="Bearer viv_no").raw("GET", "/v1/vms")
        self.assertEqual(status, 401)
        self.assertIn('error="invalid_token"', headers["Www-Authenticate"])
        self.fails(HttpsApi(self.door, Authorization="Basic cm9vdDo="), 401, "GET", "/v1/vms")
        self.fails(HttpsApi(self.door, Cookie="viv_session=" + "0" * 64), 401, "GET", "/v1/vms")

    def test_only_an_admin_on_the_host_hands_out_its_folders(self):
        self.begin()
        self.m.image()
        spec = {"image": "tiny", "share": [f"data={self.m.home},ro"]}
        for role in ("operator", "admin"):
            api = self.caller(role)
            with self.assertRaises(manager.Failure) as caught:
                api.post("/v1/vms", {"name": "web", "spec": spec})
            self.assertEqual(caught.exception.code, "forbidden")
        self.api.post("/v1/vms", {"name": "web", "spec": spec})
        self.api.settled("web")
        with self.assertRaises(manager.Failure) as caught:
            api.call("PATCH", "/v1/vms/web", {"spec": {"share": spec["share"]}})
        self.assertEqual(caught.exception.code, "forbidden")
        self.assertEqual(api.post("/v1/vms/web/clone", {"name": "copy"})["spec"]["share"], [])
        self.assertEqual(api.call("PATCH", "/v1/vms/web", {"spec": {"share": []}})["spec"]["share"], [])

    def test_roles_may_do_what_is_theirs_and_nothing_else(self):
        self.begin("--rate", "100000")
        callers = {role: self.caller(role) for role in ("viewer", "operator", "admin")}
        for method, path, permission in self.operations():
            for role, api in callers.items():
                kind, verb = permission.split(".")
                may = role == "admin" or kind not in ("token", "portal") and permission != "vm.lend" and (role == "operator" or verb == "read")
                if may and (kind == "portal" or method == "GET" and path in ("/v1/events", "/v1/usage")):
                    continue
                status, _, text = api.raw(method, path)
                self.assertEqual(status == 403, not may, f"{role} {method} {path}: {text}")
                api.check(method, path, status, text)
        session = callers["viewer"].get("/v1/session")
        may = session.pop("may")
        self.assertEqual(session, {"caller": "token:viewer", "role": "viewer", "tenant": "default"})
        self.assertTrue("vm.read" in may and all(word.endswith(".read") for word in may), may)
        self.assertEqual(callers["viewer"].raw("GET", "/metrics")[0], 200)

    def test_an_operator_names_no_files_of_the_host(self):
        self.begin()
        operator, admin = self.caller("operator"), self.caller("admin")
        secret = self.m.home / "secret"
        secret.write_bytes(b"x" * 512)
        spec = {"name": "stolen", "spec": {"file": str(secret), "format": "raw"}}
        self.fails(operator, 403, "POST", "/v1/images", spec)
        self.fails(operator, 403, "POST", "/v1/images", {"name": "tiny", "spec": {"source": str(self.m.home)}})
        for mirror in ("file:///etc", "FILE:///etc", "file://localhost/etc"):
            with self.assertRaises(manager.Failure):  # refused, or no mirror at all
                operator.post("/v1/images", {"name": "debian", "spec": {"mirror": mirror}})
        self.api.post("/v1/images", spec)
        image = admin.get("/v1/images/stolen")
        admin.get(f"/v1/jobs/{image['status']['job']}/wait?timeout={LIMIT}")
        self.fails(operator, 403, "POST", "/v1/images/stolen/export", {"file": str(self.m.home / "out")})
        self.assertFalse((self.m.home / "out").exists())

    def test_an_admin_from_the_network_names_files_where_that_is_allowed_alone(self):
        shown, secret = self.m.home / "shown", self.m.home / "secret"
        shown.mkdir(mode=0o755)
        secret.write_bytes(b"x" * 4096)
        self.begin("--remote-files", str(shown))
        self.m.image_with_disk()
        admin, media = self.caller("admin"), self.m.home / "media"
        for folder in (media, shown):
            (folder / "a.iso").write_bytes(b"x" * 4096)
            (folder / "link").symlink_to(secret)
            (folder / "folder").symlink_to(self.m.home)
        self.m.create("web", image="debian")
        self.api.settled("web")
        for path in (secret, media / "link", shown / "link", media / "folder/secret", media / "../secret", "/etc/hosts"):
            with self.subTest(path):
                named = str(path)
                for field in ("cdrom", "firmware", "nic_rom", "tftp", "vnc_password_file"):
                    why = self.fails(admin, 403, "PATCH", "/v1/vms/web", {"spec": {field: named}})
                    self.assertIn(field, why["reason"])
                    self.assertIn(str(media), why["remedy"])
                self.fails(admin, 403, "POST", "/v1/vms/web/insert", {"file": named})
                for field in ("file", "source"):
                    self.fails(admin, 403, "POST", "/v1/images", {"name": "x", "spec": {field: named}})
                self.fails(admin, 403, "POST", "/v1/images/debian/export", {"file": named})
        self.fails(admin, 403, "POST", "/v1/images/debian/export", {"file": str(media / "folder/out")})
        self.fails(admin, 403, "POST", "/v1/images", {"name": "x", "spec": {"mirror": "file:///srv/mirror"}})
        for path in (media / "a.iso", shown / "a.iso"):
            self.assertEqual(admin.call("PATCH", "/v1/vms/web", {"spec": {"cdrom": str(path)}})["spec"]["cdrom"], str(path))
        admin.post("/v1/images/debian/export", {"file": str(media / "out.raw")})
        self.m.wait_for((media / "out.raw").exists, "the export")
        # Who is on the host is himself there; what he named others leave alone.
        self.api.call("PATCH", "/v1/vms/web", {"spec": {"cdrom": str(secret)}})
        admin.call("PATCH", "/v1/vms/web", {"spec": {"cpus": 2}})

    def test_an_operator_takes_nothing_of_the_host_from_others(self):
        self.begin()
        self.m.image()
        operator, admin = self.caller("operator"), self.caller("admin")
        password = self.m.home / "password"
        password.write_text("word\n")
        taken = [{"hugepages": "2M"}, {"hugepages": "off"}, {"lock_memory": True}, {"pin": ["vcpus=0"]},
                 {"numa": ["node=0,host-node=0"]}, {"priority": ["nice:5"]},
                 {"devices": ["0000:03:00.0"]},
                 {"vnc": "127.0.0.1:5999", "vnc_password_file": str(password)}]
        self.fails(operator, 403, "POST", "/v1/vms/own/device-add", {"device": "0000:03:00.0"})
        free = {"hugepages": "thp", "devices": [], "lock_memory": False, "pin": [], "vnc_password_file": "none",
                "numa": ["node=0,cpus=0"]}
        operator.post("/v1/vms", {"name": "own", "spec": {"image": "tiny", **free}})
        self.api.settled("own")
        for spec in taken:
            with self.subTest(spec):
                body = {"name": "web", "spec": {"image": "tiny", **spec}}
                self.fails(operator, 403, "POST", "/v1/vms", body)
                self.fails(operator, 403, "PATCH", "/v1/vms/own", {"spec": spec})
                if "priority" in spec:
                    self.fails(admin, 403, "PATCH", "/v1/vms/own", {"spec": spec})
        given = {"pin": ["vcpus=0"], "lock_memory": True, "numa": ["node=0,host-node=0,cpus=0,host-node=0"]}
        self.assertEqual(admin.call("PATCH", "/v1/vms/own", {"spec": given})["spec"]["pin"], given["pin"])
        copy = operator.post("/v1/vms/own/clone", {"name": "copy"})["spec"]
        self.assertEqual((copy["pin"], copy["lock_memory"], copy["numa"]), ([], False, ["node=0,cpus=0"]))
        self.assertEqual(admin.post("/v1/vms/own/clone", {"name": "second"})["spec"]["pin"], given["pin"])
        operator.call("PATCH", "/v1/vms/own", {"spec": {"pin": [], "lock_memory": False}})

    def test_a_token_says_its_secret_once_and_the_store_never(self):
        self.begin()
        body = {"name": "ci", "spec": {"role": "viewer"}}
        first = self.api.post("/v1/tokens", body, Idempotency_Key="k")
        secret = first["status"]["secret"]
        self.assertEqual(self.api.headers.get("Cache-Control"), "no-store")
        again = self.api.post("/v1/tokens", body, Idempotency_Key="k")
        self.assertEqual((again["id"], again["status"]), (first["id"], {}))
        self.assertNotIn("secret", self.api.get("/v1/tokens/ci")["status"])
        opened = self.api.post("/v1/portals/local/open", Idempotency_Key="p")
        HttpsApi(self.door, Authorization="Bearer " + secret).get("/v1/vms")
        used = self.api.get("/v1/tokens/ci")["status"]
        self.assertEqual(used["last_address"], "127.0.0.1")
        self.assertLess(abs(time.time() - time.mktime(time.strptime(used["last_used"][:19], "%Y-%m-%dT%H:%M:%S"))
                            + time.timezone), 60)
        kept = b"".join(p.read_bytes() for p in self.m.home.glob("store.db*"))
        for word in (secret, secret[4:], opened["code"]):
            self.assertNotIn(word.encode(), kept)
        self.fails(self.api, 400, "POST", "/v1/tokens", {"name": "x", "spec": {"role": "root"}})
        self.fails(self.api, 400, "POST", "/v1/tokens", {"name": "x", "spec": {"expires": "2020-01-01T00:00:00.000Z"}})

    def test_a_token_expires_and_takes_its_sessions_along(self):
        self.begin()
        soon = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() + 3))
        api = self.caller("viewer", expires=soon)
        session = self.sign_in({"token": api.own["Authorization"][7:]})
        self.assertEqual(session.get("/v1/session")["expires"], soon)
        api.get("/v1/vms")
        self.m.wait_for(lambda: api.raw("GET", "/v1/vms")[0] == 401, "the expiry")
        self.assertEqual(session.raw("GET", "/v1/vms")[0], 401)

    def sign_in(self, body, **headers):
        status, got, text = HttpsApi(self.door).raw("POST", "/v1/session", json.dumps(body), headers)
        HttpsApi(self.door).check("POST", "/v1/session", status, text)
        if status != 201:
            raise manager.Failure(status, json.loads(text))
        cookie = got["Set-Cookie"]
        for word in ("HttpOnly", "Secure", "SameSite=Strict", "Path=/"):
            self.assertIn(word, cookie.split("; "))
        return HttpsApi(self.door, Cookie="other=1; " + cookie.split(";")[0])

    def test_a_code_signs_in_once(self):
        self.begin()
        opened = self.api.post("/v1/portals/local/open")
        self.assertEqual(opened["url"], f"https://127.0.0.1:{self.door.port}/#code={opened['code']}")
        api = self.sign_in({"code": opened["code"]})
        self.assertEqual({k: v for k, v in api.get("/v1/session").items() if k not in ("expires", "may")},
                         {"caller": f"uid:{os.getuid()}", "role": "admin", "tenant": "default"})
        for body in ({"code": opened["code"]}, {"code": ""}, {"token": opened["code"]}, {"code": api.own["Cookie"]}):
            with self.assertRaises(manager.Failure) as e:
                self.sign_in(body)
            self.assertEqual(e.exception.status, 401)
        for body in ({}, {"code": 1}, {"code": "a", "token": "b"}, [], {"password": "x"}):
            with self.assertRaises(manager.Failure) as e:
                self.sign_in(body)
            self.assertEqual(e.exception.status, 400)
        event = self.api.get("/v1/events?what=signed-in")["items"][0]
        self.assertEqual(event["text"], f"uid:{os.getuid()} signed in from 127.0.0.1, as admin")
        self.assertEqual(api.raw("DELETE", "/v1/session")[0], 403)  # CSRF
        status, headers, _ = api.raw("DELETE", "/v1/session", headers={"X-Viv-Portal": "1"})
        self.assertEqual(status, 204)
        self.assertIn("Max-Age=0", headers["Set-Cookie"])
        self.fails(api, 401, "GET", "/v1/vms")

    def test_other_sites_cannot_use_a_cookie(self):
        self.begin()
        api = self.sign_in({"token": self.token("admin")})
        own = f"https://localhost:{self.door.port}"
        make = ("POST", "/v1/tokens", {"name": "made"})
        self.assertEqual(self.fails(api, 403, *make)["field"], "X-Viv-Portal")
        self.assertEqual(self.fails(api, 403, *make, X_Viv_Portal="0")["field"], "X-Viv-Portal")
        for origin in ("https://evil.example", "null", f"http://localhost:{self.door.port}", own + ".evil.example"):
            self.assertEqual(self.fails(api, 403, *make, X_Viv_Portal="1", Origin=origin)["field"], "Origin")
            self.fails(api, 403, "GET", "/v1/tokens", Origin=origin)
            with self.assertRaises(manager.Failure) as e:
                self.sign_in({"token": "x"}, Origin=origin)
            self.assertEqual(e.exception.status, 403)
        self.assertEqual(self.fails(api, 403, "DELETE", "/v1/tokens/admin")["field"], "X-Viv-Portal")
        api.call("POST", "/v1/tokens", {"name": "made"}, {"X-Viv-Portal": "1", "Origin": own})
        api.call("DELETE", "/v1/tokens/made", None, {"X-Viv-Portal": "1"})

    def test_tokens_and_sessions_survive_a_kill_and_end_with_the_token(self):
        self.begin()
        token = self.token("viewer")
        session = self.sign_in({"token": token})
        self.m.kill()
        self.m.start("--https", f"127.0.0.1:{self.door.port}")
        api = HttpsApi(self.door, Authorization="Bearer " + token)
        self.assertEqual(api.get("/v1/vms"), session.get("/v1/vms"))
        streams = []
        for caller in (api, session):
            s = self.door.tls()
            header = "".join(f"{k}: {v}\r\n" for k, v in caller.own.items())
            s.sendall(f"GET /v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n{header}\r\n".encode())
            self.assertIn(b" 200 ", s.recv(4096))
            streams.append(s)
        self.api.delete("/v1/tokens/viewer")
        for s in streams:
            self.ends(s)
        self.fails(api, 401, "GET", "/v1/vms")
        self.fails(session, 401, "GET", "/v1/vms")
        self.m.kill()
        self.m.start("--https", f"127.0.0.1:{self.door.port}")
        self.fails(api, 401, "GET", "/v1/vms")
        self.fails(session, 401, "GET", "/v1/vms")

    def test_who_guesses_has_to_wait(self):
        self.begin()
        good = self.token("admin")
        session = self.sign_in({"token": good})
        answers = []
        for i in range(12):
            status, headers, text = HttpsApi(self.door, Authorization=f"Bearer viv_{i:064x}").raw("GET", "/v1/vms")
            answers.append(status)
        self.assertEqual((answers[:10], answers[-1]), ([401] * 10, 429))
        self.assertTrue(1 <= int(headers["Retry-After"]) <= 10, headers)
        self.assertEqual(json.loads(text)["code"], "limit")
        with self.assertRaises(manager.Failure) as e:
            self.sign_in({"code": "guess"})
        self.assertEqual(e.exception.status, 429)
        self.assertEqual(HttpsApi(self.door, Authorization="Bearer " + good).raw("GET", "/v1/vms")[0], 429)
        session.get("/v1/vms")  # who is in stays in
        self.api.get("/v1/vms")
        self.m.wait_for(lambda: HttpsApi(self.door, Authorization="Bearer " + good).raw("GET", "/v1/vms")[0] == 200,
                        "the end of the wait")

    def test_callers_ask_at_their_rate(self):
        self.begin("--rate", "2")
        first, second = self.caller("viewer"), self.caller("operator")
        answers = [first.raw("GET", "/v1/vms") for _ in range(30)]
        self.assertEqual(answers[0][0], 200)
        limited = [a for a in answers if a[0] == 429]
        self.assertTrue(limited)
        self.assertGreaterEqual(int(limited[0][1]["Retry-After"]), 1)
        self.assertEqual(second.raw("GET", "/v1/vms")[0], 200)  # each has its own
        nobody = [HttpsApi(self.door).raw("GET", "/nothing.js")[0] for _ in range(30)]
        self.assertIn(429, nobody)
        for _ in range(50):
            self.api.get("/v1/vms")  # the local socket has no rate
        time.sleep(2)
        self.assertEqual(first.raw("GET", "/v1/vms")[0], 200)

    def test_the_portal_is_served_to_anybody(self):
        self.begin()
        nobody = HttpsApi(self.door)
        status, headers, page = nobody.raw("GET", "/")
        self.assertIn("default-src 'self'", headers["Content-Security-Policy"])
        self.assertIn("frame-ancestors 'none'", headers["Content-Security-Policy"])
        self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
        self.assertEqual(nobody.raw("GET", "/no/such/file.js")[0], 404)
        self.assertEqual(nobody.raw("GET", "/../../etc/passwd.txt")[0], 404)
        status_of_head, of_head, text = nobody.raw("HEAD", "/")
        self.assertEqual((status_of_head, of_head["Content-Length"], text), (status, headers["Content-Length"], b""))
        if status == 404:
            self.assertIn("without the portal", page.decode())  # such a build is possible
            return
        self.assertTrue(headers["Content-Type"].startswith("text/html"))
        self.assertEqual(nobody.raw("GET", "/machines/some")[2], page)  # a place of the portal's own
        self.assertEqual(nobody.raw("GET", "/", headers={"If-None-Match": headers["Etag"]})[0], 304)
        status, zipped, text = nobody.raw("GET", "/", headers={"Accept-Encoding": "br, gzip"})
        if "Content-Encoding" in zipped:
            self.assertEqual(gzip.decompress(text), page)
        for name in set(re.findall(r'(?:src|href)="(/[^"]+)"', page.decode())):
            status, headers, text = nobody.raw("GET", name)
            self.assertEqual(status, 200, name)
            if re.search(r"-[\w-]{8}\.", name):
                self.assertIn("immutable", headers["Cache-Control"])


class Sockets(Case):
    def begin_linux(self, *options):
        self.begin(*options)
        self.m.linux()
        self.m.create("web", **LINUX)
        self.api.settled("web")

    def test_a_serial_line_by_web_socket(self):
        self.begin_linux()
        operator = self.caller("operator")
        self.fails(self.caller("viewer"), 403, "POST", "/v1/vms/web/ticket")
        s = self.socket_to(operator, "web")
        self.assertEqual(s.headers["sec-websocket-protocol"], "binary")
        s.until(b"/ # ")
        s.send(b"echo by-", fin=False)
        s.send(b"are you there", ws.PING)
        s.send(b"fr", 0, fin=False)
        s.send(b"ames-$((6 * 7))\n", 0)
        self.assertIn(b"by-frames-42", s.until(b"-42"))
        s.send(b"echo text-$((7 * 7))\n", ws.TEXT)
        s.until(b"text-49")
        s.send(b"last words", ws.PING)
        while s.receive() != (ws.PONG, b"last words"):
            pass
        other = self.socket_to(operator, "web", protocol=None)
        self.assertNotIn("sec-websocket-protocol", other.headers)
        s.send(b"echo both\n")
        other.until(b"both\r\n")
        s.send(b"\x03\xe8", ws.CLOSE)
        self.assertEqual(s.closed(), 1000)
        self.api.post("/v1/vms/web/kill")
        self.assertEqual(other.closed(), 1000)
        self.api.settled("web")
        self.fails(operator, 409, "POST", "/v1/vms/web/ticket")

    def test_large_output_and_input_come_whole(self):
        self.begin_linux()
        s = self.socket_to(self.caller("admin"), "web")
        s.until(b"/ # ")
        s.send(b"stty -echo; seq 1 20000 | cksum; seq 1 20000\n")
        text = s.until(b"\n20000\r\n")
        numbers = text.split(b"\r\n")
        self.assertIn(b"10000", numbers)
        self.assertEqual([n for n in numbers if n.isdigit()], [b"%d" % i for i in range(1, 20001)])

    def test_a_ticket_is_good_once_and_for_half_a_minute(self):
        self.begin_linux()
        operator = self.caller("operator")
        first, second = (operator.post("/v1/vms/web/ticket")["url"] for _ in range(2))
        self.assertRegex(first, r"^/v1/ws/[0-9a-f]{64}$")
        made = time.monotonic()
        ws.WebSocket(self.door.tls(), first)
        for path in (first, "/v1/ws/", "/v1/ws/" + "0" * 64):
            with self.assertRaises(ws.Refused) as e:
                ws.WebSocket(self.door.tls(), path)
            self.assertEqual(e.exception.status, 403)
        # What is no opening handshake does not use it up.
        for headers, status in (({"Sec_WebSocket_Version": "8"}, 426), ({"Sec_WebSocket_Key": "short"}, 400),
                                ({"Upgrade": "tcp"}, 400), ({"Origin": "https://evil.example"}, 403)):
            with self.assertRaises(ws.Refused) as e:
                ws.WebSocket(self.door.tls(), second, **headers)
            self.assertEqual(e.exception.status, status, headers)
            if status == 426:
                self.assertEqual(e.exception.text and json.loads(e.exception.text)["code"], "upgrade")
        third, fourth = (operator.post("/v1/vms/web/ticket")["url"] for _ in range(2))
        ws.WebSocket(self.door.tls(), third, Host="x", Origin="https://x")
        time.sleep(max(0, made + 31 - time.monotonic()))
        with self.assertRaises(ws.Refused):
            ws.WebSocket(self.door.tls(), second)
        self.api.delete("/v1/tokens/operator")
        with self.assertRaises(ws.Refused):
            ws.WebSocket(self.door.tls(), fourth)

    def test_rude_frames_end_with_the_code_that_the_rfc_names(self):
        self.begin_linux()
        admin = self.caller("admin")
        for how, code in ((dict(mask=False), 1002), (dict(reserved=0x40), 1002), (dict(opcode=3), 1002),
                          (dict(opcode=0), 1002), (dict(opcode=ws.PING, fin=False), 1002),
                          (dict(data=b"x" * 200, opcode=ws.PING), 1002), (dict(opcode=ws.TEXT, data=b"\xff"), 1007),
                          (dict(length=1 << 62), 1009), (dict(length=1 << 63), 1002),
                          (dict(data=bytes((1 << 20) + 1)), 1009), (dict(opcode=ws.CLOSE, data=b"\x00\x01"), 1002)):
            s = self.socket_to(admin, "web")
            s.until(b"#") if how == dict(mask=False) else None
            try:
                s.send(**{"data": b"some", **how})
            except OSError:
                pass  # it need not take all of it
            while True:
                opcode, data = s.receive()
                if opcode == ws.CLOSE:
                    break
            self.assertEqual(int.from_bytes(data, "big"), code, how)
            s.sock.close()
        # A flood of pings that are never read, and one that leaves in the middle of a frame.
        flood, cut = self.socket_to(admin, "web"), self.socket_to(admin, "web")
        flood.sock.settimeout(3)
        try:
            for _ in range(20000):
                flood.send(b"p" * 125, ws.PING)
        except OSError:
            pass
        cut.sock.sendall(cut.frame(ws.BINARY, b"x" * 1000)[:50])
        cut.sock.close()
        s = self.socket_to(admin, "web")
        s.send(b"\x03\necho still-$((1 + 1))\n")
        s.until(b"still-2")

    def test_sockets_end_with_their_token_and_their_machine(self):
        self.begin_linux()
        s = self.socket_to(self.caller("operator"), "web")
        s.until(b"/ # ")
        self.api.delete("/v1/tokens/operator")
        self.ends(s.sock)

    def test_a_screen_is_reached_where_there_is_one(self):
        self.begin()
        self.m.image()
        for name in ("bare", "seen"):
            self.m.create(name, power="on", vga="std" if name == "seen" else "none")
            self.api.settled(name)
        operator = self.caller("operator")
        told = self.fails(operator, 409, "POST", "/v1/vms/bare/ticket", {"what": "vnc"})
        self.assertIn("no screen", told["reason"])
        s = self.socket_to(operator, "seen", "vnc")
        self.assertEqual(s.until(b"\n"), b"RFB 003.008\n")
        s.send(b"RFB 003.008\n")
        self.assertEqual(s.until(b"\x01"), b"\x01\x01")  # one kind of security: none
        s.send(b"\x01")
        s.until(b"\0\0\0\0")
        s.send(b"\x01")  # shared
        width, height = struct.unpack(">HH", s.receive()[1][:4])
        self.assertGreater(width * height, 0)
        self.api.post("/v1/vms/seen/kill")
        self.assertEqual(s.closed(), 1000)

    def test_much_goes_both_ways_through_a_socket(self):
        self.begin()
        self.m.image()
        self.m.create("web", power="on")
        self.api.settled("web")
        screen = socket.socket(socket.AF_UNIX)  # what answers as its screen sends and takes any bytes
        self.addCleanup(screen.close)
        here = os.getcwd()
        os.chdir(self.m.home / "machines" / self.api.vm("web")["id"])  # names of sockets are short
        screen.bind("vnc")
        os.chdir(here)
        screen.listen()
        s = self.socket_to(self.caller("admin"), "web", "vnc")
        end, _ = screen.accept()
        end.settimeout(LIMIT)
        data = os.urandom(300000)
        sender = threading.Thread(target=end.sendall, args=(data,))
        sender.start()
        got = b""
        while len(got) < len(data):
            got += s.receive()[1]
        sender.join()
        self.assertEqual(got, data)
        for at in range(0, len(data), 70000):
            s.send(data[at:at + 70000])
        self.assertEqual(ws.exactly(end, len(data)), data)
        end.close()
        self.assertEqual(s.closed(), 1000)

    def test_an_upgrade_under_tls_becomes_a_stream_of_bytes(self):
        self.begin_linux()
        self.socket_to(self.caller("operator"), "web").until(b"/ # ")
        s = self.door.tls()
        s.sendall(f"GET /v1/vms/web/console HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: serial\r\n"
                  f"Authorization: Bearer {self.token('admin')}\r\n\r\necho early-$((1 + 1))\n".encode())
        text = b""
        while b"early-2" not in text:
            text += s.recv(4096)
        self.assertIn(b" 101 ", text)
        self.api.post("/v1/vms/web/kill")
        self.ends(s)


class Afar(Case):
    """viv on another host."""

    def far(self, role="admin", **env):
        path = self.m.home / f"token-{role}"
        path.write_text(self.token(role) + "\n")
        self.m.env.update(VIV_URL=f"https://localhost:{self.door.port}", VIV_TOKEN_FILE=str(path),
                          VIV_CACERT=self.door.portal["certificate"], HOME="/nonexistent", **env)
        self.m.env.pop("VIV_HOME")
        self.addCleanup(self.m.env.update, VIV_HOME=str(self.m.home))

    def test_commands_speak_to_a_manager_elsewhere(self):
        self.begin()
        self.m.linux()
        self.far()
        self.m.viv("create", "web", "--image", "tiny", "--memory", "96M", "--network", "none", "--start")
        self.assertIn("running", self.m.viv("list"))
        self.assertEqual(json.loads(self.m.viv("show", "web", "--json"))["name"], "web")
        self.assertIn("is running", self.m.viv("event", "list"))
        self.assertIn("FROM", self.m.viv("token", "list"))
        done = subprocess.Popen([manager.VIV, "console", "web"], env=self.m.env, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE)
        text = b""
        while b"/ # " not in text:
            text += os.read(done.stdout.fileno(), 4096)
        done.stdin.write(b"echo far-$((6 * 7)); poweroff -f\n")
        done.stdin.flush()
        out, _ = done.communicate(timeout=LIMIT)
        self.assertIn(b"far-42", out)
        self.assertEqual(done.returncode, 0)
        follow = subprocess.Popen([manager.VIV, "event", "follow", "--json"], env=self.m.env, stdout=subprocess.PIPE,
                                  text=True)
        self.addCleanup(follow.kill)
        seen = iter(lambda: json.loads(follow.stdout.readline())["name"], None)
        threading.Timer(0.1, lambda: [self.api.post("/v1/tokens", {"name": f"sooner{i}"}) or time.sleep(0.2)
                                      for i in range(30)]).start()
        self.assertTrue(next(name for name in seen if name.startswith("sooner")))
        self.m.wait_for(lambda: len(self.api.get("/v1/tokens")["items"]) == 31, "the last one")
        self.m.kill()
        self.m.env["VIV_HOME"] = str(self.m.home)
        self.m.start("--https", f"127.0.0.1:{self.door.port}")
        self.m.env.pop("VIV_HOME")
        self.m.viv("token", "create", "later")
        self.assertTrue(next(name for name in seen if name == "later"))
        follow.kill()
        follow.wait()
        follow.stdout.close()
        self.m.viv("rm", "web", "--force")
        self.assertNotIn("web", self.m.viv("list"))

    def test_commands_in_a_guest_and_files_go_through_tls(self):
        self.begin()
        image_with_agent(self.m)
        self.m.create("web", **WITH_AGENT)
        self.far("operator")
        self.m.viv("wait", "web", "--for", "ready", "--timeout", str(LIMIT))

        def run_viv(*words, data=b""):
            done = subprocess.run([manager.VIV, *words], env=self.m.env, capture_output=True, timeout=LIMIT, input=data,
                                  check=False)
            return done.returncode, done.stdout, done.stderr
        self.assertEqual(run_viv("exec", "web", "--", "sh", "-c", "cat; echo to errors >&2; exit 7", data=b"to output\n"),
                         (7, b"to output\n", b"to errors\n"))
        much = os.urandom(3 << 20)
        code, out, _ = run_viv("exec", "web", "cat", data=much)
        self.assertTrue((code, out) == (0, much))
        (self.m.home / "file").write_bytes(much)
        self.m.viv("cp", str(self.m.home / "file"), "web:/root/file")
        self.m.viv("cp", "web:/root/file", str(self.m.home / "back"))
        self.assertTrue((self.m.home / "back").read_bytes() == much)
        # A client that is killed takes its command along.
        client = subprocess.Popen([manager.VIV, "exec", "web", "--", "sleep", "1000"], env=self.m.env,
                                  stdin=subprocess.DEVNULL)

        def sleeps():
            return b"sleep 1000" in run_viv("exec", "web", "--", "ps")[1]
        self.m.wait_for(sleeps, "the command")
        client.kill()
        client.wait()
        self.m.wait_for(lambda: not sleeps(), "the end of the command")

    def test_whom_viv_does_not_trust_learns_nothing(self):
        self.begin()
        self.far("viewer")
        url = self.m.env["VIV_URL"]
        self.m.viv("list")
        self.m.env.pop("VIV_CACERT")
        told = self.m.viv("list", code=6)
        self.assertIn("not trusted", told)
        fingerprint = self.door.portal["fingerprint"]
        self.assertIn(fingerprint, told)
        colons = ":".join(fingerprint[i:i + 2] for i in range(0, 64, 2)).upper()
        self.m.viv("list", "--fingerprint", fingerprint)
        self.m.viv("--fingerprint", "sha256:" + colons, "list")
        self.assertIn("another one", self.m.viv("list", "--fingerprint", "0" * 64, code=6))
        self.m.viv("list", "--cacert", "/etc/hostname", code=2)
        self.m.env["VIV_FINGERPRINT"] = fingerprint
        self.assertIn("unauthorized", self.m.viv("list", "--json", "--token-file", self.bad_token(), code=5))
        self.m.viv("token", "list", code=5)
        self.m.viv("list", "--token-file", "/nonexistent", code=2)
        for bad in ("http://localhost", "localhost:1", "https://", "https://a b", "https://x:99999", "https://x/y"):
            self.m.viv("list", "--url", bad, code=2)
        self.m.viv("list", "--url", "https://127.0.0.1:1", code=6)
        self.m.env.pop("VIV_TOKEN_FILE")
        self.m.viv("list", code=2)
        # One that listens, says nothing good, and must not see the token.
        trap = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(trap.close)
        heard = []

        def take():
            s, _ = trap.accept()
            s.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            heard.append(s.recv(100000))
            s.close()
        thread = threading.Thread(target=take)
        thread.start()
        self.m.env["VIV_TOKEN"] = "viv_secret"
        self.m.viv("list", "--url", f"https://127.0.0.1:{trap.getsockname()[1]}", code=6)
        thread.join()
        self.assertNotIn(b"viv_secret", heard[0])
        self.assertTrue(url)

    def bad_token(self):
        path = self.m.home / "bad"
        path.write_text("viv_nonsense")
        return str(path)

    def test_viv_waits_when_it_is_asked_to(self):
        self.begin("--rate", "4")
        self.far("viewer")
        for _ in range(30):
            self.m.viv("list")

    def test_the_portal_is_opened_once_and_found_again(self):
        first = json.loads(self.m.viv("portal", "--json"))
        self.assertRegex(first["url"], r"^https://127\.0\.0\.1:\d+/#code=[0-9a-f]{32}$")
        second = self.m.viv("portal").strip()
        self.assertEqual(second.split("#")[0], first["url"].split("#")[0])
        self.assertNotEqual(second, first["url"])
        self.door = Door(self.m)
        os.kill(self.api.get("/v1/hosts/local")["pid"], 15)
        self.m.wait_for(lambda: not os.path.exists(self.api.path), "the end")
        self.m.viv("list")
        self.assertEqual(Door(self.m).port, self.door.port)
        self.assertEqual(Door(self.m).portal["fingerprint"], self.door.portal["fingerprint"])
        moved = json.loads(self.m.viv("portal", "--json", "--listen", "127.0.0.1:0"))
        self.assertNotEqual(moved["address"], first["address"])
        with self.assertRaises(OSError):
            self.door.tcp()
        everywhere = moved["address"].replace("127.0.0.1", "*")
        self.assertIn(socket.gethostname(), json.loads(self.m.viv("portal", "--json", "--listen", everywhere))["url"])
        self.m.viv("portal", "--listen", "192.0.2.77:1", code=3)
        self.m.viv("portal", "--listen", "nonsense", code=2)
        self.m.viv("portal", "--close")
        self.assertEqual(self.api.get("/v1/portals/local")["state"], "closed")

    def test_a_port_that_is_taken_is_tried_again(self):
        self.begin()
        port = json.loads(self.m.viv("portal", "--json", "--listen", "127.0.0.1:0"))["address"]
        self.m.stop()
        other = socket.create_server(("127.0.0.1", int(port.rsplit(":", 1)[1])))
        self.m.start()
        portal = self.api.get("/v1/portals/local")
        self.assertEqual(portal["state"], "closed")
        self.assertIn("cannot listen", portal["reason"])
        other.close()
        self.m.wait_for(lambda: self.api.get("/v1/portals/local")["state"] == "open", "the port")


if __name__ == "__main__":
    vivtest.tap.main()
