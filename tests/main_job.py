"""The main job, run and checked: see main_job.sh."""

import datetime
import glob
import gzip
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

import duckdb
import duckdb_extensions

CHANGE_EVERY = 20  # 5 %
MARKER = b',"data":'


def second(text):
    """The time rounded to a second, .5 up, since the Unix epoch."""
    at = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    whole = int(at.replace(microsecond=0).timestamp())
    return whole + (at.microsecond >= 500_000)


def identity(kind, vendor_ids, at):
    return json.dumps([kind.lower(), sorted(vendor_ids.items()), at])


def split(line):
    """A record's identity, and where the bytes of its `data` are."""
    record = json.loads(line)
    start = line.index(MARKER) + len(MARKER)
    raw = line.rstrip()[start:-1]
    assert json.loads(raw) == record["data"], "data is the last field of these records"
    return identity(record["_type"], record["_vendor_ids"], second(record["_event_at"])), raw


def digest(raw):
    return hashlib.sha256(raw).hexdigest()


def model_of(files):
    """Identity → digest of the last version's data; records; bytes."""
    model, records, size = {}, 0, 0
    for path in files:
        with gzip.open(path, "rb") as lines:
            for line in lines:
                key, raw = split(line)
                model[key] = digest(raw)
                records += 1
                size += len(line)
    return model, records, size


def change(files, place):
    """Copies of the files in which every 20th record has other data; how many those are."""
    changed, copies, n = 0, [], 0
    for path in files:
        copy = os.path.join(place, os.path.basename(path))
        copies.append(copy)
        with gzip.open(path, "rb") as lines, gzip.open(copy, "wb", compresslevel=1) as out:
            for line in lines:
                n += 1
                if n % CHANGE_EVERY == 7:
                    at = line.index(MARKER) + len(MARKER) + 1
                    line = line[:at] + b'"changed": 1.0, ' + line[at:]
                    changed += 1
                out.write(line)
    return copies, changed


