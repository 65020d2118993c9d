"""`hybrid-jax report` on real scans, as a user types it."""

import csv
import importlib.util
import json
import re
import shutil
from html.parser import HTMLParser
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import hybrid_jax
from hybrid_jax.cli import train
from hybrid_jax.config import default
from hybrid_jax.config.resolve import resolve
from hybrid_jax.evaluation import mislabeled
from hybrid_jax.evaluation.bootstrap import Estimate
from hybrid_jax.evaluation.evaluate import evaluate_run
from hybrid_jax.parallel.distributed import Hosts
from hybrid_jax.reports import facts, overlays, pictures, write
from hybrid_jax.reports.comparison import differing_fields, over_seeds
from hybrid_jax.reports.curves import learning_curves, points
from hybrid_jax.runs.folder import RunFolder
from tests.commands import hybrid_jax as command
from tests.experiments import flags

CLASSES = ("<b>zero</b>", "$one_$", 'two "&" <script>x</script>')
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """What a page is made of; refuses elements that are not closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.ids, self.links, self.tags, self.alts = [], [], [], []
        self.words, self._open = "", []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        names = ("src", "href", "xlink:href", "aria-labelledby")
        self.links += [(name, found[name]) for name in names if name in found]
        self.alts += [found.get("alt", "")] if tag == "img" else []
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & {*self._open}:
            self.words += f"{data} "


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs, of two seeds, on one table of scans."""
    folder = tmp_path_factory.mktemp("reports")
    images, labels = load_digits(n_class=3, return_X_y=True)
    with (folder / "scans.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "split"])
        for row in range(160):
            pixels = np.round(images[row].reshape(8, 8) * 255 / 16).astype(np.uint8)
            Image.fromarray(pixels).resize((16, 16)).save(folder / f"{row:03}.png")
            split = "train" if row < 80 else "val" if row < 110 else "test"
            table.writerow([f"{row:03}.png", CLASSES[labels[row]], split])
    fields = {"data.name": "folder", "data.path": folder / "scans.csv"}
    fields |= {"data.per_class": 0, "data.dir": folder / "kept"}
    fields |= {"optim.learning_rate": 3e-4}
    for seed in (0, 1):
        changed = [f"--config.{name}={value}" for name, value in fields.items()]
        changed += [f"--config.seed={seed}", f"--config.train.report={not seed}"]
        workdir = f"--workdir={folder / str(seed)}"
        ran = command(*flags(), *changed, workdir)
        assert ran.returncode == 0, ran.stderr
        last = ran.stdout.splitlines()[-1]
        assert last.startswith(f"Report: {folder / '0' / 'report.html'} (") != seed
    return folder


@pytest.fixture(scope="module")
def page(runs):
    """The page of the first run, and what it says."""
    ran = command("report", runs / "0", f"--output={runs / 'one.html'}")
    assert ran.returncode == 0, ran.stderr
    text = (runs / "one.html").read_text(encoding="utf-8")
    return text, Page(text)


def check_links(page):
    assert len(page.ids) == len({*page.ids})
    for name, link in page.links:
        if name == "aria-labelledby" or link.startswith("#"):
            assert link.removeprefix("#") in page.ids
        else:
            assert link.startswith("data:")


def test_a_page_needs_nothing_but_itself(page):
    text, found = page
    check_links(found)
    assert "script" not in found.tags
    assert not re.search(r"(src|href)=[\"']?https?:|@import|url\([^#]", text)
    for reference in re.findall(r"url\(#([^)]*)\)", text):
        assert reference in found.ids
    assert len(text) < 1_000_000


def test_a_page_has_the_numbers_of_evaluate(runs, page):
    _, found = page
    out = runs / "evaluation"
    ran = command("evaluate", f"--workdir={runs / '0'}", f"--output={out}")
    assert ran.returncode == 0, ran.stderr
    about = json.loads((out / "evaluation.json").read_text())
    words = " ".join(found.words.split())
    accuracy = about["measures"]["accuracy"]
    assert f"{100 * accuracy['value']:.2f} % accuracy" in words
    ends = f"{100 * accuracy['low']:.2f} to {100 * accuracy['high']:.2f}"
    assert f"95 % interval {ends}, 50 test images" in words
    for name in ("nll", "brier"):
        assert f"{about['measures'][name]['value']:.4f}" in words
        assert f"{about['at temperature'][name]:.4f}" in words
    for row in about["classes"]:
        assert f"{row['support']} {100 * row['recall']['value']:.2f} %" in words
        assert f"{100 * row['f1']:.2f} % {row['auc']:.4f}" in words
    leaves = jax.tree.leaves(hybrid_jax.load_run(runs / "0").variables["params"])
    assert f"parameters {sum(map(np.size, leaves)):,} " in words
    assert "80 train, 30 validation, 50 test" in words
    trained = words[words.index("Environment of the training") :]
    assert f" jax {jax.__version__} " in trained


def test_a_page_shows_the_surest_answers(runs, page):
    _, found = page
    run = hybrid_jax.load_run(runs / "0")
    split = run.splits.test
    probabilities = run.predict(split.images)
    right = probabilities.argmax(1) == split.labels
    assert 0 < right.sum() < len(right)  # so that there are both kinds
    shown = [min(12, count) for count in (right.sum(), (~right).sum())]
    labels = sum(alt.startswith("Image labeled ") for alt in found.alts)
    # Each with the places it depends on, and with where attention looks.
    assert found.tags.count("img") == 3 * sum(shown) + labels + 1 + pictures.VIEWS
    assert found.words.count("attention rollout") == 1
    assert all(found.alts)
    words = " ".join(found.words.split())
    assert re.search(r"peak memory [\d,]+ MB of the process", words)
    worst = np.flatnonzero(~right)[probabilities[~right].max(1).argmax()]
    true, predicted = split.labels[worst], probabilities[worst].argmax()
    percent = f"{100 * probabilities[worst].max():.1f} %"
    said = f"is {run.classes[true]} , called {run.classes[predicted]} , {percent}"
    assert said in words
    assert words.index(said) < words.index("Surest right answers")


def test_a_page_shows_doubtful_labels_or_what_to_install(runs, page):
    _, found = page
    words = " ".join(found.words.split())
    if not importlib.util.find_spec("cleanlab"):
        assert "Labels to check: " in words
        assert "needs cleanlab: pip install 'hybrid_jax[labels]'." in words
        pytest.skip("pip install 'hybrid_jax[labels]'")
    evaluation = evaluate_run(hybrid_jax.load_run(runs / "0"))
    suspects, _ = mislabeled.find(evaluation.predictions, evaluation.classes)
    assert suspects
    names = [evaluation.classes[n] for n in (suspects[0].label, suspects[0].likelier)]
    share = f"{100 * suspects[0].likelier_probability:.1f} %"
    assert f"labeled {names[0]} , likelier {names[1]} , {share}" in words
    assert f"{len(suspects)} of 50 images" in words
    assert f"{mislabeled.CAUTION}: look at them." in words
    alts = [alt for alt in found.alts if alt.startswith("Image labeled ")]
    assert len(alts) == min(len(suspects), pictures.SHOWN)


def test_names_are_text_in_a_page(page):
    text, found = page
    assert CLASSES[0] in found.words
    assert "<b>zero" not in text
    assert "<script" not in text
    drawn = text[text.index('id="run1-confusion') :]
    assert "&lt;b&gt;zero" in drawn
    assert "$one_$" in drawn  # and no formula


def test_answers_depend_on_the_places_whose_covering_lowers_their_probability(runs):
    run = hybrid_jax.load_run(runs / "0")
    images = np.asarray(run.splits.test.images[3:6])
    seen = overlays.look(run, images)
    before = run.predict(images)
    each, answers = np.arange(len(images)), before.argmax(1)
    falls, times = np.zeros(seen.levels.shape[:3]), 0
    for window in overlays.windows(seen.levels.shape[1:3]):
        covered = seen.levels.copy()
        covered[:, window] = np.median(covered, (1, 2))[:, None]
        after = run.predict(np.rint(covered).astype(np.uint8))
        falls += (before - after)[each, answers, None, None] * window
        times += window
    expected = falls / times
    assert expected.max() > 0  # of a network that has hardly learned
    np.testing.assert_allclose(seen.falls, expected, atol=0.05 * expected.max())


@pytest.mark.parametrize("size", [(32, 32), (16, 40), (9, 13), (3, 100)])
def test_windows_cover_every_pixel_about_equally_often(size):
    times = overlays.windows(size).sum(0)
    assert times.shape == size
    assert times.min() >= 1
    if size[0] % overlays.STEPS == size[1] % overlays.STEPS == 0:
        assert (times == 4).all()


def test_a_place_has_the_full_color_where_the_probability_falls_most():
    levels = np.full((2, 2, 2, 1), 100.0, np.float32)
    falls = np.array([[[0.4, 0.2], [0.0, -0.3]], [[0.05, 0.0], [0.0, 0.0]]])
    large, small = overlays.draw_falls(levels, falls)
    np.testing.assert_array_equal(large[0, 0], overlays.NEEDED)
    np.testing.assert_array_equal(large[0, 1], (overlays.NEEDED + 60) // 2)
    np.testing.assert_array_equal(large[1], np.full((2, 3), 60))
    np.testing.assert_array_equal(small[0, 0], (overlays.NEEDED + 60) // 2)


def test_attention_is_drawn_where_there_is_more_than_an_even_share():
    levels = np.full((1, 2, 2, 3), 100.0, np.float32)
    even, some = np.full((1, 2, 2), 0.25), np.array([[[0.2, 0.2], [0.25, 0.35]]])
    gray = np.full((1, 2, 2, 3), 60)
    np.testing.assert_array_equal(overlays.draw_looks(levels, even), gray)
    drawn = overlays.draw_looks(levels, some)
    np.testing.assert_array_equal(drawn[0, :, 0], gray[0, :, 0])
    share = 0.35 / 0.25 - 1  # and the whole color at twice an even share
    mixed = (1 - share) * 60 + share * overlays.LOOKED_AT
    np.testing.assert_allclose(drawn[0, 1, 1], mixed, atol=1)
    most = overlays.draw_looks(levels, np.array([[[0.1, 0.1], [0.1, 0.7]]]))
    np.testing.assert_array_equal(most[0, 1, 1], overlays.LOOKED_AT)


def test_a_run_that_has_ended_has_its_page(runs, page):
    _, found = page
    path = runs / "0" / "report.html"
    assert Page(path.read_text(encoding="utf-8")).words == found.words
    assert not (runs / "1" / "report.html").exists()
    path.write_text("mine")
    assert "Report:" not in command("train", f"--workdir={runs / '0'}").stdout
    assert path.read_text() == "mine"
    path.unlink()
    assert "Report:" in command("train", f"--workdir={runs / '0'}").stdout
    assert Page(path.read_text(encoding="utf-8")).words == found.words


@pytest.mark.parametrize("why", ["a bug", "no space"])
def test_a_run_has_ended_well_without_a_page(runs, tmp_path, monkeypatch, why):
    def fail(*_):
        raise OSError(28, "No space left") if why == "no space" else KeyError("x")

    run = shutil.copytree(runs / "1", tmp_path / "run [1]")
    monkeypatch.setattr(write, "gather", fail)
    ran = command("train", f"--workdir={run}", "--config.train.report=true")
    assert (ran.returncode, ran.stderr) == (0, "")
    last = ran.stdout.splitlines()[-1]
    assert last.startswith("No report: ")
    assert {"a bug": "KeyError: 'x'", "no space": "No space left"}[why] in last
    assert last.endswith(f". To write one later: hybrid-jax report '{run}'")
    assert last in (run / "log.txt").read_text()
    assert not (run / "report.html").exists()


def test_a_run_that_is_interrupted_has_no_page(runs, tmp_path):
    stop = ("--config.train.report=true", "--config.debug.inject=term@3")
    ran = command(*flags(), *stop, f"--workdir={tmp_path / 'run'}")
    assert ran.returncode == 143
    assert not (tmp_path / "run" / "report.html").exists()


def test_several_runs_are_compared(runs):
    out = runs / "two.html"
    ran = command("report", runs / "0", runs / "1", f"--output={out}")
    assert ran.returncode == 0, ran.stderr
    found = Page(out.read_text(encoding="utf-8"))
    check_links(found)
    words = " ".join(found.words.split())
    table = words[words.index("Fields that differ") :]
    assert re.match(r"Fields that differ field \S+/0 \S+/1 seed 0 1 ", table)
    shares = [
        hybrid_jax.load_run(runs / name).evaluate("test")["accuracy"] for name in "01"
    ]
    both = f"({100 * shares[0]:.2f}, {100 * shares[1]:.2f})"
    assert f" 2 {50 * sum(shares):.2f} % {both}" in words
    assert f"{100 * (shares[1] - shares[0]):+.2f} points" in words


def test_runs_of_other_data_are_no_seeds_of_one_experiment():
    """Even where the data have as many images."""

    def report(seed, files):
        config = default()
        config.data.name, config.seed = "digits", seed
        return SimpleNamespace(
            run=SimpleNamespace(config=resolve(config)),
            workdir=f"runs/{files}-{seed}",
            accuracy=Estimate(0.5),
            judged="50 test images",
            identity=facts.identity({"labels": "0f", "files": files}),
        )

    first, second, other = report(0, "1a"), report(1, "1a"), report(2, "2b")
    ((names, count, _),) = over_seeds([first, second, other])
    assert (names, count) == ("runs/1a-0, runs/1a-1", "2")
    assert over_seeds([first, other]) == []
    assert differing_fields([first, second]) == [["seed", "0", "1"]]
    images = ["images", "digits (0f, 1a)", "digits (0f, 2b)"]
    assert differing_fields([first, other]) == [images, ["seed", "0", "2"]]
    assert differing_fields([first, first]) == []


def test_a_run_without_its_images_has_a_page(runs, tmp_path):
    moved = shutil.copytree(runs / "0", tmp_path / "run [1]")
    config = (moved / "config.json").read_text()
    (moved / "config.json").write_text(config.replace("scans.csv", "gone.csv"))
    ran = command("report", moved, folder=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "Left out: " in ran.stdout
    assert "gone.csv" in ran.stdout
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    found = Page(text)
    assert "gone.csv" in found.words
    accuracy = hybrid_jax.load_run(runs / "0").results["test"]["accuracy"]
    assert f"{100 * accuracy:.2f} %" in found.words
    assert "Learning curves" in found.words
    assert "img" not in found.tags
    again = command("report", moved, folder=tmp_path)
    assert again.returncode == 2
    assert "report.html exists" in again.stderr
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == text
    assert command("report", moved, "--overwrite", folder=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the run is missing"),
        (["--workdir=RUN"], "--workdir is no flag here"),
        (["nowhere"], "nowhere holds no run"),
        (["gs://b/run"], "mount a bucket"),
        (["RUN", "RUN/../0"], "is given twice"),
        (["RUN", "--output=-"], "--output has no name"),
        (["RUN", "--output="], "--output is empty"),
        (["RUN", "--output=missing/a.html"], "a folder that does not exist"),
        (["RUN", "--output=."], "is a folder"),
        (["RUN", "--output=gs://b/a.html"], "mount a bucket"),
        (["RUN", "--config=digits"], "leave it out"),
        (["RUN", "--config.optim.learning_rate=1"], "what the run"),
    ],
)
def test_what_cannot_be_is_refused(runs, tmp_path, arguments, message):
    words = [word.replace("RUN", str(runs / "0")) for word in arguments]
    ran = command("report", *words, folder=tmp_path)
    assert ran.returncode == 2
    assert message in " ".join(ran.stderr.split()), ran.stderr
    assert ran.stderr.count("\n") == 1
    assert not [*tmp_path.iterdir()]


def test_of_steps_that_are_done_again_the_last_counts():
    row = {"split": "train", "epoch": 1.0, "loss": 3.0}
    history = [row | {"step": 5}, row | {"step": 9, "epoch": 2.0}]
    history += [row | {"step": 5, "loss": 2.0}, {"split": "train", "step": 11}]
    assert points(history, "train", "loss") == ([1.0, 2.0], [2.0, 3.0])
    assert points(history, "validation", "loss") == ([], [])


def test_hosts_that_share_a_run_write_no_page(tmp_path, capsys):
    train._write_report(None, RunFolder(tmp_path), Hosts(0, 2), "hybrid-jax report w")
    said = "No report: hosts share the run. To write one later: hybrid-jax report w\n"
    assert capsys.readouterr().out == said
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("rows", [3, 40])
def test_curves_of_short_and_long_runs_are_drawn(rows):
    """Points of long runs have no markers."""
    history = [
        {"split": "train", "step": n, "epoch": n, "loss": 2 / n, "accuracy": n / 50}
        for n in range(1, rows + 1)
    ]
    drawn = learning_curves(history, rows, "run")
    assert (drawn.count("<use") > 2 * rows) == (rows == 3)
    assert "validation" not in drawn
    history += [row | {"split": "validation"} for row in history]
    assert "validation" in learning_curves(history, rows, "run")
