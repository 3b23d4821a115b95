"""The data sets: their files, checksums and addresses, and how files become images, texts and labels."""

import hashlib
import math
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from minivi.data.downloads import Downloader, remove_leftovers
from minivi.data.formats import (
    LIMIT,
    DataError,
    first_words,
    open_file,
    parse_amat,
    parse_cifar,
    parse_idx,
    parse_mat,
    parse_mats,
    parse_norb,
    parse_omniglot,
    parse_reviews,
    parse_snippets,
    read_bytes,
    read_members,
)
from minivi.data.words import WORDS, bags_of_words


def folder() -> Path:
    """Where data lies: the environment variable ``MINIVI_DATA``, else the user's cache folder for minivi."""
    import pooch

    return Path(os.environ.get("MINIVI_DATA") or pooch.os_cache("minivi")).expanduser()


@dataclass(frozen=True)
class Source:
    """What there is to know of a set.

    Attributes:
        name: the set's name, and that of its folder.
        what: one line, with the publication.
        kind: ``"grey"``, ``"colour"``, ``"binary"`` or ``"words"``.
        shape: (H, W) of one image, or (H, W, 3); or (D,).
        splits: the splits offered, the default first; the last number counts the test images.
        read: makes (x, labels, x_test, labels_test) of the decoded files, in the order of ``files``.
        parse: decodes the unpacked bytes of a file; its second argument is the name for messages.
        files: all needed, by name without ``.gz``, with the SHA-256 of their unpacked bytes; or ``md5:`` and the MD5
            where only that is published, or nothing where none is: then ``read`` looks at what it gets.
        addresses: folders that serve the files, in the order in which they are tried.
        suffix: what the addresses append to a file's name.
        megabytes: size of the download; 0 where there is none, or it is not known.
        home: the folder of its files, if sets share one that is not called ``name``.
        place: for a set that ``read`` itself fetches: what its folder holds once the set is there.
        limit: the most bytes that one of its files has unpacked.
        photo: whether 1 is light, and not ink.
    """

    name: str
    what: str
    kind: str
    shape: tuple[int, ...]
    splits: tuple[str, ...]
    read: Callable[..., tuple]
    parse: Callable[[bytes, str | Path], np.ndarray | dict[str, np.ndarray] | list[str]] | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    suffix: str = ""
    megabytes: float = 0
    home: str = ""
    place: str = ""
    limit: int = LIMIT
    photo: bool = False

    def __post_init__(self):
        if any(a.startswith("http:") for a in self.addresses) and not all(self.files.values()):
            raise ValueError(f"{self.name}: an address without encryption needs the checksum of each file")

    @property
    def folder(self) -> Path:
        """Where its files belong."""
        return folder() / (self.home or self.name)


def _digits():
    """The 1,797 digits that scikit-learn ships, in an order that mixes their 13 writers.

    The file goes from writer to writer. Steps of 1111 (nearly the golden section of 1,797, and coprime to it) visit
    every digit once and spread any run of them evenly; unlike a seeded shuffle, this stays the same for ever.
    """
    from sklearn.datasets import load_digits

    x, labels = load_digits(return_X_y=True)
    order = np.arange(len(x)) * 1111 % len(x)
    x, labels = (x[order] / 16).astype(np.float32), labels[order].astype(np.int64)
    return x[:1500], labels[:1500], x[1500:], labels[1500:]


def _frey(faces):
    """The frames of the film as rows, (1965, 560), in an order that mixes them.

    The documents name no split. Neighbouring frames are nearly equal, so the last tenth of the film would be a test of
    other expressions, not of other frames: as for the digits, fixed steps spread the test frames evenly.
    """
    x = (faces.T / np.float32(255)).astype(np.float32)
    x = x[np.arange(len(x)) * 1214 % len(x)]  # 1214 is coprime to 1965, and nearly its golden section
    return x[:1765], None, x[1765:], None


