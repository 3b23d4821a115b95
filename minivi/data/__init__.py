"""Data sets: found in a folder or fetched once, checked byte for byte, then handed over as arrays.

A set is one entry of :data:`SOURCES`: its files with their checksums, the addresses that serve them, and a function
that makes images and labels of the decoded files. Files lie, gzip'd or plain, in one folder a set:

    $MINIVI_DATA, or the user's cache folder
      |-- mnist/          train-images-idx3-ubyte(.gz), train-labels-..., t10k-images-..., t10k-labels-...
      |-- mnist_static/   binarized_mnist_train.amat(.gz), ..._valid.amat, ..._test.amat
      |-- frey/           frey_rawface.mat
      |-- lfw/            lfw_home/lfw_funneled/, as scikit-learn fetches, checks and unpacks it
      |-- svhn/           train_32x32.mat, test_32x32.mat
      |-- norb/           smallnorb-5x46789x9x18x6x2x96x96-training-dat.mat(.gz), ...-cat.mat, and the same of testing
      |-- cifar10/        cifar-10-binary.tar.gz; for cifar10_small data_batch_1.bin and test_batch.bin will do
      |-- omniglot/       images_background.zip, ..._evaluation.zip, ..._small1.zip, ..._small2.zip, chardata.mat
      |-- polarity/       rt-polarity.neg, rt-polarity.pos
      `-- imdb/           aclImdb_v1.tar.gz, as published

:func:`add` makes a set of one's own images.

A file that is there is only read, so the folder may be read-only; a missing one is fetched. Mirrors compress the same
bytes differently, hence each checksum is that of the bytes *without* gzip (except for ``imdb``). A download is unpacked
and checked under a temporary name and renamed last: the folder holds whole, right files or none. Nothing is ever
unpickled here (scikit-learn keeps the decoded faces of ``lfw`` in a joblib cache of its own, in ``lfw_home``).
"""

from minivi.data.formats import (
    DataError,
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
)
from minivi.data.loading import Dataset, available, describe, fetch, load, named, texts
from minivi.data.minibatches import balanced, batches, binarize, fresh, spread
from minivi.data.own import add, is_own
from minivi.data.sources import SOURCES, Source, folder
from minivi.data.words import bags_of_words

__all__ = [
    "SOURCES",
    "DataError",
    "Dataset",
    "Source",
    "add",
    "available",
    "bags_of_words",
    "balanced",
    "batches",
    "binarize",
    "describe",
    "fetch",
    "folder",
    "fresh",
    "is_own",
    "load",
    "named",
    "parse_amat",
    "parse_cifar",
    "parse_idx",
    "parse_mat",
    "parse_mats",
    "parse_norb",
    "parse_omniglot",
    "parse_reviews",
    "parse_snippets",
    "read_bytes",
    "spread",
    "texts",
]
