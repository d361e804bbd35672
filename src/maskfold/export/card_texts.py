"""Fixed texts of the model card."""

FILES = """
| file | content |
|---|---|
| `model.onnx` | the model: `photos` uint8 `[B, H, W, 3]` RGB -> `probs` float32 `[B, 18]`; normalisation is inside |
| `app.html` | a page that classifies photos in a browser without sending them anywhere |
| `timm/` | one folder per model for timm |
| `check.json` | inputs with expected outputs, to test a program that uses the model |

The photos in `check.json` and `app.html` are synthetic. The folder contains no photo of a real person.
"""

INTENDED_USE = """
Intended: learning, demonstrations, research on image classification, and counting how many people wear a mask correctly
where a wrong prediction harms nobody.

Do not use it

- to identify or verify people, or to decide about a person: access, employment, credit, policing, insurance, medicine;
- as a check of age, for example before selling alcohol: one year at a border of two groups changes the class;
- to state someone's gender: the model predicts a label of its training data, which has two values;
- as a medical or safety device.

**People must be informed.** Inferring age or gender from faces is biometric categorisation. In the European Union,
whoever operates such a system must inform the people exposed to it (AI Act, Regulation (EU) 2024/1689, Article 50(3)).
Data protection law also applies. Other countries have rules of their own.

The scores below hold for photos like those of the training data: one person, facing the camera. They say little about
other cameras, lighting, poses and populations.
"""

PREPROCESSING = (
    "The photo is RGB, uint8, upright (the EXIF orientation is applied), and 0 to 255: `model.onnx` normalises it. "
    "`check.json` contains whole photos with the SHA-256 of their preprocessed pixels, to test your own code. "
    "The function that does it here is `maskfold.loading.stored_photo.stored_pixels`, then "
    "`maskfold.loading.transforms.EvalTransform`."
)

ONNX_USE = """
```python
import base64, json
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
check = json.load(open("check.json"))
for example in check["inputs"]:
    photo = np.frombuffer(base64.b64decode(example["photo"]), np.uint8).reshape(1, *check["input_size"], 3)
    [probs] = session.run(None, {"photos": photo})
    print(check["classes"][probs[0].argmax()], abs(probs[0] - example["probs"]).max() < check["tolerance"])
```

`session.get_modelmeta().custom_metadata_map` lists the classes, the input size, the crop and the run.
"""

JOINT_TIMM_USE = """
```python
import timm, torch
from PIL import Image

model = timm.create_model("local-dir:timm/PART", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
photo = Image.open("photo.jpg").convert("RGB")
with torch.inference_mode():
    probs = model(transform(photo).unsqueeze(0)).softmax(1)[0]
print(model.pretrained_cfg["label_names"][int(probs.argmax())])
```
"""

FACTORED_TIMM_USE = """
timm has no place for this head, so timm's model returns features, and the head is in `head.safetensors`: one linear
layer with an output for each mask, gender and age bin. `sizes` in `head.json` splits its output, and
`bins_per_age_group` says how many age bins each of the three age groups has. If `head.json` has no
`bins_per_age_group`, the outputs are the logits of the 18 classes.

```python
import json, timm, torch
from PIL import Image
from safetensors.torch import load_file

folder = "timm/PART"
backbone = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=backbone))
head, layout = load_file(f"{folder}/head.safetensors"), json.load(open(f"{folder}/head.json"))
photo = Image.open("photo.jpg").convert("RGB")
with torch.inference_mode():
    logits = backbone(transform(photo).unsqueeze(0)) @ head["weight"].T + head["bias"]
    parts = [part.softmax(1) for part in logits.split(layout["sizes"], 1)]
    probs = parts[0]
    if "bins_per_age_group" in layout:
        mask, gender, ages = parts
        age = torch.stack([bins.sum(1) for bins in ages.split(layout["bins_per_age_group"], 1)], 1)
        probs = (mask[:, :, None, None] * gender[:, None, :, None] * age[:, None, None, :]).flatten(1)
print(layout["classes"][int(probs[0].argmax())])
```
"""

# What timm's own transform can do, by the value of data.crop.
TIMM_CROP = {
    "none": "timm's transform sees the same part of a photo: all of it. It interpolates in another way.",
    "center": (
        "timm's transform keeps a share of the photo (`crop_pct`), while the model was trained with a crop of a fixed "
        "number of pixels. For photos of the competition's size, 512x384, both see the same part. Crop other photos "
        "yourself, and set `crop_pct=1` in `create_transform`. The interpolation differs in all cases."
    ),
    "face": (
        "timm's transform cannot detect faces. Crop the photo around the face before the transform, as in the section "
        "on preprocessing. The interpolation differs, too."
    ),
}

LICENCE = (
    "The code of maskfold has the MIT licence. The licence of the weights depends on the data that they were trained "
    "on, and on the pretrained weights that the training started from. Whoever publishes this folder must check both "
    "and state the licence here and in the metadata. The parts of `app.html` that come from other projects keep their "
    "licences, which are inside the page."
)
