#!/usr/bin/env python3
"""The bank workload and its oracle. Knows the events and the rules of examples/bank.toml, and nothing of Segno's code.

    bank.py generate --events N --accounts M [--seed S] [--bad K] [--overdrafts SHARE] [--records]
                           JSON Lines to standard output: events, or with --records what is around them as well
    bank.py oracle FILE [--fees-from POSITIONS]
                           what every row must be, and the books of each view, as JSON; FILE in either form
    bank.py answers LOG ANSWERS --fees-from POSITIONS
                           whether each answer that somebody was given was right at the position that came with it

An event is an envelope of about 280 bytes, keyed by its `aggregate_id` (the account). Every account is opened before
anything else happens to it. Amounts are whole cents.

Most accounts never withdraw more than they have. A share of them (--overdrafts, 0.02) does: view `account_balance`
rejects such a withdrawal, and everything later of that account queues behind it; view `account_activity` has no such
rule and applies all of it.

--bad K mixes in K records that no view can apply, each a dead letter that holds nothing up. They name accounts that
never overdraw, so that what happens to them does not depend on a queue:
    an envelope without a type · a type that no view knows · an amount beyond 64 bits · with --records, a null key

--fees-from 0:17,1:4 is a second edition of `account_balance`: from these positions on, each withdrawal costs a fee of
one cent more, and is rejected when the balance does not cover both. The lines must have their "partition" and "offset",
and those of a partition must be in order.
"""

import argparse
import bisect
import json
import random
import sys
from datetime import datetime, timedelta, timezone

FIRST_NAMES = "Ada Björn Chidi Dana Emre Farah Goran Hana Ines Jun Kofi Lena Mira Noor Olu Pia Quinn Rosa Sven Tariq".split()
LAST_NAMES = "Abe Brandt Costa Duarte Eze Fischer Gupta Haddad Ito Jansen Kaya Lopez Moreau Novak Okafor Petrov".split()
BAD = ("no-type", "unknown-type", "beyond-64-bits", "no-key")
I64 = range(-(2**63), 2**63)


def envelope(rng, event_type, at, account, payload):
    identity, flow = rng.getrandbits(128), rng.getrandbits(128)
    return {
        "event_id": uuid(identity),
        "event_type": event_type,
        "event_version": 1,
        "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "aggregate_id": account,
        "metadata": {"correlation_id": uuid(flow), "user_id": f"user-{identity % 10_000:04}"},
        "payload": payload,
    }


def uuid(bits):
    digits = f"{bits:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def spoil(kind, event):
    if kind == "no-key":
        event["aggregate_id"] = None
    elif kind == "no-type":
        del event["event_type"]
    elif kind == "unknown-type":
        event["event_type"] = "MoneyTeleported"
    else:
        event["payload"]["amount"] = 2**63
    return event


def events(count, accounts, seed, bad, overdrafts, bad_kinds=BAD):
    """Yields `count` events, `bad` of them spoilt, in turn in each of the ways `bad_kinds`."""
    rng = random.Random(seed)
    names = [f"account-{number:07}" for number in range(accounts)]
    overdrawing = max(1, int(accounts * overdrafts)) if overdrafts > 0 and accounts > 1 else 0
    careful = accounts - overdrawing
    spoilt = set(rng.sample(range(accounts, count), bad))
    balances = [0] * accounts
    at = datetime(2025, 1, 1, tzinfo=timezone.utc)
    kinds = 0
    for number in range(count):
        at += timedelta(milliseconds=rng.randrange(1, 2000))
        if number < accounts:
            owner = f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"
            yield envelope(rng, "AccountOpened", at, names[number], {"owner": owner})
            continue
        if number in spoilt:
            which = rng.randrange(careful)
            event = envelope(rng, "MoneyDeposited", at, names[which], {"amount": rng.randrange(1, 50_000)})
            yield spoil(bad_kinds[kinds % len(bad_kinds)], event)
            kinds += 1
            continue
        which = rng.randrange(accounts)
        balance = balances[which]
        reckless = which >= careful and rng.random() < 0.1
        if reckless:
            event_type, amount = "MoneyWithdrawn", max(balance, 0) + rng.randrange(1, 10_000)
        elif balance > 0 and rng.random() < 0.4:
            event_type, amount = "MoneyWithdrawn", rng.randrange(1, balance + 1)
        else:
            event_type, amount = "MoneyDeposited", rng.randrange(1, 50_000)
        balances[which] = balance + amount if event_type == "MoneyDeposited" else balance - amount
        yield envelope(rng, event_type, at, names[which], {"amount": amount})


