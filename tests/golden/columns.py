"""Files for the readers of Parquet and Arrow: pyarrow's, and Hugging Face's save_to_disk, beside the same rows as JSONL.

    columns.py      writes tests/golden/columns and what tests/fuzz begins with (committed); wants pyarrow 26.0.1 and datasets
"""
import datetime, decimal, glob, json, os, shutil, tempfile
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "columns")
COUNT = 11

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string()), ("weight", pa.float64())])
SCHEMA = pa.schema([
    ("id", pa.int64()), ("text", pa.string()), ("messages", pa.list_(MESSAGE)), ("tags", pa.list_(pa.string())),
    ("score", pa.float64()), ("small", pa.int8()), ("flag", pa.bool_()), ("nothing", pa.null()),
    ("kind", pa.dictionary(pa.int32(), pa.string())),
    ("meta", pa.struct([("a", pa.int32()), ("b", pa.list_(pa.int64()))])), ("counts", pa.map_(pa.string(), pa.int64())),
    ("pair", pa.list_(pa.float32(), 2)), ("unsigned", pa.uint64())])


def row(i):
    def some(value, every):
        return None if i % every == every - 1 else value
    turns = [{"role": "user" if t % 2 == 0 else "assistant", "content": f"turn {t} of {i}: \u00e4\U0001F642", "weight": some(1.0, 3)}
             for t in range(i % 4)]
    return {"id": i, "text": some(f"row {i} \"quoted\"\n" * (i % 3), 5), "messages": some(turns, 6),
            "tags": some(["a", None, "ccc"][:i % 4], 4), "score": some(i / 8 - 0.5, 7), "small": i - 5, "flag": some(i % 2 == 0, 3),
            "nothing": None, "kind": ["red", "green", "blue"][i % 3],
            "meta": some({"a": some(i, 2), "b": list(range(i % 3))}, 4), "counts": some({"x": i, "y": None}, 5), "pair": [0.5 * i, -1.0],
            "unsigned": 2 ** 63 - 1 - i}


def write_rows(name, rows):
    with open(os.path.join(HERE, name), "w", encoding="utf-8") as file:
        for one in rows:
            file.write(json.dumps(one, ensure_ascii=False) + "\n")


def other_types(schema):
    """The same rows in the wide and the viewing types."""
    kinds = {"text": pa.string_view(), "messages": pa.large_list(pa.struct([("role", pa.large_string()),
             ("content", pa.dictionary(pa.int8(), pa.large_string())), ("weight", pa.float32())])),
             "tags": pa.list_view(pa.large_string()), "small": pa.int16(), "score": pa.float16(), "meta": pa.struct(
                 [("a", pa.uint8()), ("b", pa.large_list_view(pa.uint32()))])}
    return pa.schema([(f.name, kinds.get(f.name, f.type)) for f in schema])


def write_arrow(name, table, file=False, rows=4, codec=None):
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with (pa.ipc.new_file if file else pa.ipc.new_stream)(os.path.join(HERE, name), table.schema, options=options) as writer:
        for batch in table.to_batches(max_chunksize=rows):
            writer.write_batch(batch)


def save_datasets():
    small = Dataset.from_list([{"text": f"saved {i}", "n": i} for i in range(7)])
    with tempfile.TemporaryDirectory() as folder:
        small.save_to_disk(os.path.join(folder, "saved"), num_shards=2)
        DatasetDict(train=small.select(range(5)), test=small.select(range(5, 7))).save_to_disk(os.path.join(folder, "splits"))
        for name in ("saved", "splits"):
            shutil.copytree(os.path.join(folder, name), os.path.join(HERE, name))


def forget_fingerprints():
    for info in glob.glob(os.path.join(HERE, "**", "state.json"), recursive=True):
        state = json.load(open(info))
        state["_fingerprint"] = "0" * 16  # drawn anew at each call
        json.dump(state, open(info, "w"), indent=2, sort_keys=True)


