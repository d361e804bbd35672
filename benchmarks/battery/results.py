"""The results of the battery: rows, sections, and the JSON and Markdown files, written anew after each row."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from maskfold.fileio import write_json, write_text


@dataclass(frozen=True)
class Row:
    """One measured value. n: number of measurements. at_least, at_most: the target, None without one."""

    what: str
    value: float
    unit: str
    n: int = 1
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def meets_target(self) -> bool | None:
        """Whether the value meets its target; None without one. NaN meets none."""
        if self.at_least is not None:
            return bool(self.value >= self.at_least)
        return None if self.at_most is None else bool(self.value <= self.at_most)

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f">= {number(self.at_least)}"
        return "" if self.at_most is None else f"<= {number(self.at_most)}"


@dataclass
class SectionResult:
    """A section as it ran. budget, seconds: allowed and used time. status: done, failed, out of time, not run."""

    name: str
    budget: float
    status: str = "not run"
    seconds: float = 0.0
    error: str = ""
    rows: list[Row] = field(default_factory=list)
    # {title: text}, such as a table of the profiler.
    texts: dict[str, str] = field(default_factory=dict)


class Results:
    """All sections in the order in which they run. machine: what it ran on. path: the JSON file."""

    def __init__(self, path: Path, machine: dict, missing: dict[str, str]):
        self.path, self.machine, self.missing = path, machine, missing
        self.sections: list[SectionResult] = []

    def write(self) -> None:
        """Write the JSON file, and the Markdown file beside it. A reader sees whole files only."""
        sections = {section.name: asdict(section) for section in self.sections}
        for section in self.sections:
            sections[section.name]["rows"] = [asdict(row) | {"meets_target": row.meets_target} for row in section.rows]
        write_json(self.path, {"machine": self.machine, "missing": self.missing, "sections": sections})
        write_text(self.path.with_suffix(".md"), self.markdown())

    def markdown(self) -> str:
        """The rows as a table, then the sections, missing packages and texts."""
        machine = ", ".join(f"{key} {value}" for key, value in self.machine.items() if key != "device")
        lines = [f"# GPU battery: {self.machine['device']}", "", machine, ""]
        lines += ["| section | measured | value | target | met | n | note |", "|---|---|---|---|---|---|---|"]
        for section in self.sections:
            for row in section.rows:
                met = {True: "yes", False: "**no**", None: ""}[row.meets_target]
                value = f"{number(row.value)} {row.unit}".strip()
                lines.append(f"| {section.name} | {row.what} | {value} | {row.target} | {met} | {row.n} | {row.note} |")
        lines += ["", "| section | result | seconds | budget |", "|---|---|---|---|"]
        for section in self.sections:
            result = section.status + (f": {section.error.splitlines()[0]}" if section.error else "")
            lines.append(f"| {section.name} | {result} | {section.seconds:.0f} | {section.budget:.0f} |")
        lines += ["", *(f"Not installed: {name} ({effect})." for name, effect in self.missing.items())]
        for section in self.sections:
            for title, text in section.texts.items():
                lines += ["", f"## {title}", "", "```", text.rstrip(), "```"]
        return "\n".join(lines).rstrip() + "\n"


def number(value: float) -> str:
    """A value with about three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
