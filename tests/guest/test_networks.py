#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Networks between machines, the whole way: names, addresses, the way out, forwards that come and go,
crashes of the manager and of viv-net while a stream runs. The guests are the tiny one with the agent."""
import base64
import hashlib
import json
import os
import pathlib
import random
import signal
import socket
import struct
import subprocess
import threading
import time
import unittest

import manager
import vivtest
from test_manager_agent import image_with_agent

LIMIT = manager.LIMIT
DHCP = r"""
cat >/tmp/dhcp <<'E'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add $ip/$mask dev $interface
[ -z "$router" ] || ip route add default via $router
echo "nameserver $dns" >>/etc/resolv.conf
echo "search $domain" >>/etc/resolv.conf
E
chmod +x /tmp/dhcp
mkdir -p /tmp/www
hostname >/tmp/www/index.html
for i in 0 1 2; do
    [ -e /sys/class/net/eth$i ] || continue
    ip link set eth$i up
    udhcpc -q -n -t 30 -T 1 -i eth$i -s /tmp/dhcp
done
httpd -h /tmp/www
viv-agent
"""
IN_NETWORK = {"memory": 128 << 20, "power": "on", "append":
              "viv.modules=virtio_pci,virtio_net,vmw_vsock_virtio_transport viv.run64="
              + base64.b64encode(DHCP.encode()).decode()}


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Case(unittest.TestCase):
    def setUp(self):
        self.m = manager.Manager(self)
        self.api = self.m.api
        self.m.start()
        self.addCleanup(self.end_networks)

    def end_networks(self):
        """Before the folder goes: viv-net ends some seconds after the last machine."""
        for pid in self.network_pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def network_pids(self):
        return manager.pids_in(self.m.home / "networks")

    def network(self, name, **spec):
        return self.api.post("/v1/networks", {"name": name, "spec": spec})

    def machines(self, network, *names, **more):
        image_with_agent(self.m)
        for name in names:
            self.m.create(name, **{**IN_NETWORK, "network": network, **more})
        for name in names:
            self.m.viv("wait", name, "--for", "ready", "--timeout", str(LIMIT))

    def sh(self, name, command, code=0):
        return self.m.viv("exec", name, "--", "sh", "-c", command, code=code)

    def address(self, name, network="lan"):
        return self.api.vm(name)["status"]["networks"][network]["address"]

    def pid(self, network="lan"):
        return self.api.get(f"/v1/networks/{network}")["status"].get("pid")

    def fails(self, code, field, method, target, body=None):
        with self.assertRaises(manager.Failure) as caught:
            self.api.call(method, target, body)
        self.assertEqual((caught.exception.code, caught.exception.body["field"]), (code, field), caught.exception.body)
        return caught.exception.body["reason"]

    def fetch(self, port, address="127.0.0.1"):
        """What the guest's web server says to the host; None: nobody there."""
        try:
            with socket.create_connection((address, port), 5) as s:
                s.settimeout(20)
                s.sendall(b"GET / HTTP/1.0\r\n\r\n")
                text = b""
                while data := s.recv(4096):
                    text += data
                return text.decode() or None
        except OSError:
            return None


