#!/usr/bin/env python3
"""What every row of examples/airports.toml must be, computed from the data as it comes, not from the events.

    real_oracle.py DIR            DIR as scripts/real-data.sh filled it; prints {view: {key: row}}
    real_oracle.py DIR --books    prints {view: {consumed, applied, skipped, parked, dead}}

Groups first and summarizes then, where Segno folds event by event: two ways to the same rows.
"""

import csv
import json
import sys
from collections import defaultdict
from pathlib import Path

DAMAGE = {"None": "none", "Minor": "minor", "Medium": "medium", "Substantial": "substantial"}


def grouped(rows, key):
    groups = defaultdict(list)
    for row in rows:
        groups[row[key]].append(row)
    return groups


def first_largest(rows, amount):
    """Of several equal ones the first, as a fold with `>` has it."""
    return max(rows, key=amount)


def strike_rows(reports):
    billed = [r for r in reports if int(r["Cost Total $"]) != 0]
    speeds = [int(r["Speed IAS in knots"]) for r in reports if r["Speed IAS in knots"]]
    damage = [r["Effect Amount of damage"] for r in reports]
    rows = {
        "strikes": {
            "state": reports[-1]["Origin State"],
            "reports": len(reports),
            "at_night": sum(r["Time of day"] == "Night" for r in reports),
            "large_animals": sum(r["Wildlife Size"] == "Large" for r in reports),
            "first_date": reports[0]["Flight Date"],
            "last_date": reports[-1]["Flight Date"],
            "last_species": reports[-1]["Wildlife Species"],
        },
        "strike_speeds": {
            "measured": len(speeds),
            "unmeasured": len(reports) - len(speeds),
            "sum": sum(speeds),
            "fastest": max(speeds, default=0),
            "slowest": min(speeds, default=0),
            "mean": sum(speeds) / len(speeds) if speeds else 0.0,
        },
    }
    if any(d in DAMAGE for d in damage):
        rows["strike_damage"] = {field: damage.count(name) for name, field in DAMAGE.items()}
    if billed:
        largest = first_largest(billed, lambda r: int(r["Cost Total $"]))
        rows["strike_costs"] = {
            "bills": len(billed),
            "repair": sum(int(r["Cost Repair"]) for r in billed),
            "other": sum(int(r["Cost Other"]) for r in billed),
            "total": sum(int(r["Cost Total $"]) for r in billed),
            "largest": int(largest["Cost Total $"]),
            "largest_aircraft": largest["Aircraft Make Model"],
        }
    return rows


def flight_rows(flights):
    delays = [f["delay"] for f in flights]
    longest = first_largest(flights, lambda f: f["distance"])
    return {
        "punctuality": {
            "flights": len(flights),
            "late": sum(d > 15 for d in delays),
            "early": sum(d < 0 for d in delays),
            "by_night": sum(int(f["date"][11:13]) < 5 for f in flights),
            "delay_sum": sum(delays),
            "delay_mean": sum(delays) / len(delays),
            "worst": max(delays),
            "best": min(delays),
            "last_destination": flights[-1]["destination"],
            "last_date": flights[-1]["date"],
        },
        "distances": {
            "miles": sum(f["distance"] for f in flights),
            "short_hauls": sum(f["distance"] < 500 for f in flights),
            "longest": longest["distance"],
            "longest_to": longest["destination"],
        },
    }


def expected_books(reports, flights):
    billed = sum(int(r["Cost Total $"]) != 0 for r in reports)
    refused = sum(r["Effect Amount of damage"] not in DAMAGE for r in reports)
    consumed = len(reports) + billed

    def book(all_records, skipped, dead):
        applied = all_records - skipped - dead
        return {"consumed": all_records, "applied": applied, "skipped": skipped, "parked": 0, "dead": dead}

    return {
        "strikes": book(consumed, billed, 0),
        "strike_costs": book(consumed, len(reports), 0),
        "strike_speeds": book(consumed, billed, 0),
        "strike_damage": book(consumed, billed, refused),
        "punctuality": book(len(flights), 0, 0),
        "distances": book(len(flights), 0, 0),
    }


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[2:] not in ([], ["--books"]):
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    with open(folder / "birdstrikes.csv", newline="", encoding="utf-8") as file:
        reports = list(csv.DictReader(file))
    flights = json.loads((folder / "flights-10k.json").read_text(encoding="utf-8"))
    if sys.argv[2:]:
        answer = expected_books(reports, flights)
    else:
        answer = defaultdict(dict)
        for rows_of, groups in ((strike_rows, grouped(reports, "Airport Name")), (flight_rows, grouped(flights, "origin"))):
            for key, rows in groups.items():
                for view, row in rows_of(rows).items():
                    answer[view][key] = row
    json.dump(answer, sys.stdout, ensure_ascii=False, indent=1, sort_keys=True)
    print()


if __name__ == "__main__":
    main()
