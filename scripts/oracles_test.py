#!/usr/bin/env python3
"""The oracles, held against cases that are small enough to do by hand: python3 -m unittest discover -s scripts -p '*_test.py'"""

import csv
import io
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import bank
import real_data
import real_oracle

SCRIPTS = Path(__file__).parent


def event(kind, account, **payload):
    return json.dumps({"event_type": kind, "aggregate_id": account, "payload": payload})


class Bank(unittest.TestCase):
    def test_a_rejected_withdrawal_holds_back_its_own_account_in_one_view(self):
        answer = bank.oracle(
            [
                event("AccountOpened", "a", owner="Ada"),
                event("AccountOpened", "b", owner="Bo"),
                event("MoneyDeposited", "a", amount=10),
                event("MoneyWithdrawn", "a", amount=11),
                event("MoneyDeposited", "a", amount=5),
                event("MoneyDeposited", "b", amount=7),
            ]
        )
        balance, activity = answer["account_balance"], answer["account_activity"]
        self.assertEqual(balance["rows"]["a"], {"owner": "Ada", "balance": 10, "transactions": 1})
        self.assertEqual(balance["rows"]["b"], {"owner": "Bo", "balance": 7, "transactions": 1})
        self.assertEqual(balance["books"], {"consumed": 6, "applied": 4, "skipped": 0, "parked": 2, "dead": 0})
        self.assertEqual(balance["parked_keys"], {"a": 2})
        self.assertEqual(
            activity["rows"]["a"],
            {"openings": 1, "deposits": 2, "withdrawals": 1, "deposited": 15, "withdrawn": 11, "largest": 11, "last": 5},
        )
        self.assertEqual(activity["books"]["applied"], 6)

    def test_each_kind_of_bad_event_is_a_dead_letter_and_holds_nothing_back(self):
        for kind in bank.BAD:
            good = json.loads(event("MoneyDeposited", "a", amount=1))
            bad = json.dumps(bank.spoil(kind, json.loads(event("MoneyDeposited", "a", amount=1))))
            answer = bank.oracle([json.dumps(good), bad, json.dumps(good)])["account_balance"]
            self.assertEqual(answer["books"], {"consumed": 3, "applied": 2, "skipped": 0, "parked": 0, "dead": 1}, kind)
            self.assertEqual(answer["rows"]["a"]["balance"], 2, kind)

    def test_behind_a_rejected_event_queues_what_only_the_fold_would_refuse(self):
        held = [event("MoneyWithdrawn", "a", amount=1)]
        for kind, parked in (("unknown-type", 2), ("beyond-64-bits", 2), ("no-type", 1), ("no-key", 1)):
            bad = json.dumps(bank.spoil(kind, json.loads(event("MoneyDeposited", "a", amount=1))))
            books = bank.oracle([*held, bad])["account_balance"]["books"]
            self.assertEqual((books["parked"], books["dead"]), (parked, 2 - parked), kind)

    def test_generated_books_balance_and_all_kinds_of_trouble_occur(self):
        lines = [json.dumps(e) for e in bank.events(5_000, 100, seed=7, bad=9, overdrafts=0.1)]
        self.assertEqual(len(lines), 5_000)
        for name, view in bank.oracle(lines).items():
            books = view["books"]
            parts = books["applied"] + books["skipped"] + books["parked"] + books["dead"]
            self.assertEqual((books["consumed"], parts, books["dead"]), (5_000, 5_000, 9), name)
            self.assertEqual(len(view["rows"]), 100)
        self.assertGreater(bank.oracle(lines)["account_balance"]["books"]["parked"], 0)
        self.assertEqual(bank.oracle(lines)["account_activity"]["books"]["parked"], 0)

    def test_an_answer_is_right_at_its_position_in_one_edition_or_not_at_all(self):
        def record(offset, kind, account, **payload):
            return json.dumps({"partition": 0, "offset": offset, "value": json.loads(event(kind, account, **payload))})

        log = [
            record(0, "AccountOpened", "a", owner="Ada"),
            record(1, "AccountOpened", "b", owner="Bo"),
            record(2, "MoneyDeposited", "a", amount=10),
            record(3, "MoneyWithdrawn", "a", amount=4),
            record(4, "MoneyDeposited", "b", amount=9),
            record(5, "MoneyWithdrawn", "b", amount=4),
        ]

        def row(key, offset, owner, balance, transactions):
            value = {"owner": owner, "balance": balance, "transactions": transactions}
            return {"key": key, "offset": offset, "partition": 0, "value": value}

        def judge(position, *rows, key=None, fees=None):
            answer = {"reader": 0, "view": "account_balance", "position": f"bank@0:{position}", "rows": rows}
            answer |= {"key": key} if key else {}
            judged = bank.judge(log, [json.dumps(answer)], fees or {0: 3})
            return judged["wrong"], [edition for edition, count in judged["told_apart"].items() if count]

        before, first, second = row("a", 2, "Ada", 10, 1), row("a", 3, "Ada", 6, 2), row("a", 3, "Ada", 5, 2)
        b_first, b_second = row("b", 5, "Bo", 5, 2), row("b", 5, "Bo", 4, 2)
        self.assertEqual(judge(3, before, key="a"), (0, []))
        self.assertEqual(judge(4, first, key="a"), (0, [1]))
        self.assertEqual(judge(4, second, key="a"), (0, [2]))
        self.assertEqual(judge(4, second, key="a", fees={0: 4}), (1, []), "the fee does not count yet")
        self.assertEqual(judge(4, before, key="a"), (1, []), "an old row under a new position")
        self.assertEqual(judge(3, first, key="a"), (1, []), "a new row under an old position")
        self.assertEqual(judge(1, key="b"), (0, []), "not there yet")
        self.assertEqual(judge(2, key="b"), (1, []), "there")
        self.assertEqual(judge(6, first, b_first), (0, [1]))
        self.assertEqual(judge(6, second, b_second), (0, [2]))
        self.assertEqual(judge(6, first, b_second), (1, []), "a page of two editions")
        self.assertEqual(judge(6, b_first, first), (1, []), "a page in disorder")

        eras = [("one", 3, before), ("one", 4, first), ("two", 4, second), ("two", 4, second)]
        answers = [
            {"reader": 0, "view": "account_balance", "position": f"bank@0:{at}", "rows": [row], "key": "a", "era": era}
            for era, at, row in eras
        ]
        judged = bank.judge(log, map(json.dumps, answers), {0: 3})
        self.assertEqual(judged["eras"], {"one": {"checked": 2, 1: 1, 2: 0}, "two": {"checked": 2, 1: 0, 2: 2}})

    def test_records_say_the_same_as_events(self):
        lines = [json.dumps(e) for e in bank.events(300, 20, seed=2, bad=8, overdrafts=0.1)]
        records = [json.dumps({"key": None, "value": json.loads(line)}) for line in lines]
        self.assertEqual(bank.oracle(lines), bank.oracle(records))

    def test_the_same_seed_gives_the_same_bytes(self):
        def run(seed):
            command = [sys.executable, SCRIPTS / "bank.py", "generate", "--events", "50", "--accounts", "5", "--seed", seed]
            return subprocess.run(command, check=True, capture_output=True).stdout

        self.assertEqual(run("3"), run("3"))
        self.assertNotEqual(run("3"), run("4"))


