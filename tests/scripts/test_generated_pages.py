"""Pages that scripts write are current."""

from tests.prepared import script

draw_layers, write_keys = script("draw_layers"), script("write_keys")


def test_layers_are_those_of_the_imports() -> None:
    table = draw_layers.table(draw_layers.Code(draw_layers.ROOT).edges)
    assert (draw_layers.FOLDER / "layers.txt").read_text(encoding="utf-8") == table, "run make pages"


def test_picture_was_drawn_from_the_same_imports() -> None:
    picture = (draw_layers.FOLDER / "layers.svg").read_text(encoding="utf-8")
    edges = draw_layers.Code(draw_layers.ROOT).edges
    assert draw_layers.table(edges).strip() in picture, "run make pages"
    assert all(f">{room}<" in picture for room in edges)


def test_page_of_keys_is_that_of_the_configuration() -> None:
    assert write_keys.PAGE.read_text(encoding="utf-8") == write_keys.page(write_keys.conf_dir()), "run make pages"
