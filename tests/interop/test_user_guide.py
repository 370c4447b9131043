"""The files of the peer's user guide, in its tools and beside our presets for the comparison."""

from functools import cache

import numpy as np
import pytest

QTable = pytest.importorskip("astropy.table").QTable
ctapipe_io = pytest.importorskip("ctapipe.io")

KEYS = ("obs_id", "event_id", "tel_id_1", "tel_id_2")
NO_EQUIDISTANT = "guide_image_asymmetry_no_equidistant"


@pytest.fixture(scope="module")
def home(exchange):
    return exchange / "mixed"


@pytest.fixture(scope="module")
def peer_files(home, run_tool):
    """Asymmetries that the peer makes of all blocks with a file of its guide."""

    @cache
    def make(name):
        kind = "energy" if "energy" in name else "image"
        folder = home / "peer_guide" / name
        folder.mkdir(parents=True, exist_ok=True)
        for block in sorted((home / "blocks").glob("*.h5")):
            arguments = ("-i", block, "-o", folder / f"{block.name.removesuffix('.dl2.h5')}.h5")
            run_tool(f"{kind}-asymmetry-estimation", name, *arguments, cwd=folder.parent)
        return folder, f"{kind}_asymmetry"

    return make


def by_key(table, column):
    keys = zip(*(table[name].tolist() for name in KEYS), strict=True)
    return dict(zip(keys, np.asarray(table[column]), strict=True))


@pytest.mark.parametrize(
    "name", ["guide_energy_asymmetry", "guide_image_asymmetry", NO_EQUIDISTANT]
)
def test_our_preset_beside_a_file_of_the_guide_selects_the_peers_rows(home, peer_files, name):
    folder, column = peer_files(name)
    theirs: dict[tuple[int, ...], float] = {}
    for path in sorted(folder.glob("*.h5")):
        theirs |= by_key(QTable.read(path, path=f"/{column}/events", format="hdf5"), column)
    table = np.genfromtxt(
        home / "guide" / name / "pairs.csv", delimiter=",", names=True, dtype=None
    )
    ours = by_key(table, "asymmetry")
    print(f"{name}: {len(ours)} rows of ours, {len(theirs)} of the peer's")
    assert len(ours) > 100
    assert ours.keys() == theirs.keys()
    keys = sorted(ours)
    found, expected = ([rows[key] for key in keys] for rows in (ours, theirs))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
