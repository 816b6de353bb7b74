#!/usr/bin/env python3
"""Turns the data of the npm package `vega-datasets` into events, one JSON envelope a line, keyed by `aggregate_id`.

    real_data.py strikes birdstrikes.csv      StrikeReported for each row, and StrikeBilled after it where it cost something
    real_data.py flights flights-10k.json     FlightDeparted for each row

What is dirty stays visible; nothing is repaired or dropped on the way:
  * An empty speed (2,836 rows) is a field that the payload does not have.
  * Any other number that is not one goes into the payload as the text that was found: the fold that adds it up will
    refuse it. There is none in version 3.2.1.
  * A missing airport gives an event whose `aggregate_id` is null, which no key can be taken from: `segno append` names
    its line and stops. There is none in version 3.2.1.
  * Damage classes are passed on as they are. 15 rows have a class (`B`, `C`) that the others do not use: view
    `strike_damage` refuses those, so with `rejected = "dead-letter"` they are its dead letters, and no other view's.
"""

import csv
import json
import sys
import uuid

# Names of events must not depend on when they are made: the same row gives the same event_id.
NAMESPACE = uuid.UUID("6f0f3a1e-52a4-4c0e-9f43-0c1f5e6e8f11")


def envelope(source, kind, timestamp, key, payload):
    return {
        "event_id": str(uuid.uuid5(NAMESPACE, f"{kind} {source}")),
        "event_type": kind,
        "event_version": 1,
        "timestamp": timestamp,
        "aggregate_id": key or None,
        "metadata": {"correlation_id": str(uuid.uuid5(NAMESPACE, source))},
        "payload": payload,
    }


def number(text):
    """The integer, or the text as it is where it is none."""
    try:
        return int(text)
    except ValueError:
        return text


def strikes(path):
    with open(path, newline="", encoding="utf-8") as file:
        for line, row in enumerate(csv.DictReader(file), 2):
            source = f"birdstrikes.csv:{line}"
            airport, date = row["Airport Name"], row["Flight Date"]
            report = {
                "airport": airport,
                "state": row["Origin State"],
                "date": date,
                "operator": row["Aircraft Airline Operator"],
                "aircraft": row["Aircraft Make Model"],
                "phase": row["Phase of flight"],
                "time_of_day": row["Time of day"],
                "species": row["Wildlife Species"],
                "size": row["Wildlife Size"],
                "damage": row["Effect Amount of damage"],
            }
            speed = row["Speed IAS in knots"]
            if speed != "":
                report["speed"] = number(speed)
            yield envelope(source, "StrikeReported", f"{date}T00:00:00Z", airport, report)
            bill = {
                "aircraft": row["Aircraft Make Model"],
                "repair": number(row["Cost Repair"]),
                "other": number(row["Cost Other"]),
                "total": number(row["Cost Total $"]),
            }
            if bill["total"] != 0:
                yield envelope(source, "StrikeBilled", f"{date}T00:00:00Z", airport, bill)


def flights(path):
    with open(path, encoding="utf-8") as file:
        rows = json.load(file)
    for index, row in enumerate(rows):
        # `2001/01/01 00:47`, no zone given: taken as UTC.
        timestamp = row["date"].replace("/", "-").replace(" ", "T") + ":00Z"
        yield envelope(f"flights-10k.json[{index}]", "FlightDeparted", timestamp, row["origin"], row)


def main():
    sources = {"strikes": strikes, "flights": flights}
    if len(sys.argv) != 3 or sys.argv[1] not in sources:
        sys.exit(__doc__)
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    for event in sources[sys.argv[1]](sys.argv[2]):
        sys.stdout.write(json.dumps(event, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
