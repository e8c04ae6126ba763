"""Runs agents for whoever is writing them: when their source changes, their new code takes over.

The session stays, and with it what is in work: tasks that run go on with the code they began with,
the next ones get the new. Code that cannot be imported changes nothing until it is mended.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from podium.sdk.agent import Agent
from podium.sdk.host import CLOSE_S_MAX, GRACE_S, AgentHost, run_until_signal
from podium.sdk.settings import Settings

log = logging.getLogger("podium.sdk.agent")

POLL_S = 0.5
OPENING_S = 5.0
"""How long agents may take to open before the log says what is waited for."""


class WrongTarget(ValueError):
    """What was named is no agent; the message says why."""


class Source:
    """Agents in a module, as ``MODULE:NAME`` names them: one, or a list of them.

    Its files are those of the module and of all modules beside or below it that are imported; while
    it cannot be imported, all that lie there, since the one to blame may not have been.

    Raises:
        WrongTarget: it is not of that form.
    """

    def __init__(self, target: str) -> None:
        self._module_name, sign, self._name = target.partition(":")
        if not (self._module_name and sign and self._name):
            raise WrongTarget(f"{target!r} is not MODULE:AGENT")
        self.target = target
        self._state: Mapping[Path, int] = {}
        self._files: set[Path] = set()
        self._folder: Path | None = None
        self._failed = False

    def load(self) -> list[Agent]:
        """Imports the module and returns its agents.

        Raises:
            WrongTarget: there is no such module, or no agent of this name in it.
            Exception: whatever its import raises.
        """
        importlib.invalidate_caches()
        # Compiled files are told apart by seconds and size, which two quick edits may share.
        writing, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        self._failed = True
        try:
            agents = self._agents(importlib.import_module(self._module_name))
            self._failed = False
            return agents
        except ModuleNotFoundError as error:
            if not f"{self._module_name}.".startswith(f"{error.name}."):
                raise  # the module is there, and needs another one that is not
            message = f"cannot import {self._module_name}: run it from where the module is"
            raise WrongTarget(message) from None
        finally:
            sys.dont_write_bytecode = writing
            self._state = self._now()

    def changed(self) -> bool:
        """Tells whether a file has changed since `load`."""
        return self._now() != self._state

    def load_again(self) -> list[Agent]:
        """Imports the module and its own files anew and returns its agents.

        Raises:
            WrongTarget: as `load`; then the modules are as they were.
            Exception: likewise.
        """
        before = {name: sys.modules.pop(name) for name in self._modules()}
        try:
            return self.load()
        except BaseException:
            for name in self._modules():
                del sys.modules[name]
            sys.modules.update(before)
            raise

    def _agents(self, module: ModuleType) -> list[Agent]:
        found: Any = getattr(module, self._name, None)
        agents = list(found) if isinstance(found, list | tuple) else [found]
        if not agents or not all(isinstance(each, Agent) for each in agents):
            known = [name for name, value in vars(module).items() if isinstance(value, Agent)]
            hint = f"; it has {', '.join(known)}" if known else ""
            raise WrongTarget(f"{self._module_name} has no agent called {self._name!r}{hint}")
        for agent in agents:
            if not agent.handlers:
                raise WrongTarget(f"{self.target} handles nothing: decorate a function")
        return agents

    def _modules(self) -> dict[str, Path]:
        """Returns the imported modules whose files are the program's own."""
        package = self._module_name.rpartition(".")[0]
        named = {self._module_name}
        if package:
            named |= {
                name for name in sys.modules if name == package or name.startswith(f"{package}.")
            }
        main = sys.modules.get(self._module_name)
        if main is not None and main.__file__:
            self._folder = Path(main.__file__).parent
        folder = self._folder
        modules = {}
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file is None or name == "__main__" or name.partition(".")[0] == "podium":
                continue
            path = Path(file)
            if name in named or (folder is not None and _is_own(path, folder)):
                modules[name] = path
        return modules

    def _now(self) -> Mapping[Path, int]:
        state = {}
        self._files |= set(self._modules().values())
        files = self._files
        if self._failed and self._folder is not None:
            files = files | set(_below(self._folder))
        for path in files:
            try:
                state[path] = path.stat().st_mtime_ns
            except OSError:
                state[path] = 0  # gone, or between two saves of an editor
        return state


