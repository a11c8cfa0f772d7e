"""JSON as it is typed: arguments of a workflow, answers, messages."""

from __future__ import annotations

import inspect
import json
from typing import Any

import click

from perdure.errors import DecodeError, EncodeError, InvalidAnswerError
from perdure.schema import check
from perdure.secrets import allowing_secrets
from perdure.workflow import Workflow


def parse(text: str, what: str) -> Any:
    """A JSON value. Raises `click.UsageError`."""
    try:
        return _parse(text)
    except ValueError as error:
        raise click.UsageError(f"{what}: this is not JSON: {_why(text, error)}") from error


def _parse(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _why(text: str, error: ValueError) -> str:
    if text[:1] in '{["':
        return str(error)
    return f"{error}. A text is written in quotes: {_quoted(text)}"


def _quoted(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    return f"'{quoted}'" if len(quoted) <= 60 and "'" not in quoted else "'\"...\"'"


# Arguments of a workflow ----------------------------------------------------------------------------------


def call_arguments(workflow: Workflow[..., Any], text: str | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What to call the workflow with: an array are its positional arguments, an object its keyword arguments,
    anything else is one argument; each is read by its annotation.

    Raises `click.UsageError` that shows the signature.
    """
    given = parse(text, "the arguments") if text is not None else []
    try:
        signature = inspect.signature(workflow.function)
        bound = signature.bind(**given) if isinstance(given, dict) else signature.bind(*_positional(given))
    except TypeError as error:
        raise _refused(workflow, f"{error}{_advice(workflow, given)}") from error
    try:
        args, kwargs = workflow.arguments.unbind(json.dumps(bound.arguments))
        with allowing_secrets():  # whether they may be recorded is the engine's to say
            workflow.arguments.bind(args, kwargs)
    except (DecodeError, EncodeError, TypeError) as error:
        words = str(error).removeprefix(f"{workflow.arguments.name}(), ")
        raise _refused(workflow, words.replace("the recorded text does not fit", "it does not fit")) from error
    return args, kwargs


def _positional(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _refused(workflow: Workflow[..., Any], why: str) -> click.UsageError:
    return click.UsageError(f"{why}.\nIts signature: {signature_of(workflow)}")


def signature_of(workflow: Workflow[..., Any]) -> str:
    """`fulfil(order: str, cents: int) -> str`"""
    try:
        return f"{workflow.name}{inspect.signature(workflow.function, eval_str=True)}"
    except Exception:
        # An annotation may be any expression, and raise anything.
        return f"{workflow.name}{inspect.signature(workflow.function)}"


def _advice(workflow: Workflow[..., Any], given: Any) -> str:
    """A list or an object as the only argument is easily taken for all of them."""
    if not isinstance(given, list | dict) or len(inspect.signature(workflow.function).parameters) != 1:
        return ""
    if isinstance(given, list):
        return " (an array gives the positional arguments; to give a list as the only one: '[[...]]')"
    return " (an object gives arguments by name; to give one as the only argument: '[{...}]')"


# Answers --------------------------------------------------------------------------------------------------


def answer_value(schema: str | None, text: str) -> Any:
    """The answer that was typed: JSON, or a bare text where the request takes one.

    Raises `InvalidAnswerError` for what is neither. Whether JSON fits the schema is not looked at here.
    """
    try:
        return _parse(text)
    except ValueError as error:
        if takes_text(schema, text) and not (schema is None and text[:1] in '{["'):
            return text
        raise InvalidAnswerError(f"this is not JSON: {_why(text, error)}; nothing was changed") from error


def takes_text(schema: str | None, text: str) -> bool:
    """Does this text, as a string, fit the schema?"""
    return check(schema, json.dumps(text)) is None
