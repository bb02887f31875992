#!/usr/bin/env python3
"""What it takes to grow: the calculation behind docs/SCALING.md.

    docs/scaling.py                                     print inputs and figures
    docs/scaling.py records_per_second=2e6 lanes=4000   the same for another scenario
    docs/scaling.py --check                             fail unless SCALING.md says the same
    docs/scaling.py --write                             bring the tables of SCALING.md up to date

Inputs are of three kinds: what is *given* (change it on the command line), what was *measured* (read from
benches/README.md), and what is a *constant* of the program (read from its source). A measurement that is reworded or a constant
that moves ends this script with an error, so that no figure outlives its source.
"""

import math
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "SCALING.md"
MI = 1024 * 1024
MONTH = 30 * 86_400

# name: (value, what it is and why)
GIVEN = {
    "records_per_second": (1e6, "the goal"),
    "workspaces": (1e5, "the goal; all alike but for the largest"),
    "keys": (1e11, "the goal; distinct records in all tables"),
    "largest_share": (0.05, "of all records, what the largest workspace sends"),
    "records_per_request": (100, "assumed; at most 1,000"),
    "overwritten": (0.05, "share of records that replace one; as in the benchmarks"),
    "files_per_commit": (1, "assumed: a request has one source, one type, and neighbouring dates"),
    "lanes": (2_000, "chosen: `--lanes`, see below"),
    "spread": (1, "the default: `--spread`"),
    "commit_interval": (0.3, "seconds; the default of `--commit-interval`"),
    "cores": (8, "cores of a process, chosen"),
    "busy": (0.6, "share of a core that is planned for"),
    "copies": (3, "of each partition and of each row, as in docs/OPERATIONS.md"),
    "put_price": (0.005 / 1_000, "USD; S3 Standard in us-east-1, list price: PUT, LIST"),
    "get_price": (0.0004 / 1_000, "USD; the same: GET"),
    "put_seconds": (0.1, "assumed: one PUT of S3"),
    "cql_seconds": (0.001, "assumed: one round trip to the tables"),
    "cql_per_core": (10_000, "assumed: statements per second that a core of ScyllaDB serves"),
    "row_overhead": (20, "assumed: bytes beside key and value of a CQL row: time stamp, flags, lengths"),
}

BENCHES = "benches/README.md"
# name: (file, pattern of the number)
MEASURED = {
    "accept_cpu": (BENCHES, r"the same with LZ4, the default: \d+ bytes \| [\d,]+ \| ([\d.]+) \|"),
    "log_bytes": (BENCHES, r"the same with LZ4, the default: (\d+) bytes"),
    "raw_bytes": (BENCHES, r"not compressed: (\d+) bytes a record on the broker's disk"),
    "zstd_bytes": (BENCHES, r"the same with Zstandard: (\d+) bytes"),
    "land_cpu": (BENCHES, r"land from Kafka to MinIO.*?\| 500,000 \| ([\d.]+) \|"),
    "land_rate": (BENCHES, r"land from Kafka to MinIO.*?\| [\d.]+ \| [\d.]+ \| ([\d,]+) \|"),
    "commit_ms": (BENCHES, r"receiving included\): ([\d.]+) ms a commit"),
    "scan_seconds": (BENCHES, r"restart on 10 million keys until a record has landed: ([\d.]+) s"),
    "idle_64_lanes": (BENCHES, r"idle `pipeline` with 64 lanes: ([\d.]+) % of a core"),
}
SCANNED_KEYS = 10e6
CONSTANTS = {
    "bits_per_key": ("pipeline/src/filter.rs", r"const BITS_PER_KEY: usize = (\d+);"),
    "filter_grows_by": ("pipeline/src/filter.rs", r"const LARGE_GROWS_BY: usize = (\d+);"),
    "open_tables": ("pipeline/src/config.rs", r"open_tables: (\d+),"),
    "concurrent_tables": ("pipeline/src/config.rs", r"concurrent_tables: (\d+),"),
    "chunk_records": ("pipeline/src/config.rs", r"chunk_records: ([\d_]+),"),
    "chunk_mib": ("pipeline/src/config.rs", r"chunk_bytes: (\d+) \* 1024 \* 1024,"),
    "memory_mib": ("pipeline/src/config.rs", r"memory_bytes: (\d+) \* 1024 \* 1024,"),
    "checkpoint_every": ("pipeline/src/lake/create.rs", r"const CHECKPOINT_EVERY: u64 = (\d+);"),
    "action_bytes": ("pipeline/src/lake/actions.rs", r"actions.len\(\) \* (\d+)\)"),
    "key_bytes": ("schemas/src/identity.rs", r"pub struct Identity\(pub \[u8; (\d+)\]\)"),
    "bucket_bits": ("backends/src/tables/cql/layout.rs", r"const BITS: i32 = (\d+);"),
    "most_bucket_bits": ("backends/src/tables/cql/layout.rs", r"const MOST_BITS: i32 = (\d+);"),
    "index_batch": ("backends/src/tables/cql/index.rs", r"const WRITE: usize = (\d+);"),
    "fact_width": ("backends/src/tables/cql/batches.rs", r"const WIDTH: usize = (\d+);"),
    "prefetch_shift": ("backends/src/log/kafka/options.rs", r"prefetch_bytes: 4 << (\d+),"),
    "small_partitions": ("backends/src/log/kafka/options.rs", r"const MOST_SMALL: u32 = (\d+);"),
    "retention_days": ("backends/src/log/kafka/options.rs", r"retention_age: Duration::from_secs\((\d+) \* 24 \* 3_600\)"),
    "named_workspaces": ("backends/src/lately.rs", r"pub const SHOWN: usize = (\d+);"),
}
# Bytes of a location: format, file, row, version, digest, table version.
LOCATION = ("backends/src/tables/cql/layout.rs", r"const LOCATION_BYTES: usize = ([\d +]+);")


