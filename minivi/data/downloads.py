"""Downloads within limits of size and time."""

from __future__ import annotations

import time
from pathlib import Path

from minivi.data.formats import LIMIT, DataError
from minivi.progress import visible

SECONDS = 3600  # for one download


class Downloader:
    """What ``pooch`` calls to fetch an address into a file, within :data:`LIMIT` bytes and :data:`SECONDS`."""

    def __init__(self, progress: bool):
        import pooch

        self.http = pooch.HTTPDownloader(progressbar=visible(progress), timeout=30)  # seconds without a byte

    def __call__(self, url: str, temporary: str, _: object) -> None:
        """Fetch ``url`` into the file ``temporary``."""
        with open(temporary, "wb") as self.file:
            self.url, self.left, self.end = url, LIMIT, time.monotonic() + SECONDS
            self.http(url, self, None)

    def write(self, part: bytes) -> None:
        """Take the next bytes."""
        self.left -= len(part)
        if self.left < 0 or time.monotonic() > self.end:
            raise DataError(f"{self.url} gives more than {LIMIT} bytes, or takes more than {SECONDS} seconds")
        self.file.write(part)

    def flush(self) -> None:
        """Write them out, so that the time of a download that goes on is never long past."""
        self.file.flush()


def remove_leftovers(home: Path) -> None:
    """Remove what killed downloads left half-written: pooch's temporary files to which nothing came for a minute."""
    for path in home.glob("tmp????????"):
        if path.is_file() and time.time() - path.stat().st_mtime > 60:
            path.unlink(missing_ok=True)
