"""Log lines, for people and for machines."""

import io
import json
import logging

from pacs import logs


def test_text_line_has_time_level_logger_and_message(root_logger):
    stream = io.StringIO()
    logs.configure("INFO", "text", stream)

    logging.getLogger("pacs.test").info("stored sop=%s", "1.2.3")

    time, rest = stream.getvalue().split(" ", 1)
    assert rest == "INFO pacs.test stored sop=1.2.3\n"
    assert len(time) == len("2026-01-31T12:00:00.123Z")
    assert time.endswith("Z")


def test_message_cannot_forge_a_second_line(root_logger):
    stream = io.StringIO()
    logs.configure("INFO", "text", stream)

    logging.getLogger("pacs.test").warning("ae=%s", "EVIL\n2026-01-31T12:00:00.000Z INFO pacs all is well\x1b[2J")

    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_json_line_is_one_object_with_the_exception(root_logger):
    stream = io.StringIO()
    logs.configure("INFO", "json", stream)

    try:
        raise ValueError("broken \udcff")
    except ValueError:
        logging.getLogger("pacs.test").exception("failed file=%s", "\udcff")

    (line,) = stream.getvalue().splitlines()
    fields = json.loads(line)
    assert (fields["level"], fields["logger"]) == ("ERROR", "pacs.test")
    assert "ValueError: broken" in fields["exception"]


def test_lines_below_the_level_and_other_libraries_chatter_are_left_out(root_logger):
    stream = io.StringIO()
    logs.configure("INFO", "text", stream)

    logging.getLogger("pacs.test").debug("detail")
    logging.getLogger("pynetdicom.assoc").info("chatter")

    assert stream.getvalue() == ""