def read(source):
    file, pattern = source
    found = re.search(pattern, (ROOT / file).read_text(), re.S)
    if not found:
        sys.exit(f"{file} no longer has {pattern!r}: mend docs/scaling.py")
    return sum(float(part.replace(",", "").replace("_", "")) for part in found[1].split("+"))


def inputs(overrides):
    values = {name: value for name, (value, _) in GIVEN.items()}
    values |= {name: read(source) for name, source in (MEASURED | CONSTANTS).items()}
    values["location_bytes"] = read(LOCATION)
    for text in overrides:
        name, _, value = text.partition("=")
        if name not in values or not value:
            sys.exit(f"{text!r} is no NAME=VALUE; names are: {', '.join(sorted(values))}")
        try:
            values[name] = float(value)
        except ValueError:
            sys.exit(f"{text!r}: {value!r} is no number")
        if not values[name] > 0:
            sys.exit(f"{text!r}: it must be more than 0")
    return values


def commas(number):
    """Three digits that mean something, and thousands apart."""
    if number == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(number)))
    rounded = round(number, digits)
    return f"{rounded:,.{max(digits, 0)}f}" if abs(rounded) < 100 else f"{rounded:,.0f}"


def size(number):
    for unit, factor in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if number >= factor:
            return f"{commas(number / factor)} {unit}"
    return f"{commas(number)} bytes"


def poisson_above(mean, most):
    """Share of lanes that have more than `most` workspaces, when these fall on lanes at random."""
    below, term = 0.0, math.exp(-mean)
    for n in range(int(most) + 1):
        below += term
        term *= mean / (n + 1)
    return max(0.0, 1 - below)


def distinct(throws, boxes):
    """Boxes that get something when so many are thrown into them at random."""
    return boxes * (1 - (1 - 1 / boxes) ** throws)


class Commits:
    """How often tables are committed when a lane takes what has come every so many seconds."""

    def __init__(self, v, interval, chunk_mib=None):
        lane_rate = v["records_per_second"] / v["lanes"]
        chunk_mib = chunk_mib or v["chunk_mib"]
        chunk = min(v["chunk_records"] / v["chunk_mib"] * chunk_mib, chunk_mib * MI / v["raw_bytes"])
        self.fills_in = chunk / lane_rate
        self.cycle = min(interval, self.fills_in)
        parts = v["workspaces"] * v["spread"]
        requests = v["records_per_second"] / v["records_per_request"] / v["workspaces"]
        # Those that sent anything in a cycle.
        self.per_second = parts * (1 - math.exp(-requests * self.cycle)) / self.cycle
        self.records = v["records_per_second"] / self.per_second
        replaces = 1 - (1 - v["overwritten"]) ** self.records
        self.puts_each = v["files_per_commit"] + 1 + replaces + 2 / v["checkpoint_every"]
        # The vectors that are there, and what a checkpoint reads: the one before, and the commits since.
        self.gets_each = replaces + (v["checkpoint_every"] + 2) / v["checkpoint_every"]
        self.puts = self.per_second * self.puts_each
        self.gets = self.per_second * self.gets_each
        self.price = MONTH * (self.puts * v["put_price"] + self.gets * v["get_price"])
        self.cores = self.per_second * v["commit_ms"] / 1_000
        # A statement for each partition of the index that the keys of a commit fall into.
        buckets = 2 ** v["bucket_bits"]
        self.index_writes = self.per_second * max(distinct(self.records, buckets), self.records / v["index_batch"])
        self.files_a_day = self.per_second * v["files_per_commit"] * 86_400 / v["workspaces"]


