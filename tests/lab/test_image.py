"""The image's cache: whole or not there, shared while in use, gone when its recipe is."""

from pathlib import Path

import pytest

from tests.lab import image, recipe
from tests.lab.errors import LabError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NODEADMIN_CACHE", str(tmp_path))
    return recipe.cache_directory()


def _whole_image(cache: Path, name: str) -> Path:
    directory = cache / name
    directory.mkdir(parents=True)
    (directory / "build.json").write_text("{}")
    return directory


def test_cache_is_where_the_environment_says(cache: Path, tmp_path: Path) -> None:
    assert cache == tmp_path / "lab"


def test_recipe_names_another_image_when_a_file_in_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "customize.sh"
    monkeypatch.setattr(recipe, "HERE", tmp_path)
    monkeypatch.setattr(recipe, "files", lambda _suite: [script])
    names = set()
    for text, mode in (("one", 0o644), ("two", 0o644), ("two", 0o755)):
        script.write_text(text)
        script.chmod(mode)
        names.add(recipe.recipe_hash())

    assert len(names) == 3


def test_image_that_is_there_is_taken_as_it_is(cache: Path) -> None:
    directory = _whole_image(cache, recipe.recipe_hash())

    found, hold = image.acquire()

    hold.close()
    assert found.directory == directory


def test_each_release_of_debian_has_an_image_of_its_own_that_the_other_leaves_alone(cache: Path) -> None:
    both = [_whole_image(cache, recipe.recipe_hash(suite)) for suite in (recipe.SUITE, recipe.NEWER)]

    for suite, directory in zip((recipe.SUITE, recipe.NEWER), both, strict=True):
        found, hold = image.acquire(suite)
        hold.close()
        assert found.directory == directory

    assert len(set(both)) == 2
    assert all(directory.exists() for directory in both)


def test_images_of_other_recipes_and_broken_off_builds_are_removed(cache: Path) -> None:
    _whole_image(cache, recipe.recipe_hash())
    old = _whole_image(cache, "0" * 16)
    broken_off = cache / "building-x1y2"
    broken_off.mkdir()
    running = cache / "run"
    running.mkdir()

    _, hold = image.acquire()

    hold.close()
    assert not old.exists()
    assert not broken_off.exists()
    assert running.exists()


def test_image_that_a_host_runs_stays_whatever_the_recipe(cache: Path) -> None:
    _whole_image(cache, recipe.recipe_hash())
    old = _whole_image(cache, "0" * 16)

    with image.Image(old).hold():
        image.acquire()[1].close()
        assert old.exists()
    image.acquire()[1].close()
    assert not old.exists()


def test_build_that_fails_leaves_no_image_and_says_what_is_missing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing-here"))

    with pytest.raises(LabError, match="mmdebstrap is missing"):
        image.acquire()

    assert not (cache / recipe.recipe_hash()).exists()