def _lfw():
    """13,233 faces in colour, at a quarter of their resolution, in the order that scikit-learn mixes them."""
    from sklearn.datasets import fetch_lfw_people

    home = folder() / "lfw"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of each retry; what led to it is in the error
            people = fetch_lfw_people(data_home=home, color=True, resize=0.25)
    except Exception as error:  # the archive's damage, the network's absence, a folder that cannot be written, ...
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"lfw: scikit-learn cannot give the faces ({reason}); run `minivi data fetch lfw` with a network, or put "
            f"lfw-funneled.tgz and pairs.txt, pairsDevTrain.txt, pairsDevTest.txt into {home / 'lfw_home'}"
        ) from error
    x, labels = np.asarray(people.images, np.float32), np.asarray(people.target, np.int64)
    if x.shape != (13233, *SOURCES["lfw"].shape) or not (x.min() >= 0 and x.max() <= 1):
        raise DataError(
            f"lfw: scikit-learn gave {x.shape}, not 13233 faces of 31x23x3 in [0, 1]; remove {home}, then run "
            "`minivi data fetch lfw`"
        )
    x = x.reshape(len(x), -1)
    return x[:12000], labels[:12000], x[12000:], labels[12000:]


def _drawings(characters, drawers, first_label=0):
    """Rows and labels: all characters by the first drawer, then by the next, so that any run of rows mixes them."""
    x = np.stack(list(characters.values()), axis=1)[drawers]  # (drawers, characters, 784)
    labels = first_label + np.tile(np.arange(len(characters), dtype=np.int64), len(x))
    return x.reshape(-1, x.shape[-1]), labels


def _omniglot(background, evaluation):
    """The official split, by alphabets: what is tested are characters never seen."""
    return *_drawings(background, slice(0, 20)), *_drawings(evaluation, slice(0, 20), len(background))


def _omniglot_small(small1, small2):
    """The 8 alphabets of the small background sets, split by drawers; two alphabets are in both, and count once."""
    characters = dict(sorted((small1 | small2).items()))
    return *_drawings(characters, slice(0, 16)), *_drawings(characters, slice(16, 20))


def _omniglot_burda(arrays):
    """The rows of ``chardata.mat``, upright; no checksum of it is published, so what it holds is looked at."""
    x, x_test = arrays.get("data"), arrays.get("testdata")
    for name, part, count in (("data", x, 24345), ("testdata", x_test, 8070)):
        shape = None if part is None else part.shape
        if shape != (784, count) or part.dtype.kind not in "iuf" or not (part.min() >= 0 and part.max() <= 1):
            raise DataError(
                f"{SOURCES['omniglot_burda'].folder / 'chardata.mat'}: {name} is {shape}, not (784, {count}) with "
                "values in [0, 1]; move it away, then run `minivi data fetch omniglot_burda`"
            )
    # MATLAB counts pixels down the columns.
    x, x_test = (part.T.reshape(-1, 28, 28).transpose(0, 2, 1).reshape(-1, 784) for part in (x, x_test))
    return x.astype(np.float32), None, x_test.astype(np.float32), None


def _mnist(images, labels, test_images, test_labels):
    x, x_test = (part.reshape(len(part), -1) / np.float32(255) for part in (images, test_images))
    return x, labels.astype(np.int64), x_test, test_labels.astype(np.int64)


def _rows(images):
    """8-bit images as rows in [0, 1], written once: a set for which a second copy would not fit needs that."""
    rows = np.empty((len(images), math.prod(images.shape[1:])), np.float32)
    np.divide(images, np.float32(255), out=rows.reshape(images.shape))
    return rows


