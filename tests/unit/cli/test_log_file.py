"""A log that is bounded: in a process of its own, because its output is what is at stake."""

import subprocess
import sys
from pathlib import Path

# Writes numbered records, with the sizes of everything made small.
_WRITER = """
import logging, sys
from pathlib import Path
from mlx_serve_common import logs
from mlx_serve_gateway.cli import log_file

log_file.MAX_BYTES = 4096
logs.configure("INFO", "text")
kept = log_file.LogFile(Path(sys.argv[1]))
kept.receive_output()
logging.getLogger().addHandler(kept)
for number in range(int(sys.argv[2])):
    logging.info("record %06d", number)
    if number == 50:
        logs.configure("INFO", "text")  # as a reload does
    if number % 50 == 0:
        print("plain", number, flush=True)
"""


def write(log: Path, records: int) -> str:
    told = subprocess.run(
        [sys.executable, "-c", _WRITER, str(log), str(records)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return told.stdout + told.stderr


def numbers(*files: Path) -> list[int]:
    lines = [line for file in files for line in file.read_text().splitlines()]
    return [int(line.rpartition(" ")[2]) for line in lines if "record" in line]


def test_it_never_grows_beyond_its_bound_and_keeps_the_newest(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    assert write(log, 1000) == ""
    kept = [log.with_name(f"server.log.{number}") for number in (3, 2, 1)]
    assert sorted(tmp_path.iterdir()) == sorted([log, *kept])
    for file in (log, *kept):
        assert file.stat().st_size < 4096 + 200
        assert file.stat().st_mode & 0o777 == 0o600
    seen = numbers(*kept, log)
    assert seen == list(range(seen[0], 1000))
    assert "plain 950" in log.read_text() + kept[-1].read_text()


def test_a_full_file_is_turned_over_before_it_is_used(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(b"old\n" * 2000)
    write(log, 1)
    assert numbers(log) == [0]
    assert log.with_name("server.log.1").read_bytes().startswith(b"old\n")


def test_what_cannot_be_turned_over_is_written_on(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    # A folder in the place of the next file: it can neither be opened nor replaced.
    log.with_name("server.log.new").mkdir()
    write(log, 300)
    assert numbers(log) == list(range(300))