def generate(options):
    if options.accounts < 1 or options.events < options.accounts + options.bad:
        sys.exit("bank.py: --events must be at least --accounts (each is opened once) plus --bad")
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    # An event whose key is to be taken from a field has one.
    bad_kinds = BAD if options.records else BAD[:-1]
    made = events(options.events, options.accounts, options.seed, options.bad, options.overdrafts, bad_kinds)
    if options.records:
        made = ({"key": e["aggregate_id"], "timestamp": e["timestamp"], "value": e} for e in made)
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    sys.stdout.writelines(encode(event) + "\n" for event in made)


def balance_view(row, kind, payload):
    """View `account_balance`: the new row, or None when the event is rejected."""
    if kind == "AccountOpened":
        return {**row, "owner": payload["owner"]}
    amount = payload["amount"]
    if kind == "MoneyWithdrawn":
        if row["balance"] < amount:
            return None
        amount = -amount
    return {**row, "balance": row["balance"] + amount, "transactions": row["transactions"] + 1}


def activity_view(row, kind, payload):
    """View `account_activity`: counts everything, rejects nothing."""
    if kind == "AccountOpened":
        return {**row, "openings": row["openings"] + 1}
    amount = payload["amount"]
    count, total = ("deposits", "deposited") if kind == "MoneyDeposited" else ("withdrawals", "withdrawn")
    return {
        **row,
        count: row[count] + 1,
        total: row[total] + amount,
        "largest": max(row["largest"], amount),
        "last": amount if kind == "MoneyDeposited" else -amount,
    }


VIEWS = {
    "account_balance": (balance_view, {"owner": "", "balance": 0, "transactions": 0}),
    "account_activity": (
        activity_view,
        {"openings": 0, "deposits": 0, "withdrawals": 0, "deposited": 0, "withdrawn": 0, "largest": 0, "last": 0},
    ),
}
TYPES = {"AccountOpened", "MoneyDeposited", "MoneyWithdrawn"}


def read(line):
    """(key, type, payload) of a line, or None when no event can be made of it; and (partition, offset), if it has them."""
    event = json.loads(line)
    place = event.get("partition"), event.get("offset")
    if "value" in event:
        event = event["value"]
    key, kind, payload = event.get("aggregate_id"), event.get("event_type"), event.get("payload")
    if key is None or kind is None:
        return None, place
    return (key, kind, payload), place


def fees_view(row, kind, payload):
    """View `account_balance` in its second edition."""
    if kind != "MoneyWithdrawn":
        return balance_view(row, kind, payload)
    taken = payload["amount"] + 1
    if row["balance"] < taken:
        return None
    return {**row, "balance": row["balance"] - taken, "transactions": row["transactions"] + 1}


def oracle(lines, fees=None, each=None):
    """Folds the lines in order, one view after the other for each event. `fees`: from which offset of each partition
    the second edition counts. `each` is told every row that is made, and the partition and offset that made it."""
    views = {name: {"rows": {}, "parked": {}, "dead": 0, "applied": 0} for name in VIEWS}
    consumed = 0
    for line in lines:
        consumed += 1
        event, place = read(line)
        charged = fees is not None and place[1] >= fees.get(place[0], 0)
        for name, (fold, initial) in VIEWS.items():
            view = views[name]
            if event is None:
                view["dead"] += 1
                continue
            key, kind, payload = event
            if key in view["parked"]:
                view["parked"][key] += 1
                continue
            # Only the fold looks at these, so behind a rejected event they queue like any other.
            if kind not in TYPES or payload.get("amount", 0) not in I64:
                view["dead"] += 1
                continue
            if charged and name == "account_balance":
                fold = fees_view
            row = fold(view["rows"].get(key, initial), kind, payload)
            if row is None:
                view["parked"][key] = 1
            else:
                view["rows"][key] = row
                view["applied"] += 1
                if each:
                    each(name, key, row, place)
    answer = {}
    for name, view in views.items():
        parked = sum(view["parked"].values())
        books = {"consumed": consumed, "applied": view["applied"], "skipped": 0, "parked": parked, "dead": view["dead"]}
        answer[name] = {"books": books, "parked_keys": view["parked"], "rows": view["rows"]}
    return answer


