"""How one engine protects what it records: what it encrypts, and what it hides from those who look."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from perdure import redaction
from perdure.errors import DecodeError, PerdureError
from perdure.records import Execution
from perdure.redaction import DEFAULT_NAMES, Redact, Redaction
from perdure.sealing import PREFIX, Encryption
from perdure.secrets import SECRETS_ALLOWED, allowing_secrets

KEYS = "PERDURE_ENCRYPTION_KEYS"
"""The environment's variable with the keys (`ID:KEY,ID:KEY`) of an engine that is given no codec."""


@dataclass(frozen=True, slots=True)
class Protection:
    """What an engine does to the texts it writes. By default nothing is encrypted, and secrets are refused.

    `encryption` seals inputs, outputs, errors and snapshots. `names` (words in the names of arguments and members) and
    `redact` (`redact(name, value)` gives what is shown) say what is `"***"` in what is recorded only to be looked at:
    the inputs of steps, the errors of attempts that were tried again, tracebacks, the log. What replay needs is never
    hidden: a workflow's input, outcomes, answers, messages. An engine that is given no `Protection` hides nothing
    there, unless the workflow has `redact=`.
    """

    encryption: Encryption | None = None
    names: frozenset[str] = DEFAULT_NAMES
    redact: Callable[[str, Any], Any] | None = None
    hides: bool = True

    def encoding(self) -> AbstractContextManager[None]:
        """A block, with the tasks started in it, in which values are encoded for this engine.

        A `Secret` is an `EncodeError` there unless this engine encrypts.
        """
        allowed = self.encryption is not None
        return nullcontext() if SECRETS_ALLOWED.get() == allowed else allowing_secrets(allowed)

    def seal(self, text: str, *, execution_id: str, key: str, column: str) -> str:
        """The text as it is written at this place."""
        if self.encryption is None:
            return text
        return self.encryption.seal(text, execution_id=execution_id, key=key, column=column)

    def open(self, text: str, *, execution_id: str, key: str, column: str) -> str:
        """The text that was written at this place. Raises `DecodeError` as `Encryption.open` does."""
        if self.encryption is not None:
            return self.encryption.open(text, execution_id=execution_id, key=key, column=column)
        if text.startswith(PREFIX):
            words = f"{column} of {key} in {execution_id} is encrypted, and this engine has no keys"
            raise DecodeError(words, execution_id=execution_id, key=key)
        return text

    def check_keys(self, row: Execution) -> None:
        """Raises `PerdureError` where what this engine would write could not be read by those who have the keys."""
        if self.encryption is None and row.encoding.endswith("+aes"):
            raise PerdureError(
                f"{row.id} is encrypted, and there are no keys here: nothing was changed (give the keys, codec= or"
                f" {KEYS})",
                execution_id=row.id,
            )

    def redaction(self, more: Redact | None) -> Redaction | None:
        """What an execution hides whose workflow has `redact=more`: a function, or further names. None: nothing."""
        return self.hiding(more) if self.hides or more is not None else None

    def hiding(self, more: Redact | None) -> Redaction:
        """What is hidden of an execution's variables, whatever else is shown."""
        names, functions = set(self.names), [] if self.redact is None else [self.redact]
        if callable(more):
            functions.append(more)
        elif more is not None:
            names.update(more)
        return Redaction(names, functions)

    def redacted(self, tree: Any) -> Any:
        """What of a JSON-like tree may be shown. Never raises."""
        return redaction.redact(tree, self.names, self.redact)
