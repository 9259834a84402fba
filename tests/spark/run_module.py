"""Runs one module of PySpark's own tests as `python -m` would, and tells what each example or test came to.

    run_module.py <file> doctest pyspark.sql.connect.column
    run_module.py <file> unittest pyspark.sql.tests.connect.test_connect_basic <checkout of Spark>/python

Run by the environment's own Python. Each line of the file is one outcome, in JSON and written at once, so that a run
that hangs has told everything before. By themselves doctests print only failures, and nothing at all if none ran.
"""

import doctest
import importlib
import json
import pathlib
import runpy
import sys
import unittest

TELL_MAX = 3000


class Told:
    """The file of outcomes."""

    def __init__(self, path: str):
        self.file = open(path, "w", encoding="utf-8")
        self.silent = True

    def add(self, name: str, outcome: str, text: str = "") -> None:
        plain = text.split("\n\nJVM stacktrace:")[0]
        line = {"name": name, "outcome": outcome, "text": plain[-TELL_MAX:]}
        print(json.dumps(line), file=self.file, flush=True)
        self.silent = False


def examples(told: Told, module: str) -> None:
    """Runs the module as a script: its own `_test()` makes the session and knows which examples do not go."""

    class Runner(doctest.DocTestRunner):
        def run(self, test, *arguments, **named):
            for example in test.examples:
                if example.options.get(doctest.SKIP):
                    told.add(called(test, example), "skipped")
            return super().run(test, *arguments, **named)

        def report_success(self, out, test, example, got):
            told.add(called(test, example), "passed")
            super().report_success(out, test, example, got)

        def report_failure(self, out, test, example, got):
            told.add(called(test, example), "failed", f"{example.source}expected:\n{example.want}got:\n{got}")
            super().report_failure(out, test, example, got)

        def report_unexpected_exception(self, out, test, example, exc_info):
            told.add(called(test, example), "failed", f"{example.source}raised {exc_info[0].__name__}: {exc_info[1]}")
            super().report_unexpected_exception(out, test, example, exc_info)

    testmod = doctest.testmod

    def to_the_end(*arguments, **named):
        result = testmod(*arguments, **named)
        if told.silent:
            told.add(module, "skipped", "it has no examples")
        return result

    doctest.DocTestRunner = Runner  # testmod makes one by this name
    doctest.testmod = to_the_end
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def called(test: doctest.DocTest, example: doctest.Example) -> str:
    """By its place in the docstring, since many examples are equal."""
    return f"{test.name}, example {test.examples.index(example) + 1} (line {(test.lineno or 0) + example.lineno + 1})"


def tests(told: Told, module: str, python: str) -> None:
    """The module's test cases, from a checkout, of the PySpark that is installed."""

    class Result(unittest.TextTestResult):
        def addSuccess(self, test):
            told.add(test.id(), "passed")
            super().addSuccess(test)

        def addFailure(self, test, err):
            super().addFailure(test, err)
            told.add(test.id(), "failed", self.failures[-1][1])

        def addError(self, test, err):
            super().addError(test, err)
            told.add(test.id(), "failed", self.errors[-1][1])

        def addSubTest(self, test, subtest, err):
            super().addSubTest(test, subtest, err)
            if err is not None:
                told.add(subtest.id(), "failed", str(err[1]))

        def addSkip(self, test, reason):
            told.add(test.id(), "skipped", reason)
            super().addSkip(test, reason)

    for package in ("pyspark", "pyspark.sql"):
        path = str(pathlib.Path(python, *package.split(".")))
        importlib.import_module(package).__path__.append(path)
    suite = unittest.defaultTestLoader.loadTestsFromName(module)
    unittest.TextTestRunner(resultclass=Result, verbosity=2).run(suite)


if __name__ == "__main__":
    told, kind, module, *more = Told(sys.argv[1]), *sys.argv[2:]
    sys.argv = [module]
    {"doctest": examples, "unittest": tests}[kind](told, module, *more)
