"""Runs SQL with the official DuckDB and its delta extension, the way a data team does.

One statement per line of stdin as {"sql": …}; one answer per line of stdout as {"rows": [[…]]} or {"error": …}.
"""

import datetime
import json
import os
import sys
import urllib.parse

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


def reach_s3(connection):
    """A lake on s3:// is reached as the environment says, if it does."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        return
    duckdb_extensions.import_extension("httpfs", con=connection)
    url = urllib.parse.urlsplit(endpoint)
    connection.execute(
        f"""LOAD httpfs;
        CREATE SECRET (TYPE s3, KEY_ID '{os.environ["AWS_ACCESS_KEY_ID"]}', SECRET '{os.environ["AWS_SECRET_ACCESS_KEY"]}',
        REGION '{os.environ.get("AWS_REGION", "us-east-1")}', ENDPOINT '{url.netloc}', URL_STYLE 'path',
        USE_SSL {url.scheme == "https"})"""
    )


def main():
    connection = duckdb.connect()
    duckdb_extensions.import_extension("delta", con=connection)
    connection.execute("LOAD delta; SET TimeZone = 'UTC'")
    reach_s3(connection)
    print(json.dumps({"rows": [["ready"]]}), flush=True)
    for line in sys.stdin:
        try:
            rows = connection.execute(json.loads(line)["sql"]).fetchall()
            answer = {"rows": plain(rows)}
        except duckdb.Error as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


main()
