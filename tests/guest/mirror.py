# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian mirror on 127.0.0.1 for guests (10.0.2.2 for them): passes on what the host's own mirror has, and keeps it.

Files are fetched by apt's own helper, which knows the host's proxies. What has a version in its name (pool/, by-hash/)
is kept in build/media for later runs, what changes (indexes) for this run only.
"""
import http.server
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import unittest

import media

HELPER = "/usr/lib/apt/apt-helper"


def upstream():
    """The host's mirror of the release that guests are made of."""
    text = media.run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)",
                     "Created-By: Packages", text=True)
    for line in text.splitlines():
        uri, *rest = line.split()
        if rest == ["bookworm", "main", "Debian"] and uri.startswith("http"):
            return uri.rstrip("/")
    raise unittest.SkipTest("apt knows no mirror of Debian bookworm by HTTP")


class Mirror:
    """Serves /debian/... until close(); .port, and .served: how many files, .failed: those that there are not."""

    def __init__(self):
        self.upstream = upstream()
        self.kept = media.FOLDER / "mirror"
        self.short = tempfile.TemporaryDirectory(prefix="viv-mirror-")
        self.served, self.failed = 0, []
        self.locks, self.lock = {}, threading.Lock()
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                mirror.answer(self)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.short.cleanup()

    def find(self, path):
        """The file with that path below /debian/, fetched if it is not here yet; None if there is none."""
        lasting = path.startswith("pool/") or "/by-hash/" in path
        file = (self.kept if lasting else pathlib.Path(self.short.name)) / path
        with self.lock:
            turn = self.locks.setdefault(path, threading.Lock())
        with turn:
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                new = file.with_name(file.name + f".new{os.getpid()}")
                done = subprocess.run([HELPER, "download-file", f"{self.upstream}/{path}", str(new)],
                                      capture_output=True, check=False)
                if done.returncode:
                    return None
                new.replace(file)
        return file

    def answer(self, request):
        path = request.path.partition("?")[0]
        parts = path.split("/")
        file = None
        if parts[:2] == ["", "debian"] and ".." not in parts and "%2e" not in path.lower():
            file = self.find("/".join(parts[2:]))
        if file is None:
            self.failed.append(path)
            request.send_response(404)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        self.served += 1
        size = file.stat().st_size
        request.send_response(200)
        request.send_header("Content-Length", str(size))
        request.end_headers()
        if request.command == "GET":
            with open(file, "rb") as body:
                shutil.copyfileobj(body, request.wfile)