def _below(folder: Path) -> Iterator[Path]:
    """Yields the program's files below a folder, imported or not."""
    for at, folders, names in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith((".", "__")) and name != "node_modules"
            if _is_own(Path(at, name), folder)
        ]
        yield from (Path(at, name) for name in names if name.endswith(".py"))


def _is_own(path: Path, folder: Path) -> bool:
    """Tells whether a file below a folder is the program's, and not of what it has installed."""
    if not path.is_relative_to(folder):
        return False
    installed = [Path(prefix) for prefix in (sys.prefix, sys.base_prefix)]
    below = any(path.is_relative_to(each) for each in installed if each.is_relative_to(folder))
    return not below and not {"site-packages", "dist-packages"} & set(path.parts)


class Reloader:
    """Watches sources and gives a host their new agents.

    Args:
        sources: loaded already.
        host: which runs their agents.
        poll_s: how often files are looked at.
    """

    def __init__(self, sources: Sequence[Source], host: AgentHost, poll_s: float = POLL_S) -> None:
        self._sources = sources
        self._host = host
        self._poll_s = poll_s

    async def run(self) -> None:
        """Watches until it is cancelled."""
        async with asyncio.TaskGroup() as watching:
            for source in self._sources:
                watching.create_task(self._watch(source))

    async def _watch(self, source: Source) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            if source.changed():
                await self._reload(source)

    async def _reload(self, source: Source) -> None:
        # SystemExit is how a module says that a setting is missing.
        try:
            agents = source.load_again()
            replaced = await self._replaced(source, agents)
        except (Exception, SystemExit):
            log.exception("%s is not reloaded; the code before goes on", source.target)
            return
        if replaced:
            log.info("%s is reloaded", source.target)
        else:
            log.warning("%s has changed while it opened: what it was is left", source.target)

    async def _replaced(self, source: Source, agents: Sequence[Agent]) -> bool:
        """Replaces the host's agents, unless their files change before they are open."""
        loop = asyncio.get_running_loop()
        warn_s = loop.time() + OPENING_S
        replacing = asyncio.create_task(self._replace(agents))
        try:
            while not (await asyncio.wait({replacing}, timeout=self._poll_s))[0]:
                if source.changed():
                    return False
                if loop.time() > warn_s:
                    warn_s = float("inf")
                    log.warning("%s still opens; the code before goes on", source.target)
            replacing.result()
            return True
        finally:
            replacing.cancel()
            await asyncio.wait({replacing}, timeout=CLOSE_S_MAX)

    async def _replace(self, agents: Sequence[Agent]) -> None:
        try:
            await self._host.replace(agents)
        except SystemExit as error:  # would end the loop from within a task
            raise RuntimeError(f"a lifespan asked its program to exit: {error.code}") from error


def run_agents(
    targets: Sequence[str], *, settings: Settings | None = None, grace_s: float = GRACE_S
) -> None:
    """Runs agents on one stream until SIGTERM or Ctrl-C.

    Args:
        targets: ``MODULE:NAME`` each.
        settings: where the suite is. Default: the environment.
        grace_s: as `AgentHost`.

    Raises:
        WrongTarget: a target names no agent, or two name the same.
        Exception: whatever the import of a module raises.
    """
    agents = [agent for target in targets for agent in Source(target).load()]
    run_until_signal(_host(agents, settings, grace_s))


def run_reloading(
    targets: Sequence[str], *, settings: Settings | None = None, grace_s: float = GRACE_S
) -> None:
    """Runs agents as `run_agents` does, and reloads them when their files change."""
    sources = [Source(target) for target in targets]
    agents = [agent for source in sources for agent in source.load()]
    host = _host(agents, settings, grace_s)
    reloader = Reloader(sources, host)
    log.info("reloading when files change")
    run_until_signal(host, beside=reloader.run)


def _host(agents: Sequence[Agent], settings: Settings | None, grace_s: float) -> AgentHost:
    try:
        return AgentHost(agents, settings=settings, grace_s=grace_s)
    except ValueError as error:  # the same agent twice
        raise WrongTarget(str(error)) from None