HEADER = (
    "Airport Name,Aircraft Make Model,Effect Amount of damage,Flight Date,Aircraft Airline Operator,Origin State,"
    "Phase of flight,Wildlife Size,Wildlife Species,Time of day,Cost Other,Cost Repair,Cost Total $,Speed IAS in knots"
)
STRIKES = f"""{HEADER}
"X, INTL",T-38A,None,1990-01-08,MILITARY,Ohio,Climb,Large,Gull,Night,0,0,0,300
Y,B-727,C,1990-01-09,DELTA,Texas,Climb,Small,Owl,Day,1,2,3,
"X, INTL",B-747,Minor,1990-01-10,DELTA,Ohio,Climb,Small,Owl,Day,5,0,5,100
"""


class Airports(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.csv = Path(folder.name) / "birdstrikes.csv"
        self.csv.write_bytes(STRIKES.replace("\n", "\r\n").encode())

    def test_dirty_values_stay_visible_in_the_events(self):
        events = list(real_data.strikes(self.csv))
        self.assertEqual([e["event_type"] for e in events], ["StrikeReported"] * 2 + ["StrikeBilled", "StrikeReported", "StrikeBilled"])
        self.assertEqual(events[0]["aggregate_id"], "X, INTL")
        self.assertEqual(events[0]["payload"]["speed"], 300)
        self.assertNotIn("speed", events[1]["payload"])
        self.assertEqual(events[1]["payload"]["damage"], "C")
        self.assertEqual(real_data.number("12a"), "12a")
        self.assertIsNone(real_data.envelope("x", "K", "t", "", {})["aggregate_id"])
        self.assertEqual(len({e["event_id"] for e in events}), 5)

    def test_the_oracle_groups_and_sums(self):
        reports = list(csv.DictReader(io.StringIO(STRIKES)))
        rows = real_oracle.strike_rows(real_oracle.grouped(reports, "Airport Name")["X, INTL"])
        self.assertEqual(rows["strikes"]["reports"], 2)
        self.assertEqual(rows["strikes"]["at_night"], 1)
        self.assertEqual(rows["strikes"]["last_species"], "Owl")
        self.assertEqual(rows["strike_speeds"]["mean"], 200.0)
        self.assertEqual(rows["strike_costs"]["largest_aircraft"], "B-747")
        rows = real_oracle.strike_rows(real_oracle.grouped(reports, "Airport Name")["Y"])
        self.assertNotIn("strike_damage", rows)
        books = real_oracle.expected_books(reports, [])
        self.assertEqual(books["strike_damage"], {"consumed": 5, "applied": 2, "skipped": 2, "parked": 0, "dead": 1})

    def test_flights(self):
        flights = [
            {"date": "2001/01/01 00:47", "delay": -3, "distance": 400, "origin": "A", "destination": "B"},
            {"date": "2001/01/01 01:00", "delay": 20, "distance": 900, "origin": "A", "destination": "C"},
            {"date": "2001/01/02 01:00", "delay": 0, "distance": 900, "origin": "A", "destination": "D"},
        ]
        rows = real_oracle.flight_rows(flights)
        self.assertEqual(rows["distances"], {"miles": 2200, "short_hauls": 1, "longest": 900, "longest_to": "C"})
        self.assertEqual((rows["punctuality"]["worst"], rows["punctuality"]["best"]), (20, -3))


if __name__ == "__main__":
    unittest.main()
