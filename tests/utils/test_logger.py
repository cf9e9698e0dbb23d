import logging
import re

import pytest

from retinue.utils.logger import (
    create_small_table,
    log_every_n,
    log_every_n_seconds,
    log_first_n,
    setup_logger,
)
from retinue.utils.tables import format_table


@pytest.fixture
def name():
    """A logger's name that is used up: its handlers go when the test is over."""
    name = "retinue_test_logger"
    yield name
    logging.getLogger(name).handlers.clear()
    setup_logger.cache_clear()


def test_console_and_file(tmp_path, capsys, name):
    logger = setup_logger(str(tmp_path), name=name, abbrev_name="rtl")
    assert setup_logger(str(tmp_path), name=name, abbrev_name="rtl") is logger
    logging.getLogger(f"{name}.utils.events").info("hello")
    logging.getLogger(name).warning("careful")
    logging.getLogger(name).error("bad")

    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\[\d\d/\d\d \d\d:\d\d:\d\d rtl\.utils\.events\]: hello", lines[0])
    assert re.fullmatch(rf"WARNING \[.* {name}\]: careful", lines[1])
    assert re.fullmatch(rf"ERROR \[.* {name}\]: bad", lines[2])
    for handler in logger.handlers:
        handler.flush()
    written = (tmp_path / "log.txt").read_text().splitlines()
    assert written[0].endswith("] rtl.utils.events INFO: hello")
    assert written[1].endswith(f"] {name} WARNING: careful")
    assert len(lines) == len(written) == 3


def test_other_ranks_write_files_of_their_own(tmp_path, capsys, name):
    logger = setup_logger(str(tmp_path / "run.log"), 2, name=name)
    logger.getChild("hooks").info("from rank 2")
    logger.handlers[0].flush()
    assert capsys.readouterr().out == ""
    assert f"{name}.hooks INFO: from rank 2" in (tmp_path / "run.log.rank2").read_text()


def test_an_empty_abbreviation_leaves_the_root_out(capsys, name):
    setup_logger(name=name, abbrev_name="", color=False)
    logging.getLogger(f"{name}.a").info("x")
    assert " a]: x" in capsys.readouterr().out


def test_first_n(caplog):
    caplog.set_level(logging.INFO)
    for i in range(5):
        log_first_n(logging.INFO, f"place {i}", n=2)
    for _ in range(2):
        log_first_n(logging.INFO, "same text", key="message")
        log_first_n(logging.INFO, "same text", key="message")
        log_first_n(logging.INFO, "same text", key=("caller", "message"), name="named")
    assert caplog.messages == ["place 0", "place 1", "same text", "same text"]
    assert caplog.records[0].name == __name__
    assert caplog.records[-1].name == "named"
    with pytest.raises(AssertionError, match="key must be 'caller', 'message' or both; got 'x'"):
        log_first_n(logging.INFO, "", key="x")


def test_every_n(caplog):
    caplog.set_level(logging.INFO)
    for i in range(7):
        log_every_n(logging.INFO, str(i), n=3)
    assert caplog.messages == ["0", "3", "6"]


def test_every_n_seconds(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    now = 100.0
    monkeypatch.setattr("retinue.utils.logger.time.time", lambda: now)
    for i in range(5):
        log_every_n_seconds(logging.INFO, str(i), n=2)
        now += 1
    assert caplog.messages == ["0", "2", "4"]


def test_small_table_looks_as_people_know_it():
    text = create_small_table({"AP": 40.2061, "AP50": 61.0, "APs": float("nan")})
    assert text.splitlines() == [
        "|   AP   |  AP50  |  APs  |",
        "|:------:|:------:|:-----:|",
        "| 40.206 | 61.000 |  nan  |",
    ]


def test_missing_cells_stay_empty():
    text = format_table([["a", 1, None], ["bcdefghij"]], ["x", "y", "z"])
    assert text.splitlines()[2:] == ["| a         | 1   |     |", "| bcdefghij |     |     |"]
