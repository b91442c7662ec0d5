"""What keys do to what is seen."""

from __future__ import annotations

import pytest

from natsery._cli._top._view import Level, Sort, View, apply_key


def after(view: View, *keys: str, rows: int = 100, page: int = 10) -> View:
    for key in keys:
        view = apply_key(view, key, rows=rows, page=page)
    return view


@pytest.mark.parametrize("key", ["q", "Q", "interrupt"])
def test_leaving(key: str) -> None:
    assert after(View(), key).is_done
    assert after(View(shows_help=True), key).is_done


def test_sorting_begins_at_the_top_and_forwards() -> None:
    view = View(offset=7, is_reversed=True)
    assert after(view, "e") == View(sort=Sort.ERRORS)
    assert after(view, "t") == View(sort=Sort.TIME)
    assert after(view, "n") == View(sort=Sort.NAME)
    assert after(view, "n", "r") == View()
    assert after(view, "R") == View()
    assert after(View(), "R") == View(is_reversed=True)


def test_figures_have_the_largest_first_and_names_the_smallest() -> None:
    assert View().largest_first
    assert not View(is_reversed=True).largest_first
    assert not View(sort=Sort.NAME).largest_first
    assert View(sort=Sort.NAME, is_reversed=True).largest_first


@pytest.mark.parametrize("key", ["l", "enter"])
def test_levels_go_round(key: str) -> None:
    seen = [after(View(offset=3), *[key] * times).level for times in (1, 2, 3, 4)]
    assert seen == [Level.INSTANCES, Level.ENDPOINTS, Level.ALL, Level.SERVICES]
    assert after(View(offset=3), key).offset == 0


@pytest.mark.parametrize(
    ("keys", "offset"),
    [
        ("up", 0),
        ("j", 1),
        ("down j k", 1),
        ("page-down page-down page-up", 10),
        ("end", 90),
        ("G j", 90),
        ("end page-up", 80),
        ("G home", 0),
        ("G g", 0),
        ("x", 0),
    ],
)
def test_scrolling_has_ends(keys: str, offset: int) -> None:
    assert after(View(), *(key.replace("-", " ") for key in keys.split())).offset == offset


def test_what_fits_does_not_scroll() -> None:
    assert after(View(), "j", "end", "page down", rows=10, page=10).offset == 0


def test_rows_that_have_gone_need_no_scrolling_back() -> None:
    assert after(View(offset=90), "k", rows=20, page=10).offset == 10


def test_pausing_and_helping() -> None:
    assert after(View(), " ") == View(is_paused=True)
    assert after(View(), " ", " ") == View()
    assert after(View(), "?").shows_help
    assert after(View(offset=1), "?", "e") == View(offset=1), "any key leaves the help and does nothing else"
