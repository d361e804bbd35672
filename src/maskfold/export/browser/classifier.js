// Unpack the networks inside the page, run them, and test them on the inputs whose results are known.

import * as ort from "ort";
import { cropWindow, detectorPhoto, modelInput } from "view";
import { detectFaces } from "yunet";
import { filePixels } from "photo_pixels";

// Characters of base64 that are decoded at once; a multiple of 4.
const CHUNK = 2 ** 20;

// Unpack the gzip file in an element of the page and remove the element. onRead: function (characters read).
async function unpack(id, onRead) {
  const element = document.getElementById(id), text = element.textContent;
  element.remove();
  let start = 0;
  const packed = new ReadableStream({
    pull(controller) {
      const part = atob(text.slice(start, start + CHUNK)), bytes = new Uint8Array(part.length);
      for (let i = 0; i < part.length; i++) bytes[i] = part.charCodeAt(i);
      controller.enqueue(bytes);
      onRead(Math.min(CHUNK, text.length - start));
      start += CHUNK;
      if (start >= text.length) controller.close();
    },
  });
  return new Uint8Array(await new Response(packed.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
}

async function session(bytes) {
  return ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
}

// Let the browser draw and react to the user.
export const nextTask = () => new Promise((resolve) => setTimeout(resolve));

async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

export class Classifier {
  constructor(settings) {
    this.settings = settings;
    this.folds = [];
  }

  // onProgress: function (share of the work that is done, 0 to 1).
  async load(onProgress) {
    const folds = Array.from({ length: this.settings.num_folds }, (_, fold) => `fold${fold}`);
    const ids = ["ort-wasm", "yunet", ...folds];
    const total = ids.reduce((sum, id) => sum + document.getElementById(id).textContent.length, 0);
    let read = 0;
    const unpacked = (id) => unpack(id, (count) => onProgress((read += count) / total));
    ort.env.wasm.numThreads = 1;
    ort.env.logLevel = "error";
    ort.env.wasm.wasmBinary = await unpacked("ort-wasm");
    this.detector = await session(await unpacked("yunet"));
    for (const id of folds) {
      this.folds.push(await session(await unpacked(id)));
      await nextTask();
    }
  }

  async faces(photo) {
    const run = (input, shape) => this.detector.run({ [this.detector.inputNames[0]]: new ort.Tensor("float32", input, shape) });
    return detectFaces(run, detectorPhoto(photo, this.settings), this.settings.min_face_score);
  }

  // Class probabilities of one input, as calibration.apply_temperature scales the mean over the folds.
  async probs(input, folds = this.folds) {
    const photos = new ort.Tensor("uint8", input, [1, ...this.settings.image_size, 3]), outputs = [];
    for (const fold of folds) outputs.push((await fold.run({ photos })).probs.data);
    const mean = Array.from(outputs[0], (_, i) => outputs.reduce((sum, output) => sum + output[i], 0) / outputs.length);
    if (this.settings.temperature === 1) return mean;
    const logs = mean.map((p) => Math.log(Math.max(p, this.settings.min_prob)) / this.settings.temperature);
    const largest = Math.max(...logs), powers = logs.map((log) => Math.exp(log - largest));
    const sum = powers.reduce((a, b) => a + b);
    return powers.map((power) => power / sum);
  }

  // Classify a photo {data, width, height}. withAllFolds: false uses only the first fold, which is faster.
  async classify(photo, withAllFolds = true) {
    const faces = await this.faces(photo), window = cropWindow(photo, this.settings, faces[0] ?? null);
    const input = modelInput(photo, this.settings, window);
    const probs = await this.probs(input, withAllFolds ? this.folds : this.folds.slice(0, 1));
    return { probs, faces, window, input, width: photo.width, height: photo.height };
  }

  async classifyFile(file) {
    const photo = await filePixels(file, this.settings.max_srgb_difference);
    return { ...(await this.classify(photo)), photo };
  }

  // Return whether the results for the inputs of check.json are as expected: probabilities, and hashes of inputs.
  async selfTest() {
    const { inputs, sources, tolerance } = this.settings.check;
    // Written so that NaN fails.
    const isClose = (actual, expected) =>
      actual.length === expected.length && expected.every((p, i) => Math.abs(p - actual[i]) <= tolerance);
    let passed = inputs.length > 0;
    for (const { photo, probs } of inputs) {
      passed &&= isClose(await this.probs(bytesOf(photo)), probs);
      await nextTask();
    }
    for (const { png, input_sha256, probs } of sources) {
      const { input, probs: actual } = await this.classifyFile(new Blob([bytesOf(png)], { type: "image/png" }));
      passed &&= isClose(actual, probs);
      // Pages of an http:// address other than localhost have no hash function.
      passed &&= !globalThis.crypto?.subtle || (await sha256(input)) === input_sha256;
      await nextTask();
    }
    return passed;
  }
}

// Probabilities of each axis from those of the classes: {mask: [...], gender: [...], age: [...]}, as labels.marginals.
export function marginals(probs, axes) {
  const names = Object.keys(axes), sums = {};
  let step = probs.length;
  for (const name of names) {
    step /= axes[name];
    sums[name] = new Array(axes[name]).fill(0);
    probs.forEach((p, i) => (sums[name][Math.floor(i / step) % axes[name]] += p));
  }
  return sums;
}

// The index of each axis in the most probable class.
export function bestClass(probs, axes) {
  let rest = probs.indexOf(Math.max(...probs)), step = probs.length;
  return Object.entries(axes).map(([, count]) => {
    step /= count;
    const index = Math.floor(rest / step);
    rest %= step;
    return index;
  });
}

export { sha256 };
