"""outside.py NAME EXPECTED REPORT...: sums up what pytest's reports (JUnit XML) say of an outside suite against what is expected.

Each report's name is its file. Rows `apart` of EXPECTED are of files that are not run. Prints the figures, and each test that failed
and is not expected to, or is expected to and passes; exit status 1 for one of these, or if fewer than 90 % pass. What skips itself
is not counted.
"""

import fnmatch
import pathlib
import sys
import xml.etree.ElementTree as tree

PASS_LEAST = 0.9


def read_expected(path):
    rows = []
    for line in pathlib.Path(path).read_text().splitlines():
        if line and not line.startswith("#"):
            kind, rest = line.split(" ", 1)
            pattern, why = rest.split(": ", 1)
            rows.append((kind, pattern, why)) if kind != "apart" else None
    return rows


def main(title, expected, *reports):
    rows = read_expected(expected)
    used = set()
    passed, failed, absent, bad = 0, 0, 0, 0
    for report in reports:
        suite = pathlib.Path(report).stem.replace("+", "/")
        for case in tree.parse(report).iter("testcase"):
            name = f"{suite}::{case.get('classname').rsplit('.', 1)[-1]}::{case.get('name')}"
            if case.find("skipped") is not None:
                continue
            went_wrong = next((c for c in case if c.tag in ("failure", "error")), None)
            row = next((r for r in rows if fnmatch.fnmatchcase(name.replace("[", "("), r[1])), None)
            if row:
                used.add(row)
            if row and row[0] == "absent":
                absent += 1
            elif went_wrong is None:
                passed += 1
                if row:
                    bad += 1
                    print(f"FAILED: {name} passes, and is expected not to")
            else:
                failed += 1
                if not row:
                    bad += 1
                    print(f"FAILED: {name}: {went_wrong.get('message', '')[:300]}")
    for row in rows:
        if row not in used:
            bad += 1
            print(f"FAILED: nothing is like {row[1]}, which is expected to be")
    share = passed / max(1, passed + failed)
    print(f"{title}: {passed} of {passed + failed} pass ({share:.1%}); {absent} ask for what is absent")
    return 1 if bad or share < PASS_LEAST else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