class Declared(Case):
    """What needs no guest."""

    def test_networks_have_subnets_of_their_own(self):
        self.assertEqual(self.network("one")["spec"]["subnet"], "10.77.0.0/24")
        self.assertEqual(self.network("two", isolated=True)["spec"]["subnet"], "10.77.1.0/24")
        self.fails("conflict", "spec.subnet", "POST", "/v1/networks", {"name": "three", "spec": {"subnet": "10.77.0.0/16"}})
        self.fails("invalid", "spec.subnet", "POST", "/v1/networks", {"name": "three", "spec": {"subnet": "10.78.0.1/24"}})
        self.fails("invalid", "spec.subnet", "POST", "/v1/networks", {"name": "three", "spec": {"subnet": "300.1.1.0/24"}})
        self.fails("invalid", "name", "POST", "/v1/networks", {"name": "user"})
        self.fails("exists", "name", "POST", "/v1/networks", {"name": "one"})
        self.assertEqual(self.network("three", subnet="192.168.50.0/28")["status"]["gateway"], "192.168.50.1")
        self.assertEqual([n["name"] for n in self.api.get("/v1/networks")["items"]], ["one", "three", "two"])
        self.m.viv("net", "rm", "one", "two")
        self.assertEqual(self.network("again")["spec"]["subnet"], "10.77.0.0/24")

    def test_machines_get_addresses_that_are_theirs(self):
        self.m.image()
        self.network("lan", subnet="10.9.0.0/28")
        self.network("dmz")
        self.fails("conflict", "spec.network", "POST", "/v1/vms", {"name": "x", "spec": {"image": "tiny", "network": "wan"}})
        self.fails("invalid", "spec.network", "POST", "/v1/vms", {"name": "x", "spec": {"image": "tiny", "network": "lan,lan"}})
        self.fails("invalid", "spec.network", "POST", "/v1/vms", {"name": "x", "spec": {"image": "tiny", "network": "none,lan"}})
        self.m.viv("create", "a", "--image", "tiny", "--memory", "16M", "--network", "lan", "--network", "dmz")
        self.assertEqual(self.api.vm("a")["spec"]["network"], "lan,dmz")
        for name in "bcde":
            self.m.create(name, network="lan")
        seen = [self.api.vm(n)["status"]["networks"] for n in "abcde"]
        self.assertEqual(sorted(s["lan"]["address"] for s in seen), [f"10.9.0.{i}" for i in range(10, 15)])
        self.assertEqual(seen[0]["dmz"]["address"], "10.77.0.10")
        macs = [nic["mac"] for s in seen for nic in s.values()]
        self.assertEqual(len(set(macs)), 6)
        self.assertTrue(all(m.startswith("02:") for m in macs))
        self.assertIn("no address left", self.fails("conflict", "spec.network", "POST", "/v1/vms",
                                                    {"name": "f", "spec": {"image": "tiny", "network": "lan"}}))
        self.assertIn("'a'", self.fails("conflict", "status.machines", "DELETE", "/v1/networks/dmz"))
        for name in "abcde":
            self.api.settled(name)
        self.m.viv("rm", "c")
        self.m.create("f", network="lan")
        self.assertEqual(self.address("f"), seen[2]["lan"]["address"])
        self.m.viv("edit", "a", "--network", "lan")
        self.m.viv("net", "rm", "dmz")  # nobody names it any more
        self.m.viv("start", "a")
        self.assertEqual(self.api.vm("a")["status"]["networks"], {"lan": seen[0]["lan"]})

    def test_the_process_is_there_as_long_as_a_machine_needs_it(self):
        self.m.image()
        self.network("lan")
        self.m.create("a", network="lan", power="on")
        self.m.wait_for(lambda: self.api.get("/v1/networks/lan")["status"]["state"] == "running", "the network")
        first = self.pid()
        self.m.kill()
        self.m.start()
        self.m.wait_for(lambda: self.pid() == first, "the process to be found again")
        os.kill(first, signal.SIGKILL)
        self.m.wait_for(lambda: self.pid() not in (None, first), "another process")
        self.m.wait_for(lambda: self.api.get("/v1/networks/lan")["status"]["state"] == "running", "the network")
        self.assertEqual(self.api.get("/v1/networks/lan")["status"]["restarts"], 1)
        self.m.viv("kill", "a")
        self.m.wait_for(lambda: self.api.get("/v1/networks/lan")["status"]["state"] == "idle", "the end of the process")
        self.assertEqual(self.network_pids(), [])
        self.m.viv("rm", "a")
        self.m.viv("net", "rm", "lan")
        self.assertEqual(list((self.m.home / "networks").iterdir()), [])

    def test_a_process_whose_manager_died_as_it_began_ends_by_itself(self):
        self.m.image()
        deadly = self.m.home / "deadly"
        program = os.environ.get("VIV_NET", str(vivtest.ROOT / "build/viv-net"))
        deadly.write_text(f'#!/bin/sh\necho $$ >{self.m.home}/began\nkill -9 $PPID\nexec {program} "$@"\n')
        deadly.chmod(0o755)
        self.m.stop()
        self.m.env["VIV_NET"] = str(deadly)
        self.m.start()
        self.network("lan")
        try:
            self.m.create("a", network="lan", power="on")
        except OSError:
            pass  # it was killed before it could answer
        self.m.wait_for(lambda: (self.m.home / "began").exists(), "the beginning")
        self.assertEqual(self.m.process.wait(LIMIT), -signal.SIGKILL)
        self.m.process = None
        for pid in self.m.machine_pids():
            os.kill(pid, signal.SIGKILL)
        self.m.wait_for(lambda: not self.network_pids(), "its end")

    def test_a_network_that_cannot_begin_says_why(self):
        self.m.image()
        broken = self.m.home / "broken"
        broken.write_text("#!/bin/sh\necho 'viv-net: error: no luck today' >&2\nexit 1\n")
        broken.chmod(0o755)
        self.m.stop()
        self.m.env["VIV_NET"] = str(broken)
        self.m.start()
        self.network("lan")
        self.m.create("a", network="lan", power="on")
        self.m.wait_for(lambda: self.api.get("/v1/networks/lan")["status"]["state"] == "failed", "the failure")
        self.assertIn("no luck today", self.api.get("/v1/networks/lan")["status"]["reason"])
        self.assertEqual(self.api.settled("a")["status"]["state"], "running")
        self.m.stop()
        del self.m.env["VIV_NET"]
        self.m.start()
        self.m.wait_for(lambda: self.api.get("/v1/networks/lan")["status"]["state"] == "running", "the network")

    def test_forwards_are_checked(self):
        self.m.image()
        self.m.create("a", network="user", power="on")
        self.m.create("b", network="none")
        self.api.settled("a")
        port = free_port()
        for bad in ("80", "80:", ":80", "0:80", "65536:80", "80:65536", "1.2.3.4.5:80:80", "80:80/icmp", "x:80:80", "udp:80"):
            self.fails("invalid", "port", "POST", "/v1/vms/a/forward", {"port": bad})
        self.api.post("/v1/vms/a/forward", {"port": f"{port}:80"})
        self.api.post("/v1/vms/a/forward", {"port": f"127.0.0.1:{port}:80/tcp"})  # the same, in other words
        self.assertEqual(self.api.vm("a")["spec"]["forward"], [f"{port}:80"])
        self.fails("invalid", "spec.forward", "POST", "/v1/vms/a/forward", {"port": f"{port}:81"})
        self.fails("conflict", "spec.network", "POST", "/v1/vms/b/forward", {"port": f"{port}:80"})
        self.fails("not-found", "port", "POST", "/v1/vms/a/unforward", {"port": f"{port}:81"})
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            other = taken.getsockname()[1]
            self.assertIn(f"port {other}", self.fails("conflict", "port", "POST", "/v1/vms/a/forward", {"port": f"{other}:80"}))
        with socket.socket(type=socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            other = taken.getsockname()[1]
            self.fails("conflict", "port", "POST", "/v1/vms/a/forward", {"port": f"{other}:53/udp"})
        self.m.create("c", network="user", power="on")
        self.api.settled("c")
        self.m.wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "the port")
        self.assertIn("'a'", self.fails("conflict", "port", "POST", "/v1/vms/c/forward", {"port": f"{port}:80"}))
        self.assertRegex(self.m.viv("forward", "list"), rf"a +{port}:80 +open")
        self.api.post("/v1/vms/a/unforward", {"port": f"tcp:{port}:80"})
        self.m.wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", port)) != 0, "the end of the port")

    def test_a_forward_that_cannot_be_opened_is_opened_later(self):
        self.m.image()
        self.network("lan")
        port = free_port()
        taken = socket.socket()
        taken.bind(("127.0.0.1", port))
        taken.listen()
        self.m.create("a", network="lan", power="on", forward=[f"{port}:80"])
        self.api.settled("a")
        self.m.wait_for(lambda: self.api.vm("a")["status"].get("forward_errors"), "the error")
        self.assertRegex(self.m.viv("forward", "list"), rf"a +{port}:80 +failed .*in use")
        taken.close()
        self.m.wait_for(lambda: "forward_errors" not in self.api.vm("a")["status"], "the forward")
        self.assertEqual(socket.socket().connect_ex(("127.0.0.1", port)), 0)


