"""The keys of sealed versions in one run: which generation a new version gets, and the key that opens it.

Private keys are read from the environment when a version is sealed, and only kept in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from reconciler.content.age.keys import Identity
from reconciler.content.sealing.seal_key import SealInputs, SealKey
from reconciler.errors import BundleError, InvalidIndexError, UserError
from reconciler.index.identities import identities_from
from reconciler.index.model import Index, Version
from reconciler.index.seal_keys import WrappedKey, load_wrapped_keys, recipients_of, unlock
from reconciler.index.seal_policy import KEY_ENV


class NoSealKeyError(BundleError):
    """The key of a sealed version is not at hand, so its bytes cannot be made here."""


class SealKeys:
    """The keys of the models of an index in `index_file`; files of recipients are relative to `root`."""

    def __init__(self, index_file: Path | None, root: Path, environ: Mapping[str, str]) -> None:
        self._index_file = index_file
        self._root = root
        self._environ = environ
        self._wrapped: dict[str, tuple[WrappedKey, ...]] = {}
        self._identities: dict[str, list[Identity]] = {}
        self._keys: dict[tuple[str, int], SealKey] = {}

    def wrapped(self, model: str) -> tuple[WrappedKey, ...]:
        """Return the generations of the key of `model`, the oldest first. Raises InvalidIndexError."""
        if model not in self._wrapped:
            file = self._index_file
            self._wrapped[model] = () if file is None else load_wrapped_keys(file, model)
        return self._wrapped[model]

    def for_new(self, version: Version) -> SealInputs | None:
        """Return how a version that is not published is sealed, None when it is not.

        Raises BundleError when it cannot be sealed.
        """
        if version.seal is None:
            return None
        if version.source is not None:
            raise BundleError(
                f"{version.ref} cannot be sealed from a remote source: the key of each file follows from its "
                "sum, so every byte would leave the source twice",
                hint="download it, and name the directory with `path` in place of `source`",
                where=version.where,
            )
        generations = self.wrapped(version.model)
        if not generations:
            raise BundleError(
                f"{version.model} has no key yet to seal {version.ref} with",
                hint=f"`reconcile seal {version.model}` makes one for the recipients in the index",
                where=version.where,
            )
        newest = generations[-1]
        return SealInputs(newest.generation, newest.key, version.seal.hides_names)

    def for_published(self, version: Version) -> Iterator[SealInputs]:
        """Yield how a published version may have been sealed, the newest generation first."""
        hidden = version.seal is not None and version.seal.hides_names
        for each in reversed(self.wrapped(version.model)):
            for hides_names in (hidden, not hidden):
                yield SealInputs(each.generation, each.key, hides_names)

    def open(self, version: Version, sealing: SealInputs) -> SealKey:
        """Return the key of `sealing`. Raises NoSealKeyError."""
        generation = (version.model, sealing.generation)
        if generation in self._keys:
            return self._keys[generation]
        variable = version.seal.key_env if version.seal is not None else KEY_ENV
        try:
            wrapped = next(
                (each for each in self.wrapped(version.model) if each.generation == sealing.generation), None
            )
            if wrapped is None or wrapped.key != sealing.key:
                raise NoSealKeyError(
                    f"{version.ref} is sealed with the key {sealing.key}, which is not among the keys of "
                    f"{version.model}",
                    hint=f"restore sealed/{version.model}/{sealing.generation}.* from the git history",
                )
            if variable not in self._identities:
                self._identities[variable] = identities_from(self._environ, variable=variable)
            if not self._identities[variable]:
                raise NoSealKeyError(
                    f"{version.ref} is sealed, and {variable} has no private key",
                    hint=f"set {variable} to the private key of a recipient, or to a file with it",
                )
            self._keys[generation] = unlock(wrapped, self._identities[variable])
        except UserError as error:
            raise NoSealKeyError(str(error), hint=error.hint) from None
        return self._keys[generation]

    def sealed_before(self, model: str) -> bool:
        """Return whether `model` has a key, so versions of it were sealed."""
        return bool(self.wrapped(model))

    def outdated(self, index: Index) -> Iterator[str]:
        """Yield a note for each model whose newest key was wrapped for other recipients than it has."""
        for model in index.models.values():
            if model.seal is None or not (generations := self.wrapped(model.name)):
                continue
            newest = generations[-1]
            try:
                wanted = {each.text for each in recipients_of(model.seal, self._root)}
            except (InvalidIndexError, UserError) as error:
                yield f"{model.name}: the recipients of its key cannot be read: {error}"
                continue
            added, gone = wanted - set(newest.recipients), set(newest.recipients) - wanted
            if added or gone:
                changes = [f"{len(added)} added"] if added else []
                changes += [f"{len(gone)} removed"] if gone else []
                yield (
                    f"{newest.name} was wrapped for other recipients than the index has "
                    f"({', '.join(changes)}); run `reconcile seal {model.name}`"
                )


NO_SEALS = SealKeys(None, Path(), {})  #: of no index
