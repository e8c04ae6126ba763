from __future__ import annotations

import fcntl
import socket
from pathlib import Path

import pytest

from examples.review import suite
from examples.review.__main__ import main, options_of, sentences
from examples.review.fleet import FleetFailed
from examples.review.job import Stalled


def test_by_default_this_repository_and_the_library_are_reviewed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = options_of([])

    assert (options.folders[0] / "pyproject.toml").is_file()
    assert (options.agents, options.once, options.ports) == (10, False, "default")
    assert options.data_dir == Path("podium-data")

    monkeypatch.setenv("PODIUM_DATA_DIR", "/elsewhere")
    assert options_of([]).data_dir == Path("/elsewhere")


def test_several_folders_may_be_named() -> None:
    options = options_of(["--dir", "a", "--dir", "b", "--once", "--agents", "4"])

    assert options.folders == [Path("a"), Path("b")]
    assert (options.once, options.agents) == (True, 4)


@pytest.mark.parametrize("agents", ["3", "101", "many"])
def test_a_fleet_that_cannot_be_is_refused(agents: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        options_of(["--agents", agents])

    assert ended.value.code == 2
    assert "--agents" in capsys.readouterr().err


def test_a_folder_that_is_not_there_ends_the_program_with_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["--dir", str(tmp_path / "absent"), "--data-dir", str(tmp_path / "data")])

    assert code == 2
    assert f"There is no folder {tmp_path / 'absent'}." in capsys.readouterr().out.replace("\n", "")
    assert not (tmp_path / "data").exists()


def test_a_folder_with_nothing_in_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()

    assert main(["--dir", str(tmp_path / "empty"), "--data-dir", str(tmp_path / "data")]) == 2
    assert "There is nothing to review in empty." in capsys.readouterr().out


def test_a_port_in_use_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(suite.suite, "DEFAULT_PORTS", {"edge": port})

        with pytest.raises(suite.Refused, match=f"Port {port}, which edge needs, is taken"):
            suite.check_ports("default")
        suite.check_ports("free")


def test_every_job_begins_with_an_empty_folder_of_its_own(tmp_path: Path) -> None:
    with suite.folder_of_its_own(tmp_path) as folder:
        (folder / "journal.db").write_text("old")
    with suite.folder_of_its_own(tmp_path) as folder:
        assert list(folder.iterdir()) == []


def test_two_jobs_do_not_share_a_folder(tmp_path: Path) -> None:
    with (tmp_path / "review.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with (
            pytest.raises(suite.Refused, match="Another review is using"),
            suite.folder_of_its_own(tmp_path),
        ):
            pass


def test_a_data_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(suite.Refused, match="Cannot write to"),
        suite.folder_of_its_own(tmp_path / "file" / "data"),
    ):
        pass


def test_errors_of_a_group_are_told_one_by_one_and_faults_are_not_hidden() -> None:
    expected = ExceptionGroup("", [Stalled("nothing moves"), FleetFailed("all are gone")])

    assert sentences(expected) == ["nothing moves", "all are gone"]
    with pytest.raises(ExceptionGroup):
        sentences(ExceptionGroup("", [Stalled("nothing moves"), KeyError("a fault")]))
