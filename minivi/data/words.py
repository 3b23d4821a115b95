"""Texts as bags of words."""

import re
from collections import Counter

import numpy as np

WORDS = 10_000  # of the bags of words (thesis, section 7.5.1)


def bags_of_words(train: list[str], test: list[str], words: int = WORDS) -> tuple:
    """Which of the most frequent words each text has.

    A word is a run of letters, digits and inner apostrophes, in lower case. The words are those that occur most often
    in ``train`` alone; among equally frequent ones, the first in the alphabet. The thesis (section 7.5.1) does not say
    whether a feature counts a word or notes its presence; it is presence here, as in Wang and Manning (2012).

    Args:
        train, test: texts.
        words: D, how many words; if ``train`` has fewer, the last columns stay empty.

    Returns:
        (N, D) and (N_test, D): ``scipy.sparse.csr_array`` of float32 ones, the most frequent word first.
    """
    from scipy.sparse import csr_array

    def split(text):
        return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower())

    counts = Counter(word for text in train for word in split(text))
    columns = {word: i for i, word in enumerate(sorted(counts, key=lambda word: (-counts[word], word))[:words])}

    def rows(texts):
        words_of = [sorted({columns[word] for word in split(text) if word in columns}) for text in texts]
        indices = np.array([i for row in words_of for i in row], np.int32)
        starts = np.cumsum([0, *map(len, words_of)], dtype=np.int32)
        return csr_array((np.ones(len(indices), np.float32), indices, starts), shape=(len(words_of), words))

    return rows(train), rows(test)
