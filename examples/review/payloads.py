"""How files travel: their bytes are in the task, so agents need no disk in common.

One small file travels as it is, readable in every viewer, with its name in a label. Several files,
a large one, or one with a very long name travel as a zip archive.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

from examples.review.checks.review import Source

# Podium takes 256 KiB; the rest is room for the task around it.
PAYLOAD_BYTES_MAX = 240 * 1024
PLAIN_BYTES_MAX = 200 * 1024
UNPACKED_BYTES_MAX = 16 * 1024 * 1024
LABEL_CHARACTERS_MAX = 256

ZIP = "application/zip"
PATH = "path"
FIRST_LINE = "first-line"

Packed = tuple[str, bytes, dict[str, str]]  # media type, bytes, labels


class PayloadRefused(ValueError):
    """A payload that is not what `pack` makes. Trying again cannot help."""


def pack(sources: Sequence[Source]) -> Packed:
    """Returns media type, bytes and labels of the payload that carries the sources."""
    first = sources[0]
    if len(sources) == 1:
        labels = {PATH: first.path[-LABEL_CHARACTERS_MAX:]}
        if not first.whole:
            labels[FIRST_LINE] = str(first.first_line)
        if len(first.data) <= PLAIN_BYTES_MAX and len(first.path) <= LABEL_CHARACTERS_MAX:
            return "text/plain", first.data, labels
    else:
        labels = {PATH: f"{first.path} and {len(sources) - 1} more"[-LABEL_CHARACTERS_MAX:]}
    return ZIP, zipped(sources), labels


def zipped(sources: Sequence[Source]) -> bytes:
    """Returns the sources as an archive; times are left out, so equal files make equal bytes."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as writer:
        for source in sources:
            entry = zipfile.ZipInfo(source.path)
            entry.compress_type = zipfile.ZIP_DEFLATED
            writer.writestr(entry, source.data)
    return archive.getvalue()


def unpack(content_type: str, data: bytes, labels: Mapping[str, str]) -> list[Source]:
    """Returns the sources of a payload.

    Raises:
        PayloadRefused: it is no archive, or would unpack to more than 16 MiB.
    """
    if content_type != ZIP:
        first_line = int(labels.get(FIRST_LINE, "1"))
        path = labels.get(PATH, "unnamed")
        return [Source(path, data, first_line, whole=FIRST_LINE not in labels)]
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as reader:
            entries = reader.infolist()
            if sum(entry.file_size for entry in entries) > UNPACKED_BYTES_MAX:
                raise PayloadRefused(
                    f"The archive unpacks to more than {UNPACKED_BYTES_MAX} bytes."
                )
            return [Source(entry.filename, reader.read(entry)) for entry in entries]
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise PayloadRefused(f"The payload is not a readable archive: {error}.") from error
