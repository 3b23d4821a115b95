"""Data: parsers on every truncation, fetching from a server on the loopback, splits, binarization and minibatches."""

import errno
import gzip
import hashlib
import http.server
import io
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pooch
import pytest
from numpy.testing import assert_array_equal
from scipy.io import savemat

from minivi import data
from minivi.data import DataError, Source, batches, binarize, downloads, formats, load
from minivi.random import Generator

IMAGES = np.arange(4 * 2 * 3, dtype=np.uint8).reshape(4, 2, 3)
HTML = b"<!DOCTYPE html><html><body>Sign in to the network</body></html>"


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def refused(match):
    """A context that expects a DataError of one line."""
    return pytest.raises(DataError, match=rf"\A(?=[^\n]*\Z).*{match}")


# -- formats -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5,), (4, 6), (4, 2, 3), (2, 3, 2, 2)])
def test_idx_round_trip(shape):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert_array_equal(data.parse_idx(idx(array)), array, strict=True)


def test_idx_refuses_every_truncation_and_trailing_bytes():
    content = idx(IMAGES)
    for length in range(len(content)):
        with refused("file.idx"):
            data.parse_idx(content[:length], "file.idx")
    with refused(r"file.idx has 41 bytes, but its IDX header announces \(4, 2, 3\): 40 bytes"):
        data.parse_idx(content + b"\0", "file.idx")


@pytest.mark.parametrize(
    "content",
    [
        HTML,
        b"\x1f\x8b" + bytes(40),
        b"\0\0\x0d\1\0\0\0\1\0\0\0\0",  # one float32
        b"\0\0\x08\0\7",  # no dimension
        b"\0\0\x08\xff" + b"\0\0\0\1" * 255 + b"\0",  # consistent, but NumPy has 64 dimensions at most
        b"\0\0\x08\4" + b"\xff" * 16,  # 3e38 bytes announced
        b"\0\0\x08\3" + bytes(4) + b"\xff" * 8,  # a zero among dimensions that NumPy cannot hold
    ],
)
def test_idx_refuses_foreign_and_hostile_content(content):
    with refused("IDX"):
        data.parse_idx(content)


@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (1, 7), (6, 8)])
@pytest.mark.parametrize("last", ["\n", ""])
def test_amat_agrees_with_loadtxt(shape, last, tmp_path):
    rows = np.random.default_rng(1).integers(0, 2, shape, dtype=np.uint8)
    text = "\n".join(" ".join(map(str, row)) for row in rows.tolist()) + last
    (tmp_path / "a.amat").write_text(text)
    parsed = data.parse_amat(text.encode())
    assert_array_equal(parsed, rows, strict=True)
    assert_array_equal(parsed, np.loadtxt(tmp_path / "a.amat", ndmin=2))


@pytest.mark.parametrize(
    ("content", "row"),
    [
        (b"0 1 0\n0 2 0\n", 2),
        (b"0 1 0\n1 1 1\n0 1\n", 3),  # a short row
        (b"0 1 0\n1 1 1 0 0 0\n", 2),  # a row as long as two
        (b"0 1 0\n0 1\n1\n", 2),  # a short row whose loss another makes good
        (b"0 1 0\n1 1", 2),  # truncated
        (b"0 1 0\n1 1 ", 2),
        (b"0 1 0\n0,1,0\n", 2),
        (b"0 1 0\n\n", 2),
        (b"0 1 0\r\n", 1),
        (b"0 1 0 \n", 1),
        (b"1\n01\n", 2),
        (b"\n", 1),
        (b"", 1),
        (HTML, 1),
    ],
)
def test_amat_names_the_row_that_is_wrong(content, row):
    with refused(f"x.amat is no table .* row {row} of"):
        data.parse_amat(content, "x.amat")


def mat(**arrays):
    file = io.BytesIO()
    savemat(file, arrays)
    return file.getvalue()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float64])
def test_mat_round_trip(dtype):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    assert_array_equal(data.parse_mat(mat(ff=array)), array, strict=True)


