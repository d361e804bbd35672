"""Mutations of npy, npz, safetensors and torch.save files: dtypes, shapes, headers that lie, archives that expand."""

import io
import json
import struct
import zipfile
from functools import cache
from typing import Any

import numpy as np
import torch
from byte_mutations import Draw, mutate_bytes
from hypothesis import strategies as st
from tree_mutations import ODD_JSON, Raw, mutate_tree, to_json

SHAPES = (
    "()", "(0,)", "(1,)", "(3,)", "(-1,)", "(1, 18)", "(84, 17)", "(84, 18, 1)", "(10**12,)", "(1000000000000, 18)", "(99999999999999999999,)",
    "(4611686018427387904, 4)", "(0, 99999999999)", "(1.5,)", "('x',)", "None", "(84", "(84,))", "84", "(True,)", "(" * 90 + ")" * 90,
    "(84,\n 18\n", "[84]", "(84L,)", "'''", "\\", "(1_0,)", "\t(", "({},)",
)  # fmt: skip
DTYPES = (
    "'<f4'", "'<f8'", "'<f2'", "'>f4'", "'|u1'", "'<i8'", "'<c8'", "'|b1'", "'|O'", "'|V8'", "'|S9'", "'<U9'", "'<U1000000000'",
    "'<U99999999999'", "'<M8[ns]'", "'<f99'", "'x'", "None", "[('a', '<f4')]", "[]", "{}", "('<f4', (2, 2))", "'<f4,<f4'", "12",
    "[('a', [('b', '|O')])]", "'" + "x" * 300 + "'",
)  # fmt: skip


def npy_header(draw: Draw, header: str) -> str:
    """A header with another shape, another dtype, other keys or other text."""
    fields = {"descr": "'<f4'", "fortran_order": "False", "shape": "(84, 18)"}
    for name, value in eval(header, {"__builtins__": {}}).items():
        fields[name] = repr(value)
    kind = draw(st.sampled_from(("shape", "shape", "descr", "order", "key", "missing", "text")))
    if kind == "shape":
        fields["shape"] = draw(st.sampled_from(SHAPES))
    elif kind == "descr":
        fields["descr"] = draw(st.sampled_from(DTYPES))
    elif kind == "order":
        fields["fortran_order"] = draw(st.sampled_from(("True", "1", "'x'", "None")))
    elif kind == "key":
        fields[draw(st.sampled_from(("x", "")))] = "1"
    elif kind == "missing":
        del fields[draw(st.sampled_from(tuple(fields)))]
    written = "{" + ", ".join(f"{name!r}: {value}" for name, value in fields.items()) + ", }"
    if kind == "text":
        place = draw(st.integers(0, len(written)))
        new = draw(
            st.sampled_from(
                ("\0", "(", "'", '"', "\n", "\\", "#", "é", "}", "0x", "1e999", "\n  \n x", "[" * 200, " " * 70_000)
            )
        )
        written = written[:place] + new + written[place:]
    return written


def mutate_npy(draw: Draw, content: bytes) -> bytes:
    """Change the header of an npy file, its version or its length."""
    if not content.startswith(b"\x93NUMPY\x01\0") or len(content) < 12:
        return content
    end = 10 + int.from_bytes(content[8:10], "little")
    header = npy_header(draw, content[10:end].decode("latin-1")).encode("utf-8", "surrogatepass") + b"\n"
    version = draw(st.sampled_from((1, 1, 1, 2, 3, 9)))
    length = draw(st.sampled_from((len(header), len(header), len(header), 0, 5, len(header) + 40, 65_535)))
    body = draw(st.sampled_from((content[end:], content[end:], b"", content[end:][:-7], content[end:] * 2)))
    size = struct.pack("<H" if version == 1 else "<I", min(length, 65_535))
    return b"\x93NUMPY" + bytes((version, 0)) + size + header + body


def npy_bytes(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, array, version=(1, 0))
    return content.getvalue()


