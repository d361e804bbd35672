// Print the sha256 of the preprocessed photos, one line per case: node view_hashes.mjs view.js cases.json pixels.bin
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [viewFile, casesFile, pixelsFile] = process.argv.slice(2);
const { cropWindow, detectorPhoto, modelInput } = await import(pathToFileURL(viewFile));
const pixels = readFileSync(pixelsFile), lines = [];
let offset = 0;
for (const { width, height, settings, face } of JSON.parse(readFileSync(casesFile, "utf8"))) {
  const photo = { width, height, data: new Uint8Array(pixels.subarray(offset, (offset += width * height * 3))) };
  const window = cropWindow(photo, settings, face), small = detectorPhoto(photo, settings);
  const hashes = [modelInput(photo, settings, window), small.data].map((data) => createHash("sha256").update(data).digest("hex"));
  lines.push([window.join(","), ...hashes, small.height, small.width].join(" "));
}
console.log(lines.join("\n"));