def test_mat_refuses_every_truncation():
    content = mat(ff=np.arange(16, dtype=np.uint8).reshape(4, 4))  # whole 8-byte words: no padding to lose
    for length in range(len(content)):
        with refused("faces.mat (is no MATLAB 5 file|holds nothing)"):
            data.parse_mat(content[:length], "faces.mat")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (HTML, "is no MATLAB 5 file"),
        (mat(), "holds nothing, not one array of numbers"),
        (mat(a=np.ones(2), b=np.ones(2)), r"holds \['a', 'b'\], not one array of numbers"),
        (mat(ff="a text"), r"holds \['ff'\], not one array of numbers"),
        (mat(ff=np.array([{"cell": 1}], object)), "not one array of numbers"),
    ],
)
def test_mat_refuses_other_content(content, match):
    with refused(f"faces.mat {match}" if content is HTML else f"faces.mat .*{match}"):
        data.parse_mat(content, "faces.mat")


def test_read_bytes_unpacks_by_content_and_refuses_damage(tmp_path):
    path, packed = tmp_path / "file", gzip.compress(bytes(range(200)))
    for content in (bytes(range(200)), packed):
        path.write_bytes(content)
        assert data.read_bytes(path) == bytes(range(200))
    foreign_block = packed[:10] + b"\xff" + packed[11:]
    wrong_checksum = packed[:-8] + bytes(4) + packed[-4:]
    truncated = [packed[:n] for n in range(2, len(packed))]
    for content in [*truncated, foreign_block, wrong_checksum, packed + b"more"]:
        path.write_bytes(content)
        with refused("file is truncated, damaged or unreadable"):
            data.read_bytes(path)
    for unreadable in (tmp_path, tmp_path / "missing"):
        with refused("unreadable"):
            data.read_bytes(unreadable)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_read_bytes_stops_at_the_limit(pack, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "LIMIT", 1000)
    (tmp_path / "fits").write_bytes(pack(bytes(1000)))
    (tmp_path / "bomb").write_bytes(pack(bytes(1001)))
    assert len(data.read_bytes(tmp_path / "fits")) == 1000
    with refused("bomb unpacks to more than 1000 bytes"):
        data.read_bytes(tmp_path / "bomb")


def test_what_never_ends_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with refused("is truncated, damaged or unreadable .no regular file."):
            data.read_bytes(path)


