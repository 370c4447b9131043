"""The digest of a configuration: every setting that changes a result changes it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest

from arraycal.calib.history.digest import configuration_digest
from arraycal.config.models import Configuration, Options

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Where a tool reads, writes and logs, how much it holds at a time, and what it is compared with.
WITHOUT_EFFECT = {
    "input_url", "input_data_url", "output_url", "overwrite", "log_level", "log_file",
    "log_file_level", "quiet", "provenance_log", "chunk_size", "compare",
}  # fmt: skip


class Other(dict[str, str]):
    """A value that no setting has, and that is written as any of them may be."""

    def to_plain(self) -> dict[str, str]:
        return dict(self)


def leaves(options: Options, *above: str) -> Iterator[tuple[str, ...]]:
    """Names of all settings, with the sections they are in."""
    for name in type(options).model_fields:
        value = getattr(options, name)
        if isinstance(value, Options):
            yield from leaves(value, *above, name)
        else:
            yield *above, name


def changed(options: Any, path: tuple[str, ...]) -> Any:
    """Copy with one setting that is not what it was, whatever that may mean."""
    name, *below = path
    new = changed(getattr(options, name), tuple(below)) if below else Other(another="value")
    return options.model_copy(update={name: new})


def digest(configuration: Configuration) -> str:
    with warnings.catch_warnings():
        # A text where a number belongs cannot be written as one, and need not.
        warnings.filterwarnings("ignore", message="(?s)Pydantic serializer")
        return configuration_digest(configuration)


@pytest.mark.parametrize("path", list(leaves(Configuration())), ids=".".join)
def test_every_setting_that_changes_a_result_changes_the_digest(path: tuple[str, ...]) -> None:
    matters = path[0] != "TrendMonitor" and path[-1] not in WITHOUT_EFFECT
    found = digest(changed(Configuration(), path)) != digest(Configuration())
    assert found is matters, f"{'.'.join(path)}: say in {__name__} whether it changes results"


def test_the_settings_without_effect_are_those_of_the_models() -> None:
    known = {path[-1] for path in leaves(Configuration())}
    assert known >= WITHOUT_EFFECT
