#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# run: on every processor backend
"""The busybox guest: a command in it, its exit status, and how the machine ends."""
import unittest

import vivtest


class Tiny(unittest.TestCase):
    def test_a_command_runs_and_poweroff_ends_the_machine_with_code_0(self):
        guest = vivtest.tiny(self, "uname -m; echo $((6 * 7)); exit 3")
        guest.expect(r"BOOTED\n")
        guest.expect(r"x86_64\n42\nEXIT 3\n")
        self.assertEqual(guest.wait(), 0)

    def test_the_shell_on_the_console_answers(self):
        guest = vivtest.tiny(self)
        guest.expect(r"BOOTED\n")
        guest.shell()
        self.assertEqual(guest.run("cat /proc/1/comm; false"), (1, "init\n"))
        guest.send_line("exit")
        self.assertEqual(guest.wait(), 0)


if __name__ == "__main__":
    vivtest.tap.main()
