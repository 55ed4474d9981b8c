#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux with an HPET: as its clock and its tick if it is told so, beside the TSC if not. If VIV_LONG is set."""
import unittest

import vivtest

SHOW = "cat /sys/devices/system/clocksource/clocksource0/current_clocksource; date +%s; sleep 2; date +%s; dmesg"


@vivtest.LONG
class Hpet(unittest.TestCase):
    def boot(self, append):
        guest = vivtest.tiny(self, SHOW, "--hpet", "on", append=append, timeout=120)
        clock, first, second = guest.expect(r"BOOTED\n(\w+)\n(\d+)\n(\d+)\n").groups()
        self.assertIn(int(second) - int(first), (2, 3))
        guest.expect(r"EXIT 0\n")
        self.assertIn("3 comparators, 64-bit 14.318180 MHz counter", guest.console)
        return clock

    def test_it_is_the_clock_if_it_is_asked_for(self):
        self.assertEqual(self.boot("clocksource=hpet"), "hpet")

    def test_otherwise_linux_keeps_its_own(self):
        self.assertIn(self.boot(""), ("tsc", "kvm"))


if __name__ == "__main__":
    vivtest.tap.main()
