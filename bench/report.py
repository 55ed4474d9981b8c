# SPDX-License-Identifier: GPL-2.0-or-later
"""What was measured, and the table that is made of it."""
import math
import statistics

PEER, OURS, NATIVE = "QEMU", "viv-vm", "native"


def show(value, unit):
    if value is None:
        return "-"
    if unit == "s":
        return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.0f} ms" if value >= 0.01 else f"{value * 1000:.2f} ms"
    return f"{value:.2f} {unit}" if value < 10 else f"{value:.0f} {unit}"


def verdict(ratio, exact=False):
    """In plain words; below 3 % nobody can tell on a machine that does other things too."""
    if ratio is None:
        return "-"
    if 0.97 < ratio < 1.03 and (not exact or ratio == 1):
        return "equal"
    factor = max(ratio, 1 / ratio)
    number = f"{factor:.2f}" if factor < 10 else f"{factor:.1f}" if factor < 100 else f"{factor:.0f}"
    return f"{number}x {'more' if ratio > 1 else 'less'}"


def geomean(values):
    return math.exp(statistics.fmean(math.log(v) for v in values)) if values else None


class Results:
    def __init__(self, rows, all_rows=None):
        self.rows, self.all_rows = rows, all_rows or rows
        self.samples = {}  # (row, machine) -> one value a round
        self.walls = {}  # (row, machine) -> seconds on the wall, one a round
        self.sums = {}  # row -> {machine: set of checksums}
        self.errors = {}  # row -> {machine: text}

    def add(self, row, name, value):
        self.samples.setdefault((row.key, name), []).append(value)

    def wall(self, row, name, seconds):
        self.walls.setdefault((row.key, name), []).append(seconds)

    def checksum(self, row, name, value):
        self.sums.setdefault(row.key, {}).setdefault(name, set()).add(value)

    def fail(self, row, name, text):
        self.errors.setdefault(row.key, {}).setdefault(name, text)

    def values(self, row, name):
        """The rounds of one cell, without what the handshake around a kernel cost."""
        values = self.samples.get((row.key, name), [])
        null = self.samples.get(("null", name)) if row.kind == "kernel" else None
        cost = statistics.median(null) if null else 0
        return [max(v - cost, 1e-6) for v in values] if row.kind == "kernel" else values

    def median(self, row, name):
        values = self.values(row, name)
        return statistics.median(values) if values else None

    def void(self, row):
        """Why a row says nothing, or None."""
        sums = self.sums.get(row.key, {})
        if len(set().union(*sums.values())) > 1 if sums else False:
            told = ", ".join(f"{name} {' or '.join(sorted(s)).strip()[:60]}" for name, s in sums.items())
            return f"results differ: {told}"
        for name in (PEER, OURS):
            if not self.samples.get((row.key, name)):
                return f"{name}: {self.errors.get(row.key, {}).get(name, 'not measured')}"
        return None

    def ratios(self, row):
        """viv-vm against the peer, round by round."""
        if self.void(row):
            return []
        return [ours / peer for peer, ours in zip(self.values(row, PEER), self.values(row, OURS)) if peer > 0]

    def ratio(self, row):
        ratios = self.ratios(row)
        return statistics.median(ratios) if ratios else None

    def against_native(self, row, name):
        native, other = self.median(row, NATIVE), self.median(row, name)
        return other / native if native and other and not self.void(row) else None

    # ---- the table ----

    def line(self, row):
        ratios = self.ratios(row)
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}" if len(ratios) > 1 else "-"
        slow = self.against_native(row, OURS)
        return [f"  {row.title}", *(show(self.median(row, n), row.unit) for n in (NATIVE, PEER, OURS)),
                f"{self.ratio(row):.2f}" if ratios else "void", spread, verdict(self.ratio(row)),
                f"{slow:.1f}x" if slow else "-"]

    def group_line(self, group):
        rows = [r for r in self.rows if r.group == group and self.ratio(r)]
        if len(rows) < 3 or any(r.unit != "s" for r in rows):
            return None
        slow = [s for s in (self.against_native(r, OURS) for r in rows) if s]
        mean = geomean([self.ratio(r) for r in rows])
        return ["  geometric mean", "", "", "", f"{mean:.2f}", "", verdict(mean),
                f"{geomean(slow):.1f}x" if slow else "-"]

    def goal_value(self, goal):
        if goal.measure in ("ratio", "value"):
            row = next((r for r in self.rows if r.key == goal.key), None)
            if not row or self.void(row):
                return None
            return self.ratio(row) if goal.measure == "ratio" else self.median(row, OURS)
        rows = [r for r in self.rows if r.group == goal.key]
        ratios = [self.ratio(r) for r in rows]
        # A row that is left out could have been the worst one.
        if not rows or len(rows) < len([r for r in self.all_rows if r.group == goal.key]) or None in ratios:
            return None
        return geomean(ratios) if goal.measure == "geomean" else max(ratios)

    def goals(self, goals):
        """(goal, value, word) for each."""
        for goal in goals:
            value = self.goal_value(goal)
            if value is None:
                word = "not measured"
            elif value > goal.limit:
                word = "short"
            else:
                word = "PASS" if goal.aim is None or value > goal.aim else "PASS, aim"
            yield goal, value, word

    def table(self, about, goals):
        head = ["", "native", "QEMU TCG", "viv-vm", "ratio", "min-max", "viv-vm needs", "to native"]
        lines, groups = [head], []
        for row in self.rows:
            if row.group not in groups:
                groups.append(row.group)
        for group in groups:
            lines.append([group])
            lines += [self.line(r) for r in self.rows if r.group == group]
            mean = self.group_line(group)
            if mean:
                lines.append(mean)
        widths = [max(len(line[i]) for line in lines if len(line) > i and len(line) > 1) for i in range(len(head))]
        text = ["", f"{about['ours']} against {about['peer']}",
                f"{about['date']}; {about['host']}; load at the start {about['load']}",
                f"guest kernel {about['kernel'] or 'unknown'}; {about['rounds']} rounds, medians, {about['seconds']} s;"
                " CPU time of the whole process; ratio is viv-vm / QEMU, round by round", ""]
        for line in lines:
            if len(line) == 1:
                text += ["", line[0]]
            else:
                text.append("  ".join(c.ljust(w) if i == 0 else c.rjust(w)
                                      for i, (c, w) in enumerate(zip(line, widths))).rstrip())
        text += ["", *self.remarks(), *self.goal_lines(goals)]
        return "\n".join(text)

    def rate(self, row, name):
        """Work a second on the wall, where the row says what its work is."""
        walls = self.walls.get((row.key, name))
        return row.n * row.per_unit / statistics.median(walls) if row.rate and walls else None

    def remarks(self):
        for row in self.rows:
            if row.rate and not self.void(row):
                rates = ", ".join(f"{n} {self.rate(row, n):.0f}" for n in (NATIVE, PEER, OURS) if self.rate(row, n))
                yield f"on the wall, with whatever else this host did: {row.title}: {rates} {row.rate}"
        slower = [(self.ratio(r), r) for r in self.rows if (self.ratio(r) or 0) >= 1.03]
        known = [r for r in self.rows if self.ratio(r)]
        if slower:
            slower.sort(key=lambda pair: -pair[0])
            yield f"viv-vm needs more than QEMU in {len(slower)} of {len(known)} rows: " + ", ".join(
                f"{r.key} {ratio:.1f}x" for ratio, r in slower)
        elif known:
            yield f"viv-vm needs more than QEMU in none of {len(known)} rows"
        reasons = {}
        for row in self.rows:
            if self.void(row):
                reasons.setdefault(self.void(row), []).append(row.key)
        for reason, keys in reasons.items():
            yield f"void: {', '.join(keys)}: {reason}"

    def goal_lines(self, goals):
        """A ratio is told as what it means: how many times less or more than the peer."""
        def told(goal, value):
            if goal.measure == "value":
                unit = next(r.unit for r in self.all_rows if r.key == goal.key)
                return f"{value:.2f} {unit}" if value < 10 else f"{value:.0f} {unit}"
            return verdict(value, exact=True)

        if goals:
            yield "goals (CPU time against QEMU):"
        for goal, value, word in self.goals(goals):
            bound = "at most" if goal.measure == "value" or goal.limit >= 1 else "at least"
            aim = "" if goal.aim is None else f" (aim: {told(goal, goal.aim)})"
            got = "" if value is None else f"{told(goal, value)}; "
            yield f"  {word:<13} {goal.text}: {got}{bound} {told(goal, goal.limit)}{aim}"

    def as_json(self, about, goals):
        def cell(row, name):
            return {"samples": self.samples.get((row.key, name), []), "median": self.median(row, name),
                    "wall": self.walls.get((row.key, name), []), "rate": self.rate(row, name)}

        return {"about": about, "rows": [
            {"key": r.key, "group": r.group, "title": r.title, "unit": r.unit, "rate_unit": r.rate, "native": cell(r, NATIVE),
             "peer": cell(r, PEER), "ours": cell(r, OURS), "ratio": self.ratio(r), "ratios": self.ratios(r),
             "void": self.void(r)} for r in self.rows],
            "handshake": {n: self.samples.get(("null", n), []) for n in (NATIVE, PEER, OURS)},
            "goals": [{"text": g.text, "measure": g.measure, "limit": g.limit, "aim": g.aim, "value": v,
                       "state": s} for g, v, s in self.goals(goals)]}
