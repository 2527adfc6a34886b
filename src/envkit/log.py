"""`logs/run.log`: what went wrong in a run, a line each, for a person to read. Tracebacks are on the traces."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from envkit.events import Event, Listener, LoopHeld, RolloutEnded, SandboxClosed
from envkit.progress import Progress
from envkit.terminal import one_line
from envkit.trace import Trace

WIDTH = 500
"""Characters of a line."""
_TOLD = (RolloutEnded, LoopHeld, SandboxClosed)


@contextmanager
def logged(progress: Progress, listener: Listener | None) -> Generator[Listener | None]:
    """The listener of a run, which also writes the log where the run has a directory."""
    if progress.directory is None:
        yield listener
        return
    log = Log(progress.directory.path / "logs" / "run.log", listener)
    manifest = progress.directory.manifest
    log.say(f"{manifest.env} · {manifest.model}: begins, with {len(progress.done)} rollouts finished before")
    try:
        yield log.hear
    finally:
        why = f": {progress.why}" if progress.why else ""
        log.say(f"ends ({progress.directory.manifest.status}{why}), with {len(progress.done)} rollouts finished")


class Log:
    """A file of lines, each with its time (UTC). A disk that takes no more loses them, and stops nothing here."""

    def __init__(self, path: Path, listener: Listener | None) -> None:
        self._path, self._listener = path, listener

    def hear(self, event: Event) -> None:
        """Note what went wrong, and pass everything on."""
        if isinstance(event, _TOLD):
            self._note(event)
        if self._listener is not None:
            self._listener(event)

    def _note(self, event: Event) -> None:
        match event:
            case RolloutEnded(trace) if trace.error is not None:
                error = trace.error
                self.say(f"{_name(trace)} failed ({error.kind}, {error.phase}): {error.message}")
            case LoopHeld(trace, function, seconds):
                self.say(f"{_name(trace)}: {function} held the event loop for {seconds:.2f} s")
            case SandboxClosed(trace, error=str(error)):
                self.say(f"{_name(trace)}: {error}")
            case _:
                pass

    def say(self, text: str) -> None:
        """Write a line."""
        line = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {one_line(text, WIDTH)}\n"
        with suppress(OSError):
            self._path.parent.mkdir(exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)


def _name(trace: Trace) -> str:
    return f"{trace.task_id} #{trace.sample}"
