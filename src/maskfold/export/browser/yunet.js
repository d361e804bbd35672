// Detect faces with YuNet as cv2.FaceDetectorYN does: the network, the boxes of its three strides, and NMS.

const STRIDES = [8, 16, 32], DIVISOR = 32;
// The default of cv2.FaceDetectorYN: of two boxes that overlap by more, only the more certain one is kept.
const MAX_OVERLAP = 0.3;

// The photo as float32 [1, 3, H, W] in BGR; both sides are padded with zeros to multiples of DIVISOR.
function networkInput({ data, width, height }) {
  const columns = Math.ceil(width / DIVISOR) * DIVISOR, rows = Math.ceil(height / DIVISOR) * DIVISOR;
  const input = new Float32Array(3 * rows * columns);
  for (let c = 0; c < 3; c++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) input[(c * rows + y) * columns + x] = data[(y * width + x) * 3 + 2 - c];
    }
  }
  return { input, rows, columns };
}

function boxesOf(output, columns, minScore) {
  const faces = [];
  for (const stride of STRIDES) {
    const [classes, objects, boxes] = ["cls", "obj", "bbox"].map((name) => output[`${name}_${stride}`].data);
    for (let i = 0; i < classes.length; i++) {
      const score = Math.sqrt([classes[i], objects[i]].reduce((product, p) => product * Math.min(Math.max(p, 0), 1), 1));
      if (score < minScore) continue;
      const column = i % (columns / stride), row = Math.floor(i / (columns / stride));
      const centerX = (column + boxes[4 * i]) * stride, centerY = (row + boxes[4 * i + 1]) * stride;
      const width = Math.exp(boxes[4 * i + 2]) * stride, height = Math.exp(boxes[4 * i + 3]) * stride;
      const box = [centerX - width / 2, centerY - height / 2, width, height].map(Math.fround);
      faces.push({ score, box });
    }
  }
  return faces;
}

function overlap(a, b) {
  const width = Math.max(0, Math.min(a[0] + a[2], b[0] + b[2]) - Math.max(a[0], b[0]));
  const height = Math.max(0, Math.min(a[1] + a[3], b[1] + b[3]) - Math.max(a[1], b[1]));
  const union = a[2] * a[3] + b[2] * b[3] - width * height;
  return union > 0 ? (width * height) / union : 1;
}

function suppressed(faces) {
  const kept = [];
  for (const face of [...faces].sort((a, b) => b.score - a.score)) {
    // OpenCV compares boxes of whole pixels.
    const whole = face.box.map(Math.trunc);
    if (kept.every((other) => overlap(other.whole, whole) <= MAX_OVERLAP)) kept.push({ ...face, whole });
  }
  return kept;
}

// Return the faces in pixels of the original photo, the largest first: [[left, top, width, height], ...].
// run: function (Float32Array, [1, 3, rows, columns]) -> the network's outputs by name. small: view.detectorPhoto(photo).
export async function detectFaces(run, small, minScore) {
  const { input, rows, columns } = networkInput(small);
  const faces = suppressed(boxesOf(await run(input, [1, 3, rows, columns]), columns, minScore));
  const boxes = faces.map((face) => face.box).sort((a, b) => b[2] * b[3] - a[2] * a[3]);
  return boxes.map((box) => box.map((value) => value / small.scale));
}