class Up:
    """A running `tributary up`."""

    def __init__(self, binary, place):
        self.data = os.path.join(place, "data")
        listen = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--rate-limit", "0", "--json"]
        command = [binary, "up", "--data", self.data, *listen]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.ready = json.loads(self.process.stdout.readline())

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mb(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            line = next(line for line in status if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024

    def outcomes(self):
        with urllib.request.urlopen(f"http://{self.ready['admin']}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        found = {}
        for line in lines:
            if line.startswith("tributary_records_total{"):
                found[line.split('outcome="')[1].split('"')[0]] = int(float(line.rsplit(" ", 1)[1]))
        return found

    def table(self):
        return os.path.join(self.data, "lake/default/records")

    def stop(self):
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=10) == 0, "stops cleanly within ten seconds"
        return time.monotonic() - begun


def send(binary, up, files, place):
    """Sends and waits until everything is in the lake; the summary, with the client's and the server's CPU."""
    before, cpu, begun = resource.getrusage(resource.RUSAGE_CHILDREN), up.cpu(), time.monotonic()
    command = [binary, "send", "--url", f"http://{up.ready['listen']}", "--key", up.ready["key"]]
    command += ["--wait", "--json", "--quiet", "--state", os.path.join(place, "state.journal"), *files]
    done = subprocess.run(command, stdout=subprocess.PIPE, cwd=place)
    assert done.returncode == 0, done.stdout.decode()
    summary = json.loads(done.stdout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    summary["wall"] = time.monotonic() - begun
    summary["cpu_send"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    summary["cpu_up"] = up.cpu() - cpu
    return summary


def new_rows(table, after):
    """Rows in the data files that table versions after `after` added under new names, and the newest version."""
    names, rows, newest = set(), 0, -1
    for path in sorted(glob.glob(os.path.join(table, "_delta_log/*.json"))):
        version = int(os.path.basename(path).split(".")[0])
        newest = max(newest, version)
        with open(path) as actions:
            for action in map(json.loads, actions):
                add = action.get("add")
                if add and add["path"] not in names:
                    names.add(add["path"])
                    if version > after:
                        rows += json.loads(add["stats"])["numRecords"]
    return rows, newest


def compare(connection, table, model):
    """The table is the model: the same identities, once each, the same bytes."""
    begun = time.monotonic()
    count = connection.execute(f"SELECT count(*) FROM delta_scan('{table}')").fetchone()[0]
    seconds = time.monotonic() - begun
    assert count == len(model), f"{count} rows, {len(model)} identities"
    sql = f"SELECT type, vendor_ids, epoch(event_at)::BIGINT, sha256(data) FROM delta_scan('{table}')"
    seen = set()
    for kind, vendor_ids, at, found in connection.execute(sql).fetchall():
        key = identity(kind, vendor_ids, at)
        assert key not in seen, f"two rows of {key}"
        seen.add(key)
        assert model[key] == found, f"other data than the last version of {key}"
    assert len(seen) == len(model)
    return seconds


def size_of(place):
    total = 0
    for folder, _, names in os.walk(place):
        total += sum(os.path.getsize(os.path.join(folder, name)) for name in names)
    return total


def report(name, summary, records, up):
    per_million = 1_000_000 / records
    print(
        f"{name}: {records:,} records, {summary['wall']:.1f} s until all is in the lake, "
        f"{records / summary['wall']:,.0f} records/s; CPU-s per million: up {summary['cpu_up'] * per_million:.1f}, "
        f"send {summary['cpu_send'] * per_million:.1f}; peak of up {up.peak_mb():.0f} MB",
        flush=True,
    )


def main():
    binary, data = sys.argv[1:]
    files = sorted(glob.glob(os.path.join(data, "*.ndjson.gz")))
    assert files, f"no *.ndjson.gz in {data}"
    connection = duckdb.connect()
    duckdb_extensions.import_extension("delta", con=connection)
    connection.execute("LOAD delta")
    with tempfile.TemporaryDirectory(prefix="tributary-main-job-") as place:
        model, records, size = model_of(files)
        print(f"{records:,} records, {len(model):,} identities, {size / 1e6:.0f} MB of NDJSON in {len(files)} files", flush=True)
        up = Up(binary, place)
        try:
            run(binary, place, up, connection, files, model, records)
        finally:
            up.process.kill()
    print("the main job is done, and all of it is right")


def run(binary, place, up, connection, files, model, records):
    first = send(binary, up, files, place)
    assert first["accepted"] == records and first["rejected"] == 0, first
    count_seconds = compare(connection, up.table(), model)
    report("first time", first, records, up)
    _, version = new_rows(up.table(), -1)
    outcomes = up.outcomes()
    assert outcomes["landed"] == len(model), outcomes
    assert sum(outcomes.values()) == records, outcomes

    changed_place = os.path.join(place, "changed")
    os.mkdir(changed_place)
    copies, changed = change(files, changed_place)
    changed_model, _, _ = model_of(copies)
    again = send(binary, up, copies, place)
    assert again["accepted"] == records and again["rejected"] == 0, again
    compare(connection, up.table(), changed_model)
    report(f"again with {changed:,} changed", again, records, up)
    rows, newest = new_rows(up.table(), version)
    assert rows == changed, f"{rows} rows were written for {changed} changed records"
    after = up.outcomes()
    assert after["overwritten"] - outcomes["overwritten"] == changed, after
    assert after["unchanged"] - outcomes["unchanged"] == records - changed, after

    check = subprocess.run([binary, "lake", "check", "--data", up.data], stdout=subprocess.PIPE)
    assert check.returncode == 0, check.stdout.decode()
    lake, log = size_of(os.path.join(up.data, "lake")), size_of(os.path.join(up.data, "log"))
    print(
        f"lake {lake / 1e6:.0f} MB in {newest + 1} versions, log {log / 1e6:.0f} MB; "
        f"DuckDB counts in {count_seconds:.2f} s; stopped in {up.stop():.1f} s"
    )


main()
