import re
import shutil
import subprocess

import pytest

from vtadl.cli import main

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# A script that writes counts of the pictures to where --dump-dom shows them.
PROBE = """<script>
addEventListener("load", () => {
  const shown = (image) => image.naturalWidth > 0 && image.getBoundingClientRect().width > 8;
  document.body.dataset.pictures = document.images.length;
  document.body.dataset.hidden = [...document.images].filter((image) => !shown(image)).length;
});
</script>"""


@pytest.fixture(scope="module")
def page(trained):
    assert main(["report", str(trained)]) == 0
    return trained / "report.html"


def test_a_page_shows_metrics_curves_pictures_and_settings(page):
    text = page.read_text()
    for part in (
        "image AUROC",
        "AUPRO",
        "Per-region overlap",
        "hole/00",
        "image_size: 32",
        "vtadl-ext",
        "hole",
    ):
        assert part in text
    assert (
        len(re.findall("data:image/svg", text)) == 4 + 4
    )  # the histogram and three curves, and four terms of the loss
    assert len(re.findall("data:image/jpeg", text)) == 4 * 3 * 4


def test_a_page_refers_to_no_other_file(page):
    text = page.read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "<script" not in text
    assert "http" not in re.sub("data:[^\"']*", "", text)


def test_names_are_escaped_in_the_page(trained, tmp_path):
    from vtadl.metrics import Evaluation
    from vtadl.report.page import DetectorResult, write_report
    from vtadl.report.recorder import Recording

    rates = {"false_alarm_rate": 0.1, "image_false_alarm_rate": 0.2}
    thresholds = {kind: {"count": 9} | rates for kind in ("image", "pixel")}
    evaluation = Evaluation({"image_auroc": 0.5}, {}, {}, {}, {}, num_images=1, confidence_level=0.95)
    result = DetectorResult("<b>parts</b>", evaluation, Recording([0.1], [0]), thresholds)
    text = write_report(tmp_path / "page.html", "title", [result]).read_text()
    assert "<b>parts" not in text
    assert "&lt;b&gt;parts" in text


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
def test_a_browser_shows_every_picture_without_an_error(page, tmp_path):
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text().replace("</head>", f"{PROBE}</head>"))
    quiet = ("gpu", "quic", "background-networking", "component-update", "sync")
    options = [f"--disable-{name}" for name in quiet] + [
        "--no-sandbox",
        "--no-first-run",
        "--enable-logging=stderr",
    ]
    command = [CHROMIUM, "--headless", *options, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run([*command, probed.as_uri()], capture_output=True, text=True, timeout=120)
    pictures = re.search(r'data-pictures="(\d+)" data-hidden="(\d+)"', done.stdout)
    assert pictures is not None, done.stderr
    assert int(pictures[1]) == page.read_text().count("<img ")
    assert int(pictures[2]) == 0
    assert "CONSOLE" not in done.stderr, done.stderr