HOSTILE = """
import bz2, gzip, io, resource, struct, sys, tarfile, time, zipfile, zlib
from minivi import data

MB = 2**20

def element(kind, content):
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)

def array(kind, dims, name, *rest):
    flags = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack(f"<{len(dims)}i", *dims))
    return element(14, flags + element(1, name) + b"".join(rest))

def mat(*arrays):
    return b"MATLAB 5.0".ljust(124) + struct.pack("<H", 0x100) + b"IM" + b"".join(arrays)

def nested(depth):
    inner = b""
    for _ in range(depth):  # a cell that holds a cell that holds ..., built from the inside
        inner = array(1, (1, 1), b"", inner)
    return mat(inner)

def drawings(method, declared, content):
    file = io.BytesIO()
    name = "images/Greek/character01/0000_01.png"
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(name, content)
    packed = bytearray(file.getvalue())
    for place in (22, packed.index(b"PK\\1\\2") + 24):  # the size, in the local header and in the directory
        packed[place : place + 4] = struct.pack("<I", declared)
    return bytes(packed)

def many(count):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for i in range(count):
            archive.writestr(f"i/a{i}/character01/0000_01.png", b"")
    return file.getvalue()

def reviews(header, size, content):
    info = tarfile.TarInfo("x")
    info.type, info.size = header, size
    packed = zlib.compressobj(1, wbits=31)
    zeros = packed.compress(info.tobuf(tarfile.GNU_FORMAT)), *(packed.compress(bytes(MB)) for _ in range(content))
    return b"".join(zeros) + packed.flush()

def read_reviews(content, where):
    return data.parse_reviews(io.BytesIO(content), where)

CASES = {
    "nested 12,000 deep": (data.parse_mat, nested(12_000)),
    "inflates to 300 MB": (data.parse_mat, mat(element(15, zlib.compress(bytes(300 * MB), 1)))),
    "compressed twice": (data.parse_mat, mat(element(15, zlib.compress(element(15, zlib.compress(bytes(MB))))))),
    "twice 150 MB": (data.parse_mats, mat(*[element(15, zlib.compress(bytes(150 * MB), 1))] * 2)),
    "compressed array of 37 TB": (data.parse_mat, mat(element(15, zlib.compress(
        array(9, (32, 32, 3, 2**31 - 1, 6), b"X", element(2, bytes(8))))))),
    "array of 16 EB": (data.parse_mat, mat(array(9, (2**31 - 1,) * 2, b"x", element(2, bytes(8))))),
    "negative size": (data.parse_mat, mat(array(9, (-1, -8), b"x", element(2, bytes(8))))),
    "32 dimensions": (data.parse_mat, mat(array(9, (2,) * 32, b"x", element(2, bytes(8))))),
    "a name of 100 kB": (data.parse_mat, mat(array(9, (1, 8), b"x" * 100_000, element(2, bytes(8))))),
    "20,000 arrays": (data.parse_mat, mat(*(array(4, (1, 8), b"%d" % i) for i in range(20_000)))),
    "100 long names": (data.parse_mat, mat(*(array(4, (1, 8), b"%063d" % i) for i in range(100)))),
    "zip that lies": (data.parse_omniglot, drawings(zipfile.ZIP_DEFLATED, 100, bytes(150 * MB))),
    "bzip2 bomb": (data.parse_omniglot, drawings(zipfile.ZIP_BZIP2, 100, bytes(150 * MB))),
    "2,000 characters": (data.parse_omniglot, many(2000)),
    "zip of 130 MB": (data.parse_omniglot, bytes(130 * MB)),
    "a line of 128 MB": (data.parse_amat, b"0 " * (64 * MB) + b"2"),
    "128 million lines": (data.parse_amat, b"0\\n1\\n2\\n" + b"\\n" * (128 * MB)),
    "announces 16 GB": (data.parse_idx, b"\\0\\0\\x08\\4" + b"\\0\\0\\1\\0" * 4),
    "NORB of 16 EB": (data.parse_norb, struct.pack("<II3i", 0x1E3D4C54, 2, 2**31 - 1, 2**31 - 1, 1) + bytes(8)),
    "NORB of -2 times -4": (data.parse_norb, struct.pack("<II3i", 0x1E3D4C55, 2, -2, -4, 1) + bytes(8)),
    "NORB of 2**31 dimensions": (data.parse_norb, struct.pack("<II", 0x1E3D4C55, 2**31) + bytes(64 * MB)),
    "snippets of 128 MB": (data.parse_snippets, b"\\n" * (128 * MB)),
    "a pax header of 1 GB": (read_reviews, reviews(tarfile.XHDTYPE, 1024 * MB, 1024)),
    "a long name of 1 GB": (read_reviews, reviews(tarfile.GNUTYPE_LONGNAME, 1024 * MB, 8)),
    "a file of 2 GB": (read_reviews, reviews(tarfile.REGTYPE, 2048 * MB, 8)),
}
with open("/proc/self/statm") as file:
    pages = int(file.read().split()[0])
limit = pages * resource.getpagesize() + 700 * MB
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for name, (parse, content) in CASES.items():
    begun = time.process_time()
    try:
        parse(content, "file")
        print(name, "was accepted")
    except data.DataError as error:
        text = str(error)
        if len(text) > 300 or "\\n" in text or not text.startswith("file ") or time.process_time() - begun > 2:
            print(name, len(text), time.process_time() - begun, text[:200])
    except BaseException as error:
        print(name, type(error).__name__, str(error)[:100])
print(len(CASES), "cases")
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux: memory is limited by setrlimit")
@pytest.mark.slow
def test_hostile_files_are_refused_in_one_line_and_little_memory():
    """Each in a few hundred megabytes and two seconds of CPU time."""
    done = subprocess.run([sys.executable, "-c", HOSTILE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "25 cases\n"), done.stdout + done.stderr


# -- fetching ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch):
    """A server on the loopback: ``server.replies`` by path (404 without one), ``server.asked`` in order."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)
            body, length = self.server.replies.get(self.path, (b"", None))
            self.send_response(404 if length is None else 200)
            self.send_header("Content-Length", str(length or 0))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.asked, httpd.replies = [], {}
        httpd.url = f"http://127.0.0.1:{httpd.server_port}"
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield httpd
        httpd.shutdown()
        thread.join()