def throughput(v):
    rate, requests = v["records_per_second"], v["records_per_second"] / v["records_per_request"]
    serve, land = rate * v["accept_cpu"] / 1e6, rate * v["land_cpu"] / 1e6
    processes = lambda cpu: math.ceil(cpu / v["busy"] / v["cores"])
    commits = Commits(v, v["commit_interval"]).cores
    wire = rate * v["log_bytes"]
    days = v["retention_days"]
    return [
        ("requests", f"{commas(requests)} requests/s", "records / records_per_request"),
        ("keys are all there after", f"{commas(v['keys'] / (rate * (1 - v['overwritten'])) / 3_600)} hours at full rate",
         "keys / (records × (1 − overwritten))"),
        ("CPU of `serve`", f"{commas(serve)} cores", "records × accept_cpu"),
        ("processes of `serve`", f"{processes(serve)} `serve`", "cores at `busy`"),
        ("CPU of `pipeline`", f"{commas(land)} cores landing", "records × land_cpu"),
        ("CPU of its commits", f"{commas(commits)} cores committing", "commits × commit_ms, at commit_interval"),
        ("processes of `pipeline`", f"{processes(land + commits)} `pipeline`", "likewise; memory asks for more, see below"),
        ("one lane lands", f"{commas(v['land_rate'])} records/s", "measured, on two cores shared with the servers"),
        ("lanes that the rate needs", f"{math.ceil(rate / v['land_rate'])} lanes", "records / that"),
        ("into Kafka", f"{size(wire)}/s", "records × log_bytes, before copies"),
        ("on the brokers' disks", size(wire * v["copies"] * days * 86_400), f"× copies × {days:.0f} days"),
        ("the same with a day of retention", f"{size(wire * v['copies'] * 86_400)} a day", "`--kafka-retention 24h`"),
        ("lake, grown by a day", f"{size(rate * v['zstd_bytes'] * 86_400)} of rows a day",
         "× zstd_bytes, what Zstandard makes of a record in the log; columns take less"),
    ]


def lanes(v):
    parts = v["workspaces"] * v["spread"] / v["lanes"]
    largest = v["records_per_second"] * v["largest_share"]
    default = Commits(v, v["commit_interval"])
    per_lane = default.per_second / v["lanes"]
    able = v["concurrent_tables"] / (3 * v["put_seconds"])
    return [
        ("workspaces of a lane", f"{commas(parts)} tables a lane", "workspaces × spread / lanes"),
        ("lanes with more than are kept open", f"{poisson_above(parts, v['open_tables']) * 100:.2f} % of lanes",
         f"more than open_tables = {v['open_tables']:.0f}, by Poisson"),
        ("lanes at which the average one has as many", f"{commas(v['workspaces'] * v['spread'] / v['open_tables'])} lanes",
         "workspaces × spread / open_tables"),
        ("records of a lane", f"{commas(v['records_per_second'] / v['lanes'])} records/s a lane", "records / lanes"),
        ("lanes for the largest workspace", f"spread {math.ceil(largest / v['land_rate'])}",
         f"{commas(largest)} records/s / land_rate"),
        ("commits of a table", f"{commas(default.per_second / v['workspaces'])} commits/s a table", "at commit_interval"),
        ("commits of a lane", f"{commas(per_lane)} commits/s a lane", "at commit_interval"),
        ("commits that a lane can do", f"{commas(able)} commits/s at most",
         "concurrent_tables / (data file, vectors and commit, one after the other)"),
        ("a chunk is full after", f"{commas(default.fills_in)} s", "chunk_mib / (records of a lane × raw_bytes)"),
        ("memory that Kafka's client may fill", f"{size(4 * 2 ** v['prefetch_shift'] * 100)} of prefetch",
         "prefetch_bytes × 100 lanes of a process"),
    ]