class Guests(Case):
    def test_machines_meet_by_name_and_reach_the_outside(self):
        self.network("lan")
        port = free_port()
        self.machines("lan", "web", "db", forward=[])
        self.sh("db", f"ping -c 2 -W 5 {self.address('web')}")
        self.sh("db", "ping -c 1 -W 5 web && ping -c 1 -W 5 web.viv.internal && ping -c 1 -W 5 gateway")
        self.assertIn("web.viv.internal", self.sh("db", f"nslookup {self.address('web')}"))
        self.assertIn("tiny", self.sh("db", "wget -q -O - http://web/"))
        self.sh("db", "ping -c 1 nobody", code=1)
        # The host by the gateway.
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen()
            self.sh("db", f"echo hello >/tmp/said; nc -w 5 gateway {s.getsockname()[1]} </tmp/said & sleep 0.2")
            s.settimeout(LIMIT)
            with s.accept()[0] as c:
                self.assertEqual(c.recv(100), b"hello\n")
        # Forwards, and what goes through one when it is taken away.
        self.assertIsNone(self.fetch(port))
        self.m.viv("forward", "add", "web", f"{port}:80")
        self.m.wait_for(lambda: "tiny" in (self.fetch(port) or ""), "the forward")
        self.m.viv("restart", "web", "--timeout", "0")
        self.m.viv("wait", "web", "--for", "ready", "--timeout", str(LIMIT))
        self.m.wait_for(lambda: "tiny" in (self.fetch(port) or ""), "the forward after a restart")
        self.m.viv("forward", "rm", "web", f"{port}:80")
        self.m.wait_for(lambda: self.fetch(port) is None, "the end of the forward")
        self.assertEqual(self.api.get("/v1/networks/lan")["status"]["addresses"],
                         {n: self.address(n) for n in ("web", "db")})

    def test_a_machine_has_so_many_connections_and_no_more(self):
        self.network("lan", connections=16)
        self.machines("lan", "a")
        status = lambda: json.loads(subprocess.run(  # noqa: E731
            [vivtest.ROOT / "build/viv-ctl", "--json", str(self.m.home / "networks" / self.api.get("/v1/networks/lan")["id"] / "control"),
             "status"], check=True, capture_output=True, text=True).stdout)
        self.assertEqual((status()["connections_each"], status()["limited"]), (16, 0))
        came = []

        def serve(listener):
            while True:
                try:
                    came.append(listener.accept()[0])
                except OSError:
                    return
        with socket.create_server(("127.0.0.1", 0)) as s:
            threading.Thread(target=serve, args=[s], daemon=True).start()
            port = s.getsockname()[1]
            self.sh("a", f"mkfifo /tmp/wait; for i in $(seq 40); do (nc gateway {port} </tmp/wait >/dev/null 2>&1 &); done; "
                         "(exec 3>/tmp/wait; sleep 1000) >/dev/null 2>&1 &")
            self.m.wait_for(lambda: status()["limited"] > 10, "the limit")
            self.assertLessEqual(len(came), 16)
            self.assertGreater(len(came), 8)
            before = len(came)
            for one in list(came):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
                one.close()
            self.m.wait_for(lambda: len(came) > before, "others in their place")
            s.shutdown(socket.SHUT_RDWR)

    def test_an_isolated_network_leads_nowhere_but_forwards_lead_in(self):
        self.network("iso", isolated=True)
        port = free_port()
        self.machines("iso", "web", "db", forward=[])
        self.m.viv("forward", "add", "web", f"{port}:80")
        self.sh("db", "ping -c 1 -W 5 web")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen()
            here = s.getsockname()[1]
            self.sh("db", f"nc -w 3 10.77.0.1 {here} </dev/null", code=1)
            self.sh("db", f"ip route add default via 10.77.0.1; nc -w 3 10.77.0.1 {here} </dev/null", code=1)
            s.settimeout(0.5)
            self.assertRaises(TimeoutError, s.accept)
        self.sh("db", "nslookup deb.debian.org", code=1)
        self.assertIn("tiny", self.fetch(port) or "")
        self.assertNotIn("default", self.sh("web", "ip route"))

    def test_a_machine_in_two_networks_has_an_interface_in_each(self):
        self.network("lan")
        self.network("dmz")
        self.machines("lan,dmz", "gate")
        self.machines_more("dmz", "web")
        self.assertEqual(self.address("gate", "dmz"), "10.77.1.10")
        self.sh("gate", "ping -c 1 -W 5 10.77.1.11 && ip addr show eth1 | grep 10.77.1.10")
        self.sh("gate", "mkfifo /tmp/in; (exec 3<>/tmp/in; nc -l -p 5001 <&3 >/tmp/got) >/dev/null 2>&1 </dev/null &")
        self.sh("web", "echo intruder | nc -w 2 10.77.0.10 5001; true")
        self.assertEqual(self.sh("gate", "cat /tmp/got 2>/dev/null || true"), "")
        self.sh("web", "echo guest | nc -w 5 10.77.1.10 5001")
        self.m.wait_for(lambda: self.sh("gate", "cat /tmp/got") == "guest\n", "what the guest said")

    def machines_more(self, network, *names):
        for name in names:
            self.m.create(name, **{**IN_NETWORK, "network": network})
        for name in names:
            self.m.viv("wait", name, "--for", "ready", "--timeout", str(LIMIT))

    def test_a_machine_speaks_for_itself_alone(self):
        self.network("lan")
        self.machines("lan", "good", "evil")
        good, evil = self.address("good"), self.address("evil")
        self.sh("good", f"ping -c 1 -W 5 {evil}")
        # With another MAC address nothing gets through.
        mac = self.api.vm("evil")["status"]["networks"]["lan"]["mac"]
        self.sh("evil", "ip link set eth0 down; ip link set eth0 address 02:99:99:99:99:99; ip link set eth0 up")
        self.sh("evil", f"ping -c 1 -W 2 {good}", code=1)
        self.sh("evil", f"ip link set eth0 down; ip link set eth0 address {mac}; ip link set eth0 up; sleep 1")
        self.sh("evil", f"ping -c 3 -W 5 {good}")
        # Nor with the address of another one, or of the gateway.
        self.sh("evil", f"ip addr add 10.77.0.1/24 dev eth0; ping -c 1 -W 2 -I 10.77.0.1 {good}", code=1)
        ports = json.loads(subprocess.run([vivtest.ROOT / "build/viv-ctl", "--json",
                                           next((self.m.home / "networks").iterdir()) / "control", "ports"],
                                          check=True, capture_output=True, timeout=LIMIT).stdout)["ports"]
        refused = {p["name"]: p["refused"] for p in ports}
        self.assertGreater(refused["evil"], 1)
        self.assertEqual(refused["good"], 0)

    def test_a_stream_outlives_kills_of_the_manager_and_of_the_network(self):
        self.network("lan")
        self.machines("lan", "from", "to")
        rounds = int(os.environ.get("VIV_STORM_KILLS", "8"))
        seed = int(os.environ.get("VIV_STORM_SEED", random.randrange(1 << 30)))
        print(f"# VIV_STORM_SEED={seed}", flush=True)
        r = random.Random(seed)
        # With an input that does not end: nc would tell the other one, who would go.
        self.sh("to", "mkfifo /tmp/in; (exec 3<>/tmp/in; nc -l -p 5000 <&3 >/tmp/got; touch /tmp/over) >/dev/null 2>&1 </dev/null &")
        self.sh("from", "(while [ ! -e /tmp/stop ]; do seq 1 2000; sleep 0.05; done | nc to 5000) >/dev/null 2>&1 </dev/null &")
        self.m.wait_for(lambda: int(self.sh("to", "stat -c %s /tmp/got")) > 10000, "the beginning of the stream")
        for _ in range(rounds):
            time.sleep(r.uniform(0, 1))
            what = r.choice(("net", "net", "manager", "both"))
            if what != "net":
                self.m.kill()
            if what != "manager":
                for pid in self.network_pids():
                    os.kill(pid, signal.SIGKILL)
            if what != "net":
                time.sleep(r.uniform(0, 0.3))
                self.m.start()
            self.m.wait_for(lambda: len(self.network_pids()) == 1, "one process of the network")
        before = int(self.sh("to", "stat -c %s /tmp/got"))
        self.m.wait_for(lambda: int(self.sh("to", "stat -c %s /tmp/got")) > before + 10000, "the stream to go on")
        self.sh("from", "touch /tmp/stop")
        self.m.wait_for(lambda: self.m.viv("exec", "to", "--", "sh", "-c", "[ -e /tmp/over ] && echo yes || echo no") == "yes\n",
                        "the end of the stream")
        piece = b"".join(b"%d\n" % i for i in range(1, 2001))
        size = int(self.sh("to", "stat -c %s /tmp/got"))
        self.assertEqual(size % len(piece), 0)
        self.assertEqual(self.sh("to", "md5sum </tmp/got").split()[0], hashlib.md5(piece * (size // len(piece))).hexdigest())
        self.assertEqual(len(self.network_pids()), 1)
        self.assertEqual(self.api.vm("from")["status"]["state"], "running")

    def test_frames_can_be_captured(self):
        self.network("lan")
        self.machines("lan", "a", "b")
        control = next((self.m.home / "networks").iterdir()) / "control"
        ctl = [vivtest.ROOT / "build/viv-ctl", control]
        file = self.m.home / "lan.pcap"
        subprocess.run([*ctl, "capture", file, "--port", "a"], check=True, timeout=LIMIT)
        self.sh("a", f"ping -c 3 -W 5 {self.address('b')}")
        subprocess.run([*ctl, "capture-stop"], check=True, timeout=LIMIT, stdout=subprocess.DEVNULL)
        data = file.read_bytes()
        self.assertEqual(struct.unpack("<IHH", data[:8]), (0xa1b23c4d, 2, 4))
        at, pings = 24, 0
        while at < len(data):
            seconds, _, n, whole = struct.unpack("<IIII", data[at:at + 16])
            frame = data[at + 16:at + 16 + n]
            self.assertEqual(n, whole)
            self.assertLess(abs(seconds - time.time()), 600)
            pings += frame[12:14] == b"\x08\x00" and frame[23] == 1
            at += 16 + n
        self.assertEqual(pings, 6)  # three each way, each once


if __name__ == "__main__":
    vivtest.tap.main()
