# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the unittest cases of a program and prints the results as tests/run reads them (TAP)."""
import sys
import unittest


class Result(unittest.TestResult):
    _told = None  # the test whose failing part was printed

    def _line(self, word, test, more=""):
        print(f"{word} {self.testsRun} - {test._testMethodName.removeprefix('test_')}{more}", flush=True)

    def _explain(self, test, err):
        text = self._exc_info_to_string(err, test).rstrip("\n").replace("\n", "\n# ")
        print(f"# {text}", flush=True)

    def addSuccess(self, test):
        self._line("ok", test)

    def addSkip(self, test, reason):
        self._line("ok", test, f" # SKIP {reason}")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._explain(test, err)
        self._line("not ok", test)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:  # unittest calls neither addSuccess nor addFailure for such a test
            self._explain(subtest, err)
            if self._told is not test:
                self._line("not ok", test)
            self._told = test

    def addError(self, test, err):
        super().addError(test, err)
        self._explain(test, err)
        if isinstance(test, unittest.TestCase):
            self._line("not ok", test)
        else:  # setUpClass or a module failed: its tests will not come
            print(f"not ok - {test}", flush=True)


def main():
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])
    print(f"1..{suite.countTestCases()}", flush=True)
    result = Result()
    suite.run(result)
    sys.exit(0 if result.wasSuccessful() else 1)