def bill(v):
    rows = []
    for interval, chunk in ((v["commit_interval"], None), (10, None), (30, None), (300, None), (300, 120)):
        c = Commits(v, interval, chunk)
        memory = f", `--lane-memory {chunk / v['chunk_mib'] * v['memory_mib']:.0f}`" if chunk else ""
        name = f"{interval:g} s{memory}"
        rows.append((name, commas(c.per_second), commas(c.records), commas(c.puts), commas(c.gets),
                     f"{commas(c.price)} USD", commas(c.files_a_day), commas(c.index_writes), commas(c.cores)))
    return rows


def growth(v):
    default, slow = Commits(v, v["commit_interval"]), Commits(v, 30)
    file_bytes = v["action_bytes"]
    per = lambda c, days: c.files_a_day * days
    held = lambda c, days: per(c, days) * v["workspaces"] * file_bytes
    return [
        ("files of a table after a day", f"{commas(per(default, 1))} files", "commits × files_per_commit; nothing merges them"),
        ("after 30 days", f"{commas(per(default, 30))} files", ""),
        ("after 30 days at 30 s", f"{commas(per(slow, 30))} files", "commit_interval=30"),
        ("lists of files in memory after a day", size(held(default, 1)), "all tables open once; action_bytes a file"),
        ("after 30 days in memory", size(held(default, 30)), ""),
        ("rows of a file", f"{commas(default.records)} rows a file", "records / commits"),
    ]


def index(v):
    parts = v["workspaces"] * v["spread"]
    entry = v["key_bytes"] + v["location_bytes"]
    buckets = 2 ** v["bucket_bits"]
    c = Commits(v, v["commit_interval"])
    statements = c.index_writes
    whole = c.per_second * math.ceil(c.records / v["index_batch"])
    lookups = c.per_second * distinct(c.records * v["overwritten"], buckets)
    largest = v["keys"] * v["largest_share"] / v["spread"]
    row = entry + v["row_overhead"]
    return [
        ("an entry", f"{entry:.0f} bytes", "key and location"),
        ("all entries", size(v["keys"] * row), "with row_overhead"),
        ("all copies of them", size(v["keys"] * row * v["copies"]), "× copies; random bytes do not compress"),
        ("partitions of the index", f"{commas(parts * buckets / 1e6)} million partitions", "workspaces × spread × 2^bucket_bits"),
        ("entries of a partition", f"{commas(v['keys'] / parts / buckets)} entries", "keys / that"),
        ("a partition of the largest workspace", f"{size(largest / buckets * row)} a partition", "2^bucket_bits of them"),
        ("the same after `lake rebuild-index`", f"{size(largest / 2 ** v['most_bucket_bits'] * row)} after it",
         "2^most_bucket_bits of them"),
        ("statements that write it", f"{commas(statements)} writes/s",
         "commits × partitions that so many keys fall into"),
        ("if a small part had one partition", f"{commas(whole)} writes/s instead", "commits × ⌈records / index_batch⌉"),
        ("statements that look up", f"{commas(lookups)} reads/s", "the same of what the filters let through"),
        ("cores of the tables for the index", f"{commas((statements + lookups) * v['copies'] / v['cql_per_core'])} cores of ScyllaDB",
         "statements × copies / cql_per_core"),
    ]


def filters(v):
    full = v["keys"] * v["bits_per_key"] / 8
    grown = 1 + 1 / v["filter_grows_by"]
    scan = SCANNED_KEYS / v["scan_seconds"]
    lane_keys = v["keys"] / v["lanes"]
    return [
        ("filters, as opened", size(full), "keys × bits_per_key"),
        ("filters with one layer more", f"{size(full * grown)} when they grow", "a new layer holds one key for filter_grows_by that are there"),
        ("filter of a lane", f"{size(full / v['lanes'])} a lane", "/ lanes"),
        ("processes of 64 GB for the filters alone", f"{math.ceil(full * grown / 64e9)} × 64 GB", ""),
        ("keys read to build a filter", f"{commas(scan / 1e6)} million keys/s", "10 million / scan_seconds, from embedded tables"),
        ("a lane that changes hands", f"{commas(lane_keys / scan)} s to read its keys", "keys / lanes / that, all its tables"),
        ("a process of 100 lanes, on its cores", f"{commas(100 * lane_keys / scan / v['cores'] / 60)} minutes", "/ cores"),
    ]


