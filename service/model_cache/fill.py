"""Bringing a folder to hold a model: what is missing is fetched, whole, verified, and stamped.

It takes a manifest and a hub and knows nothing of command lines.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from service.model_cache.folder import Folder, Part
from service.model_cache.hub import Hub
from service.model_cache.manifest import Manifest, ModelFile
from service.model_cache.progress import Teller, amount
from service.model_cache.refusals import RefusedError
from service.model_cache.verify import confirm

__all__ = ["PAUSES", "Filled", "fill"]

PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before a file is asked for again. As many times as there are numbers here it may bring
nothing; whatever arrives makes them begin anew."""

LONGEST_WAIT = 60.0
"""Seconds for which it waits because a hub asks for it. For longer it does not stay."""

Open = Callable[[], Hub]
Choose = Callable[[Manifest | None, Open], Manifest]
"""Gives the manifest that is wanted, from what the folder says that it holds or from the hub."""


@dataclass(frozen=True, slots=True)
class Filled:
    """What was done."""

    manifest: Manifest
    fetched_bytes: int


def fill(
    folder: Folder,
    choose: Choose,
    open_hub: Open,
    teller: Teller,
    pause: Callable[[float], None] = time.sleep,
) -> Filled:
    """Bring the folder to hold what `choose` gives. Nobody is asked when it does.

    Raises RefusedError.
    """
    with folder.locked(lambda: teller.note(f"another run fills {folder.path}: waiting for it")):
        manifest = choose(folder.manifest(), open_hub)
        missing = [file for file in manifest.files if not _is_there(folder, file, teller)]
        if not missing:
            folder.adopt(manifest)
            return Filled(manifest, 0)
        folder.check_room(missing)
        hub = open_hub()
        confirm(hub, manifest)
        # Only now: whoever may not have the new model keeps the old one.
        folder.adopt(manifest)
        size = sum(file.size for file in missing)
        teller.note(
            f"{len(missing)} of {len(manifest.files)} files, {amount(size)}, of"
            f" {manifest.repository} at {manifest.revision[:12]} from {hub.host}"
        )
        fetcher = _Fetcher(hub, manifest, folder, teller, pause)
        for file in missing:
            fetcher.fetch(file)
        return Filled(manifest, fetcher.received)


def _is_there(folder: Folder, file: ModelFile, teller: Teller) -> bool:
    """Look at a file; read it where it has changed since it was verified."""
    if folder.is_stamped(file):
        return True
    if not (folder.path / file.path).is_file():
        return False
    teller.begin(f"{file.path} (reading)", 0, file.size)
    right = folder.is_right(file, teller.advance)
    teller.finish("verified" if right else "not what the manifest says; fetching it again")
    return right


class _Fetcher:
    """Fetches files one after the other; a cut is gone on from.

    received: bytes that came, those that were of no use included
    """

    def __init__(
        self,
        hub: Hub,
        manifest: Manifest,
        folder: Folder,
        teller: Teller,
        pause: Callable[[float], None],
    ) -> None:
        self._hub = hub
        self._manifest = manifest
        self._folder = folder
        self._teller = teller
        self._pause = pause
        self.received = 0

    def fetch(self, file: ModelFile) -> None:
        """Fetch a file, verify it, and put it in its place. Raises RefusedError."""
        resumed = self._folder.arrived(file)
        if resumed:
            self._teller.begin(f"{file.path} (reading what has arrived)", 0, resumed)
        with self._folder.part(file, self._teller.advance) as part:
            if resumed:
                self._teller.finish("going on from there")
            self._teller.begin(file.path, part.size, file.size)
            self._complete(file, part)
            if part.sha256 != file.sha256 and resumed:
                self._teller.note(f"{file.path}: what lay there was damaged; beginning anew")
                self._restart(part)
                self._complete(file, part)
            digest = part.sha256
        if digest != file.sha256:
            self._folder.drop(file)
            raise self._refusal("wrong_hash", file, found=digest)
        self._folder.place(file)
        self._teller.finish("verified")

    def _complete(self, file: ModelFile, part: Part) -> None:
        """Ask until all bytes are there, as long as asking brings any."""
        barren = 0
        while part.size < file.size:
            before = part.furthest
            try:
                self._receive(file, part)
            except RefusedError as refused:
                barren = 0 if part.furthest > before else barren + 1
                if not self._is_worth_another(refused, part, barren):
                    raise
                self._wait(file, refused, barren)

    def _receive(self, file: ModelFile, part: Part) -> None:
        """Ask once, from where the part ends."""
        with self._hub.open(
            self._manifest.repository, self._manifest.revision, file.path, part.size
        ) as body:
            if body.total is not None and body.total != file.size:
                kind = "longer" if body.total > file.size else "shorter"
                raise self._refusal(kind, file, found=f"{body.total} bytes")
            if body.start == 0:
                # It sends the whole file, whatever it was asked for.
                self._restart(part)
            elif body.start != part.size:
                raise self._refusal("range", file, at=part.size)
            for piece in body.pieces:
                self.received += len(piece)
                if part.size + len(piece) > file.size:
                    self._restart(part)
                    raise self._refusal("longer", file, found="more")
                part.add(piece)
                self._teller.advance(len(piece))
        if part.size < file.size:
            raise self._refusal("cut", file, at=part.size)

    def _restart(self, part: Part) -> None:
        if not part.size:
            return
        self._teller.advance(-part.size)
        part.restart()

    def _is_worth_another(self, refused: RefusedError, part: Part, barren: int) -> bool:
        if barren > len(PAUSES):
            return False
        if refused.kind == "range" and part.size:
            # What lies there is longer than what there is, or the hub cannot send a part.
            self._restart(part)
            return True
        return refused.again and (refused.seconds or 0) <= LONGEST_WAIT

    def _wait(self, file: ModelFile, refused: RefusedError, barren: int) -> None:
        seconds = refused.seconds if refused.seconds is not None else PAUSES[max(barren - 1, 0)]
        self._teller.note(f"{file.path}: {refused.what}; asking again in {seconds:.0f} s")
        self._pause(seconds)

    def _refusal(self, kind: str, file: ModelFile, **found: object) -> RefusedError:
        return RefusedError(
            kind,
            host=self._hub.host,
            repository=self._manifest.repository,
            revision=self._manifest.revision,
            path=file.path,
            size=file.size,
            **found,
        )
