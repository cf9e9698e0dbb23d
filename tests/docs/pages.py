"""The code in the documentation's pages: finding it, and running it.

A block that begins with three backquotes is one of these:

``python``           runs, with those before it on the page, in one namespace.
``text``             right after it: what it printed; ``...`` stands for anything.
``console``          a session: each line that begins with ``$ `` runs, what follows is its output.
``sh``, ``bash``     commands for the reader: names and options of ours must exist; nothing runs.

A comment right before a block, ``% not run: why`` (in the README ``<!-- not run: why -->``), keeps
it from running. It must still be valid Python, or a valid command.
"""

import contextlib
import io
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import typer
from typer.testing import CliRunner

from retinue.cli.main import app

ROOT = Path(__file__).parents[2]
LEFT_OUT = {
    *("detectron2_names.md", "registry_tables.md", "zoo_table.md"),  # tables
    "migrating.md",  # its code changes how all of the process imports; tests/compat runs it
}
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"(?:^% not run: (.+)|^<!-- not run: (.+) -->)\n+\Z", re.MULTILINE)


@dataclass
class Block:
    """A block of code: its language, text, the line it begins on, and what is said of it."""

    language: str
    text: str
    line: int
    not_run: str = ""
    expected: str | None = None


def all_pages():
    """Return every page with code, by its path in the project."""
    docs = [p for p in (ROOT / "docs").rglob("*.md") if p.name not in LEFT_OUT]
    paths = [ROOT / "README.md", *sorted(docs)]
    return {p.relative_to(ROOT).as_posix(): p for p in paths if blocks_of(p)}


def blocks_of(path):
    """Return the blocks of a page, a block's output with it."""
    text, blocks, end = path.read_text(), [], 0
    for match in _FENCE.finditer(text):
        between = text[end : match.start()]
        said = _NOT_RUN.search(between)
        if match[1] == "text" and blocks and blocks[-1].language == "python":
            if not between.strip():
                blocks[-1].expected = match[2]
        elif match[1] in ("python", "console", "sh", "bash"):
            line = text.count("\n", 0, match.start(2)) + 1
            reason = (said[1] or said[2]) if said else ""
            blocks.append(Block(match[1], match[2], line, reason))
        end = match.end()
    return blocks


def run_python(block, name, namespace, stand_ins):
    """Run a block in a namespace; its lines are the page's in a traceback."""
    source = block.text
    for pattern, new in stand_ins:
        source = re.sub(pattern, new, source)
    code = compile("\n" * (block.line - 1) + source, name, "exec")
    if block.not_run:
        return
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, namespace)
    if block.expected is not None:
        compare(block.expected, printed.getvalue(), f"{name}:{block.line}")


def run_session(block, name, stand_ins):
    """Run the commands of a session and compare what they print."""
    for command, expected in sessions(block.text):
        for pattern, new in stand_ins:
            command = re.sub(pattern, new, command)
        words = shlex.split(command, comments=True)
        assert words[0] == "retinue", f"{name}:{block.line}: only retinue's commands run here"
        check_command(words, f"{name}:{block.line}")
        if not block.not_run:
            result = CliRunner().invoke(app, words[1:])
            if result.exception and not isinstance(result.exception, SystemExit):
                raise result.exception
            compare(expected, result.output, f"{name}:{block.line}: {command}")


def sessions(text):
    """Split a session into commands and what each prints; without output, anything will do."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.replace("\\\n", " ").partition("\n")
        yield command, output or "..."


def compare(expected, got, where):
    """Compare, whatever the white space is; ``...`` is anything."""
    parts = " ".join(expected.split()).split("...")
    pattern = r".*".join(re.escape(part.strip()) for part in parts)
    assert re.fullmatch(rf"{pattern}\s*", " ".join(got.split()), re.DOTALL), (
        f"{where} prints\n{got}\nwhere the page says\n{expected}"
    )


def check_commands(block, name):
    """Check each line of a block that begins with one of our commands."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            check_command(words, f"{name}:{block.line}: {line.strip()}")


def check_command(words, where):
    """Check that a command of ours has the options given, and that targets and extras exist."""
    if words[0] == "retinue":
        _parse(words[1:], where)
    elif words[0] == "make":
        targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {w for w in words[1:] if "=" not in w} <= set(targets), where
    elif words[:2] == ["pip", "install"]:
        text = (ROOT / "pyproject.toml").read_text()
        for extra in re.findall(r"\[([\w,]+)\]", " ".join(words)):
            for one in extra.split(","):
                assert re.search(rf"^{one} = \[", text, re.MULTILINE), f"{where}: no extra {one}"


def _parse(words, where):
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="retinue")
    while hasattr(command, "commands"):
        if words and words[0].startswith("-"):
            return
        assert words, where
        assert words[0] in command.commands, f"{where}: no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
        context = typer.Context(command, parent=context, info_name=command.name)
    if command.name in ("run", "migrate"):
        return  # what follows is another program's
    known = {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
    unknown = {w.partition("=")[0] for w in words if w.startswith("--")} - known - {"--help"}
    assert not unknown, f"{where}: no option {', '.join(unknown)}"
    if "--help" not in words:
        command.make_context(command.name, list(words), parent=context)
