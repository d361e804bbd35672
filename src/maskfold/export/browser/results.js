// Show results: bars for each axis, the most probable class, warnings, and the photo with its face and crop window.

import { bestClass, marginals } from "classifier";
import { element, label, show } from "translation";

// Width of a thumbnail in pixels; CSS shows it at about half of that.
const THUMBNAIL = 264;
// Below these sides in pixels, a face or a photo is called too small. The first is of the face in the model's input.
const MIN_INPUT_FACE = 16, MIN_PHOTO_FACE = 32, MIN_PHOTO = 64;
// Below this share of the photo, the user should know that the model sees only a part of it.
const MIN_SEEN = 0.25;

// Bars for the probabilities of all axes; update(probs) changes them. They are built once, because the camera changes
// them many times per second.
export function resultBars(axes) {
  const best = element("p", { css: "best" }, element("span"), element("b"));
  const bars = element("div", { css: "bars" }), rows = {};
  for (const [axis, count] of Object.entries(axes)) {
    rows[axis] = Array.from({ length: count }, (_, i) => {
      const fill = element("div", { css: "fill" }), value = element("span", { css: "value" });
      const track = element("div", { css: "track" }, fill);
      track.setAttribute("aria-hidden", "true");
      const row = element("li", { css: "bar" }, element("span", { text: `${axis}_${i}` }), track, value);
      return { row, fill, value };
    });
    const list = element("ul", {}, ...rows[axis].map(({ row }) => row));
    bars.append(element("div", { css: "axis" }, element("h4", { text: axis }), list));
  }
  const update = (probs) => {
    const sums = marginals(probs, axes), indices = bestClass(probs, axes);
    const names = Object.keys(axes).map((axis, i) => [axis, `@${axis}_${indices[i]}`]);
    show(best.firstChild, "best", { n: Math.round(100 * Math.max(...probs)) });
    show(best.lastChild, "best_value", Object.fromEntries(names));
    for (const axis of Object.keys(axes)) {
      const top = sums[axis].indexOf(Math.max(...sums[axis]));
      rows[axis].forEach(({ row, fill, value }, i) => {
        fill.style.width = `${100 * sums[axis][i]}%`;
        row.classList.toggle("top-value", i === top);
        show(value, "percent", { n: Math.round(100 * sums[axis][i]) });
      });
    }
  };
  return { best, bars, update };
}

// Return [key, values] of the sentences about a photo on which the result may be wrong.
export function warnings({ faces, window, width, height }, settings) {
  const found = [], face = faces[0];
  if (Math.min(width, height) < MIN_PHOTO) found.push(["small_photo", { width, height }]);
  if (!face) found.push(["no_face", {}]);
  else {
    const inputHeight = (face[3] / window[2]) * settings.image_size[0];
    if (inputHeight < MIN_INPUT_FACE || face[3] < MIN_PHOTO_FACE) found.push(["small_face", {}]);
    if (faces.length > 1) found.push([settings.crop === "face" ? "many_faces_largest" : "many_faces", { n: faces.length }]);
  }
  if (settings.crop === "center" && window[2] * window[3] < MIN_SEEN * width * height) {
    found.push(["small_part", { height: settings.photo_size[0], width: settings.photo_size[1] }]);
  }
  return found;
}

export function warningList(result, settings) {
  const paragraphs = warnings(result, settings).map(([text, values]) => element("p", { css: "warning", text, values }));
  return element("div", { css: "notes" }, ...paragraphs);
}

// Outline the detected faces and the crop window in a canvas context, whose units are pixels of the photo.
export function outline(context, { faces, window, width, height }, settings, lineWidth) {
  const [top, left, rows, columns] = window, [green, white] = ["#21c46b", "#fff"];
  if (rows < height || columns < width) {
    context.fillStyle = "rgba(0, 0, 0, .45)";
    context.beginPath();
    context.rect(0, 0, width, height);
    context.rect(left, top, columns, rows);
    context.fill("evenodd");
    context.strokeStyle = white;
    context.lineWidth = lineWidth;
    context.strokeRect(left, top, columns, rows);
  }
  context.strokeStyle = green;
  faces.forEach((face, i) => {
    context.lineWidth = i ? lineWidth / 2 : lineWidth;
    context.strokeRect(...face);
  });
}

function thumbnail({ photo, ...result }, name, settings) {
  const { data, width, height } = photo, canvas = element("canvas");
  canvas.width = THUMBNAIL;
  canvas.height = Math.max(1, Math.min(2 * THUMBNAIL, Math.round((height / width) * THUMBNAIL)));
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  for (let y = 0, o = 0; y < canvas.height; y++) {
    const row = Math.floor((y / canvas.height) * height) * width;
    for (let x = 0; x < canvas.width; x++, o += 4) {
      const i = (row + Math.floor((x / canvas.width) * width)) * 3;
      image.data.set([data[i], data[i + 1], data[i + 2], 255], o);
    }
  }
  context.putImageData(image, 0, 0);
  context.scale(canvas.width / width, canvas.height / height);
  outline(context, result, settings, (4 * width) / THUMBNAIL);
  canvas.setAttribute("role", "img");
  return label(canvas, "photo_alt", { name });
}

export function waitingCard(name) {
  const title = element("h3");
  title.textContent = name;
  return element("article", { css: "card broken" }, title, element("p", { text: "waiting" }));
}

export function fillCard(card, name, result, settings) {
  const { best, bars, update } = resultBars(settings.axes);
  update(result.probs);
  bars.prepend(warningList(result, settings));
  card.classList.remove("broken");
  const head = element("div", {}, card.querySelector("h3"), best);
  card.replaceChildren(thumbnail(result, name, settings), head, bars);
}

export function fillBrokenCard(card, text, values) {
  card.replaceChildren(card.querySelector("h3"), element("p", { css: "warning", text, values }));
}
