"""launch/colab.ipynb: it runs, shorter and smaller, and is stored without output."""

import json
import re
from pathlib import Path

import pytest

from tests.launch.conftest import LAUNCH

NOTEBOOK = LAUNCH / "colab.ipynb"
EPOCHS, WORKDIR = "epochs = 40", 'workdir = "runs/notebook"'
FLAG = '"--config.train.log_every=10",'
CONFIG = 'config = Path("configs/digits.py")'


@pytest.fixture(scope="module")
def stored() -> dict:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


def test_no_output_is_stored(stored):
    for cell in stored["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_fields_are_those_of_a_form(stored):
    [fields] = [cell for cell in stored["cells"] if cell["id"] == "fields"]
    assert all("# @param" in line for line in fields["source"])
    assert fields["source"][0].startswith('repository = ""')


def test_images_are_found_again_when_the_cells_run_again(stored, tmp_path, monkeypatch):
    [cell] = [cell for cell in stored["cells"] if cell["id"] == "installation"]
    source = re.sub(r"(?m)^( *)[!%].*", r"\1pass", "".join(cell["source"]))
    for folder in ("cells", "repository/configs"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "repository/configs/digits.py").touch()
    monkeypatch.chdir(tmp_path)
    scope = {"repository": ""}
    for _ in range(2):
        scope["images"] = "cells"
        exec(source, scope)  # noqa: S102
        assert scope["images"] == str(tmp_path / "cells")
        assert Path.cwd() == tmp_path / "repository"


def test_it_runs(tmp_path):
    import nbclient
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = {cell["id"]: cell for cell in notebook.cells}
    for name, theirs, ours in (
        ("fields", EPOCHS, "epochs = 2"),
        ("fields", WORKDIR, f'workdir = "{tmp_path / "run"}"'),
        ("training", FLAG, f'{FLAG} "--config.train.report=true",'),
        ("installation", CONFIG, 'config = Path("tests/small_hybrid.py")'),
    ):
        assert theirs in cells[name].source
        cells[name].source = cells[name].source.replace(theirs, ours)
    where = {"metadata": {"path": str(LAUNCH)}}  # as Jupyter starts it
    nbclient.NotebookClient(notebook, timeout=300, resources=where).execute()
    outputs = {cell.id: cell.outputs for cell in notebook.cells if "outputs" in cell}

    def said(cell):
        return "".join(
            output.get("text") or output.get("data", {}).get("text/plain", "")
            for output in outputs[cell]
        )

    accuracy = float(re.search(r"accuracy\W+([\d.]+) %", said("evaluation"))[1])
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    tested = [row for row in map(json.loads, rows) if row["split"] == "test"]
    assert accuracy == pytest.approx(100 * tested[-1]["accuracy"], abs=0.01)
    assert said("predictions").count(" is predicted as ") == 10
    [shown] = outputs["report"]
    assert "&lt;svg" in "".join(shown["data"]["text/html"])
    assert (tmp_path / "run-program" / "model.stablehlo").exists()
