#!/usr/bin/env python
"""Write the generated parts of the documentation and the flags of the schema: `make docs`.

configuration.md lists every key of the schema; images/synthetic_people.webp shows seven photos each of some people of
the demo; config/flags.json makes `--help` fast. Tests fail while configuration.md or flags.json does not match the
schema.
"""

import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pandas as pd
from pydantic.fields import FieldInfo

from maskfold.config.choices import choice_in
from maskfold.config.experiment import DATA_PATHS, MAY_CHANGE_ON_RESUME, Config, ConfigSection
from maskfold.config.flag_record import FLAGS_FILE
from maskfold.config.schema_flags import write_flags
from maskfold.labels import CLASS_NAMES, GENDERS, KIND_MASK, age_group, encode_label
from maskfold.synthetic.demo_data import make_demo

DOCS = Path(__file__).parent
PICTURE = DOCS / "images" / "synthetic_people.webp"
BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
HEAD = """# Configuration

<!-- Generated from the schema by `make docs`; do not edit. -->

```sh
python scripts/train.py configs/demo.yaml --name lower-lr --optim.lr 3e-4 --data.image_size 128 96
```

You can set every key below in the YAML file of an experiment (`optim: {lr: 3.0e-4}`) or by a flag
(`--optim.lr 3e-4`). A flag overrides the file, and the file overrides the default. A file contains only the keys that
differ from the defaults. If a key may be empty, the value `none` makes it empty. An unknown key is an error, and the
message suggests the nearest valid key. A value of the wrong type is also an error.

How to read the tables:

- The type `2 x int` stands for two numbers (`--data.image_size 128 96`). In a list, spaces separate the values
  (`--pseudo.views none hflip`).
- In the column "meaning", `value: text` explains one value of the key.
- `with key value: text` explains a key that has an effect only if another key has this value. For example,
  `data.face_margin` has an effect only if `data.crop` is `face`.
- Only the keys marked with * may change when a run is resumed. If you change `data.root`, `data.prepared` or
  `data.corrections`, the new path must lead to the same photos, labels and folds. You may also move the files and
  folders of `model.weights`, `model.backbone` and `pseudo.runs`, if their names and contents stay the same.
"""


def configuration() -> str:
    """The text of configuration.md."""
    parts = [HEAD]
    fields = Config.model_fields
    single = {name: field for name, field in fields.items() if not isinstance(field.default, ConfigSection)}
    parts.append(_table("Top level", "", single))
    for name, field in fields.items():
        if isinstance(field.default, ConfigSection):
            parts.append(_table(f"`{name}`", f"{name}.", type(field.default).model_fields))
    return "\n".join(parts)


def _table(title: str, prefix: str, fields: dict[str, FieldInfo]) -> str:
    lines = [f"## {title}", "", "| key | type | default | meaning |", "|---|---|---|---|"]
    for key, field in fields.items():
        name = f"{prefix}{key}"
        star = " *" if name in MAY_CHANGE_ON_RESUME + DATA_PATHS else ""
        cells = (f"`{name}`{star}", _type(field), f"`{_value(field.default)}`", field.description or "")
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join([*lines, ""])


def _type(field: FieldInfo) -> str:
    kind, limits = _kind(Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation)
    return f"{kind}, {' and '.join(limits)}" if limits else kind


def _kind(annotation: Any) -> tuple[str, list[str]]:
    """A type in words, and the bounds that its own annotation sets."""
    if annotation is type(None):
        return "none", []
    origin, inner = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        if choice := next(filter(None, map(choice_in, annotation.__metadata__)), None):
            return " or ".join(f"`{name}`" for name in choice.names), []
        kind, limits = _kind(inner[0])
        return kind, limits + [limit for bound in annotation.__metadata__ for limit in _limits(bound)]
    if origin is Literal:
        return " or ".join(f"`{_value(value)}`" for value in inner), []
    if origin is tuple:
        kind, limits = _kind(inner[0])
        return f"list of {kind}" if inner[-1] is ... else f"{len(inner)} x {kind}", limits
    if origin is list:
        return "list", []
    if inner:
        kinds = [_kind(each) for each in inner]
        return " or ".join(kind for kind, _ in kinds), [limit for _, limits in kinds for limit in limits]
    return {Path: "path", str: "text"}.get(annotation, annotation.__name__), []


def _limits(bound: Any) -> list[str]:
    """Bounds as pydantic keeps them: one object a bound, or a Field that holds several."""
    bounds = getattr(bound, "metadata", None) or [bound]
    pairs = [(sign, getattr(each, key, None)) for each in bounds for key, sign in BOUNDS.items()]
    return [f"{sign} {value:,}" for sign, value in pairs if value is not None]


def _value(value: Any) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def write_picture(path: Path) -> None:
    """The seven photos of one synthetic person of each age group, with their labels, as one picture."""
    # Imported here: a test imports this file for configuration() alone.
    import matplotlib
    from matplotlib import pyplot as plt

    matplotlib.use("agg")
    with tempfile.TemporaryDirectory() as scratch:
        make_demo(Path(scratch) / "demo", people=12, eval_people=6, seed=0)
        train = Path(scratch) / "demo" / "train"
        table = pd.read_csv(train / "train.csv", dtype={"id": str})
        chosen = [
            (gender, table.age.map(age_group) == group) for group, gender in enumerate(("male", "female", "male"))
        ]
        table = pd.concat([table[(table.gender == gender) & of_group].head(1) for gender, of_group in chosen])
        figure, axes = plt.subplots(len(table), len(KIND_MASK), figsize=(10, 2.05 * len(table)), layout="constrained")
        for axis, kind in zip(axes[0], KIND_MASK, strict=True):
            axis.set_title(kind, fontsize=9)
        for row, person in zip(axes, table.itertuples(), strict=True):
            for axis, (kind, mask) in zip(row, KIND_MASK.items(), strict=True):
                [photo] = (train / "images" / person.path).glob(f"{kind}.*")
                label = int(encode_label(mask, GENDERS.index(person.gender), age_group(person.age)))
                axis.imshow(plt.imread(photo, format=photo.suffix[1:].lower()))
                axis.set_xticks([])
                axis.set_yticks([])
                axis.set_xlabel(f"{label}: {CLASS_NAMES[label].split(', ')[0]}", fontsize=9)
            row[0].set_ylabel(f"{person.gender}, {person.age}", fontsize=9)
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, dpi=110, pil_kwargs={"quality": 80})


if __name__ == "__main__":
    (DOCS / "configuration.md").write_text(configuration(), encoding="utf-8")
    write_flags(FLAGS_FILE)
    write_picture(PICTURE)
    print(f"written: {DOCS / 'configuration.md'}, {FLAGS_FILE}, {PICTURE}")
