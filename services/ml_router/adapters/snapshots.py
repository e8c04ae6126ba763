"""Checkpoints in a directory: one file a version, complete or absent, checked when it is read.

A file is three parts: the SHA-256 of the rest on a line, names and numbers as JSON on a line, and
the sums as an npz archive. It is written beside its place, synced, and renamed.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from array import array
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from services.kernel import durable
from services.ml_router.core.learner import (
    AGENT_SUMS,
    CELL_SUMS,
    TYPE_SUMS,
    Sums,
    agents_len_max,
    schema,
    task_types_len_max,
)
from services.ml_router.core.versions import Checkpoint, Kept, Mode, Policy
from services.ml_router.ports import SnapshotRefused

log = logging.getLogger("podium.ml_router.snapshots")

_SUFFIX = ".model"
_REFUSED = ".refused"
_POLICY = "policy.json"


class SnapshotDirectory:
    """Keeps checkpoints below a directory, which is made when the first one is saved."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def list(self) -> list[Kept]:
        """Return the versions whose files are whole, oldest first; put the others aside."""
        kept = []
        for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
            try:
                kept.append(_kept(_read(path)[0]))
            except SnapshotRefused as error:
                log.warning("A model snapshot is put aside: %s", error)
                path.rename(path.with_suffix(_REFUSED))
        return kept

    def load(self, version: str) -> Checkpoint:
        """Return a checkpoint, or raise SnapshotRefused."""
        path = self._path(version)
        header, body = _read(path)
        try:
            with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
                sums = _sums(header, {name: arrays[name] for name in arrays.files})
        # numpy and zipfile raise half a dozen kinds for an archive that is not one.
        except Exception as error:
            raise SnapshotRefused(f"{path.name} holds no valid sums ({error})") from None
        return Checkpoint(_kept(header), header["cursor"], sums)

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint."""
        body = io.BytesIO()
        np.savez(body, allow_pickle=False, **dict(_arrays(checkpoint.sums)))
        header = json.dumps(_header(checkpoint)).encode() + b"\n"
        rest = header + body.getvalue()
        digest = hashlib.sha256(rest).hexdigest().encode() + b"\n"
        durable.replace(self._path(checkpoint.kept.version), digest + rest)

    def delete(self, version: str) -> None:
        """Drop a checkpoint."""
        self._path(version).unlink(missing_ok=True)

    def load_policy(self) -> Policy | None:
        """Return what operators decided."""
        path = self._directory / _POLICY
        try:
            told = json.loads(path.read_bytes())
            mode, fraction, pinned = Mode(told["mode"]), told["canary_fraction"], told["pinned"]
            if not (isinstance(fraction, float) and 0.0 <= fraction <= 1.0):
                raise ValueError("canary_fraction is not from 0 to 1")
            return Policy(mode, fraction, str(pinned))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, OSError) as error:
            log.warning("%s is not used, the mode of the settings is: %s", path.name, error)
            return None

    def save_policy(self, policy: Policy) -> None:
        """Keep what operators decided."""
        told = asdict(policy) | {"mode": policy.mode.value}
        durable.replace(self._directory / _POLICY, json.dumps(told).encode())

    def _path(self, version: str) -> Path:
        return self._directory / f"{version}{_SUFFIX}"


def _read(path: Path) -> tuple[dict[str, Any], bytes]:
    try:
        digest, _, rest = path.read_bytes().partition(b"\n")
    except OSError as error:
        raise SnapshotRefused(f"{path.name} cannot be read ({error.strerror})") from None
    if hashlib.sha256(rest).hexdigest().encode() != digest:
        raise SnapshotRefused(f"{path.name} is damaged: its checksum differs")
    line, _, body = rest.partition(b"\n")
    header: dict[str, Any] = json.loads(line)
    if header["schema"] != schema:
        raise SnapshotRefused(f"{path.name} has schema {header['schema']}, not {schema}")
    return header, body


def _header(checkpoint: Checkpoint) -> dict[str, Any]:
    sums = checkpoint.sums
    return {
        "schema": schema,
        **checkpoint.kept._asdict(),
        "cursor": checkpoint.cursor,
        "agent_ids": sums.agent_ids,
        "task_types": sums.task_types,
        "columns": sums.columns,
        "open_tasks": list(sums.sizes),
        "positions": list(sums.positions.items()),
    }


def _kept(header: dict[str, Any]) -> Kept:
    return Kept(*(header[name] for name in Kept._fields))


def _arrays(sums: Sums) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    yield "fleet", np.array(sums.fleet)
    yield "agent_seqs", np.array(sums.agent_seqs)
    yield "sizes", np.array(list(sums.sizes.values()), np.float64)
    for level, group in (("types", sums.types), ("agents", sums.agents), ("cells", sums.cells)):
        for name, values in group.items():
            yield f"{level}_{name}", np.array(values, np.float64)


def _sums(header: dict[str, Any], arrays: dict[str, np.ndarray[Any, Any]]) -> Sums:
    agents, types, columns = header["agent_ids"], header["task_types"], header["columns"]
    if len(agents) > agents_len_max or not len(types) <= columns <= 2 * task_types_len_max:
        raise ValueError("more names than fit")

    def floats(name: str, length: int) -> array[float]:
        values = arrays[name]
        if values.shape != (length,) or values.dtype != np.float64:
            raise ValueError(f"{name} has another shape")
        if not np.isfinite(values).all() or (values < 0.0).any():
            raise ValueError(f"{name} holds what cannot be a sum")
        return array("d", values.tobytes())

    def group(level: str, names: tuple[str, ...], length: int) -> dict[str, array[float]]:
        return {name: floats(f"{level}_{name}", length) for name in names}

    if arrays["agent_seqs"].shape != (len(agents),):
        raise ValueError("agent_seqs has another shape")
    open_tasks = header["open_tasks"]
    return Sums(
        agent_ids=agents,
        task_types=types,
        columns=columns,
        types=group("types", TYPE_SUMS, len(types)),
        agents=group("agents", AGENT_SUMS, len(agents)),
        cells=group("cells", CELL_SUMS, len(agents) * columns),
        agent_seqs=array("q", arrays["agent_seqs"].astype(np.int64).tolist()),
        fleet=floats("fleet", 2),
        sizes=dict(zip(open_tasks, floats("sizes", len(open_tasks)), strict=True)),
        event_seq=header["event_seq"],
        outcome_count=header["outcome_count"],
        # Earlier versions knew one partition.
        positions=dict(header.get("positions", [(0, header["event_seq"])])),
    )
