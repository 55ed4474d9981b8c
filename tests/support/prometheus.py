# SPDX-License-Identifier: GPL-2.0-or-later
"""The text format of Prometheus, version 0.0.4 ("Exposition formats", prometheus.io), read strictly: what its
parser refuses, and what "promtool check metrics" complains about, is an error."""
import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (\S+)")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"')
TYPES = {"counter", "gauge", "untyped", "histogram"}  # summaries are not written
ABBREVIATED = {"ms", "us", "ns", "sec", "kb", "mb", "mib", "kib", "gb", "percent", "minutes", "hours"}


class Malformed(Exception):
    pass


def labels_of(text):
    labels, at = {}, 0
    while at < len(text):
        found = LABEL.match(text, at)
        if not found:
            raise Malformed(f"labels {text!r}")
        name, value = found.groups()
        if name in labels or name.startswith("__"):
            raise Malformed(f"label {name} in {text!r}")
        labels[name] = value
        at = found.end()
        if at < len(text):
            if text[at] != "," or at + 1 == len(text):
                raise Malformed(f"labels {text!r}")
            at += 1
    return labels


def check_histogram(name, samples):
    """Buckets of each set of labels grow, the last one is +Inf and the count, and there is a sum."""
    series = {}
    for labels, value in samples.items():
        labels = dict(labels)
        part, le = labels.pop("__part__"), labels.pop("le", None)
        if (part == "bucket") != (le is not None):
            raise Malformed(f"{name}_{part} with le={le}")
        series.setdefault(frozenset(labels.items()), {}).setdefault(part, []).append((le, value))
    for labels, parts in series.items():
        if set(parts) != {"bucket", "sum", "count"}:
            raise Malformed(f"{name}{set(labels)}: only {set(parts)}")
        buckets = sorted((float(le), value) for le, value in parts["bucket"])
        if buckets[-1] != (float("inf"), parts["count"][0][1]) or sorted(v for _, v in buckets) != [v for _, v in buckets]:
            raise Malformed(f"{name}{set(labels)}: {buckets}")


def lint(name, family):
    if "help" not in family or not family["help"]:
        raise Malformed(f"{name} has no help")
    if (family["type"] == "counter") != name.endswith("_total"):
        raise Malformed(f"{name}: counters and nothing else end with _total")
    if family["type"] == "histogram":
        check_histogram(name, family["samples"])
    if set(name.split("_")) & ABBREVIATED or family["type"] in name.split("_") or name != name.lower():
        raise Malformed(f"{name}: base units in full, lower case, without the type")


def parse(text):
    """{name of family: {"type", "help", "samples": {frozenset of label pairs: value}}}."""
    families, current = {}, None
    if not text.endswith("\n"):
        raise Malformed("the last line has no end")
    for line in text[:-1].split("\n"):
        if line.startswith("# "):
            words = line.split(" ", 3)
            kind, name, rest = words[1], words[2], words[3]
            if kind not in ("HELP", "TYPE") or not re.fullmatch(NAME, name):
                raise Malformed(line)
            if name != current:
                if name in families:
                    raise Malformed(f"the family {name} comes twice")
                families[name], current = {"samples": {}}, name
            if kind.lower() in families[name] or families[name]["samples"]:
                raise Malformed(f"a second or late {line!r}")
            if kind == "TYPE" and rest not in TYPES:
                raise Malformed(line)
            families[name][kind.lower()] = rest
            continue
        found = SAMPLE.fullmatch(line)
        if not found:
            raise Malformed(f"line {line!r}")
        name, labels, value = found[1], frozenset(labels_of(found[2] or "").items()), float(found[3])
        part = re.fullmatch(rf"{current}_(bucket|sum|count)", name)
        if part and families[current].get("type") == "histogram":
            name, labels = current, labels | {("__part__", part[1])}
        if name != current or "type" not in families[name]:
            raise Malformed(f"{name} stands outside its family")
        if labels in families[name]["samples"]:
            raise Malformed(f"{line!r} comes twice")
        if families[name]["type"] == "counter" and not value >= 0:
            raise Malformed(f"{line!r}: a counter below zero")
        families[name]["samples"][labels] = value
    for name, family in families.items():
        lint(name, family)
    return families
