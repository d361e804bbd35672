// Decode photo files to the pixels that photos/pixels.py gives: upright sRGB, transparent parts on white.

// A strip of a photo has at most this many pixels: phones limit the size of a canvas.
const MAX_STRIP_PIXELS = 2 ** 22;
const HEADER_BYTES = 2 ** 18;

// Draw source (a picture or a video) from row `top` on, in the given rows, and return RGBA.
function stripPixels(source, width, top, rows) {
  const canvas = new OffscreenCanvas(width, rows), context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, rows);
  context.drawImage(source, 0, top, width, rows, 0, 0, width, rows);
  return context.getImageData(0, 0, width, rows).data;
}

function bitmapPixels(bitmap) {
  const { width, height } = bitmap, data = new Uint8Array(width * height * 3);
  const stripRows = Math.max(1, Math.floor(MAX_STRIP_PIXELS / width));
  for (let top = 0, o = 0; top < height; top += stripRows) {
    const rgba = stripPixels(bitmap, width, top, Math.min(stripRows, height - top));
    for (let i = 0; i < rgba.length; i += 4) {
      data[o++] = rgba[i];
      data[o++] = rgba[i + 1];
      data[o++] = rgba[i + 2];
    }
  }
  return { data, width, height };
}

export function canvasPixels(canvas, context) {
  const { width, height } = canvas, rgba = context.getImageData(0, 0, width, height).data;
  const data = new Uint8Array(width * height * 3);
  for (let i = 0, o = 0; i < rgba.length; i += 4) {
    data[o++] = rgba[i];
    data[o++] = rgba[i + 1];
    data[o++] = rgba[i + 2];
  }
  return { data, width, height };
}

async function decode(file, colorSpaceConversion) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion, imageOrientation: "from-image" });
  try {
    return bitmapPixels(bitmap);
  } finally {
    bitmap.close();
  }
}

// Whether the file has a colour profile: the marker of a JPEG's or PNG's profile is near its start.
async function hasProfile(file) {
  const header = new TextDecoder("latin1").decode(await file.slice(0, HEADER_BYTES).arrayBuffer());
  return header.includes("ICC_PROFILE\0") || header.includes("iCCP");
}

// Return {data, width, height}, uint8 RGB. Throws if the browser cannot decode the file.
// Colours are converted only if the profile changes them by more than maxSrgbDifference levels, as color_profiles.py does.
export async function filePixels(file, maxSrgbDifference) {
  const plain = await decode(file, "none");
  if (!(await hasProfile(file))) return plain;
  const converted = await decode(file, "default");
  const differs = plain.data.some((value, i) => Math.abs(value - converted.data[i]) > maxSrgbDifference);
  return differs ? converted : plain;
}
