from dit.cli import main
from tests.command import fails


def test_models_lists_the_names_one_a_line(capsys):
    assert main(["models", "dit_*"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 16
    table = {name: (parameters, macs) for name, parameters, macs, *_ in rows}
    assert table["dit_xl_2"] == ("675,129,632", "118.62")
    assert table["dit_s_2"] == ("32,963,360", "6.06")


def test_models_names_near_ones(capsys):
    assert fails(capsys, "models", "dit_xs_2").startswith("models: no model fits 'dit_xs_2'")


def test_a_terminal_shows_the_names_of_the_columns_above_them(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["models", "--pretrained", "dit_ti_2.*"]) == 0
    assert capsys.readouterr().out == (
        "name                     parameters  data   resolution  license     FID as published\n"
        "dit_ti_2.mnist            4,170,640  mnist          32  apache-2.0  none\n"
        "dit_ti_2.mnist_gaussian   4,173,728  mnist          32  apache-2.0  none\n"
    )