def save_claims():
    """A few bytes that claim much: rows without values, and one row of a list without values."""
    write_arrow("rows_of_nothing.arrow", pa.table({"text": pa.nulls(2 ** 31 - 1)}), rows=2 ** 31)
    endless = pa.FixedSizeListArray.from_arrays(pa.nulls(2 ** 30), 2 ** 30)
    write_arrow("list_of_nothing.arrow", pa.table({"text": endless}))


def save_chats():
    """Conversations to train on: as JSONL, as Parquet, and as two data sets of a folder."""
    words = "one two three four five six seven".split()
    chats = [{"messages": [{"role": "user", "content": " ".join(words[i % 3:i % 3 + 2 + i % 4])},
                           {"role": "assistant", "content": " ".join(reversed(words[i % 3:i % 3 + 2 + i % 4]))}]} for i in range(24)]
    write_rows("chats.jsonl", chats)
    pq.write_table(pa.Table.from_pylist(chats), os.path.join(HERE, "chats.parquet"), compression="zstd", row_group_size=10)
    with tempfile.TemporaryDirectory() as folder:
        DatasetDict(train=Dataset.from_list(chats), test=Dataset.from_list(chats[:4])).save_to_disk(os.path.join(folder, "chats"))
        shutil.copytree(os.path.join(folder, "chats"), os.path.join(HERE, "chats"))


def seed_fuzzing():
    """Few rows and columns, in files of a few hundred bytes."""
    global HERE
    corpus = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fuzz", "corpus")
    schema = pa.schema([f for f in SCHEMA if f.name in ("text", "messages", "kind", "counts")])
    flat = pa.table({"text": ["one", None, "three"], "n": pa.array([1, 2, None], pa.int16()), "x": [0.5, 1.5, None]})
    nested = pa.Table.from_pylist([row(i) for i in (1, 2, 3)], schema=schema)
    HERE = os.path.join(corpus, "parquet")
    for name, table in (("flat", flat), ("nested", nested)):
        for codec in ("none", "snappy"):
            pq.write_table(table, os.path.join(HERE, f"{name}_{codec}.parquet"), compression=codec, row_group_size=2,
                           store_schema=False, write_statistics=False, write_page_checksum=False)
    HERE = os.path.join(corpus, "arrow")
    write_arrow("flat.arrow", flat, rows=2)
    write_arrow("nested.arrow", nested, rows=2)
    write_arrow("nested_zstd.arrow", nested, codec="zstd")
    write_arrow("flat_file.arrow", flat, file=True, rows=2)


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    os.makedirs(HERE)
    rows = [row(i) for i in range(COUNT)]
    write_rows("rows.jsonl", rows)
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    for codec in ("snappy", "gzip", "zstd", "brotli"):
        pq.write_table(table, os.path.join(HERE, f"{codec}.parquet"), compression=codec, row_group_size=4)
    pq.write_table(table, os.path.join(HERE, "plain.parquet"), compression="none", use_dictionary=False, write_page_checksum=True,
                   data_page_version="2.0", write_statistics=False, store_schema=False)
    write_arrow("stream.arrow", table)
    write_arrow("file.arrow", table, file=True)
    write_arrow("zstd.arrow", table, codec="zstd")
    write_arrow("wide.arrow", pa.Table.from_pylist(rows, schema=other_types(SCHEMA)))
    feather.write_feather(table, os.path.join(HERE, "lz4.feather"), compression="lz4", chunksize=4)
    when = datetime.datetime(2024, 7, 26, 12)
    odd = pa.table({"text": ["a", "b"], "when": [when, when], "price": [decimal.Decimal("1.50")] * 2, "image": [b"\xff\xd8", b""],
                    "times": [[when], []]})
    pq.write_table(odd, os.path.join(HERE, "odd.parquet"))
    write_arrow("odd.arrow", odd)
    save_claims()
    save_datasets()
    save_chats()
    forget_fingerprints()
    seed_fuzzing()


if __name__ == "__main__":
    main()