class History:
    """Every state that every row of one edition has had, so that it can be asked for at any position."""

    def __init__(self, lines, fees):
        self.states = {name: {} for name in VIEWS}
        self.homes = {}
        oracle(lines, fees, self.note)
        self.keys = {name: {} for name in VIEWS}
        for name, states in self.states.items():
            for key in sorted(states):
                self.keys[name].setdefault(self.homes[key], []).append(key)

    def note(self, name, key, row, place):
        self.homes[key] = place[0]
        offsets, rows = self.states[name].setdefault(key, ([], []))
        offsets.append(place[1])
        rows.append(row)

    def at(self, view, key, position):
        """(offset, row), or None when there is no row yet."""
        offsets, rows = self.states[view].get(key, ([], []))
        count = bisect.bisect_left(offsets, position.get(self.homes.get(key), 0))
        return (offsets[count - 1], rows[count - 1]) if count else None

    def wrong(self, answer):
        """Why this edition cannot have given the answer: a page, or what is said of one key; None when it can."""
        view, position = answer["view"], positions(answer["position"].split("@")[1])
        given = {row["key"]: (row["offset"], row["value"]) for row in answer["rows"]}
        asked = set(given)
        if "key" in answer:
            asked.add(answer["key"])
        else:
            # Nothing may be missing between the first row of a page and its last, partition by partition.
            for partition in {row["partition"] for row in answer["rows"]}:
                there = [row["key"] for row in answer["rows"] if row["partition"] == partition]
                if there != sorted(there):
                    return f"the rows of partition {partition} are not in order"
                keys = self.keys[view].get(partition, [])
                asked.update(keys[bisect.bisect_left(keys, there[0]) : bisect.bisect_right(keys, there[-1])])
        for key in sorted(asked):
            right = self.at(view, key, position)
            if given.get(key) != right:
                return f"{key}: {given.get(key)} instead of {right}"
        return None


def positions(text):
    """Of `0:17,1:4`."""
    pairs = (part.split(":") for part in text.split(",") if part)
    return {int(partition): int(position) for partition, position in pairs}


def judge(lines, answers, fees):
    """Holds every answer against both editions. An answer must be right in one of them; `turns` are, for each reader,
    the editions that it has seen, one after the other, as far as an answer can tell them apart; `eras` are the counts
    for each "era" that the answers name."""
    editions = {1: History(lines, None), 2: History(lines, fees)}
    checked, told_apart, wrong, turns, eras = 0, {1: 0, 2: 0}, [], {}, {}
    for text in answers:
        answer = json.loads(text)
        checked += 1
        era = eras.setdefault(answer.get("era", ""), {"checked": 0, 1: 0, 2: 0})
        era["checked"] += 1
        why = {edition: history.wrong(answer) for edition, history in editions.items()}
        right = [edition for edition in editions if why[edition] is None]
        if not right:
            wrong.append({"answer": answer, "why": why})
        elif len(right) == 1:
            told_apart[right[0]] += 1
            era[right[0]] += 1
            seen = turns.setdefault(answer["reader"], [])
            if seen[-1:] != right:
                seen.extend(right)
    counts = {"checked": checked, "told_apart": told_apart, "wrong": len(wrong), "first": wrong[:3]}
    return {**counts, "turns": turns, "eras": eras}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("generate", help="write events to standard output")
    verb.add_argument("--events", type=int, required=True, help="how many lines in all")
    verb.add_argument("--accounts", type=int, required=True, help="how many accounts; each is opened once")
    verb.add_argument("--seed", type=int, default=1, help="the same seed gives the same bytes (default 1)")
    verb.add_argument("--bad", type=int, default=0, help="how many of the events nobody can apply (default 0)")
    verb.add_argument("--overdrafts", type=float, default=0.02, help="share of accounts that overdraw (default 0.02)")
    verb.add_argument("--records", action="store_true", help='lines are {"key", "timestamp", "value"}, value the event')
    verb = verbs.add_parser("oracle", help="print what every row must be")
    verb.add_argument("file", help="JSON Lines as `generate` wrote them; `-` is standard input")
    verb.add_argument("--fees-from", type=positions, help="from where the second edition counts")
    verb = verbs.add_parser("answers", help="judge answers by the positions that came with them")
    verb.add_argument("log", help='JSON Lines as `generate --records` wrote them, with "partition" and "offset"')
    verb.add_argument("answers", help='a line each: {"reader", "view", "rows", "position"}, "key" if one was asked, and "era"')
    verb.add_argument("--fees-from", type=positions, required=True, help="from where the second edition counts")
    options = parser.parse_args()
    if options.verb == "generate":
        return generate(options)
    if options.verb == "answers":
        with open(options.log, encoding="utf-8") as log, open(options.answers, encoding="utf-8") as answers:
            json.dump(judge(log.readlines(), answers, options.fees_from), sys.stdout, ensure_ascii=False, indent=1)
            return print()
    with sys.stdin if options.file == "-" else open(options.file, encoding="utf-8") as lines:
        json.dump(oracle(lines, options.fees_from), sys.stdout, ensure_ascii=False, indent=1, sort_keys=True)
        print()


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        sys.stderr.close()
