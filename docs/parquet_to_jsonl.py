#!/usr/bin/env python3
"""parquet_to_jsonl.py FILE.parquet... >OUT.jsonl: files of Parquet as the JSON Lines that spec.train.data reads, an object a row,
with the columns as they are; --columns a,b takes some of them, --rename old=new,... gives them the names that an objective asks for
(text, label, messages, prompt, completion, chosen, rejected, a, b). Rows are read a thousand at a time, so memory does not grow with
the files. Needs PyPI's pyarrow."""
import argparse
import json
import sys

import pyarrow.parquet as pq


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("files", nargs="+")
    p.add_argument("--columns", type=lambda s: s.split(","))
    p.add_argument("--rename", type=lambda s: dict(x.split("=", 1) for x in s.split(",")), default={})
    a = p.parse_args()
    for path in a.files:
        with pq.ParquetFile(path) as f:
            for batch in f.iter_batches(batch_size=1000, columns=a.columns):
                for row in batch.to_pylist():
                    row = {a.rename.get(k, k): v for k, v in row.items() if v is not None}
                    sys.stdout.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")


if __name__ == "__main__":
    main()
