"""`dit report`: how runs went, on one page."""

from pathlib import Path


def run(run: list[Path], /, out: Path = Path("report.html")) -> None:
    """Write a page with losses, gradient norm, speed and samples of one run, or of several beside each other.

    It reads of a run metrics.jsonl, the pictures that this names, and what dit evaluate measured, in the run's folder
    or its export: every figure is shown with its standard error, the number of samples and the protocol.

    Args:
        run: run folders of `dit train`, finished or not.
        out: HTML file to write; it holds everything it shows.
    """
    from dit.files import check_writable, write_text
    from dit.training.monitor.report import load_runs, report_page

    check_writable(out, "--out")
    write_text(out, report_page(load_runs(run)))
    print(out)