@pytest.fixture
def tiny(server, monkeypatch, tmp_path):
    """The set "tiny" of one IDX file, served (or not) by two mirrors; its folder is empty."""
    content = idx(IMAGES)
    source = Source(
        name="tiny",
        what="four images",
        kind="grey",
        shape=(2, 3),
        splits=("3/1", "2/1/1"),
        read=lambda images: (images[:3].reshape(3, 6) / np.float32(255), None, images[3:] / np.float32(255), None),
        parse=data.parse_idx,
        files={"images": hashlib.sha256(content).hexdigest()},
        addresses=(f"{server.url}/one/", f"{server.url}/two/"),
        suffix=".gz",
    )
    monkeypatch.setitem(data.SOURCES, "tiny", source)
    monkeypatch.setenv("MINIVI_DATA", str(tmp_path / "cache"))
    return source


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_fetch_keeps_the_unpacked_bytes_and_asks_once(tiny, server, tmp_path):
    body = gzip.compress(idx(IMAGES))
    server.replies["/one/images.gz"] = body, len(body)
    assert not data.describe("tiny")["cached"]
    data.fetch("tiny", progress=True)
    data.fetch("tiny")
    assert server.asked == ["/one/images.gz"]
    path = tmp_path / "cache" / "tiny" / "images"
    assert path.read_bytes() == idx(IMAGES)
    assert files(tmp_path) == ["images"]
    assert os.name != "posix" or path.stat().st_mode & 0o777 == 0o644
    assert data.describe("tiny")["cached"]
    loaded = load("tiny", "2/1/1")
    assert_array_equal(np.concatenate([loaded.train, loaded.validation]), load("tiny").train)
    assert server.asked == ["/one/images.gz"]


GOOD = gzip.compress(idx(IMAGES))
OTHER = gzip.compress(idx(IMAGES[::-1]))
BAD = {
    "missing": (b"", None, "404 Client Error"),
    "foreign": (
        HTML,
        len(HTML),
        "is not the published images: its checksum differs, it has 63 bytes and starts with b'<!DOCTYPE html",
    ),
    "interrupted": (GOOD[:-9], len(GOOD), "cannot be reached"),
    "truncated": (GOOD[:-9], len(GOOD) - 9, "truncated, damaged or unreadable"),
    "altered": (OTHER, len(OTHER), "is not the published images: its checksum differs"),
}


@pytest.mark.parametrize("bad", BAD)
def test_fetch_goes_on_to_the_next_address(bad, tiny, server, tmp_path):
    body, length, reason = BAD[bad]
    server.replies["/one/images.gz"] = body, length
    with refused(f"no address gave images: .*{reason}.*put it, gzip'd or not, at .*tiny.images"):
        load("tiny", progress=False)
    assert server.asked == ["/one/images.gz", "/two/images.gz"]
    assert files(tmp_path) == []
    server.replies["/two/images.gz"] = GOOD, len(GOOD)
    assert_array_equal(load("tiny", progress=False).train, IMAGES[:3].reshape(3, 6) / np.float32(255), strict=True)
    assert files(tmp_path) == ["images"]