def odd_array(draw: Draw, array: np.ndarray) -> np.ndarray:
    """An array of another dtype, shape or content."""
    kinds = (
        "dtype",
        "dtype",
        "shape",
        "empty",
        "scalar",
        "nan",
        "value",
        "negative",
        "same",
        "object",
        "text",
        "record",
        "code",
    )
    kind, n = draw(st.sampled_from(kinds)), len(array)
    if kind == "dtype":
        dtype = draw(st.sampled_from(("f2", "f8", "i1", "i8", "u1", "u8", "c8", "?", "S9", "U9", "M8[s]", "O")))
        try:
            return array.astype(dtype)
        except (ValueError, TypeError):
            return np.zeros(array.shape, dtype)
    if kind == "shape":
        shapes = (
            array[:-1],
            array[:1],
            array[:, None],
            array[None],
            array.T,
            np.concatenate([array, array[:1]]),
            array[::-1],
            array.ravel(),
        )
        return draw(st.sampled_from(shapes))
    if kind == "empty":
        return array[:0]
    if kind == "scalar":
        return np.array(draw(st.sampled_from((0, 1.5, "x", True))))
    if kind == "object":
        return np.array([None, {}, "x"] * n, object)[:n]
    if kind == "code" and array.dtype.kind == "U":
        codes = array.copy().view(np.uint32)
        codes[draw(st.integers(0, len(codes) - 1))] = draw(st.sampled_from((0xD800, 0x110000, 0xFFFFFFFF)))
        return codes.view(array.dtype)
    if kind == "record":
        return np.zeros(n, [("a", "f4"), ("b", "i4")])
    if kind == "text":
        words = ("", "x", "\0", "\ud800", "x" * 3000, "../x", "한글")
        return np.array([draw(st.sampled_from(words)) for _ in range(3)] * n)[:n]
    changed = array.copy()
    values = {"nan": (np.nan, np.inf, -np.inf), "negative": (-1, -5, -(2**62)), "same": (changed.flat[0],)}
    value = draw(st.sampled_from(values.get(kind, (0, 1, 2, 18, 300, 2**31, 2**62, 1e300, 0.5, "x"))))
    try:
        if kind == "same" or draw(st.booleans()):
            changed[...] = value
        else:
            changed[draw(st.integers(0, n - 1))] = value
    except (ValueError, OverflowError, TypeError):
        return np.full(array.shape, value)
    return changed


@cache
def zeros_of_600_mb() -> bytes:
    content = io.BytesIO()
    with (
        zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x", "w", force_zip64=True) as file,
    ):
        header = npy_bytes(np.zeros((0, 18), np.float32)).replace(b"(0, 18), }       ", b"(8400000, 18), } ")
        file.write(header)
        for _ in range(600):
            file.write(bytes(2**20))
    return content.getvalue()


def mutate_npz(draw: Draw, content: bytes) -> bytes:
    """Change the arrays of an npz file, their headers, or the archive."""
    with np.load(io.BytesIO(content)) as archive:
        arrays = {name: archive[name] for name in archive.files}
    members: list[tuple[str, bytes]] = []
    chosen = draw(st.sampled_from(tuple(arrays)))
    kind = draw(
        st.sampled_from(
            (
                "array",
                "array",
                "array",
                "array",
                "header",
                "header",
                "missing",
                "name",
                "double",
                "other",
                "bomb",
                "junk",
            )
        )
    )
    for name, array in arrays.items():
        if name != chosen:
            members.append((f"{name}.npy", npy_bytes(array)))
        elif kind == "array":
            members.append((f"{name}.npy", npy_bytes(odd_array(draw, array))))
        elif kind == "header":
            members.append((f"{name}.npy", mutate_npy(draw, npy_bytes(array))))
        elif kind == "name":
            members.append(
                (draw(st.sampled_from((name, f"x/{name}.npy", "x.npy", ".npy", f"{name}.NPY"))), npy_bytes(array))
            )
        elif kind == "double":
            members += [(f"{name}.npy", npy_bytes(array)), (f"{name}.npy", npy_bytes(odd_array(draw, array)))]
        elif kind == "other":
            members.append((f"{name}.npy", npy_bytes(arrays[draw(st.sampled_from(tuple(arrays)))])))
        elif kind == "junk":
            members.append((f"{name}.npy", draw(st.binary(max_size=40))))
    if kind == "bomb":
        return _with_bomb(members, chosen)
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    packed = zipped(members, draw(st.sampled_from(methods)))
    odd = draw(st.sampled_from((None,) * 6 + ("method", "encrypted", "size")))
    place = packed.rfind(b"PK\x01\x02")
    if odd and place >= 0:
        offset, new = {"method": (10, b"\x63\0"), "encrypted": (8, b"\1\0"), "size": (24, b"\xff\xff\xff\x7f")}[odd]
        packed = packed[: place + offset] + new + packed[place + offset + len(new) :]
    return packed


