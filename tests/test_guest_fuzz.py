"""The parser of the agent's messages against libFuzzer, for a short fixed time."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.guest import ENVIRONMENT, ROOT, SOURCES, build
from tests.support.guest_text import vectors

FLAGS = (
    *("-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror", f"-I{SOURCES}"),
    *("-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"),
)


@pytest.mark.slow
def test_the_parser_survives_the_fuzzer(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    program = build(request.config, "fuzz", "clang", FLAGS, [SOURCES / "codec.c", ROOT / "tests" / "fuzz_agent.c"])
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, (_, packet, _) in enumerate(vectors()):
        (corpus / f"{number:03}").write_bytes(packet)
    result = subprocess.run(
        [program, "-max_total_time=10", "-runs=1000000", "-max_len=4096", "-timeout=5", corpus],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | ENVIRONMENT,
    )
    assert result.returncode == 0, result.stderr[-5000:]
    assert "Done" in result.stderr
