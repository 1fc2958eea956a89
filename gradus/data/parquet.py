"""Rows to the bytes of a parquet file and back. Needs pyarrow, which the core does without."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
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


def decode(path: Path) -> list[dict[str, Any]]:
    """The rows of a parquet file. ValueError without pyarrow, or where the file cannot be read."""
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise ValueError("parquet needs the package pyarrow; install gradus[train]") from None
    try:
        return parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise ValueError(f"{str(path)!r} cannot be read as parquet ({str(error)[:200]}); give another file") from None