def _labels(name, images, shape, labels, values):
    """The labels of images as int64 of shape (N,); refused where the two do not belong together."""
    found, count = None if images is None else (images.shape, images.dtype.name), 0 if labels is None else labels.size
    if not count or found != ((count, *shape), "uint8") or labels.min() < values[0] or labels.max() > values[-1]:
        raise DataError(
            f"{name}: {SOURCES[name].folder} has images {found} and {count} labels, not 8-bit images {shape} with a "
            f"label from {values[0]} to {values[-1]} each; move its files away, then run `minivi data fetch {name}`"
        )
    return labels.reshape(-1).astype(np.int64)


def _svhn(train, test):
    """The cropped digits of house numbers; their label 10 is the digit 0.

    The author's code for thesis 3.4.3 (``anglepy/data/svhn.py`` of github.com/dpkingma/nips14-ssl) keeps the first
    68,000 digits to train and the next 5,000 to validate, and fits M1 to the 531,131 of ``extra_32x32.mat`` too. These
    are left out: as float32 they take 6.5 GB.
    """
    parts = []
    for arrays in (train, test):
        x, labels = arrays.get("X"), arrays.get("y")
        images = None if x is None else np.moveaxis(x, -1, 0)  # stored as (32, 32, 3, N)
        labels = _labels("svhn", images, SOURCES["svhn"].shape, labels, range(1, 11))
        parts += [_rows(images), labels % 10]
    return tuple(parts)


def _norb(*arrays):
    """What the first camera saw, each 2x2 pixels reduced to their mean.

    The thesis does not say which images of NORB it takes. Its author's code (``anglepy/data/norb.py`` of
    github.com/dpkingma/nips14-ssl) takes those of the first camera, over 256 as float16, and reduces them to means of
    blocks; ``gpulearn_z_x.py``, which trains M1, asks for 48x48. Here they are over 255, as all images of this library.
    """

    def reduce(pairs):
        return pairs[:, 0].reshape(-1, 48, 2, 48, 2).mean(axis=(2, 4), dtype=np.float32) / np.float32(255)

    return _of_norb("norb", reduce, arrays)


def _norb_pairs(*arrays):
    """Both images of a pair as published, the first camera's on the left; the rows of the whole set take 3.6 GB."""
    return _of_norb("norb_pairs", lambda pairs: _rows(pairs.transpose(0, 2, 1, 3)), arrays)


def _of_norb(name, reduce, arrays):
    """Images by ``reduce`` and categories: 0 animal, 1 human, 2 airplane, 3 truck, 4 car."""
    parts = []
    for pairs, categories in (arrays[:2], arrays[2:]):
        labels = _labels(name, pairs, (2, 96, 96), categories, range(5))
        parts += [reduce(pairs).reshape(len(pairs), -1), labels]
    return tuple(parts)


def _mnist_static(train, validation, test):
    return np.concatenate([train, validation], dtype=np.float32), None, test.astype(np.float32), None


def _polarity(negative, positive):
    """Snippets of reviews: 9,596 for training and 1,066 for the test.

    There is no official split (most report ten-fold cross-validation). Neighbouring lines are often of one film; as for
    the digits, fixed steps spread the test snippets evenly, and mix the two sides.
    """
    texts, labels = negative + positive, np.repeat(np.arange(2), [len(negative), len(positive)])
    order = np.arange(len(texts)) * 6589 % len(texts)  # 6589 is coprime to 10,662, and nearly its golden section
    texts, labels = [texts[i] for i in order], labels[order]
    n = int(SOURCES["polarity"].splits[0].split("/")[0])
    x, x_test = bags_of_words(texts[:n], texts[n:])
    return x, labels[:n], x_test, labels[n:]