def shared(v):
    requests = v["records_per_second"] / v["records_per_request"]
    facts = requests * v["spread"]
    readers = min(v["lanes"], v["small_partitions"])
    able = readers * v["fact_width"] / (3 * v["cql_seconds"])
    processes = math.ceil(v["records_per_second"] * v["land_cpu"] / 1e6 / v["busy"] / v["cores"])
    return [
        ("facts about batches", f"{commas(facts)} facts/s", f"requests × lanes of a batch, through {readers:.0f} partitions"),
        ("facts that the readers of these can store", f"{commas(able)} facts/s at most",
         "fact_width at once by each, three round trips each (write, read, take off the queue)"),
        ("series of the lag", f"{commas(7 * (v['lanes'] + 3 * readers) + 3 * (v['named_workspaces'] + 1))} series a process",
         "7 for each partition, 3 for each named workspace"),
        ("a scrape", f"{size(2e6 / 1_024 * v['lanes'])} a scrape", "docs/TELEMETRY.md: below 2 MB with 1,024 lanes"),
        ("idle lanes", f"{commas(v['idle_64_lanes'] / 64 * v['lanes'] / 100)} cores idle", "idle_64_lanes / 64 × lanes"),
        ("names hashed for flow control", f"{commas(v['workspaces'] * v['spread'])} names",
         "by each `serve` at each look (2 s), while its requests wait"),
    ]


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def inputs_table(v):
    rows = [(f"`{name}`", f"{v[name]:,.10g}", f"given: {why}") for name, (_, why) in GIVEN.items()]
    rows += [(f"`{name}`", f"{v[name]:,.10g}", f"measured: {file}") for name, (file, _) in MEASURED.items()]
    rows += [(f"`{name}`", f"{v[name]:,.10g}", f"constant: {file}") for name, (file, _) in CONSTANTS.items()]
    rows.append(("`location_bytes`", f"{v['location_bytes']:g}", f"constant: {LOCATION[0]}"))
    return table(("input", "value", "source"), rows)


def tables(v):
    head = ("figure", "value", "how")
    price = ("commit interval", "commits/s", "records each", "PUT/s", "GET/s", "a month", "files a day and table", "index writes/s", "cores")
    made = {name: table(head, rows(v)) for name, rows in
            {"throughput": throughput, "lanes": lanes, "growth": growth, "index": index, "filters": filters,
             "shared": shared}.items()}
    return {"inputs": inputs_table(v), "bill": table(price, bill(v))} | made


def block(name, text, page):
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end -->)", re.S)
    if not pattern.search(page):
        sys.exit(f"SCALING.md has no block <!-- {name} -->")
    return pattern.sub(lambda found: found[1] + text + found[2], page)


def quoted(page, known):
    """Figures in bold outside of the tables that no table has."""
    prose = re.sub(r"<!-- [\w-]+ -->\n.*?\n<!-- end -->", "", page, flags=re.S)
    bold = [text.replace("\n", " ") for text in re.findall(r"\*\*(.+?)\*\*", prose, re.S)]
    return [text for text in bold if re.search(r"\d", text) and text not in known]


def main(arguments):
    flags = [text for text in arguments if text.startswith("--")]
    if "--help" in flags:
        return print(__doc__.strip())
    if flags and flags[0] not in ("--check", "--write"):
        sys.exit(f"there is no {flags[0]}: see --help")
    if flags and len(arguments) > 1:
        sys.exit("SCALING.md is about one scenario: no NAME=VALUE with --check and --write")
    made = tables(inputs([text for text in arguments if not text.startswith("--")]))
    if not flags:
        print("\n\n".join(f"## {name}\n\n{text}" for name, text in made.items()))
        return
    page = PAGE.read_text()
    new = page
    for name, text in made.items():
        new = block(name, text, new)
    if flags[0] == "--write":
        PAGE.write_text(new)
    elif new != page:
        sys.exit("the tables of docs/SCALING.md are not what docs/scaling.py prints: run docs/scaling.py --write, "
                 "then read the page again")
    # The simulation's figures stand on the page too; its own test holds them.
    cells = {cell.strip() for line in new.splitlines() if line.startswith("|") for cell in line.split("|")}
    unknown = quoted(new, cells)
    if unknown:
        sys.exit(f"docs/SCALING.md says in bold what no table has: {unknown}")


if __name__ == "__main__":
    main(sys.argv[1:])
