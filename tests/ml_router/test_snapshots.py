from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from services.ml_router.adapters.snapshots import SnapshotDirectory
from services.ml_router.core.learner import Learner, Outcome
from services.ml_router.core.versions import Checkpoint, Kept, Mode, Policy
from services.ml_router.ports import SnapshotRefused
from tests.ml_router.worlds import feed


def random_outcomes(count: int, seed: int) -> list[Outcome]:
    generator = np.random.default_rng(seed)
    return [
        Outcome(
            f"type-{generator.integers(12)}",
            f"agent-{generator.integers(30)}",
            bool(generator.random() < 0.8),
            float(generator.lognormal(5.0)),
            float(generator.lognormal()),
        )
        for _ in range(count)
    ]


def checkpoint(learner: Learner, version: str = "v1", create_ms: int = 5) -> Checkpoint:
    sums = learner.sums.copy()
    kept = Kept(version, create_ms, sums.event_seq, 1, 1, sums.outcome_count)
    return Checkpoint(kept, f"cursor-{sums.event_seq}", sums)


@pytest.fixture
def learner() -> Learner:
    learner = Learner()
    learner.open("t-1", 3.25)
    feed(learner, *random_outcomes(500, 1))
    return learner


@pytest.fixture
def snapshots(tmp_path: Path) -> SnapshotDirectory:
    return SnapshotDirectory(tmp_path / "models")


def test_a_snapshot_and_the_rest_of_the_log_give_the_same_bits(
    learner: Learner, snapshots: SnapshotDirectory
) -> None:
    snapshots.save(checkpoint(learner))
    continued = Learner()
    continued.reset(snapshots.load("v1").sums)

    rest = random_outcomes(500, 2)
    feed(learner, *rest)
    feed(continued, *rest)

    # Equality of arrays of floats: every bit of them but the sign of a zero, and there is none.
    assert continued.sums == learner.sums


def test_a_checkpoint_is_read_as_it_was_written(
    learner: Learner, snapshots: SnapshotDirectory
) -> None:
    written = checkpoint(learner)
    snapshots.save(written)

    assert snapshots.load("v1") == written
    assert snapshots.list() == [written.kept]


def test_an_empty_state_can_be_kept(snapshots: SnapshotDirectory) -> None:
    written = checkpoint(Learner())
    snapshots.save(written)

    assert snapshots.load("v1") == written


def test_versions_are_listed_oldest_first_and_can_be_deleted(
    learner: Learner, snapshots: SnapshotDirectory
) -> None:
    for version in ("v2", "v1", "v3"):
        snapshots.save(checkpoint(learner, version))
    snapshots.delete("v2")
    snapshots.delete("v2")

    assert [kept.version for kept in snapshots.list()] == ["v1", "v3"]


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda raw: raw[: len(raw) // 2], "checksum differs"),
        (lambda raw: raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:], "checksum differs"),
        (lambda raw: b"", "checksum differs"),
        (lambda raw: b"\x00" * len(raw), "checksum differs"),
    ],
    ids=["cut", "one bit", "empty", "zeros"],
)
def test_a_damaged_file_is_refused_and_put_aside(
    learner: Learner, snapshots: SnapshotDirectory, tmp_path: Path, harm, sentence: str
) -> None:  # type: ignore[no-untyped-def]  # a table of lambdas
    snapshots.save(checkpoint(learner))
    path = tmp_path / "models" / "v1.model"
    path.write_bytes(harm(path.read_bytes()))

    with pytest.raises(SnapshotRefused, match=sentence):
        snapshots.load("v1")
    assert snapshots.list() == []
    assert (tmp_path / "models" / "v1.refused").exists()


def test_a_file_of_another_schema_is_refused(
    learner: Learner, snapshots: SnapshotDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.ml_router.adapters.snapshots.schema", 99)
    snapshots.save(checkpoint(learner))
    monkeypatch.undo()

    with pytest.raises(SnapshotRefused, match="has schema 99, not"):
        snapshots.load("v1")


def test_sums_that_cannot_be_are_refused(learner: Learner, snapshots: SnapshotDirectory) -> None:
    for fault in (float("nan"), float("inf"), -1.0):
        learner.sums.agents["pace"][0] = fault
        snapshots.save(checkpoint(learner))

        with pytest.raises(SnapshotRefused, match="holds what cannot be a sum"):
            snapshots.load("v1")


def test_shapes_that_do_not_fit_are_refused(learner: Learner, snapshots: SnapshotDirectory) -> None:
    learner.sums.cells["outcomes"].pop()
    snapshots.save(checkpoint(learner))

    with pytest.raises(SnapshotRefused, match="another shape"):
        snapshots.load("v1")


def test_one_that_is_not_there_is_refused(snapshots: SnapshotDirectory) -> None:
    with pytest.raises(SnapshotRefused, match=r"v9\.model cannot be read"):
        snapshots.load("v9")


def test_the_policy_is_remembered(snapshots: SnapshotDirectory) -> None:
    assert snapshots.load_policy() is None
    snapshots.save_policy(Policy(Mode.CANARY, 0.25, "v1"))

    assert snapshots.load_policy() == Policy(Mode.CANARY, 0.25, "v1")


@pytest.mark.parametrize(
    "told",
    [
        b"",
        b"[]",
        json.dumps({"mode": "sometimes", "canary_fraction": 0.0, "pinned": ""}).encode(),
        json.dumps({"mode": "live", "canary_fraction": 7.0, "pinned": ""}).encode(),
        json.dumps({"mode": "live"}).encode(),
    ],
)
def test_a_policy_that_cannot_be_read_is_none(
    snapshots: SnapshotDirectory, tmp_path: Path, told: bytes
) -> None:
    snapshots.save_policy(Policy())
    (tmp_path / "models" / "policy.json").write_bytes(told)

    assert snapshots.load_policy() is None