def _archive(name, file, md5):
    """The path of a set's archive, fetched if it is missing; ``md5`` is that of the compressed file, the only one."""
    path, address = SOURCES[name].folder / file, SOURCES[name].addresses[0] + file
    if not path.exists():
        import pooch

        remove_leftovers(path.parent)
        try:
            pooch.retrieve(address, f"md5:{md5}", file, path.parent, downloader=Downloader(True))
        except Exception as error:  # no network, another file there, a full disk, ...
            raise DataError(
                f"{name}: cannot fetch {address} ({first_words(error)}); fetch it by hand and put it at {path}"
            ) from None
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with open_file(path) as content:
            for part in iter(lambda: content.read(2**20), b""):
                digest.update(part)
    except OSError as error:
        raise DataError(f"{path} is unreadable ({error})") from None
    if digest.hexdigest() != md5:
        raise DataError(
            f"{path} is not the published {file}: its checksum differs; move it away, then run "
            f"`minivi data fetch {name}`"
        )
    return path


CIFAR = "cifar-10-binary.tar.gz"
CIFAR_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CIFAR_PARTS = ([f"data_batch_{i}.bin" for i in range(1, 6)], ["test_batch.bin"])


def _cifar10():
    """50,000 training and 10,000 test images."""
    path = _archive("cifar10", CIFAR, CIFAR_MD5)
    batches = read_members(path, "cifar-10-batches-bin/", CIFAR_PARTS[0] + CIFAR_PARTS[1])
    return _of_cifar([[parse_cifar(batches[name], name) for name in names] for names in CIFAR_PARTS])


def _cifar10_small():
    """The first batch, and the first 2,000 test images: from files of their own if they are there."""
    names, home = (CIFAR_PARTS[0][0], CIFAR_PARTS[1][0]), SOURCES["cifar10_small"].folder
    if all((home / name).exists() for name in names):
        contents = {name: read_bytes(home / name) for name in names}
    else:
        contents = read_members(_archive("cifar10", CIFAR, CIFAR_MD5), "cifar-10-batches-bin/", names)
    x, labels, x_test, labels_test = _of_cifar([[parse_cifar(contents[name], home / name)] for name in names])
    return x[:10_000], labels[:10_000], x_test[:2_000], labels_test[:2_000]


def _of_cifar(parts):
    """Rows and labels of the images in each part's batches."""
    rows = []
    for batches in parts:
        images, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
        rows += [_rows(images), labels.astype(np.int64)]
    return tuple(rows)


IMDB = "aclImdb_v1.tar.gz"
IMDB_MD5 = "7c2ac02c03563afcf9b574c7e56c153a"  # of the gzip'd file, of which there is only one


def _imdb():
    """25,000 reviews for training and as many for the test, negative and positive by turns.

    The archive is larger than :data:`LIMIT` when unpacked, hence is not kept so, but read once from end to end.
    """
    path = _archive("imdb", IMDB, IMDB_MD5)
    with open_file(path) as file:
        texts = parse_reviews(file, path)
    counts = {key: len(reviews) for key, reviews in texts.items()}
    half = int(SOURCES["imdb"].splits[0].split("/")[0]) // 2
    if counts != {f"{part}/{side}": half for part in ("train", "test") for side in ("neg", "pos")}:
        raise DataError(
            f"{path} has {counts or 'no reviews'}, not {half} of each side in each part; move it away, then run "
            "`minivi data fetch imdb`"
        )
    parts = []
    for part in ("train", "test"):
        pairs = zip(texts[f"{part}/neg"], texts[f"{part}/pos"], strict=True)
        parts.append([review.replace("<br />", " ") for pair in pairs for review in pair])
    x, x_test = bags_of_words(*parts)
    labels = np.tile(np.arange(2), half)
    return x, labels, x_test, labels.copy()


NORB = {  # MD5 of the unpacked files, from pull request 492 of torchvision; others publish those of the gzip'd ones
    f"smallnorb-5x{instances}x9x18x6x2x96x96-{part}-{what}.mat": f"md5:{digest}"
    for instances, part, what, digest in (
        ("46789", "training", "dat", "8138a0902307b32dfa0025a36dfa45ec"),
        ("46789", "training", "cat", "fd5120d3f770ad57ebe620eb61a0b633"),
        ("01235", "testing", "dat", "e9920b7f7b2869a8f1a12e945b2c166c"),
        ("01235", "testing", "cat", "fd5120d3f770ad57ebe620eb61a0b633"),  # classes go by turns in both
    )
}
OMNIGLOT = (
    "https://github.com/brendenlake/omniglot/raw/master/python/",
    "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/",
)

