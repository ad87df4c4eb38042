"""What all errors have in common."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

__all__ = ["FieldError", "PeerageError"]


class FieldError(NamedTuple):
    """One configuration field or argument that is wrong."""

    field: str
    """Its name."""
    value: str
    """The value that was given, as text."""
    expected: str
    """What would be right."""


class PeerageError(Exception):
    """The base of every error of Peerage. Its class and its `code` say what kind it is."""

    code: ClassVar[str]
    """The stable code: the same text in every language."""

    details: dict[str, Any]
    """What the error says besides, by name."""

    def __init__(self, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.details = details or {}

    @property
    def fields(self) -> tuple[FieldError, ...]:
        """The configuration fields or arguments that are wrong, where it is about any."""
        return tuple(FieldError(**field) for field in self.details.get("fields", ()))

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.args[0], self.details))


def failure(code: str, message: str, details: dict[str, Any]) -> PeerageError:
    """The exception for an error of the core."""
    from peerage._errors import BY_CODE

    return BY_CODE[code](message, details)
