import rich

from vtadl.common.progress import progress


def test_progress_prints_nothing_to_a_pipe(capsys, monkeypatch):
    monkeypatch.setattr(rich, "_console", None)  # the console would keep the stream of its first use
    assert list(progress([1, 2], "counting")) == [1, 2]
    assert capsys.readouterr().out == ""
