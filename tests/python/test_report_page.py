"""The page of `ood report`, in a browser: it works without a network, can be sorted and steered, is
readable on a phone, in the dark and on paper, and shows what `ood eval` prints."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from conftest import SOURCE, Run, write_small

DIGITS = SOURCE / "examples/data/digits.h5"
ARGUMENTS = ("-d", "msp,energy,mahalanobis,knn,vim,relative_mahalanobis,conjnorm",
             "-p", "conjnorm.partition=importance", "-p", "conjnorm.samples=16",
             "-p", "knn.k=7")
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)><!--"
Driver = webdriver.Chrome


def data_of(page: Path) -> Any:
    """The report that lies in the page."""
    text = page.read_text(encoding="utf-8")
    return json.loads(text.split('<script type="application/json" id="data">')[1]
                      .split("</script>")[0])


@pytest.fixture(scope="module")
def page(ood: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    result = ood("report", DIGITS, *ARGUMENTS, "--out", path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert [line.split(":")[1] for line in result.stderr.splitlines()] == [" conjnorm"]  # a warning
    return path


@pytest.fixture(scope="module")
def report(evaluate: Callable[..., Any]) -> Any:
    return evaluate(DIGITS, *ARGUMENTS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Driver]:
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
    driver.set_script_timeout(30)
    yield driver
    driver.quit()


def resize(browser: Driver, width: int, height: int = 900) -> None:
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500})


def colours(browser: Driver, scheme: str) -> None:
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {
        "features": [{"name": "prefers-color-scheme", "value": scheme}]})


@pytest.fixture
def opened(browser: Driver, page: Path) -> Iterator[Driver]:
    """The page in a window of a desktop, light; no test may leave a message on the console."""
    resize(browser, 1280)
    colours(browser, "light")
    browser.get(page.as_uri())
    yield browser
    assert browser.get_log("browser") == []


def texts(browser: Driver, selector: str) -> list[str]:
    return browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector)


def rows_of_results(browser: Driver) -> list[str]:
    return [text.split()[0] for text in texts(browser, "#results tbody tr > th > details > summary")]


def heads_of_results(browser: Driver) -> list[Any]:
    return browser.find_elements(By.CSS_SELECTOR, "#results thead th")


def ranking(entries: list[Any], metric: str, reverse: bool) -> list[str]:
    return [entry["detector"]
            for entry in sorted(entries, key=lambda entry: entry[metric], reverse=reverse)]


def chart(browser: Driver, name: str) -> Any:
    """Labels and data of a chart, as they are drawn."""
    return browser.execute_script(
        "const c = Chart.getChart(arguments[0]);"
        "return {labels: c.data.labels, datasets: c.data.datasets.map((d) =>"
        " ({label: d.label, data: d.data, colour: d.borderColor}))}", name)


# --- What is in the page ------------------------------------------------------------------------

def test_page_is_one_file_without_outside_references(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    notices = {"https://www.chartjs.org", "https://github.com/kurkle/color#readme"}
    assert set(re.findall(r"https?://[^\s\"'`<)]+", text)) == notices
    assert re.findall(r"<(?:script|img|iframe|object|embed|source)[^>]*\ssrc", text) == []
    assert re.findall(r"<link[^>]*href=\"(?!data:)", text) == []
    assert "@import" not in text and not re.search(r"url\((?!data:)", text.split("</style>")[0])
    assert "default-src 'none'" in text  # and the browser would not follow any
    assert "Released under the MIT License" in text
    assert len(text) < 1_000_000


def test_page_holds_the_report(page: Path, report: Any) -> None:
    data = data_of(page)
    for key in ("file", "model", "id_accuracy", "rows", "means", "fits", "left_out", "searches"):
        assert data[key] == report[key]
    printed = subprocess.run(["xxhsum", "-H2", DIGITS], capture_output=True, text=True, check=True)
    assert data["fingerprint"] == printed.stdout.split()[0]


def test_curves_and_agreement_are_those_of_the_scores(page: Path, tmp_path: Path,
                                                      score_rows: Callable[..., np.ndarray]) -> None:
    data = data_of(page)
    sets = sorted({row["dataset"] for row in data["rows"]})
    splits = ["id_test", *(f"ood/{name}" for name in sets)]
    sizes = [data["rows"][0]["n_id"],
             *(next(row["n_ood"] for row in data["rows"] if row["dataset"] == name)
               for name in sets)]
    scores = {}
    for timing in data["timings"]:
        options = {name: ",".join(map(str, value)) if isinstance(value, list) else
                   str(value).lower() if isinstance(value, bool) else value
                   for name, value in timing["options"].items() if value != []}
        scores[timing["detector"]] = score_rows(DIGITS, splits, timing["detector"], **options)
    want = scipy.stats.spearmanr(np.array(list(scores.values())), axis=1)[0]
    np.testing.assert_allclose(np.array(data["agreement"]), want, atol=1e-5)

    assert len(data["curves"]) == len(data["rows"])
    for curve, row in zip(data["curves"], data["rows"]):
        parts = np.split(scores[row["detector"]].astype(float), np.cumsum(sizes)[:-1])
        inside, outside = parts[0], parts[1 + sets.index(row["dataset"])]
        assert (curve["detector"], curve["dataset"]) == (row["detector"], row["dataset"])
        truth = np.r_[np.ones(len(inside)), np.zeros(len(outside))]
        together = np.r_[inside, outside]
        fpr, tpr, _ = sklearn.metrics.roc_curve(truth, together, drop_intermediate=False)
        x, y = np.array(curve["roc"]["fpr"]), np.array(curve["roc"]["tpr"])
        assert 2 <= len(x) <= 501
        # each point lies on the exact curve: as far along it, it is at the same place
        np.testing.assert_allclose(np.interp(x + y, fpr + tpr, tpr), y, atol=2e-5)
        assert abs(np.trapz(y, x) - sklearn.metrics.roc_auc_score(truth, together)) <= 1.01e-3
        histogram = curve["histogram"]
        low = min(np.percentile(inside, 0.5), np.percentile(outside, 0.5))
        high = max(np.percentile(inside, 99.5), np.percentile(outside, 99.5))
        assert histogram["low"] == pytest.approx(low, rel=1e-12)
        assert histogram["high"] == pytest.approx(high, rel=1e-12)
        for counts, rows in ((histogram["id"], inside), (histogram["ood"], outside)):
            expected = np.histogram(np.clip(rows, low, high), 60, (low, high))[0]
            assert sum(counts) == len(rows)
            assert np.abs(np.cumsum(counts) - np.cumsum(expected)).max() <= 1  # one on an edge


# --- What the browser shows ----------------------------------------------------------------------

def test_opens_with_everything(opened: Driver, report: Any) -> None:
    text = opened.find_element(By.TAG_NAME, "body").text
    for expected in (report["model"], report["id_dataset"], "digits.h5", data_fingerprint(opened),
                     "AUROC", "effective_samples", "condition_number", "it cannot be trusted",
                     "partition = importance", report["version"],
                     f"{100 * report['id_accuracy']:.2f} %"):
        assert expected in text
    assert "digits" in opened.title
    assert sorted(rows_of_results(opened)) == sorted(row["detector"] for row in report["timings"])
    near = {mean["detector"]: mean for mean in report["means"] if mean["kind"] == "near"}
    cells = texts(opened, "#results tbody tr:first-child > *")
    best = near[ranking(list(near.values()), "auroc", True)[0]]
    assert cells[1] == (f"{100 * best['auroc']:.2f}{100 * best['auroc_low']:.2f} – "
                        f"{100 * best['auroc_high']:.2f}")


def data_fingerprint(browser: Driver) -> str:
    return browser.execute_script(
        "return JSON.parse(document.getElementById('data').textContent).fingerprint")


def test_sorts_by_a_click(opened: Driver, report: Any) -> None:
    means = {kind: [mean for mean in report["means"] if mean["kind"] == kind]
             for kind in ("near", "far")}
    assert rows_of_results(opened) == ranking(means["near"], "auroc", True)
    far = heads_of_results(opened)[2]
    assert far.text.startswith("far mean")
    assert far.get_attribute("aria-sort") == "none"
    far.find_element(By.TAG_NAME, "button").click()
    assert rows_of_results(opened) == ranking(means["far"], "auroc", True)
    assert far.get_attribute("aria-sort") == "descending"
    assert heads_of_results(opened)[1].get_attribute("aria-sort") == "none"
    far.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)  # by the keyboard, the other way
    assert rows_of_results(opened) == ranking(means["far"], "auroc", False)
    assert far.get_attribute("aria-sort") == "ascending"
    assert opened.switch_to.active_element == far.find_element(By.TAG_NAME, "button")
    fpr = heads_of_results(opened)[3]
    assert "FPR95" in fpr.text
    fpr.find_element(By.TAG_NAME, "button").click()  # the best first: the lowest
    assert rows_of_results(opened) == ranking(means["near"], "fpr95", False)
    heads_of_results(opened)[0].find_element(By.TAG_NAME, "button").click()
    assert rows_of_results(opened) == sorted(row["detector"] for row in report["timings"])


@pytest.mark.parametrize(("metric", "best"), [
    ("auroc", max), ("fpr95", min), ("fpr95_ood", min), ("aupr_in", max), ("aupr_out", max)])
def test_metric_is_chosen_and_its_best_is_bold(opened: Driver, report: Any, metric: str,
                                               best: Callable) -> None:
    Select(opened.find_element(By.ID, "metric")).select_by_value(metric)
    sets = sorted({row["dataset"] for row in report["rows"]})
    heads = [text for text in texts(opened, "#results thead th")]
    for name in sets:
        column = next(j for j, text in enumerate(heads) if text.startswith(name))
        values = {row["detector"]: row[metric] for row in report["rows"] if row["dataset"] == name}
        bold = opened.execute_script(
            "return [...document.querySelectorAll('#results tbody tr')].filter((tr) =>"
            " getComputedStyle(tr.children[arguments[0]]).fontWeight >= 600)"
            ".map((tr) => [tr.querySelector('summary').textContent, tr.children[arguments[0]].firstChild.textContent])",
            column)
        expected = [name for name, value in values.items() if value == best(values.values())]
        assert sorted(name for name, _ in bold) == sorted(expected)
        assert {value for _, value in bold} == {f"{100 * best(values.values()):.2f}"}


def test_a_set_and_detectors_are_chosen(opened: Driver, page: Path) -> None:
    data = data_of(page)
    sets = Select(opened.find_element(By.ID, "set"))
    drawn = {}
    for name in ("digit_8", "inverted"):
        sets.select_by_value(name)
        roc, histogram = chart(opened, "roc"), chart(opened, "histogram")
        drawn[name] = json.dumps([roc, histogram])
        detector = Select(opened.find_element(By.ID, "detector")).first_selected_option.text
        curve = next(curve for curve in data["curves"]
                     if (curve["detector"], curve["dataset"]) == (detector, name))
        line = next(line for line in roc["datasets"] if line["label"].startswith(f"{detector} "))
        np.testing.assert_allclose([point["y"] for point in line["data"]],
                                   100 * np.array(curve["roc"]["tpr"]))
        row = next(row for row in data["rows"]
                   if (row["detector"], row["dataset"]) == (detector, name))
        assert histogram["datasets"][1]["label"] == name
        np.testing.assert_allclose(histogram["datasets"][1]["data"],
                                   100 * np.array(curve["histogram"]["ood"]) / row["n_ood"])
        assert name in opened.find_element(By.ID, "roc-caption").text
    assert drawn["digit_8"] != drawn["inverted"]

    assert len(chart(opened, "roc")["datasets"]) == 5 + 1  # the five best, and chance
    box = next(label for label in opened.find_elements(By.CSS_SELECTOR, "#drawn-list label")
               if not label.find_element(By.TAG_NAME, "input").is_selected())
    box.click()
    labels = [line["label"] for line in chart(opened, "roc")["datasets"]]
    assert len(labels) == 6 + 1 and any(label.startswith(box.text.strip()) for label in labels)
    opened.find_element(By.ID, "drawn-none").click()
    assert len(chart(opened, "roc")["datasets"]) == 1
    opened.find_element(By.ID, "drawn-best").click()
    five = [line["label"].split()[0] for line in chart(opened, "roc")["datasets"][:-1]]
    rows = [row for row in data["rows"] if row["dataset"] == "inverted"]
    assert sorted(five) == sorted(ranking(rows, "auroc", True)[:5])


def test_time_against_auroc(opened: Driver, report: Any) -> None:
    Select(opened.find_element(By.ID, "time-set")).select_by_visible_text("far mean")
    points = chart(opened, "time")["datasets"][0]["data"]
    want = {mean["detector"]: 100 * mean["auroc"] for mean in report["means"]
            if mean["kind"] == "far"}
    assert {point["label"]: point["y"] for point in points} == pytest.approx(want)
    assert all(point["x"] > 0 for point in points)


def test_agreement_is_a_table_of_numbers(opened: Driver, page: Path) -> None:
    data = data_of(page)
    names = [timing["detector"] for timing in data["timings"]]
    heads = texts(opened, "#agreement thead th")[1:]
    assert sorted(heads) == sorted(names)
    cells = np.reshape(texts(opened, "#agreement tbody td"), (len(names), len(names)))
    order = [names.index(name) for name in heads]
    want = np.array(data["agreement"])[np.ix_(order, order)]
    got = np.array([[float(cell.replace("−", "-")) for cell in row] for row in cells])
    np.testing.assert_allclose(got, want, atol=0.00501)


def test_phone_scrolls_no_page_sideways(opened: Driver) -> None:
    resize(opened, 360, 740)
    wait_for_layout(opened)
    wide, shown = opened.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert shown == 360 and wide <= shown
    table = opened.execute_script(
        "const box = document.querySelector('#results').parentElement;"
        "box.scrollLeft = 200;"
        "return [box.scrollWidth > box.clientWidth, box.scrollLeft,"
        " document.querySelector('#results tbody th').getBoundingClientRect().left >= 0]")
    assert table == [True, 200, True]  # it scrolls in its box, its first column stays


def wait_for_layout(browser: Driver) -> None:
    browser.execute_async_script(
        "const done = arguments[0];"
        "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 100)))")


def luminance(colour: str) -> float:
    """Of "rgb(1, 2, 3)" or "#010203", 0 to 255."""
    parts = ([int(colour[i:i + 2], 16) for i in (1, 3, 5)] if colour.startswith("#")
             else [float(part) for part in re.findall(r"[\d.]+", colour)[:3]])
    return sum(parts) / 3


def test_dark_and_light(opened: Driver) -> None:
    seen = {}
    for scheme in ("light", "dark", "light"):
        colours(opened, scheme)
        wait_for_layout(opened)
        page, ink = opened.execute_script(
            "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]")
        assert (luminance(page) > luminance(ink)) == (scheme == "light")
        assert abs(luminance(page) - luminance(ink)) > 150
        now = (chart(opened, "roc")["datasets"][0]["colour"],
               opened.execute_script("return Chart.defaults.color"))
        assert seen.setdefault(scheme, now) == now
    assert seen["light"] != seen["dark"]
    assert luminance(seen["dark"][1]) > 150 > luminance(seen["light"][1])


def test_print(opened: Driver, tmp_path: Path) -> None:
    colours(opened, "dark")
    on_paper = opened.execute_script(
        "addEventListener('beforeprint', () => {"
        "  window.paper = [Chart.getChart('roc').data.datasets[0].borderColor, Chart.defaults.color]; });")
    assert on_paper is None
    printed = opened.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    pdf = base64.b64decode(printed["data"])
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 1
    assert luminance(opened.execute_script("return window.paper[1]")) < 100  # ink, as by light
    assert luminance(opened.execute_script("return Chart.defaults.color")) > 150  # and dark again


# --- Names out of a file, and what the command refuses -------------------------------------------

def test_hostile_names_are_text(ood: Run, browser: Driver, tmp_path: Path) -> None:
    def change(file: Any) -> None:
        file.attrs["model"] = file.attrs["id_dataset"] = HOSTILE
        file.move("ood/far", "ood/" + HOSTILE.replace("/", "\u2215"))

    small = write_small(tmp_path / "small.h5", change)
    page = tmp_path / "page.html"
    assert ood("report", small, "-d", "msp,energy", "--out", page).returncode == 0
    page_text = page.read_text(encoding="utf-8")
    assert page_text.count("</script>") == 3 and "<img" not in page_text
    browser.get(page.as_uri())
    assert browser.get_log("browser") == []
    assert browser.find_element(By.ID, "title").text == HOSTILE
    assert any(HOSTILE.replace("/", "\u2215") in text for text in texts(browser, "#results thead th"))
    assert browser.find_elements(By.CSS_SELECTOR, "main img") == []
    assert len(browser.find_elements(By.TAG_NAME, "script")) == 3


def test_report_without_curves_and_with_two_of_a_name(browser: Driver, page: Path,
                                                      tmp_path: Path) -> None:
    """What the command does not make, but the library does."""
    data = data_of(page)
    for key in ("curves", "agreement", "fingerprint"):
        del data[key]
    for kind in ("rows", "means", "timings"):
        data[kind] = [entry for entry in data[kind] if entry["detector"] in ("msp", "energy")]
        for entry in data[kind]:
            if entry["detector"] == "energy":
                entry.update(detector="msp", options={"temperature": 2.0})
            if kind != "timings":
                entry.update(auroc_low=None, auroc_high=None)
    text = page.read_text(encoding="utf-8")
    begin = '<script type="application/json" id="data">'
    head, tail = text.split(begin)
    changed = tmp_path / "changed.html"

    def open_with(data: Any) -> None:
        changed.write_text(head + begin + json.dumps(data) + tail[tail.index("</script>"):])
        browser.get(changed.as_uri())
        assert browser.get_log("browser") == []

    open_with(data)
    assert not browser.find_element(By.ID, "curves-section").is_displayed()
    assert not browser.find_element(By.ID, "agreement-section").is_displayed()
    assert sorted(texts(browser, "#results tbody summary")) == [
        "msp (temperature = 1)", "msp (temperature = 2)"]
    assert "–" not in "".join(texts(browser, "#results tbody td"))  # no intervals, no gaps
    assert len(chart(browser, "time")["datasets"][0]["data"]) == 2

    open_with({**data, "rows": [], "means": []})  # of a fit alone
    assert not browser.find_element(By.ID, "results-section").is_displayed()
    assert len(texts(browser, "#detectors tbody tr")) == 2
    assert len(texts(browser, "#fits article")) > 0


def test_searches_and_what_was_left_out(ood: Run, browser: Driver, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    small = write_small(tmp_path / "small.h5")
    result = ood("report", small, "-p", "corp.dimension=64", "--search", "knn.k=1,5,9", "-o", page)
    assert result.returncode == 0, result.stderr
    data = data_of(page)
    resize(browser, 1280)
    browser.get(page.as_uri())
    assert browser.get_log("browser") == []
    assert len(rows_of_results(browser)) <= len(data["timings"])
    assert len(texts(browser, "#left-out tbody tr")) == len(data["left_out"]) > 0
    assert texts(browser, "#searches tbody th") == ["k = 1", "k = 5", "k = 9"]
    assert len(texts(browser, "#results tbody tr")) == len(data["timings"]) > 30


@pytest.mark.parametrize(("arguments", "message"), [
    (["report", "FILE"], "--out is required"),
    (["report", "FILE", "-d", "msp", "--out", "FILE"], "which is an input"),
    (["report", "FILE", "-d", "msp", "--out", "/no/such/folder/x.html"], "cannot be written"),
    (["report", "FILE", "-d", "nope", "--out", "x.html"], "nope"),
    (["report", "no.h5", "--out", "x.html"], "no.h5"),
])
def test_bad_usage_is_one_line_and_exit_2(ood: Run, tmp_path: Path, arguments: list[str],
                                          message: str) -> None:
    small = write_small(tmp_path / "small.h5")
    before = small.read_bytes()
    result = ood(*[str(small) if a == "FILE" else a for a in arguments])
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("ood: ") and result.stderr.count("\n") == 1
    assert message in result.stderr
    assert small.read_bytes() == before