def test_fetch_without_a_network(tiny, monkeypatch, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        monkeypatch.setitem(data.SOURCES, "tiny", replace(tiny, addresses=(address,)))
        with refused(r"images.gz cannot be reached \(ConnectionError\)"):
            data.fetch("tiny", progress=False)
    assert files(tmp_path) == []


def test_leftovers_of_killed_downloads_are_removed(tiny, server, tmp_path):
    """Those to which nothing came for a minute; a download that goes on elsewhere, and other files, stay."""
    home = tmp_path / "cache" / "tiny"
    home.mkdir(parents=True)
    for name, age in (("tmpab12_xyz", 61), ("tmpcd34_xyz", 5), ("tmpnotes.txt", 999), ("mine", 999)):
        (home / name).write_bytes(GOOD[:20])
        os.utime(home / name, (then := time.time() - age, then))
    server.replies["/one/images.gz"] = GOOD, len(GOOD)
    data.fetch("tiny", progress=False)
    assert files(tmp_path) == ["images", "mine", "tmpcd34_xyz", "tmpnotes.txt"]


@pytest.mark.parametrize(("limit", "value"), [("LIMIT", 30), ("SECONDS", 0)])
def test_a_download_that_does_not_end_is_ended(limit, value, tiny, server, monkeypatch, tmp_path):
    server.replies["/one/images.gz"] = GOOD, len(GOOD)
    monkeypatch.setattr(downloads, limit, value)
    with refused("one/images.gz gives more than .* bytes, or takes more than .* seconds"):
        data.fetch("tiny", progress=False)
    assert files(tmp_path) == []


def test_plain_http_needs_a_checksum(tiny):
    with pytest.raises(ValueError, match="tiny: an address without encryption needs the checksum of each file"):
        replace(tiny, files={"images": ""})
    for source in data.SOURCES.values():
        assert all(address.startswith("https:") for address in source.addresses) or all(source.files.values())


def test_no_parser_sees_a_file_whose_checksum_differs(tiny, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setitem(data.SOURCES, "tiny", replace(tiny, parse=lambda *args: seen.append(args)))
    (tmp_path / "cache" / "tiny").mkdir(parents=True)
    (tmp_path / "cache" / "tiny" / "images").write_bytes(b"other")
    with refused("is not the published images: its checksum differs, it has 5 bytes and starts with b'other'; move it"):
        data.fetch("tiny")
    assert seen == []


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (KeyboardInterrupt(), pytest.raises(KeyboardInterrupt)),
        (OSError(errno.ENOSPC, "No space left on device"), refused("cannot write .*No space left.*MINIVI_DATA")),
    ],
)
def test_a_stopped_download_leaves_nothing(stop, expected, tiny, monkeypatch, tmp_path):
    tried = []

    def half(self, url, output_file, pooch):
        tried.append(url)
        output_file.write(GOOD[:20])
        raise stop

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", half)
    with expected:
        data.fetch("tiny", progress=False)
    assert len(tried) == 1  # another mirror would not help
    assert files(tmp_path) == []


def test_fetch_into_a_folder_that_cannot_be(tiny, server, monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    monkeypatch.setenv("MINIVI_DATA", str(tmp_path / "file"))
    with refused("cannot write .*set MINIVI_DATA to another folder"):
        data.fetch("tiny", progress=False)
    assert server.asked == []
    assert (tmp_path / "file").read_bytes() == b"mine"


@pytest.mark.parametrize("bad", ["foreign", "truncated", "altered"])
@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_a_users_own_file_is_named_and_left_alone(bad, name, tiny, server, tmp_path):
    path = tmp_path / "cache" / "tiny" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(BAD[bad][0])
    for use in (load, data.fetch):
        with refused(rf"{name}.*{BAD[bad][2]}.*; move it away, then run `minivi data fetch tiny`"):
            use("tiny")
    assert path.read_bytes() == BAD[bad][0]
    path.write_bytes(GOOD)
    assert load("tiny").train.shape == (3, 6)
    assert files(tmp_path) == [name]
    assert server.asked == []


# -- sets --------------------------------------------------------------------------------------------------------------


def test_unknown_names_list_the_known_ones():
    for use in (load, data.fetch, data.describe):
        with refused("no data set .mnits.; did you mean mnist; there are digits, mnist, mnist_static, frey, lfw"):
            use("mnits")
    with refused("digits has no split '1/2'; there are 1500/297, 1200/300/297"):
        load("digits", "1/2")


def test_folder_is_the_variable_or_the_users_cache(monkeypatch):
    monkeypatch.setenv("MINIVI_DATA", "~/sets")
    assert data.folder() == Path.home() / "sets"
    monkeypatch.setenv("MINIVI_DATA", "")
    assert data.folder() == pooch.os_cache("minivi")


def test_describe_covers_every_set(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIVI_DATA", str(tmp_path))
    described = {name: data.describe(name) for name in data.available()}
    assert [name for name, row in described.items() if row["cached"]] == ["digits"]
    assert described["digits"]["folder"] is None
    assert described["mnist"]["folder"] == tmp_path / "mnist"
    assert len(described["mnist"]["addresses"]) == 2
    assert described["norb"]["folder"] == described["norb_pairs"]["folder"] == tmp_path / "norb"
    assert (described["svhn"]["kind"], described["svhn"]["shape"]) == ("colour", (32, 32, 3))


def test_digits_hold_each_bundled_digit_once_with_its_label():
    from sklearn.datasets import load_digits

    digits = load("digits")
    x, labels = load_digits(return_X_y=True)
    ours = np.column_stack(
        [np.concatenate([digits.train, digits.test]) * 16, [*digits.train_labels, *digits.test_labels]]
    )
    theirs = np.column_stack([x, labels])
    assert_array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])
    assert not np.array_equal(ours, theirs)
    assert digits.train.shape == (1500, 64)
    assert digits.train.dtype == digits.test.dtype == np.float32
    assert np.bincount(digits.test_labels).min() >= 25  # of 297, ten classes


