"""Sources: strict reading, counted drops, splits, columns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradus.data.sources import Row, Source
from gradus.exits import Code, Exit


def write_rows(path: Path, count: int, *extra: str) -> Path:
    path.write_text(
        "".join(json.dumps({"question": f"q{i}", "answer": str(i)}) + "\n" for i in range(count)) + "".join(extra)
    )
    return path


def test_a_file_is_every_split_and_a_folder_names_its_splits(tmp_path: Path):
    file = write_rows(tmp_path / "train.jsonl", 3)
    assert not Source(str(file)).names_splits
    assert [row.index for row in Source(str(file)).rows("test")] == [0, 1, 2]
    folder = Source(str(tmp_path))
    assert folder.names_splits
    assert next(folder.rows("train")) == Row(0, {"question": "q0", "answer": "0"}, "train.jsonl:1")
    with pytest.raises(ValueError, match=r"no file for split 'test'; there is train\.jsonl"):
        next(folder.rows("test"))


def test_nothing_is_opened_before_the_first_row(tmp_path: Path):
    rows = Source(str(tmp_path / "missing.jsonl")).rows("train")
    with pytest.raises(ValueError, match="does not exist"):
        next(rows)


def test_every_format_gives_the_same_rows(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    lines = write_rows(tmp_path / "a.jsonl", 5)
    fields = [json.loads(line) for line in lines.read_text().splitlines()]
    (tmp_path / "a.json").write_text(json.dumps(fields))
    parquet.write_table(pyarrow.Table.from_pylist(fields), tmp_path / "a.parquet")
    for ending in ("jsonl", "json", "parquet"):
        assert [dict(row.fields) for row in Source(str(tmp_path / f"a.{ending}")).rows("train")] == fields


@pytest.mark.parametrize(
    "line",
    [
        '{"question": NaN, "answer": "1"}',
        '{"question": "a", "question": "b", "answer": "1"}',
        "[1]",
        "{",
        "[" * 100_000,
    ],
)
def test_a_broken_line_is_counted_and_shifts_no_index(tmp_path: Path, line: str):
    path = tmp_path / "a.jsonl"
    write_rows(path, 20)
    path.write_text(line + "\n" + path.read_text())
    source = Source(str(path))
    assert [row.index for row in source.rows("train")] == list(range(1, 21))
    assert source.dropped["train"] == {"broken_line": 1}
    assert len(list(source.rows("train"))) == 20 and source.dropped["train"].total() == 1, (
        "counts start again with each reading"
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"question": "caf\xe9", "answer": "1"}', "wrong_encoding"),
        (b'{"question": "half a character \\ud800", "answer": "1"}', "wrong_encoding"),
        (b'{"question": "' + b"long " * 2_000_000 + b'", "answer": "1"}', "too_long"),
        (b'{"question": ["' + b"long " * 1_000_000 + b'"], "answer": "1"}', "too_long"),
    ],
    ids=["latin-1", "half a character", "10 MB", "5 MB"],
)
def test_a_row_that_cannot_be_read_is_counted_with_its_place(tmp_path: Path, line: bytes, reason: str):
    path = write_rows(tmp_path / "a.jsonl", 20)
    path.write_bytes(path.read_bytes() + line + b"\n" + b'{"question": "last", "answer": "1"}\n')
    source = Source(str(path))
    assert [row.index for row in source.rows("train")] == [*range(20), 21]
    assert source.dropped["train"] == {reason: 1} and source.intakes["train"].places == {reason: ["a.jsonl:21"]}
    assert source.intakes["train"].num_rows == 22


def test_a_long_row_in_parquet_is_counted_and_no_parquet_is_named(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"question": f"q{i}", "answer": "1"} for i in range(30)] + [{"question": "x" * 10_000_000, "answer": "1"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    source = Source(str(tmp_path / "a.parquet"))
    assert len(list(source.rows("train"))) == 30 and source.intakes["train"].places == {"too_long": ["a.parquet[30]"]}
    (tmp_path / "b.parquet").write_text("no parquet")
    with pytest.raises(ValueError, match=r"b\.parquet is no parquet file"):
        next(Source(str(tmp_path / "b.parquet")).rows("train"))


def test_too_many_broken_lines_are_no_source(tmp_path: Path):
    with pytest.raises(Exit) as caught:
        list(Source(str(write_rows(tmp_path / "a.jsonl", 20, "{\n", "{\n"))).rows("train"))
    assert caught.value.code == Code.NOTHING_USABLE
    assert "2 broken_line, first at a.jsonl:21, a.jsonl:22" in caught.value.message


def test_a_torn_last_line_is_only_counted(tmp_path: Path):
    source = Source(str(write_rows(tmp_path / "a.jsonl", 2, '{"question": "q')))
    with pytest.warns(UserWarning, match="its last line is cut off"):
        assert len(list(source.rows("train"))) == 2
    assert source.dropped["train"] == {"torn_last_line": 1}


@pytest.mark.parametrize("text", ["", '{"a": 1', "\n"])
def test_an_empty_source_is_never_an_empty_training_set(tmp_path: Path, text: str):
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(Exit) as caught:
        list(Source(str(tmp_path / "a.jsonl")).rows("train"))
    assert caught.value.code == Code.NOTHING_USABLE


def test_columns_are_mapped_and_a_missing_one_is_named(tmp_path: Path):
    source = Source(str(write_rows(tmp_path / "a.jsonl", 2)))
    assert next(source.rows("train", columns={"problem": "question"}, need=("problem",))).fields["problem"] == "q0"
    with pytest.raises(
        ValueError,
        match=r"a\.jsonl:1 has no column 'problem'; there are: question, answer\. .*columns: \{problem: question\}",
    ):
        next(source.rows("train", need=("problem",)))
    with pytest.raises(ValueError, match=r"a\.jsonl:1 has no column 'asked', which columns names for 'problem'"):
        next(source.rows("train", columns={"problem": "asked"}))


def test_a_row_that_lacks_a_column_is_counted(tmp_path: Path):
    source = Source(str(write_rows(tmp_path / "a.jsonl", 30, '{"question": "x"}\n')))
    assert len(list(source.rows("train", need=("answer",)))) == 30 and source.dropped["train"] == {"missing_column": 1}


def test_the_hub_is_refused_offline(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRADUS_OFFLINE", "1")
    with pytest.raises(ValueError, match="GRADUS_OFFLINE=1 forbids it; give a local file or folder"):
        next(Source("hub:openai/gsm8k#main").rows("train"))


@pytest.mark.parametrize("address", ["hub:", "hub:gsm8k", "hub:a/b/c", "hub:a/b#", "hub:a b/c"])
def test_a_hub_address_has_an_owner_and_a_name(address: str):
    with pytest.raises(ValueError, match="hub:owner/name"):
        Source(address)


def test_the_fingerprint_is_of_the_bytes(tmp_path: Path):
    write_rows(tmp_path / "train.jsonl", 2)
    before = Source(str(tmp_path)).fingerprint()
    assert Source(str(tmp_path)).fingerprint() == before
    write_rows(tmp_path / "train.jsonl", 3)
    assert Source(str(tmp_path)).fingerprint() != before
