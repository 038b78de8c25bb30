"""What a real Lustre showed beside `actions` at one moment (tests/fixtures/beside), laid out as a server shows it."""

from __future__ import annotations

from pathlib import Path

from tests.simulator import SimulatedMds

FIXTURES = Path(__file__).parents[1] / "fixtures/beside"
MOMENTS = sorted(path.name.removesuffix(".rest.txt") for path in FIXTURES.glob("lustre-2.17.57/*.rest.txt"))


def lay_out(mds: SimulatedMds, mdt: str, moment: str, version: str = "lustre-2.17.57") -> Path:
    """Show that moment as an MDT of `mds`; returns its actions file."""
    mds.add_folders(mdt)
    _, *told = (FIXTURES / version / f"{moment}.rest.txt").read_text().splitlines()
    words: dict[str, str] = {}
    files: dict[str, list[bytes]] = {}
    section: list[bytes] | None = None
    for line in told:
        if line.startswith("["):
            section = files.setdefault(line.strip("[]"), [])
        elif section is not None:
            section.append(f"{line}\n".encode())
        else:
            name, words[name] = line.split()
    mds.write_hsm_control(mdt, words.pop("hsm_control"))
    mds.write_tunables(mdt, {name: int(value) for name, value in words.items()})
    mds.write_agents(mdt, files["agents"])
    mds.write_actions(mdt, [(FIXTURES / version / f"{moment}.actions.txt").read_bytes()])
    return mds.actions_path(mdt)
