#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Completion in the shells themselves: bash, zsh and fish, each asked as a person asks it."""
import os
import pty
import re
import select
import shutil
import subprocess
import time
import unittest

import manager
import vivtest

CASES = [  # what is typed, a word that must be offered, one that must not be
    ("viv volume ", "attach", "doctor"),
    ("viv snapshot ", "revert", "build"),
    ("viv create x --restart ", "on-failure", "qcow2"),
    ("viv volume create x --format ", "qcow2", "vmdk"),
    ("viv volume show ", "thedata", "themachine"),
    ("viv start ", "themachine", "thedata"),
    ("viv apply --d", "--dry-run", "--no-wait"),
]


class Shells(unittest.TestCase):
    def setUp(self):
        self.m = manager.Manager(self)
        self.m.start().image()
        self.m.create("themachine")
        self.m.api.post("/v1/volumes", {"name": "thedata", "spec": {"size": 1 << 20}})
        build = os.path.dirname(manager.VIV)
        self.env = {**self.m.env, "PATH": f"{build}:{os.environ['PATH']}", "TERM": "dumb", "HOME": str(self.m.home)}

    def check(self, offered):
        for line, word, other in CASES:
            with self.subTest(line):
                text = offered(line)
                self.assertRegex(text, rf"(?m)(^|[\s:]){re.escape(word)}(\s|$)")
                self.assertNotRegex(text, rf"(?m)(^|[\s:]){re.escape(other)}(\s|$)")

    def run_shell(self, *argv):
        return subprocess.run(argv, env=self.env, capture_output=True, text=True, check=True, timeout=manager.LIMIT).stdout

    def test_bash(self):
        def offered(line):
            words = line.split(" ")
            return self.run_shell("bash", "-c", 'eval "$(viv completion bash)"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
                                  '_viv; printf "%s\\n" "${COMPREPLY[@]}"', "bash", *words)
        self.check(offered)

    @unittest.skipUnless(shutil.which("fish"), "fish is not installed")
    def test_fish(self):
        self.check(lambda line: self.run_shell("fish", "-N", "-c", f"viv completion fish | source; complete -C '{line}'"))

    @unittest.skipUnless(shutil.which("zsh"), "zsh is not installed")
    def test_zsh(self):
        pid, terminal = pty.fork()
        if not pid:
            os.execvpe("zsh", ["zsh", "-f", "-i"], {**self.env, "COLUMNS": "200", "LINES": "60"})
        self.addCleanup(os.waitpid, pid, 0)
        self.addCleanup(os.close, terminal)

        def until(mark):
            text, end = b"", time.monotonic() + manager.LIMIT
            while mark not in text:
                self.assertLess(time.monotonic(), end, text)
                if select.select([terminal], [], [], 1)[0]:
                    text += os.read(terminal, 65536)
            return text.decode(errors="replace")

        def ask(line):
            # A list without asking whether it is too long, and a mark behind it.
            os.write(terminal, line.encode() + b"\x18\x18")  # ^X^X: list-choices
            time.sleep(0.2)
            os.write(terminal, b"\x15echo en''d-of-it\n")
            return until(b"end-of-it").split(line, 1)[-1]
        os.write(terminal, b"PS1='> '; unsetopt zle_bracketed_paste; autoload -U compinit; compinit -u -D; "
                           b"eval \"$(viv completion zsh)\"; LISTMAX=1000; bindkey '^X^X' list-choices; echo rea''dy\n")
        until(b"ready")
        self.check(ask)
        os.write(terminal, b"exit\n")


if __name__ == "__main__":
    vivtest.tap.main()
