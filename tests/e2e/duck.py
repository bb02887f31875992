"""Runs SQL with the official DuckDB and its delta extension, the way a data team does.

One statement per line of stdin as {"sql": …}; one answer per line of stdout as {"rows": [[…]]} or {"error": …}.
"""

import datetime
import json
import sys

import duckdb
import duckdb_extensions


def plain(value):
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def main():
    connection = duckdb.connect()
    duckdb_extensions.import_extension("delta", con=connection)
    connection.execute("LOAD delta; SET TimeZone = 'UTC'")
    print(json.dumps({"rows": [["ready"]]}), flush=True)
    for line in sys.stdin:
        try:
            rows = connection.execute(json.loads(line)["sql"]).fetchall()
            answer = {"rows": plain(rows)}
        except duckdb.Error as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


main()
