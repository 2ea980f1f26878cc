"""Prints figures in the form of the design's section 13."""

import json
import os


class Report:
    def __init__(self):
        self.rows = []

    def add(self, name, value, unit, **params):
        row = {"name": name, "params": params, "value": round(value, 3), "unit": unit}
        self.rows.append(row)
        if not os.environ.get("APUS_BENCH_TABLE"):
            print(json.dumps(row), flush=True)

    def finish(self):
        if not os.environ.get("APUS_BENCH_TABLE"):
            return
        width = max(len(row["name"]) for row in self.rows)
        for row in self.rows:
            params = " ".join(f"{key}={value}" for key, value in row["params"].items())
            print(f"{row['name']:<{width}}  {row['value']:>10.3f} {row['unit']:<5} {params}")


def percentile(values, share):
    """The smallest value that at least `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)]


def count(default):
    return int(os.environ.get("APUS_BENCH_COUNT") or default)
