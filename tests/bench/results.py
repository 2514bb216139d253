"""What a run measured: rows of one number each, kept as CSV; medians, and ratios pair by pair within a round."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One number: of a section, a case (a contender), a round, and a measure, whose name has the unit."""

    section: str
    case: str
    round: int
    measure: str
    value: float


class Results:
    """The numbers of a run, or of a part of it, and what it ran on."""

    def __init__(self, rows: Iterable[Row] = (), about: dict[str, str] | None = None) -> None:
        self.rows = list(rows)
        self.about = about or {}

    def add(self, section: str, case: str, turn: int, **measures: float) -> None:
        self.rows += [Row(section, case, turn, name, value) for name, value in measures.items()]

    def values(self, section: str, case: str, measure: str) -> dict[int, float]:
        """The numbers of a measure, by round."""
        wanted = (section, case, measure)
        return {row.round: row.value for row in self.rows if (row.section, row.case, row.measure) == wanted}

    def median(self, section: str, case: str, measure: str) -> float | None:
        values = self.values(section, case, measure)
        return statistics.median(values.values()) if values else None

    def ratio(self, section: str, measure: str, case: str, to: str | None) -> float | None:
        """The median, over the rounds, of a case's number divided by another's of the same round."""
        if to is None:
            return None
        these, those = self.values(section, case, measure), self.values(section, to, measure)
        ratios = [these[turn] / those[turn] for turn in these.keys() & those.keys() if those[turn]]
        return statistics.median(ratios) if ratios else None

    def cases(self, section: str) -> list[str]:
        """The cases of a section, in their order."""
        return list(dict.fromkeys(row.case for row in self.rows if row.section == section))

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow([field.name for field in fields(Row)])
            lines.writerows(["about", name, "", "", value] for name, value in self.about.items())
            lines.writerows([*astuple(row)[:4], f"{row.value:.6g}"] for row in self.rows)

    @classmethod
    def read(cls, path: Path) -> Results:
        read = cls()
        with path.open(newline="") as file:
            for section, case, turn, measure, value in list(csv.reader(file))[1:]:
                if section == "about":
                    read.about[case] = value
                else:
                    read.add(section, case, int(turn), **{measure: float(value)})
        return read