def zipped(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, data in members:
            # An equal name twice only warns.
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            archive.NameToInfo.pop(name, None)
            archive.writestr(info, data)
    return content.getvalue()


def _with_bomb(members: list[tuple[str, bytes]], name: str) -> bytes:
    """An archive whose array `name` expands to 600 MB; a copy of the packed data, which takes seconds to pack."""
    packed = bytearray(zeros_of_600_mb())
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        [info] = archive.infolist()
        start = len(info.FileHeader())
        data, crc, size = packed[start : start + info.compress_size], info.CRC, info.file_size
    content = io.BytesIO(zipped(members))
    with zipfile.ZipFile(content, "a") as archive:
        info = zipfile.ZipInfo(f"{name}.npy")
        info.compress_type, info.CRC, info.file_size, info.compress_size = zipfile.ZIP_DEFLATED, crc, size, len(data)
        info.header_offset = archive.start_dir
        archive.fp.seek(archive.start_dir)
        archive.fp.write(info.FileHeader() + bytes(data))
        archive.start_dir = archive.fp.tell()
        archive.filelist.append(info)
        archive.NameToInfo[info.filename] = info
        archive._didModify = True
    return content.getvalue()


def mutate_safetensors(draw: Draw, content: bytes) -> bytes:
    """Change the JSON header (dtypes, shapes, offsets, metadata), its length, or the data."""
    length = int.from_bytes(content[:8], "little")
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    kind = draw(
        st.sampled_from(("tree", "tree", "dtype", "shape", "offsets", "metadata", "names", "length", "body", "values"))
    )
    tensors = [name for name in header if name != "__metadata__"]
    name = draw(st.sampled_from(tensors))
    if kind == "tree":
        header = mutate_tree(draw, header, ODD_JSON)
    elif kind == "dtype":
        header[name]["dtype"] = draw(
            st.sampled_from(
                ("F64", "F16", "BF16", "I64", "I8", "U8", "BOOL", "F8_E5M2", "F8_E8M0", "F4", "U64", "C64", "x")
            )
        )
    elif kind == "shape":
        shape = header[name]["shape"]
        header[name]["shape"] = draw(
            st.sampled_from(([], [*shape, 1], shape[::-1], [int(np.prod(shape))], [0], [2**62, 4], [-1], [1.5], [True]))
        )
    elif kind == "offsets":
        other = header[draw(st.sampled_from(tensors))]["data_offsets"]
        header[name]["data_offsets"] = draw(
            st.sampled_from((other, [0, 0], [0, 2**63], [4, 0], [-1, 4], [0, len(body) + 8], [0]))
        )
    elif kind == "metadata":
        architecture = json.loads(header.get("__metadata__", {}).get("architecture", '["test_resnet", {}, {}]'))
        text = to_json(draw, mutate_tree(draw, architecture, ODD_JSON)).decode("utf-8", "surrogatepass")
        header["__metadata__"] = {"architecture": text}
    elif kind == "names":
        header[draw(st.sampled_from(("x", "", "head.linear.weight", "backbone." + name)))] = header.pop(name)
    elif kind == "values":
        width = len(body) - len(body) % 4
        body = (
            struct.pack("<f", draw(st.sampled_from((float("nan"), float("inf"), 1e38, 0.0)))) * (width // 4)
            + body[width:]
        )
    written = to_json(draw, header)
    size = len(written)
    if kind == "length":
        size = draw(st.sampled_from((0, 1, 7, size - 1, size + 1, 2**20, 100_000_001, 2**32, 2**63, 2**64 - 1)))
    if kind == "body":
        body = draw(st.sampled_from((b"", body[:-1], body[:-40], body + b"\0" * 9, body * 2)))
    return size.to_bytes(8, "little") + written + body


ODD_TENSORS = (
    lambda tensor: tensor.double(),
    lambda tensor: tensor.flatten(),
    lambda tensor: tensor[None],
    lambda tensor: tensor.flatten()[:0],
    lambda tensor: tensor.to(torch.int8),
    lambda tensor: tensor.to(torch.complex64),
    lambda tensor: tensor * torch.nan,
    lambda tensor: tensor.flatten().to_sparse(),
    lambda tensor: torch.nn.Parameter(tensor.float()),
    lambda tensor: torch.empty(10**12, device="meta"),
    lambda tensor: torch.empty(tensor.shape, device="meta"),
    lambda tensor: torch.zeros(1).expand(10**10),
    lambda tensor: torch.zeros(()),
    lambda tensor: "x",
    lambda tensor: None,
    lambda tensor: [1],
    lambda tensor: 1.5,
)


PICKLES = (
    b"\x80\x02.", b"\x80\x02N.", b"\x80\x02}.", b"\x80\x02]q\0h\0a.", b"\x80\x02(", b"\x80\x020.", b"\x80\x02h\5.", b"\x80\x02cos\nsystem\nU\4echoR.",
    b"\x80\x02" + b"(" * 5000 + b".", b"\x80\x02" + b"]" * 9000 + b"a" * 8999 + b".", b"\x80\x04\x8e" + b"\xff" * 8 + b".", b"\x80\x02B\xff\xff\xff\x7f.",
    b"\x80\x02cbuiltins\nbytearray\nJ\0\0\0\x70\x85R.", b"\x80\x02ccollections\nOrderedDict\n)R}(U\1aK\1ub.", b"\x80\x02U\1aQ.", b"\x80\x05\x95", b"\x80\x02K\1K\2s.",
    b"\x80\x02ctorch\nSize\nU\1a\x85R.", b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", b"\x80\x02X\1\0\0\0\xff.", b"\x80\x02\x8b\xff\xff\xff\x7f.", b"\x80\xff.",
)  # fmt: skip


def mutate_torch(draw: Draw, content: bytes) -> bytes:
    """Change the saved values, the pickle in the archive with a valid checksum, or the format of torch.save."""
    kind = draw(st.sampled_from(("tree", "tree", "tree", "tensor", "tensor", "pickle", "pickle", "code", "members")))
    if kind in ("tree", "tensor"):
        tree = torch.load(io.BytesIO(content), weights_only=True)
        if kind == "tree":
            odd = ODD_JSON.filter(lambda value: not isinstance(value, Raw))
            tree = mutate_tree(draw, _plain(tree), odd, ("model", "state_dict", "history", "x", ""))
        else:
            tree = _with_odd_tensor(draw, _plain(tree))
        saved = io.BytesIO()
        torch.save(tree, saved, _use_new_zipfile_serialization=draw(st.integers(0, 3)) > 0)
        return saved.getvalue()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    index = next(n for n, (name, _) in enumerate(members) if name.endswith("data.pkl"))
    name, pickled = members[index]
    if kind == "pickle":
        members[index] = name, mutate_bytes(draw, pickled, [pickled])
    elif kind == "code":
        new = draw(st.sampled_from(PICKLES))
        if draw(st.booleans()):
            return new
        members[index] = name, new
    else:
        place = draw(st.integers(0, len(members) - 1))
        name, data = members[place]
        members[place] = name, draw(st.sampled_from((b"", data[:-4], data * 2, b"x")))
        if draw(st.booleans()):
            del members[draw(st.integers(0, len(members) - 1))]
    return zipped(members, draw(st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))))


def _plain(tree: Any) -> Any:
    """Dicts instead of their subclasses."""
    if isinstance(tree, dict):
        return {key: _plain(value) for key, value in tree.items()}
    return [_plain(value) for value in tree] if isinstance(tree, list | tuple) else tree


def _with_odd_tensor(draw: Draw, tree: Any) -> Any:
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            if isinstance(value, torch.Tensor):
                places.append((node, key))
            collect(value)

    collect(tree)
    if places:
        node, key = draw(st.sampled_from(places))
        node[key] = draw(st.sampled_from(ODD_TENSORS))(node[key])
    return tree
