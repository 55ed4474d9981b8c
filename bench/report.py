# SPDX-License-Identifier: GPL-2.0-or-later
"""What was measured, and the table that is made of it."""
import operator
import statistics

NATIVE = "native"


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
    return statistics.geometric_mean(values) if values else None


class Results:
    """rows: those that are measured; all_rows: those there are; ours: the columns of viv-vm, by backend;
    peers: the names of what they are measured against."""

    def __init__(self, rows, ours, all_rows=None, peers=("QEMU",)):
        self.rows, self.ours, self.all_rows, self.peers = rows, ours, all_rows or rows, list(peers)
        self.samples = {}  # (row, machine) -> {round: value}
        self.walls = {}  # (row, machine) -> seconds on the wall, one a round
        self.sums = {}  # row -> {machine: set of checksums}
        self.errors = {}  # row -> {machine: text}
        self.round = 0

    def add(self, row, name, value):
        self.samples.setdefault((row.key, name), {})[self.round] = value

    def wall(self, row, name, seconds):
        self.walls.setdefault((row.key, name), []).append(seconds)

    def checksum(self, row, name, value):
        self.sums.setdefault(row.key, {}).setdefault(name, set()).add(value)

    def fail(self, row, name, text):
        self.errors.setdefault(row.key, {}).setdefault(name, text)

    def values(self, row, name):
        """Round -> value of one cell, without what the handshake around a kernel cost."""
        values = self.samples.get((row.key, name), {})
        null = self.samples.get(("null", name)) if row.kind == "kernel" else None
        cost = statistics.median(null.values()) if null else 0
        return {n: max(v - cost, 1e-6) for n, v in values.items()} if row.kind == "kernel" else values

    def median(self, row, name):
        values = self.values(row, name)
        return statistics.median(values.values()) if values else None

    def peer(self, row):
        """The peer of a row: whichever needed less, of those whose result is not known to be wrong."""
        sums = self.sums.get(row.key, {})
        measured = [p for p in self.peers if self.samples.get((row.key, p))]
        right = [p for p in measured if NATIVE not in sums or sums.get(p) == sums[NATIVE]]
        return min(right or measured or self.peers[:1], key=lambda p: self.median(row, p) or 0)

    def void(self, row, name):
        """Why one of our columns says nothing in a row, or None."""
        peer = self.peer(row)
        sums = {n: s for n, s in self.sums.get(row.key, {}).items() if n in (NATIVE, peer, name)}
        if sums and len(set().union(*sums.values())) > 1:
            return "results differ: " + ", ".join(
                f"{n} {' or '.join(sorted(s)).strip()[:60]}" for n, s in sums.items())
        for machine in (name,) if row.kind == "clones" else (peer, name):
            if not self.samples.get((row.key, machine)):
                return f"{machine}: {self.errors.get(row.key, {}).get(machine, 'not measured')}"
        return None if row.kind == "clones" or self.ratios(row, name, trusted=True) else "never both in one round"

    def ratios(self, row, name, trusted=False):
        """Ours against the row's peer, round by round."""
        if not trusted and self.void(row, name):
            return []
        peer, ours = self.values(row, self.peer(row)), self.values(row, name)
        return [ours[n] / peer[n] for n in sorted(ours) if peer.get(n, 0) > 0]

    def ratio(self, row, name):
        ratios = self.ratios(row, name)
        return statistics.median(ratios) if ratios else None

    def against_native(self, row, name):
        native, other = self.median(row, NATIVE), self.median(row, name)
        return other / native if native and other and not self.void(row, name) else None

    # ---- the table ----

    def line(self, row):
        peer = self.peer(row)
        cells = [f"  {row.title}", show(self.median(row, NATIVE), row.unit), show(self.median(row, peer), row.unit),
                 *self.version_cell(peer), *(show(self.median(row, n), row.unit) for n in self.ours)]
        for name in self.ours:
            ratios = self.ratios(row, name)
            half = (max(ratios) - min(ratios)) / 2 / self.ratio(row, name) if len(ratios) > 1 else None
            cells += [verdict(self.ratio(row, name)) if ratios else "-" if row.kind == "clones" else "void", "" if half is None else f"±{100 * half:.0f} %"]
        slow = self.against_native(row, self.ours[-1])
        return [*cells, f"{slow:.1f}x" if slow else "-"]

    def version_cell(self, peer):
        """With more than one peer the table tells which it was."""
        return [peer.removeprefix("QEMU ")] if len(self.peers) > 1 else []

    def group_line(self, group):
        rows = [r for r in self.rows if r.group == group]
        if len(rows) < 3 or any(r.unit != "s" for r in rows):
            return None
        cells = ["  geometric mean", "", "", *self.version_cell(""), *("" for _ in self.ours)]
        for name in self.ours:
            cells += [verdict(geomean([x for x in (self.ratio(r, name) for r in rows) if x])), ""]
        slow = [x for x in (self.against_native(r, self.ours[-1]) for r in rows) if x]
        return [*cells, f"{geomean(slow):.1f}x" if slow else "-"]

    def table(self, about, goals):
        head = ["", "native", "QEMU TCG", *self.version_cell(""), *self.ours]
        for name in self.ours:
            head += [f"{name} needs", ""]
        lines, groups = [[*head, f"{self.ours[-1]}/native"]], []
        for row in self.rows:
            if row.group not in groups:
                groups.append(row.group)
        for group in groups:
            lines.append([group])
            lines += [self.line(r) for r in self.rows if r.group == group]
            mean = self.group_line(group)
            if mean:
                lines.append(mean)
        widths = [max(len(line[i]) for line in lines if len(line) > 1) for i in range(len(lines[0]))]
        text = ["", f"{about['ours']}, by --cpu {' and '.join(self.ours)}, against {about['peer']}"
                + (" (in each row the faster of them)" if len(self.peers) > 1 else ""),
                f"{about['date']}; {about['host']}; load at the start {about['load']}",
                f"guest kernel {about['kernel'] or 'unknown'}; {about['rounds']} rounds, {about['seconds']} s; medians of"
                " the CPU time of the whole process;", "more and less: than QEMU in the same round;"
                " ±: half of what lies between the lowest and the highest round", ""]
        for line in lines:
            if len(line) == 1:
                text += ["", line[0]]
            else:
                text.append("  ".join(c.ljust(w) if i == 0 else c.rjust(w)
                                      for i, (c, w) in enumerate(zip(line, widths))).rstrip())
        return "\n".join([*text, "", *self.remarks(), *self.goal_lines(goals)])

    def rate(self, row, name):
        """Work a second on the wall, where the row says what its work is."""
        walls = self.walls.get((row.key, name))
        return row.n * row.per_unit / statistics.median(walls) if row.rate and walls else None

    def remarks(self):
        if len(self.peers) > 1:
            # Against the first, which is the one a stock Debian 12 has.
            known = {p: [self.median(r, p) / self.median(r, self.peers[0]) for r in self.rows
                         if self.median(r, p) and self.median(r, self.peers[0])] for p in self.peers[1:]}
            for name, ratios in known.items():
                if ratios:
                    yield f"{name} against {self.peers[0]}, geometric mean of {len(ratios)} rows: {verdict(geomean(ratios))}"
        for row in (r for r in self.rows if r.rate):
            rates = ", ".join(f"{n} {self.rate(row, n):.0f}" for n in (NATIVE, self.peer(row), *self.ours) if self.rate(row, n))
            if rates:
                yield f"on the wall, with whatever else this host did: {row.title}: {rates} {row.rate}"
        for name in self.ours:
            known = [(self.ratio(r, name), r.key) for r in self.rows if self.ratio(r, name)]
            slower = sorted((pair for pair in known if pair[0] >= 1.03), reverse=True)
            if known:
                yield f"{name} needs more than QEMU in {len(slower)} of {len(known)} rows" + (
                    ": " + ", ".join(f"{key} {ratio:.1f}x" for ratio, key in slower) if slower else "")
        for name in self.ours:
            reasons = {}
            for row in self.rows:
                if self.void(row, name):
                    reasons.setdefault(self.void(row, name), []).append(row.key)
            for reason, keys in reasons.items():
                yield f"void with {name}: {', '.join(keys)}: {reason}"
        for name in (NATIVE, *self.peers):
            for row in self.rows:
                error = self.errors.get(row.key, {}).get(name)
                if error and not self.samples.get((row.key, name)):
                    yield f"not measured with {name}: {row.key}: {error}"

    # ---- goals ----

    def goal_value(self, goal):
        if goal.measure in ("ratio", "value", "rate"):
            row = next((r for r in self.rows if r.key == goal.key), None)
            if not row or self.void(row, goal.backend):
                return None
            return self.ratio(row, goal.backend) if goal.measure == "ratio" else self.median(row, goal.backend)
        rows = [r for r in self.all_rows if r.group == goal.key]
        ratios = [self.ratio(r, goal.backend) if r in self.rows else None for r in rows]
        # A row that is left out could have been the worst one.
        if not rows or None in ratios:
            return None
        return geomean(ratios) if goal.measure == "geomean" else max(ratios)

    def goals(self, goals):
        """(goal, value, word) for each that is about a measured column."""
        for goal in goals:
            if goal.backend not in self.ours:
                continue
            value = self.goal_value(goal)
            beyond = operator.lt if goal.measure == "rate" else operator.gt
            if value is None:
                word = "not measured"
            elif beyond(value, goal.limit):
                word = "short"
            else:
                word = "PASS" if goal.aim is None or beyond(value, goal.aim) else "PASS, aim"
            yield goal, value, word

    def goal_lines(self, goals):
        """A ratio is told as what it means: how many times less or more than the peer."""
        def told(goal, value):
            if goal.measure not in ("value", "rate"):
                return verdict(value, exact=True)
            unit = next(r.unit for r in self.all_rows if r.key == goal.key)
            return f"{value:.2f} {unit}" if value < 10 else f"{value:.0f} {unit}"

        yield "goals (CPU time against QEMU):"
        for goal, value, word in self.goals(goals):
            less = goal.measure != "rate" and (goal.measure == "value" or goal.limit >= 1)
            bound = "at most" if less else "at least"
            aim = "" if goal.aim is None else f" (aim: {told(goal, goal.aim)})"
            got = "" if value is None else f"{told(goal, value)}; "
            yield f"  {word:<13} {goal.backend:<5} {goal.text}: {got}{bound} {told(goal, goal.limit)}{aim}"

    def as_json(self, about, goals):
        def cell(row, name):
            return {"samples": list(self.samples.get((row.key, name), {}).values()), "median": self.median(row, name),
                    "wall": self.walls.get((row.key, name), []), "rate": self.rate(row, name)}

        def ours(row, name):
            return {**cell(row, name), "ratio": self.ratio(row, name), "ratios": self.ratios(row, name),
                    "void": self.void(row, name)}

        return {"about": about, "rows": [
            {"key": r.key, "group": r.group, "title": r.title, "unit": r.unit, "rate_unit": r.rate,
             "native": cell(r, NATIVE), "peer": self.peer(r), "peers": {p: cell(r, p) for p in self.peers}, "ours": {n: ours(r, n) for n in self.ours}}
            for r in self.rows],
            "handshake": {n: list(self.samples.get(("null", n), {}).values()) for n in (NATIVE, *self.peers, *self.ours)},
            "goals": [{"text": g.text, "measure": g.measure, "key": g.key, "backend": g.backend, "limit": g.limit,
                       "aim": g.aim, "value": v, "state": w} for g, v, w in self.goals(goals)]}
