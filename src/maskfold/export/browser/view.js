// Crop and resize a photo exactly as loading/crops.py does with OpenCV, so that the model gets the same pixels.
//
// A photo is {data, width, height}: uint8 RGB, 3 bytes per pixel, row by row. A window is [top, left, height, width], a
// size [height, width], in pixels. settings: the object that browser_page.py writes into the page.
// The arithmetic is that of OpenCV 5's resize.cpp: INTER_LINEAR with weights of 11 bits, INTER_AREA in float32.

const f32 = Math.fround;
const WEIGHT_ONE = 2048;
// OpenCV ignores parts of a pixel below this share.
const MIN_SHARE = 1e-3;

// Python's round() and C's rint(): halves go to the even number.
export function roundEven(value) {
  const floor = Math.floor(value), rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// Return for each of `target` pixels the two source pixels and their weights, Int32Array [target * 4].
// isArea: INTER_AREA where the other side is enlarged, which OpenCV computes bilinearly from other positions.
function linearTaps(source, target, isRow, isArea) {
  const taps = new Int32Array(target * 4), inverse = target / source, scale = 1 / inverse;
  for (let i = 0; i < target; i++) {
    let first, weight;
    if (isArea) {
      first = Math.floor(i * scale);
      weight = f32(i + 1 - (first + 1) * inverse);
      weight = weight <= 0 ? 0 : f32(weight - Math.floor(weight));
    } else {
      const position = f32((i + 0.5) * scale - 0.5);
      first = Math.floor(position);
      weight = f32(position - first);
    }
    // Rows outside the photo are replaced by its border, but keep their weights.
    if (!isRow && first < 0) [first, weight] = [0, 0];
    if (!isRow && first >= source - 1) [first, weight] = [source - 1, 0];
    taps[4 * i] = clamp(first, 0, source - 1);
    taps[4 * i + 1] = clamp(first + 1, 0, source - 1);
    taps[4 * i + 2] = roundEven(f32(f32(1 - weight) * WEIGHT_ONE));
    taps[4 * i + 3] = roundEven(f32(weight * WEIGHT_ONE));
  }
  return taps;
}

function resizeLinear({ data, width }, [top, left, height, columns], [outHeight, outWidth], isArea = false) {
  const xTaps = linearTaps(columns, outWidth, false, isArea), yTaps = linearTaps(height, outHeight, true, isArea);
  const out = new Uint8Array(outHeight * outWidth * 3), lines = new Map();
  const lineOf = (y) => {
    let line = lines.get(y);
    if (line) return line;
    // Only the two lines of the last output row can be needed again.
    for (const old of lines.keys()) if (old < y - 1) lines.delete(old);
    line = new Int32Array(outWidth * 3);
    const start = (top + y) * width + left;
    for (let x = 0, o = 0; x < outWidth; x++) {
      const a = (start + xTaps[4 * x]) * 3, b = (start + xTaps[4 * x + 1]) * 3;
      const p = xTaps[4 * x + 2], q = xTaps[4 * x + 3];
      for (let c = 0; c < 3; c++) line[o++] = data[a + c] * p + data[b + c] * q;
    }
    lines.set(y, line);
    return line;
  };
  for (let y = 0, o = 0; y < outHeight; y++) {
    const upper = lineOf(yTaps[4 * y]), lower = lineOf(yTaps[4 * y + 1]), p = yTaps[4 * y + 2], q = yTaps[4 * y + 3];
    for (let x = 0; x < outWidth * 3; x++) {
      const sum = ((p * (upper[x] >> 4)) >> 16) + ((q * (lower[x] >> 4)) >> 16) + 2;
      out[o++] = clamp(sum >> 2, 0, 255);
    }
  }
  return out;
}

// Return for each of `target` pixels the first source pixel and the weights of the pixels from there on.
function areaTaps(source, target) {
  const scale = 1 / (target / source), taps = [];
  for (let i = 0; i < target; i++) {
    const from = i * scale, to = from + scale, cell = Math.min(scale, source - from);
    const last = Math.min(Math.floor(to), source - 1), first = Math.min(Math.ceil(from), last), weights = [];
    const hasPartBefore = first - from > MIN_SHARE;
    if (hasPartBefore) weights.push((first - from) / cell);
    for (let j = first; j < last; j++) weights.push(1 / cell);
    if (to - last > MIN_SHARE) weights.push(Math.min(to - last, 1, cell) / cell);
    taps.push({ start: hasPartBefore ? first - 1 : first, weights: Float32Array.from(weights) });
  }
  return taps;
}

function resizeArea({ data, width }, [top, left, height, columns], [outHeight, outWidth]) {
  const xTaps = areaTaps(columns, outWidth), yTaps = areaTaps(height, outHeight);
  const out = new Uint8Array(outHeight * outWidth * 3), sums = new Float32Array(outWidth * 3);
  const line = new Float32Array(outWidth * 3);
  let row = -1;
  const readLine = (y) => {
    if (row === y) return;
    row = y;
    for (let x = 0, o = 0; x < outWidth; x++, o += 3) {
      const { start, weights } = xTaps[x];
      let i = ((top + y) * width + left + start) * 3, red = f32(0), green = f32(0), blue = f32(0);
      for (let k = 0; k < weights.length; k++, i += 3) {
        const weight = weights[k];
        red = f32(red + f32(data[i] * weight));
        green = f32(green + f32(data[i + 1] * weight));
        blue = f32(blue + f32(data[i + 2] * weight));
      }
      line[o] = red;
      line[o + 1] = green;
      line[o + 2] = blue;
    }
  };
  for (let y = 0, o = 0; y < outHeight; y++) {
    const { start, weights } = yTaps[y];
    sums.fill(0);
    for (let k = 0; k < weights.length; k++) {
      readLine(start + k);
      const weight = weights[k];
      for (let x = 0; x < sums.length; x++) sums[x] = f32(sums[x] + f32(line[x] * weight));
    }
    for (let x = 0; x < sums.length; x++) out[o++] = clamp(roundEven(sums[x]), 0, 255);
  }
  return out;
}

// INTER_AREA where each output pixel is the mean of `across` x `down` whole pixels: sums of integers.
function resizeBlocks({ data, width }, [top, left], [outHeight, outWidth], down, across) {
  const out = new Uint8Array(outHeight * outWidth * 3), share = f32(1 / (down * across)), isTwo = down === 2 && across === 2;
  for (let y = 0, o = 0; y < outHeight; y++) {
    for (let x = 0; x < outWidth; x++) {
      for (let c = 0; c < 3; c++, o++) {
        let sum = 0;
        for (let dy = 0; dy < down; dy++) {
          let i = ((top + y * down + dy) * width + left + x * across) * 3 + c;
          for (let dx = 0; dx < across; dx++, i += 3) sum += data[i];
        }
        out[o] = isTwo ? (sum + 2) >> 2 : clamp(roundEven(f32(sum * share)), 0, 255);
      }
    }
  }
  return out;
}

function copy({ data, width }, [top, left, height, columns]) {
  const out = new Uint8Array(height * columns * 3);
  for (let y = 0; y < height; y++) {
    const start = ((top + y) * width + left) * 3;
    out.set(data.subarray(start, start + columns * 3), y * columns * 3);
  }
  return out;
}

function shrinkByArea(photo, window, size) {
  const scales = [0, 1].map((side) => 1 / (size[side] / window[2 + side]));
  if (scales.some((scale) => scale < 1)) return resizeLinear(photo, window, size, true);
  const whole = scales.map(Math.trunc);
  const isWhole = scales.every((scale, side) => Math.abs(scale - whole[side]) < Number.EPSILON);
  return isWhole ? resizeBlocks(photo, window, size, ...whole) : resizeArea(photo, window, size);
}

// crops.resize on a window of a photo -> Uint8Array RGB [height * width * 3].
export function resize(photo, window, size, settings) {
  if (window[2] === size[0] && window[3] === size[1]) return copy(photo, window);
  const shrink = Math.max(window[2] / size[0], window[3] / size[1]);
  return (shrink > settings.max_bilinear_shrink ? shrinkByArea : resizeLinear)(photo, window, size);
}

function centerWindow(size, settings) {
  const [height, width] = size.map((side, i) => Math.min(side, settings.crop_size[i]));
  return [Math.floor((size[0] - height) / 2), Math.floor((size[1] - width) / 2), height, width];
}

function faceWindow(size, settings, [left, top, faceWidth, faceHeight]) {
  const aspect = settings.image_size[1] / settings.image_size[0];
  const wanted = Math.min(faceHeight * (1 + 2 * settings.face_margin), size[0], size[1] / aspect);
  const height = Math.max(1, roundEven(wanted)), width = Math.max(1, Math.min(size[1], roundEven(wanted * aspect)));
  const y = Math.min(Math.max(0, roundEven(top + faceHeight / 2 - height / 2)), size[0] - height);
  const x = Math.min(Math.max(0, roundEven(left + faceWidth / 2 - width / 2)), size[1] - width);
  return [y, x, height, width];
}

// The window of crops.CROPS[settings.crop]. face: [left, top, width, height] or null.
export function cropWindow(photo, settings, face) {
  const size = [photo.height, photo.width];
  if (settings.crop === "none") return [0, 0, ...size];
  return settings.crop === "face" && face ? faceWindow(size, settings, face) : centerWindow(size, settings);
}

// The model's input: the window at the stored size, then at the input size -> Uint8Array RGB [height * width * 3].
export function modelInput(photo, settings, window) {
  const [height, width] = settings.store_size, data = resize(photo, window, settings.store_size, settings);
  return resize({ data, width, height }, [0, 0, height, width], settings.image_size, settings);
}

// The photo as faces.find_face shrinks it for the detector, and its scale.
export function detectorPhoto(photo, settings) {
  const scale = Math.min(1, settings.detect_side / Math.max(photo.height, photo.width));
  const [height, width] = [photo.height, photo.width].map((side) => Math.max(1, roundEven(side * scale)));
  const window = [0, 0, photo.height, photo.width], isSame = height === photo.height && width === photo.width;
  const data = scale < 1 && !isSame ? shrinkByArea(photo, window, [height, width]) : photo.data;
  return { data, width, height, scale };
}
