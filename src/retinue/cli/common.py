"""What commands share: options, and how errors and Ctrl-C end."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from retinue.utils.errors import InputError, close_names

__all__ = [
    "EXIT_WRONG_INPUT",
    "Device",
    "NumGPUs",
    "Opts",
    "Weights",
    "check_opts",
    "check_pair",
    "command",
    "fail",
    "user_errors",
]

F = TypeVar("F", bound=Callable[..., Any])

EXIT_WRONG_INPUT = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells expect

Opts = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY VALUE", help="Config keys and values, in turn."),
]
Device = Annotated[
    str | None, typer.Option(help="Where to compute: cpu, cuda, cuda:1, mps; the best by default.")
]
Weights = Annotated[
    str | None, typer.Option(help="A checkpoint to use instead of the model's own.")
]
NumGPUs = Annotated[int, typer.Option("--num-gpus", help="Processes to use, one a GPU.")]


def fail(message: str) -> None:
    """Print an error in one line."""
    sys.stdout.flush()
    print(f"error: {message}", file=sys.stderr)


# The last line but the message of a traceback that another process wraps an error of ours in.
_OF_OTHER_PROCESS = re.compile(r"^retinue\.[\w.]+: ", re.MULTILINE)
_WRAPPERS = ("Caught ", "\n\n-- Process ")  # of PyTorch's loaders, and of its processes


def _text_of(error: BaseException) -> str:
    """Return an error's message, without the traceback that another process wraps it in."""
    text = str(error)
    found = list(_OF_OTHER_PROCESS.finditer(text)) if text.startswith(_WRAPPERS) else []
    return text[found[-1].end() :].strip() if found else text


def _is_fixable(error: BaseException) -> bool:
    """Whether the user can do something about it: ours, or the file system's and network's."""
    if isinstance(error, OSError) or _text_of(error) != str(error):
        return True
    return type(error).__module__.startswith(("retinue.", "yaml."))


def user_errors(function: F) -> F:
    """Let a command end with one line and status 2 where the user can fix what is wrong."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except KeyboardInterrupt:
            fail("stopped by Ctrl-C")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:  # of `| head`
            sys.stderr.close()
            raise typer.Exit(0) from None
        except ImportError as error:
            if "pip install" not in str(error):
                raise
            fail(str(error))
            raise typer.Exit(EXIT_WRONG_INPUT) from None
        except Exception as error:
            if not _is_fixable(error):
                raise
            fail(_text_of(error))
            raise typer.Exit(EXIT_WRONG_INPUT) from None

    return wrapped  # type: ignore[return-value] # the same signature


def command(app: typer.Typer, *, name: str | None = None) -> Callable[[F], F]:
    """Add a function to ``app`` as a command whose last words may be ``KEY VALUE`` pairs.

    Values such as ``-1`` are passed on; a misspelt option is caught by ``check_opts``.
    """

    def add(function: F) -> F:
        settings = {"ignore_unknown_options": True}
        app.command(name, context_settings=settings)(user_errors(function))
        return function

    return add


def check_pair(option: str, pair: Sequence[Path] | None) -> None:
    """Check that an option of two words has not taken the next option for its second.

    Raises:
        InputError: If it has.
    """
    if pair is not None and any(str(word).startswith("-") for word in pair):
        raise InputError(
            f"{option} takes two words, the annotations and the folder of their images; got"
            f" {str(pair[0])!r} and {str(pair[1])!r}"
        )


def check_opts(opts: Sequence[str] | None, options: Sequence[str]) -> list[str]:
    """Check that what follows the options are pairs of a config key and a value.

    Args:
        opts: the words.
        options: names of the command's options, to guess what a misspelt one should have been.

    Raises:
        InputError: If one of the keys is an unknown option or a file.
    """
    words = list(opts or [])
    for word in words[::2]:
        if word.startswith("-"):
            near = close_names(word, options)
            hint = f"did you mean {near[0]}?" if near else "see --help"
            raise InputError(f"unknown option {word!r}; {hint}")
        if Path(word).exists() or word == word.lower():  # keys have capitals
            raise InputError(
                f"unexpected {word!r}: config keys and values follow, KEY VALUE in turn"
            )
    return words