def test_validation_is_the_end_of_the_training_images():
    whole, parts = load("digits"), load("digits", "1200/300/297")
    assert whole.validation is whole.validation_labels is None
    assert_array_equal(np.concatenate([parts.train, parts.validation]), whole.train)
    assert_array_equal(np.concatenate([parts.train_labels, parts.validation_labels]), whole.train_labels)
    assert_array_equal(parts.test, whole.test)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (1200, 300, 297)


@pytest.fixture
def real(request):
    """A real set, where ``MINIVI_DATA`` (or the cache) has it; never downloaded by a test."""
    name, split = request.param
    if not data.describe(name)["cached"]:
        pytest.skip(f"{name} is not in {data.folder()}; run `minivi data fetch {name}` or set MINIVI_DATA")
    return load(name, split)


@pytest.mark.parametrize("real", [("mnist", "50000/10000/10000")], indirect=True)
def test_real_mnist(real):
    assert (real.train.shape, real.validation.shape, real.test.shape) == ((50000, 784), (10000, 784), (10000, 784))
    assert real.train.dtype == np.float32
    assert (real.train.min(), real.train.max()) == (0, 1)
    counts = np.bincount(np.concatenate([real.train_labels, real.validation_labels]))
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(real.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert real.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    mean = (real.train.mean(dtype=float) * 5 + real.validation.mean(dtype=float)) / 6
    np.testing.assert_allclose([mean, real.test.mean(dtype=float)], [0.1306604763, 0.1325146058], rtol=1e-6)


@pytest.mark.parametrize("real", [("mnist_static", None)], indirect=True)
def test_real_static_mnist(real):
    assert (real.kind, real.shape, real.train_labels) == ("binary", (28, 28), None)
    parts = (real.train, real.validation, real.test)
    assert [part.shape for part in parts] == [(50000, 784), (10000, 784), (10000, 784)]
    assert [int(part.sum(dtype=float)) for part in parts] == [5118041, 1028036, 1038896]
    assert all(((part == 0) | (part == 1)).all() for part in parts)


@pytest.mark.parametrize("real", [("frey", None)], indirect=True)
def test_real_frey(real):
    assert (real.kind, real.shape, real.train_labels) == ("grey", (28, 20), None)
    assert (real.train.shape, real.test.shape, real.train.dtype) == ((1765, 560), (200, 560), np.float32)
    frames = data.parse_mat(data.read_bytes(data.folder() / "frey" / "frey_rawface.mat")).T / np.float32(255)
    together = np.concatenate([real.train, real.test])
    assert_array_equal(real.train[0], frames[0])
    assert_array_equal(together[np.lexsort(together.T)], frames[np.lexsort(frames.T)])  # each frame once
    face = real.train[0].reshape(28, 20)  # upright: the dark eyes lie in the upper half, left and right of the nose
    eyes, brow, nose = face[6:9, 4:8].mean() + face[6:9, 12:16].mean(), face[0:3, 5:15].mean(), face[6:9, 9:11].mean()
    assert eyes / 2 < min(brow, nose) - 0.1
    test = real.test.reshape(-1, 28, 20)
    rows, columns = np.abs(np.diff(test, axis=1)).mean(), np.abs(np.diff(test, axis=2)).mean()
    flat = np.abs(np.diff(test.reshape(-1, 20, 28), axis=1)).mean()  # the wrong width breaks the columns
    assert max(rows, columns) < 0.7 * flat
    # The test frames are spread over the whole film.
    assert abs(real.train.mean(dtype=float) - real.test.mean(dtype=float)) < 0.01


# -- use ---------------------------------------------------------------------------------------------------------------


class Zeros(np.random.Generator):
    """A generator that draws the least number possible."""

    def random(self, size, dtype):
        return np.zeros(size, dtype)


class Drawing:
    """A generator with ``bernoulli``, as minivi's own."""

    def bernoulli(self, p, dtype=None):
        return np.full_like(p, 0.5, dtype)


def test_dynamic_binarization_draws_afresh_with_the_grey_value_as_probability():
    rng = np.random.default_rng(3)
    x = np.repeat(np.array([0, 1 / 255, 0.3, 0.5, 0.9, 1], np.float32), 100_000)
    draw = binarize(x, "dynamic", rng)
    assert (draw.dtype, draw.shape) == (np.float32, x.shape)
    assert set(np.unique(draw)) == {0, 1}
    p = x[::100_000].astype(float)
    error = draw.reshape(6, -1).mean(1, dtype=float) - p
    assert (np.abs(error) <= 4.5 * np.sqrt(p * (1 - p) / 100_000)).all()  # exact at 0 and 1
    assert not np.array_equal(draw, binarize(x, "dynamic", rng))
    assert_array_equal(draw, binarize(x, "dynamic", np.random.default_rng(3)))


def test_a_black_pixel_stays_black_for_every_draw():
    assert binarize(np.array([0, 1e-30]), "dynamic", Zeros(np.random.PCG64())).tolist() == [0, 1]


def test_binarization_uses_bernoulli_where_the_generator_has_it():
    assert_array_equal(binarize(np.ones((2, 3)), "dynamic", Drawing()), np.full((2, 3), 0.5, np.float32), strict=True)


def test_threshold_binarization_splits_8_bit_grey_in_the_middle():
    grey = np.arange(256, dtype=np.uint8)
    expected = (grey >= 128).astype(np.float32)
    assert_array_equal(binarize(grey / np.float32(255), "threshold"), expected, strict=True)
    assert binarize(np.float32(0.5), "threshold") == 0


@pytest.mark.parametrize(
    ("x", "how", "rng", "match"),
    [
        (0.5, "static", None, "neither 'dynamic' nor 'threshold'.*mnist_static"),
        (np.array([0.0, 1.5]), "threshold", None, "outside"),
        (np.array([0.0, np.nan]), "threshold", None, "NaN"),
        (np.array([0, 255], np.uint8), "dynamic", np.random.default_rng(0), "divide 8-bit grey by 255"),
        (0.5, "dynamic", None, "rng is None; give a minivi or NumPy Generator"),
        (0.5, "dynamic", 3, "rng is 3"),
        (0.5, "dynamic", np.random, "rng is <module"),
    ],
)
def test_binarize_refuses(x, how, rng, match):
    with refused(match):
        binarize(x, how, rng)


@pytest.mark.parametrize("generator", [np.random.default_rng, Generator])
def test_balanced_data_are_as_many_of_each_class(generator):
    labels = np.repeat([7, -1, 3], [50, 40, 30])[np.random.default_rng(1).permutation(120)]
    drawn = data.balanced(labels, 60, generator(4))
    assert (drawn.shape, len(np.unique(drawn)), drawn.dtype.kind) == ((60,), 60, "i")
    assert [np.count_nonzero(labels[drawn] == value) for value in (7, -1, 3)] == [20, 20, 20]
    assert_array_equal(drawn, data.balanced(labels, 60, generator(4)))
    assert not np.array_equal(drawn, data.balanced(labels, 60, generator(5)))
    assert set(data.balanced(labels, 15, generator(4))) <= set(drawn)
    assert len(np.unique(labels[drawn[:10]])) > 1  # mixed, not class after class
    assert sorted(labels[data.balanced(labels, 90, generator(0))]) == [-1] * 30 + [3] * 30 + [7] * 30


def test_each_datum_of_a_class_is_as_likely_to_be_drawn():
    labels, rng = np.arange(30) % 3, np.random.default_rng(2)
    counts = np.bincount(np.concatenate([data.balanced(labels, 12, rng) for _ in range(2000)]), minlength=30)
    assert np.abs(counts - 800).max() <= 4.5 * np.sqrt(2000 * 0.4 * 0.6)


@pytest.mark.parametrize(
    ("labels", "count", "rng", "error", "match"),
    [
        ([0, 1, 2, 2], 4, np.random.default_rng(0), ValueError, "count 4 is no multiple of 3 classes; take 6"),
        ([0, 1, 1, 2, 2, 2], 6, np.random.default_rng(0), ValueError, "class 0 has 1 data, fewer than 2; .* at most 3"),
        ([0, 1], 0, np.random.default_rng(0), ValueError, "count must be an integer, at least 1; got 0"),
        ([0, 1], 2.0, np.random.default_rng(0), ValueError, "count must be an integer"),
        ([], 2, np.random.default_rng(0), ValueError, r"labels must be integers of shape \(N,\)"),
        (None, 2, np.random.default_rng(0), ValueError, r"labels must be integers of shape \(N,\)"),
        (
            [[0], [1]],
            2,
            np.random.default_rng(0),
            ValueError,
            r"labels must be integers of shape \(N,\); got .*\(2, 1\)",
        ),
        ([0.0, 1.0], 2, np.random.default_rng(0), ValueError, r"labels must be integers of shape \(N,\)"),
        ([0, 1], 2, None, DataError, "rng is None"),
    ],
)
def test_balanced_refuses(labels, count, rng, error, match):
    with pytest.raises(error, match=rf"\A(?=[^\n]*\Z)balanced: .*{match}"):
        data.balanced(labels, count, rng)


@pytest.mark.parametrize(("n", "size", "sizes"), [(10, 4, [4, 4, 2]), (10, 5, [5, 5]), (3, 7, [3]), (1, 1, [1])])
def test_an_epoch_has_every_example_once_and_aligned(n, size, sizes):
    x = np.arange(n)
    for rng in (None, np.random.default_rng(0)):
        parts = list(batches(x, 10 * x, size=size, rng=rng))
        assert [len(a) for a, _ in parts] == sizes
        a, b = (np.concatenate(column) for column in zip(*parts, strict=True))
        assert_array_equal(np.sort(a), x)
        assert_array_equal(b, 10 * a)
        assert rng is not None or (a == x).all()


def test_the_order_is_the_generators():
    x = np.arange(100.0).reshape(50, 2)
    epochs = [
        [np.concatenate(list(batches(x, size=7, rng=rng))) for _ in range(2)]
        for rng in map(np.random.default_rng, (5, 5))
    ]
    assert_array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[0][0], epochs[0][1])
    rng = np.random.default_rng(5)
    assert_array_equal(epochs[0][0], x[rng.permutation(50)])
    abandoned = np.random.default_rng(5)
    batches(x, size=7, rng=abandoned)  # not one batch is taken, and yet the order is drawn
    assert abandoned.random() == rng.random()


def test_the_smaller_last_batch_can_be_dropped():
    x = np.arange(10)
    assert [part.tolist() for part in batches(x, size=4, rng=None, drop_last=True)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [len(part) for part in batches(x, size=5, rng=None, drop_last=True)] == [5, 5]


@pytest.mark.parametrize(
    ("arrays", "options", "match"),
    [
        ((), {}, r"lengths \[\]"),
        ((np.ones(3), np.ones(4)), {}, r"lengths \[3, 4\]"),
        ((np.ones((0, 2)),), {}, r"lengths \[0\]"),
        ((np.ones(3),), {"size": 0}, "size 0"),
        ((np.ones(3),), {"size": 4, "drop_last": True}, "size 4 with 3 examples and drop_last=True gives no batch"),
        ((np.ones(3),), {"rng": 0}, "rng is 0"),
    ],
)
def test_batches_refuse_at_once(arrays, options, match):
    with refused(match):
        batches(*arrays, **{"size": 2, "rng": None} | options)