_SOURCES = (
    Source(
        name="digits",
        what="8x8 digits, values 0..16 over 16 (Alpaydin & Kaynak 1998, test part; comes with scikit-learn)",
        kind="grey",
        shape=(8, 8),
        splits=("1500/297", "1200/300/297"),
        read=_digits,
    ),
    Source(
        name="mnist",
        what="28x28 digits, values 0..255 over 255 (LeCun, Bottou, Bengio & Haffner 1998)",
        kind="grey",
        shape=(28, 28),
        splits=("60000/10000", "50000/10000/10000"),
        read=_mnist,
        parse=parse_idx,
        files={
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
        addresses=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        suffix=".gz",
        megabytes=11.6,
    ),
    Source(
        name="mnist_static",
        what="MNIST binarized once for all (Salakhutdinov & Murray 2008; files of Larochelle & Murray 2011)",
        kind="binary",
        shape=(28, 28),
        splits=("50000/10000/10000",),
        read=_mnist_static,
        parse=parse_amat,
        files={
            "binarized_mnist_train.amat": "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
            "binarized_mnist_valid.amat": "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
            "binarized_mnist_test.amat": "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
        },
        addresses=(
            "https://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
            "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
        ),
        megabytes=109.8,
    ),
    Source(
        name="frey",
        photo=True,
        what="1,965 frames of a film of one face, 28x20, values 0..255 over 255 (Roweis, Saul & Hinton 2001)",
        kind="grey",
        shape=(28, 20),
        splits=("1765/200",),
        read=_frey,
        parse=parse_mat,
        files={"frey_rawface.mat": "7882eea80fd835e56dde82a69200923188aa771f7cb872c538b10bb7621b20f9"},
        addresses=("https://cs.nyu.edu/~roweis/data/", "http://www.cs.nyu.edu/~roweis/data/"),
        megabytes=1.0,
    ),
    Source(
        name="lfw",
        what="Labeled Faces in the Wild, 31x23 in colour (Huang, Ramesh, Berg & Learned-Miller 2007)",
        kind="colour",
        shape=(31, 23, 3),
        splits=("12000/1233",),
        read=_lfw,
        megabytes=233,
        place="lfw_home/lfw_funneled",
    ),
    Source(
        name="svhn",
        what="digits cropped from photos of house numbers, 32x32 in colour (Netzer et al. 2011)",
        kind="colour",
        shape=(32, 32, 3),
        splits=("73257/26032", "68000/5257/26032"),
        read=_svhn,
        parse=parse_mats,
        files={
            "train_32x32.mat": "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
            "test_32x32.mat": "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
        },
        addresses=("https://ufldl.stanford.edu/housenumbers/", "http://ufldl.stanford.edu/housenumbers/"),
        megabytes=246.3,
    ),
    Source(
        name="norb",
        what="small NORB: 48x48 photos of toys, 5 classes, means of 2x2 pixels (LeCun, Huang & Bottou 2004)",
        kind="grey",
        shape=(48, 48),
        splits=("24300/24300",),
        read=_norb,
        parse=parse_norb,
        files=NORB,
        addresses=("https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/",),
        suffix=".gz",
        megabytes=262.7,
        home="norb",
        limit=2**29,
    ),
    Source(
        name="norb_pairs",
        what="the same as published: pairs by two cameras, 96x96 each, side by side",
        kind="grey",
        shape=(96, 192),
        splits=("24300/24300",),
        read=_norb_pairs,
        parse=parse_norb,
        files=NORB,
        addresses=("https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/",),
        suffix=".gz",
        megabytes=262.7,
        home="norb",
        limit=2**29,
    ),
    Source(
        name="cifar10",
        what="photos of 10 classes, 32x32 in colour (Krizhevsky 2009)",
        kind="colour",
        shape=(32, 32, 3),
        splits=("50000/10000", "45000/5000/10000"),
        read=_cifar10,
        addresses=("https://www.cs.toronto.edu/~kriz/",),
        megabytes=170.1,
        place=CIFAR,
    ),
    Source(
        name="cifar10_small",
        what="its first batch and 2,000 test images, or what data_batch_1.bin and test_batch.bin beside it hold",
        kind="colour",
        shape=(32, 32, 3),
        splits=("10000/2000", "9000/1000/2000"),
        read=_cifar10_small,
        addresses=("https://www.cs.toronto.edu/~kriz/",),
        megabytes=170.1,
        home="cifar10",
        place="test_batch.bin",
    ),
    Source(
        name="omniglot",
        what="28x28 characters, parts of a cell's area that are ink (Lake, Salakhutdinov & Tenenbaum 2015)",
        kind="grey",
        shape=(28, 28),
        splits=("19280/13180",),
        read=_omniglot,
        parse=parse_omniglot,
        files={
            "images_background.zip": "md5:68d2efa1b9178cc56df9314c21c6e718",
            "images_evaluation.zip": "md5:6b91aef0f799c5bb55b94e3f2daec811",
        },
        addresses=OMNIGLOT,
        megabytes=15.9,
        home="omniglot",
    ),
    Source(
        name="omniglot_small",
        what="the same for the 242 characters of the two small background sets, drawers 17 to 20 for the test",
        kind="grey",
        shape=(28, 28),
        splits=("3872/968",),
        read=_omniglot_small,
        parse=parse_omniglot,
        files={
            "images_background_small1.zip": "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4",
            "images_background_small2.zip": "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f",
        },
        addresses=OMNIGLOT,
        megabytes=2.9,
        home="omniglot",
    ),
    Source(
        name="omniglot_burda",
        what="28x28 characters, reduced and split by Burda, Grosse & Salakhutdinov 2015: that of published numbers",
        kind="grey",
        shape=(28, 28),
        splits=("24345/8070",),
        read=_omniglot_burda,
        parse=parse_mats,
        files={"chardata.mat": ""},
        addresses=(
            "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/",
            "https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/",
        ),
        home="omniglot",
    ),
    Source(
        name="polarity",
        what="10,662 snippets of film reviews, which of 10,000 words each has (Pang & Lee 2005)",
        kind="words",
        shape=(WORDS,),
        splits=("9596/1066",),
        read=_polarity,
        parse=parse_snippets,
        files={  # of the text in UTF-8; rt-polaritydata.tar.gz of Cornell has the same text in Windows-1252
            "rt-polarity.neg": "2d11cfbc790f1cd96d78339f41ce53ced1efa83cd22d37d6788fa3fe3d17e2fd",
            "rt-polarity.pos": "4134882974a28d0c7b5151256f0e33a6169984ee7372c279e673f1114f475d58",
        },
        addresses=(
            "https://github.com/dennybritz/cnn-text-classification-tf/raw/master/data/rt-polaritydata/",
            "https://raw.githubusercontent.com/dennybritz/cnn-text-classification-tf/master/data/rt-polaritydata/",
        ),
        megabytes=1.2,
    ),
    Source(
        name="imdb",
        what="50,000 film reviews, which of 10,000 words each has (Maas et al. 2011)",
        kind="words",
        shape=(WORDS,),
        splits=("25000/25000",),
        read=_imdb,
        addresses=("https://ai.stanford.edu/~amaas/data/sentiment/",),
        megabytes=84.1,
        place=IMDB,
    ),
)
SOURCES = {source.name: source for source in _SOURCES}
