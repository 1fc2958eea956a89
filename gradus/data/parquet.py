"""Rows to the bytes of a parquet file. Needs pyarrow, which the core does without."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any


def encode(rows: Sequence[Mapping[str, Any]], *, as_text: Collection[str] = ()) -> bytes:
    """Encodes rows; the columns ``as_text`` become JSON text, since Arrow would merge the mappings of all rows into one
    with invented nulls. ValueError without pyarrow."""
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise ValueError(
            "parquet needs the package pyarrow; install gradus[train], or choose another --format"
        ) from None
    flat = [{name: json.dumps(value) if name in as_text else value for name, value in row.items()} for row in rows]
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(flat), buffer)
    return buffer.getvalue()
