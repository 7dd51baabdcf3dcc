import rich

from vtadl.common.progress import progress


def test_progress_prints_nothing_into_a_pipe(capsys, monkeypatch):
    monkeypatch.setattr(rich, "_console", None)  # the console keeps the stream of its first use
    assert list(progress([1, 2], "counting")) == [1, 2]
    assert capsys.readouterr().out == ""
