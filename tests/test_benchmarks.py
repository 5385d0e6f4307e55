"""The benchmarks run, and the figures in the documentation are those of the results files."""

import json
from pathlib import Path

import pytest

from benchmarks import api, chain, csm
from benchmarks.table import table

pytestmark = pytest.mark.program

PROJECT = Path(__file__).resolve().parent.parent
RESULTS = sorted((PROJECT / "benchmarks" / "results").glob("*.json"))
PAGES = [page.read_text(encoding="utf-8") for page in (PROJECT / "docs").rglob("*.md")]


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_the_documented_figures_are_those_of_the_file(file: Path) -> None:
    results = json.loads(file.read_text(encoding="utf-8"))
    begin = f"<!-- {file.name} -->\n"
    (page,) = (page for page in PAGES if begin in page)
    documented = page[page.index(begin) + len(begin) :].partition("<!-- end -->")[0]
    assert documented == table(results)


def test_the_benchmark_writes_what_it_promises(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    options = ["--size", "tiny", "--device", "cpu", "--precision", "int8", "--batch", "1,2"]
    assert csm.main([*options, "--frames", "4", "--peer-frames", "2", "--json", str(file)]) == 0
    results = json.loads(file.read_text(encoding="utf-8"))
    assert results["machine"]["processor"]
    assert set(results["peer"]) == {"name", "version", "ms_per_frame"}
    assert results["ratio"] > 0
    assert [(row["device"], row["precision"], row["batch"]) for row in results["results"]] == [
        ("cpu", "int8", 1),
        ("cpu", "int8", 2),
    ]
    for row in results["results"]:
        assert row["ms_per_frame"] > 0
        assert row["real_time_factor"] > 0
    assert results["results"][0]["first_audio_ms"] > 0


def test_the_benchmark_of_the_chain_writes_what_it_promises(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    assert chain.main(["--requests", "3", "--json", str(file)]) == 0
    results = json.loads(file.read_text(encoding="utf-8"))
    assert [row["target_ms"] for row in results["results"]] == [20.0, 1.0, 5.0, 5.0]
    assert all(row["added_p99_ms"] >= row["added_p50_ms"] for row in results["results"])


def test_the_benchmark_of_the_http_layer_writes_what_it_promises(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    assert api.main(["--requests", "5", "--lasting", "16", "--json", str(file)]) == 0
    results = json.loads(file.read_text(encoding="utf-8"))
    assert [row["target_ms"] for row in results["results"]] == [None, 3.0]
    assert all(row["added_p99_ms"] >= row["added_p50_ms"] for row in results["results"])
    assert [row["clients"] for row in results["requests_a_second"]] == [1, 8, 64]
    assert results["memory"]["requests"] == 16
    assert results["livez"]["engine"] == "csm"
